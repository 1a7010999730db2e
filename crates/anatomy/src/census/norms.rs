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

use std::sync::{Mutex, MutexGuard, PoisonError};

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
    let pool = Mutex::new(Vec::new());
    let task = |(i, j)| {
        let mut scratch: Scratch = lock(&pool).pop().unwrap_or_default();
        let sums = pair(form, i, j, &mut scratch);
        lock(&pool).push(scratch);
        sums
    };
    let partials: Vec<Sums> = pairs.into_par_iter().with_max_len(1).map(task).collect();
    // In the order of the pairs, whoever computed them.
    let total = |of: fn(&Sums) -> &Vec<f64>| {
        let mut total = vec![0.0; form.d_model];
        for partial in &partials {
            total.iter_mut().zip(of(partial)).for_each(|(total, value)| *total += value);
        }
        total
    };
    let (gram, cross) = (total(|sums| &sums.gram), total(|sums| &sums.cross));
    // Rounding may leave a square below zero; one that is no number stays none.
    let root = |square: f64| form.coefficient * if square < 0.0 { 0.0 } else { square.sqrt() };
    Norms {
        frobenius: gram.iter().map(|&square| root(square)).collect(),
        symmetric: gram.iter().zip(&cross).map(|(gram, cross)| root((gram + cross) / 2.0)).collect(),
    }
}

/// What a task computes in; fresh pages for every pair of tiles would cost time.
#[derive(Default)]
struct Scratch {
    left: Vec<f32>,
    right: Vec<f32>,
    half: Vec<f32>,
}

fn lock(pool: &Mutex<Vec<Scratch>>) -> MutexGuard<'_, Vec<Scratch>> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a pair of tiles adds to `w_k^T G w_k` and `w_k^T (C o C^T) w_k`.
struct Sums {
    gram: Vec<f64>,
    cross: Vec<f64>,
}

/// The pair of the tiles that begin at units `i` and `j >= i`, with its mirror image.
fn pair(form: &QuadraticForm, i: usize, j: usize, scratch: &mut Scratch) -> Sums {
    let Scratch { left, right, half } = scratch;
    let (gate, up) = (&form.gate, form.up());
    let times = |left: &mut [f32], right: &[f32]| left.iter_mut().zip(right).for_each(|(left, right)| *left *= right);
    products(form, gate, i, gate, j, left);
    if form.up.is_none() {
        for value in left.iter_mut() {
            *value *= *value;
        }
        let gram = quadratic(form, left, i, j, half);
        return Sums { cross: gram.clone(), gram };
    }
    products(form, up, i, up, j, right);
    times(left, right);
    let gram = quadratic(form, left, i, j, half);
    products(form, gate, i, up, j, left);
    if i == j {
        let width = width(form, i);
        right.clear();
        right.extend((0..width * width).map(|at| left[at % width * width + at / width]));
    } else {
        // C is not symmetric: its mirror image is a product of its own.
        products(form, up, i, gate, j, right);
    }
    times(left, right);
    Sums { gram, cross: quadratic(form, left, i, j, half) }
}

fn width(form: &QuadraticForm, tile: usize) -> usize {
    TILE.min(form.d_ffn - tile)
}

/// Products of the units of tile `i` in `a` with those of tile `j` in `b`.
fn products(form: &QuadraticForm, a: &[f32], i: usize, b: &[f32], j: usize, out: &mut Vec<f32>) {
    let (d, hidden) = (form.d_model, form.d_ffn);
    let (rows, columns) = (width(form, i), width(form, j));
    out.resize(rows * columns, 0.0);
    matmul(
        MatrixMut::new(out, rows, columns),
        Matrix::strided(&a[i..], d, rows, hidden, 1).transposed(),
        Matrix::strided(&b[j..], d, columns, hidden, 1),
    );
}

/// `sum_{i, j} w_ki M_ij w_kj` over the tile and its mirror image, for every k.
fn quadratic(form: &QuadraticForm, tile: &[f32], i: usize, j: usize, half: &mut Vec<f32>) -> Vec<f64> {
    let d = form.d_model;
    let (rows, columns) = (width(form, i), width(form, j));
    half.resize(rows * d, 0.0);
    matmul(
        MatrixMut::new(half, rows, d),
        Matrix::new(tile, rows, columns),
        Matrix::new(&form.down[j * d..(j + columns) * d], columns, d),
    );
    let mut sums = vec![0.0; d];
    for (half, down) in half.chunks_exact(d).zip(form.down[i * d..].chunks_exact(d)) {
        for ((sum, half), down) in sums.iter_mut().zip(half).zip(down) {
            *sum += f64::from(half * down);
        }
    }
    let copies = if i == j { 1.0 } else { 2.0 };
    for sum in &mut sums {
        *sum *= copies;
    }
    sums
}
