//! The Frobenius norms of all quadratic forms of a block, without forming one.
//!
//! With `G = (W_gate W_gate^T) o (W_up W_up^T)` and `C = W_gate W_up^T` (d_ffn x d_ffn, gamma folded in):
//!
//! ```text
//! ||U_k||_F^2 = w_k^T G w_k
//! ||S_k||_F^2 = (||U_k||_F^2 + tr(U_k U_k)) / 2,   tr(U_k U_k) = w_k^T (C o C^T) w_k
//! ```
//!
//! Both matrices are symmetric, so only the tiles on and above the diagonal are computed, and none is kept: a pair of
//! tiles is multiplied into every w_k at once.

use rayon::prelude::*;
use sinkscope_kernels::matmul::{Matrix, MatrixMut, matmul};

use super::quadratic::QuadraticForm;

/// Hidden units in a tile.
const TILE: usize = 256;

/// Of all channels of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Norms {
    /// `||U_k||_F`.
    pub frobenius: Vec<f64>,
    /// `||S_k||_F`.
    pub symmetric: Vec<f64>,
}

/// Computes the norms on the current threads.
pub fn norms(form: &QuadraticForm) -> Norms {
    let tiles: Vec<usize> = (0..form.d_ffn).step_by(TILE).collect();
    let pairs: Vec<(usize, usize)> =
        tiles.iter().flat_map(|&i| tiles.iter().filter(move |&&j| j >= i).map(move |&j| (i, j))).collect();
    let partials: Vec<Sums> = pairs.into_par_iter().with_max_len(1).map(|(i, j)| pair(form, i, j)).collect();
    // In the order of the pairs, whoever computed them.
    let total = |of: fn(&Sums) -> &Vec<f64>| {
        let mut total = vec![0.0; form.d_model];
        for partial in &partials {
            total.iter_mut().zip(of(partial)).for_each(|(total, value)| *total += value);
        }
        total
    };
    let (gram, cross) = (total(|sums| &sums.gram), total(|sums| &sums.cross));
    let root = |square: f64| form.coefficient * square.max(0.0).sqrt();
    Norms {
        frobenius: gram.iter().map(|&square| root(square)).collect(),
        symmetric: gram.iter().zip(&cross).map(|(gram, cross)| root((gram + cross) / 2.0)).collect(),
    }
}

/// What a pair of tiles adds to `w_k^T G w_k` and `w_k^T (C o C^T) w_k`.
struct Sums {
    gram: Vec<f64>,
    cross: Vec<f64>,
}

/// The pair of the tiles that begin at units `i` and `j >= i`, with its mirror image.
fn pair(form: &QuadraticForm, i: usize, j: usize) -> Sums {
    let product = |a: &[f32], b: &[f32]| products(form, a, i, b, j);
    let times = |a: Vec<f32>, b: &[f32]| -> Vec<f32> { a.iter().zip(b).map(|(a, b)| a * b).collect() };
    let (gate, up) = (&form.gate, form.up());
    let copies = if i == j { 1.0 } else { 2.0 };
    let gate_gate = product(gate, gate);
    if form.up.is_none() {
        let gram = quadratic(form, &times(gate_gate.clone(), &gate_gate), i, j, copies);
        return Sums { cross: gram.clone(), gram };
    }
    let gram = quadratic(form, &times(gate_gate, &product(up, up)), i, j, copies);
    // C is not symmetric: its mirror image is a product of its own.
    let cross = quadratic(form, &times(product(gate, up), &product(up, gate)), i, j, copies);
    Sums { gram, cross }
}

fn width(form: &QuadraticForm, tile: usize) -> usize {
    TILE.min(form.d_ffn - tile)
}

/// Products of the units of tile `i` in `a` with those of tile `j` in `b`.
fn products(form: &QuadraticForm, a: &[f32], i: usize, b: &[f32], j: usize) -> Vec<f32> {
    let (d, hidden) = (form.d_model, form.d_ffn);
    let (rows, columns) = (width(form, i), width(form, j));
    let mut out = vec![0.0; rows * columns];
    matmul(
        MatrixMut::new(&mut out, rows, columns),
        Matrix::strided(&a[i..], d, rows, hidden, 1).transposed(),
        Matrix::strided(&b[j..], d, columns, hidden, 1),
    );
    out
}

/// `copies * sum_{i, j} w_ki M_ij w_kj` over the tile, for every k.
fn quadratic(form: &QuadraticForm, tile: &[f32], i: usize, j: usize, copies: f64) -> Vec<f64> {
    let d = form.d_model;
    let (rows, columns) = (width(form, i), width(form, j));
    let mut half = vec![0.0; rows * d];
    matmul(
        MatrixMut::new(&mut half, rows, d),
        Matrix::new(tile, rows, columns),
        Matrix::new(&form.down[j * d..(j + columns) * d], columns, d),
    );
    let mut sums = vec![0.0; d];
    for (half, down) in half.chunks_exact(d).zip(form.down[i * d..].chunks_exact(d)) {
        for ((sum, half), down) in sums.iter_mut().zip(half).zip(down) {
            *sum += f64::from(half * down);
        }
    }
    for sum in &mut sums {
        *sum *= copies;
    }
    sums
}
