//! The spectrum of S_k (eq. 19): leading eigenpairs by a Lanczos iteration that only applies S_k, or all of them from the
//! dense matrix.
//!
//! The iteration keeps its whole basis orthogonal and is not restarted: the leading pairs of these matrices stand apart
//! and need a few dozen steps. In as many steps as there are dimensions it is exact. (faer's partial solver has an absolute
//! tolerance and needs its subspace to be smaller than the matrix; its dense solver does the small problem here.)

use faer::{Mat, Side};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sinkscope_kernels::matmul::{Matrix, MatrixMut, matmul};

use super::quadratic::QuadraticForm;
use crate::wide::{dot_f64, norm_f64};

/// Eigenvalues asked for.
pub const LEADING: usize = 6;
/// Relative to the first eigenvalue, what the estimated residual of the leading pairs may be: what f32 allows.
const TOLERANCE: f64 = 1e-6;
/// Steps between two looks at the leading pairs.
const STEPS: usize = 16;
/// Rows of a dense matrix that a task computes.
const ROWS: usize = 64;
/// Most steps.
const MOST_STEPS: usize = 400;

/// The eigenvalues of largest magnitude, and the eigenvector of the first: the trigger of the channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Eigen {
    /// Signed, by magnitude.
    pub eigenvalues: Vec<f64>,
    /// `||S v - l v|| / |l_1|`, the largest over the leading pairs.
    pub residual: f64,
    /// s*, of length 1; its largest entry is positive.
    pub trigger: Vec<f64>,
}

/// S_k as something that can be applied.
struct Symmetric<'a> {
    form: &'a QuadraticForm,
    down: Vec<f32>,
}

impl<'a> Symmetric<'a> {
    fn new(form: &'a QuadraticForm, channel: usize) -> Self {
        Self { form, down: form.down_of(channel) }
    }

    fn times(&self, x: &[f64]) -> Vec<f64> {
        let x: Vec<f32> = x.iter().map(|&value| value as f32).collect();
        self.form.apply(&self.down, &x).into_iter().map(f64::from).collect()
    }
}

/// The leading eigenpairs of S_k, matrix-free; the same for every `seed` up to rounding.
pub fn leading(form: &QuadraticForm, channel: usize, seed: u64) -> Eigen {
    let d = form.d_model;
    let operator = Symmetric::new(form, channel);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut vector = || (0..d).map(|_| random.random_range(-1.0..1.0)).collect::<Vec<f64>>();
    // The basis, and the projection of S_k on it: tridiagonal, `diagonal` and `beside`.
    let mut basis = vec![normalised(vector(), &[]).1];
    let (mut diagonal, mut beside): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut pairs = Vec::new();
    while diagonal.len() < d.min(MOST_STEPS) {
        let mut next = operator.times(&basis[basis.len() - 1]);
        diagonal.push(dot_f64(&next, &basis[basis.len() - 1]));
        let scale = norm_f64(&next);
        let mut length;
        (length, next) = normalised(next, &basis);
        if basis.len() < d && length <= 1e-7 * scale {
            // The basis spans an invariant subspace: go on in what is left, apart from it.
            (length, next) = (0.0, normalised(vector(), &basis).1);
        }
        beside.push(length);
        if diagonal.len().is_multiple_of(STEPS) || diagonal.len() == d.min(MOST_STEPS) {
            pairs = ritz_pairs(&diagonal, &beside);
            let first = pairs.first().map_or(0.0, |pair| pair.0.abs());
            let off = |pair: &(f64, Vec<f64>)| length * pair.1[diagonal.len() - 1].abs();
            if length > 0.0 && pairs.iter().take(LEADING).all(|pair| off(pair) <= TOLERANCE * first) {
                break;
            }
        }
        basis.push(next);
    }
    let vectors = pairs.into_iter().take(LEADING).map(|(value, weights)| {
        let mut vector = vec![0.0; d];
        for (weight, direction) in weights.iter().zip(&basis) {
            vector.iter_mut().zip(direction).for_each(|(entry, direction)| *entry += weight * direction);
        }
        (value, vector)
    });
    finish(&operator, vectors.collect())
}

