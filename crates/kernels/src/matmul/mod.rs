//! Matrix products on strided views, on one thread, and for packed right operands on those that idle beside it in a pool: our
//! own kernels for f32 on machines with AVX-512, and for less than the highest [`Precision`] on those with AMX; `gemm` for
//! everything else.
//!
//! `gemm` packs both operands for every product, so a right operand that meets many tiles is packed again for each of
//! them. Ours is packed once ([`PackedRight`]), or by [`matmul`] for each call, a panel at a time.
//!
//! With our kernels a row of the result depends, to the bit, on the row of the left operand and on the right one alone:
//! neither on the other rows of the tile, nor on how either operand lies in memory, nor on whether the right one was packed
//! before. With `gemm` it also depends on how many rows there are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Float;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod blocked;
pub(crate) mod general;
#[cfg_attr(not(target_arch = "x86_64"), path = "no_kernel.rs")]
mod kernel;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod microkernel;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unreachable_code, reason = "no kernel packs panels"))]
mod packed;
#[cfg(target_arch = "x86_64")]
mod tiles;

use kernel::Kernel;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::has_tiles;
pub use matrix::{Matrix, MatrixMut};
pub use packed::{PackedRight, Panels};

/// How exact products of f32 are, in PyTorch's words (`torch.set_float32_matmul_precision`). f64 is always multiplied in f64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// With all of their 24 bits.
    #[default]
    Highest,
    /// With operands rounded to 16 of them, where that is faster: on machines with AMX, as sums of two of bf16. Elsewhere as
    /// the highest.
    High,
    /// With operands rounded to the 8 of bf16, where that is faster: on machines with AMX. Elsewhere as the highest.
    Medium,
}

impl Precision {
    /// From the most exact on.
    pub const ALL: [Self; 3] = [Self::Highest, Self::High, Self::Medium];

    /// What recipes and command lines call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Highest => "highest",
            Self::High => "high",
            Self::Medium => "medium",
        }
    }

    /// Whether products of `F` are less exact than the highest on this machine.
    pub fn rounds<F: Float>(self) -> bool {
        F::as_f32(&[]).is_some() && Kernel::of(self).is_some_and(Kernel::rounds)
    }
}

/// A right operand: a view of it as it lies, or one of what was packed.
#[derive(Debug, Clone, Copy)]
pub enum Right<'a, F> {
    /// As it lies, for a product of some precision.
    Plain(Matrix<'a, F>, Precision),
    /// Some of a [`PackedRight`], in the precision that it was packed for.
    Packed(Panels<'a>),
}

/// A view, for a product of the highest precision.
impl<'a, F> From<Matrix<'a, F>> for Right<'a, F> {
    fn from(matrix: Matrix<'a, F>) -> Self {
        Self::Plain(matrix, Precision::Highest)
    }
}

impl<'a, F: Float> Right<'a, F> {
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Plain(matrix, _) => (matrix.rows, matrix.columns),
            Self::Packed(panels) => (panels.rows, panels.columns),
        }
    }

    /// For a kernel of our own, if one multiplies it.
    fn for_kernel(self) -> Option<(Kernel, Right<'a, f32>)> {
        match self {
            Self::Plain(matrix, precision) => Some((Kernel::of(precision)?, Right::Plain(matrix.as_f32()?, precision))),
            Self::Packed(panels) => Some((panels.kernel, Right::Packed(panels))),
        }
    }
}

/// The product: `out = a b`, or `out += a b` if `out` is [accumulating](MatrixMut::accumulating). With our own kernels the bits
/// are the same whether `b` is packed or not. A thread of a pool may do other tasks of the pool meanwhile: it must hold no lock.
///
/// # Shapes
/// `a`: m x k, `b`: k x n, `out`: m x n.
pub fn matmul<'b, F: Float>(mut out: MatrixMut<'_, F>, a: Matrix<'_, F>, b: impl Into<Right<'b, F>>) {
    let b = b.into();
    let (inner, columns) = b.shape();
    assert_eq!(a.columns, inner, "matmul: inner sizes differ");
    assert_eq!((out.rows, out.columns), (a.rows, columns), "matmul: output has another shape");
    if out.rows == 0 || out.columns == 0 {
        return;
    }
    if let (Some((kernel, b)), Some(a)) = (b.for_kernel(), a.as_f32())
        && let Some(out) = out.as_f32()
    {
        return kernel.product(out, a, b);
    }
    match b {
        Right::Plain(b, _) => general::product(&mut out, a, b),
        Right::Packed(_) => unreachable!("panels are packed for kernels of our own, of f32"),
    }
}

/// Rows and columns of the tile that [`transpose`] moves at once: two cache lines of f32 each way.
const TRANSPOSE_TILE: usize = 32;

/// Columns `first ..` of `matrix`, as rows.
///
/// # Shapes
/// `matrix`: rows x columns, row-major; `out`: any number of columns x rows.
pub fn transpose<F: Float>(out: &mut [F], matrix: &[F], rows: usize, columns: usize, first: usize) {
    assert_eq!(matrix.len(), rows * columns, "transpose: matrix has another length");
    assert!(out.len().is_multiple_of(rows) && first + out.len() / rows <= columns, "transpose: columns out of range");
    for (block_index, block) in out.chunks_mut(TRANSPOSE_TILE * rows).enumerate() {
        let column = first + block_index * TRANSPOSE_TILE;
        let width = block.len() / rows;
        for start in (0..rows).step_by(TRANSPOSE_TILE) {
            let end = (start + TRANSPOSE_TILE).min(rows);
            for i in 0..width {
                for row in start..end {
                    block[i * rows + row] = matrix[row * columns + column + i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