/// Takes the parts along an orthonormal basis away, twice for the sake of rounding, and gives the length that is left and
/// the direction.
fn normalised(mut vector: Vec<f64>, basis: &[Vec<f64>]) -> (f64, Vec<f64>) {
    for _ in 0..2 {
        for direction in basis {
            let along = dot_f64(&vector, direction);
            vector.iter_mut().zip(direction).for_each(|(entry, direction)| *entry -= along * direction);
        }
    }
    let length = norm_f64(&vector);
    if length > 0.0 {
        for entry in &mut vector {
            *entry /= length;
        }
    }
    (length, vector)
}

/// Eigenpairs of the tridiagonal matrix, by magnitude; none if they cannot be computed.
fn ritz_pairs(diagonal: &[f64], beside: &[f64]) -> Vec<(f64, Vec<f64>)> {
    let n = diagonal.len();
    let matrix = Mat::from_fn(n, n, |i, j| match i.abs_diff(j) {
        0 => diagonal[i],
        1 => beside[i.min(j)],
        _ => 0.0,
    });
    eigenpairs(&matrix).unwrap_or_default()
}

/// Eigenpairs of a symmetric matrix, by magnitude.
fn eigenpairs(matrix: &Mat<f64>) -> Option<Vec<(f64, Vec<f64>)>> {
    let decomposition = matrix.self_adjoint_eigen(Side::Lower).ok()?;
    let vectors = decomposition.U();
    let values = decomposition.S().column_vector().iter().copied();
    let mut pairs: Vec<(f64, Vec<f64>)> =
        values.enumerate().map(|(i, value)| (value, vectors.col(i).iter().copied().collect())).collect();
    pairs.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
    Some(pairs)
}

/// All eigenvalues of S_k, from the dense matrix; `None` if they cannot be computed.
pub fn full(form: &QuadraticForm, channel: usize) -> Option<Eigen> {
    let dense = dense(form, channel);
    let d = form.d_model;
    let matrix = Mat::from_fn(d, d, |i, j| f64::from(dense[i * d + j] + dense[j * d + i]) / 2.0);
    Some(finish(&Symmetric::new(form, channel), eigenpairs(&matrix)?))
}

/// U_k: d_model x d_model.
pub fn dense(form: &QuadraticForm, channel: usize) -> Vec<f32> {
    let (d, hidden) = (form.d_model, form.d_ffn);
    let down = form.down_of(channel);
    let factor = form.coefficient as f32;
    let mut out = vec![0.0; d * d];
    out.par_chunks_mut(ROWS * d).enumerate().for_each(|(chunk, out)| {
        let rows = out.len() / d;
        let gate = &form.gate[chunk * ROWS * hidden..][..rows * hidden];
        let weighted: Vec<f32> =
            gate.chunks_exact(hidden).flat_map(|row| row.iter().zip(&down).map(|(a, b)| factor * a * b)).collect();
        matmul(
            MatrixMut::new(out, rows, d),
            Matrix::new(&weighted, rows, hidden),
            Matrix::new(form.up(), d, hidden).transposed(),
        );
    });
    out
}

/// Measures the residual of pairs that come by magnitude, and fixes the trigger's sign.
fn finish(operator: &Symmetric<'_>, pairs: Vec<(f64, Vec<f64>)>) -> Eigen {
    let scale = pairs.first().map_or(0.0, |pair| pair.0.abs());
    let residual = |(value, vector): &(f64, Vec<f64>)| {
        let image = operator.times(vector);
        norm_f64(&image.iter().zip(vector).map(|(image, entry)| image - value * entry).collect::<Vec<_>>())
    };
    let largest = pairs.iter().take(LEADING).map(residual).fold(0.0, f64::max);
    let mut trigger = pairs.first().map(|pair| pair.1.clone()).unwrap_or_default();
    let extreme = trigger.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
    if extreme < 0.0 {
        for entry in &mut trigger {
            *entry = -*entry;
        }
    }
    Eigen {
        eigenvalues: pairs.into_iter().map(|pair| pair.0).collect(),
        residual: if scale > 0.0 { largest / scale } else { 0.0 },
        trigger,
    }
}
