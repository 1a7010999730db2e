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

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Float;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod blocked;
pub(crate) mod general;
#[cfg(target_arch = "x86_64")]
mod microkernel;
#[cfg(target_arch = "x86_64")]
mod own;
mod packed;
#[cfg(target_arch = "x86_64")]
mod tiles;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::has_tiles;
pub use packed::{PackedPart, PackedRight, matmul_packed, matmul_packed_add};

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
        #[cfg(target_arch = "x86_64")]
        return F::as_f32(&[]).is_some() && matches!(own::Kernel::of(self), Some(own::Kernel::Tiles(_)));
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

/// A read-only strided view of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, F> {
    data: &'a [F],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, F: Float> Matrix<'a, F> {
    /// rows x columns, row-major, without gaps.
    pub fn new(data: &'a [F], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns, 1)
    }

    /// Element (i, j) is `data[i * row_stride + j * column_stride]`.
    pub fn strided(data: &'a [F], rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, row_stride, column_stride), "matrix view exceeds its data");
        Self { data, rows, columns, row_stride, column_stride }
    }

    /// The same data, rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Some of its rows and columns.
    fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "part exceeds its matrix");
        let empty = rows.is_empty() || columns.is_empty();
        let first = if empty { 0 } else { rows.start * self.row_stride + columns.start * self.column_stride };
        Self { data: &self.data[first..], rows: rows.len(), columns: columns.len(), ..self }
    }

    #[cfg(target_arch = "x86_64")]
    fn as_f32(self) -> Option<Matrix<'a, f32>> {
        let Self { rows, columns, row_stride, column_stride, .. } = self;
        F::as_f32(self.data).map(|data| Matrix { data, rows, columns, row_stride, column_stride })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// A writable view of a matrix whose rows are contiguous.
#[derive(Debug)]
pub struct MatrixMut<'a, F> {
    data: &'a mut [F],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a, F: Float> MatrixMut<'a, F> {
    /// rows x columns, row-major, without gaps.
    pub fn new(data: &'a mut [F], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Row i begins at `data[i * row_stride]`.
    pub fn strided(data: &'a mut [F], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(columns <= row_stride || rows <= 1, "rows of a writable matrix overlap");
        assert!(fits(data.len(), rows, columns, row_stride, 1), "matrix view exceeds its data");
        Self { data, rows, columns, row_stride }
    }
}

#[cfg(target_arch = "x86_64")]
impl<F: Float> MatrixMut<'_, F> {
    /// Its rows before `row` and those from it on, at least one of each.
    fn split_at(&mut self, row: usize) -> (MatrixMut<'_, F>, MatrixMut<'_, F>) {
        let Self { rows, columns, row_stride, .. } = *self;
        let (above, below) = self.data.split_at_mut(row * row_stride);
        let of = |data, rows| MatrixMut { data, rows, columns, row_stride };
        (of(above, row), of(below, rows - row))
    }

    fn as_f32(&mut self) -> Option<MatrixMut<'_, f32>> {
        let Self { rows, columns, row_stride, .. } = *self;
        F::as_f32_mut(self.data).map(|data| MatrixMut { data, rows, columns, row_stride })
    }
}

/// Whether a matrix lies within `len` values, and its strides are distances that pointers can have.
fn fits(len: usize, rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> bool {
    let last = |count: usize, stride: usize| count.checked_sub(1)?.checked_mul(stride);
    let distances = isize::try_from(row_stride.max(column_stride)).is_ok();
    let (Some(row), Some(column)) = (last(rows, row_stride), last(columns, column_stride)) else {
        return distances && (rows == 0 || columns == 0);
    };
    distances && row.checked_add(column).is_some_and(|last| last < len)
}

/// `out = a b`.
///
/// # Shapes
/// `a`: m x k, `b`: k x n, `out`: m x n.
pub fn matmul<F: Float>(mut out: MatrixMut<'_, F>, a: Matrix<'_, F>, b: Matrix<'_, F>) {
    product(&mut out, a, b, false, Precision::Highest);
}

/// `out += a b`.
///
/// # Shapes
/// `a`: m x k, `b`: k x n, `out`: m x n.
pub fn matmul_add<F: Float>(out: MatrixMut<'_, F>, a: Matrix<'_, F>, b: Matrix<'_, F>) {
    matmul_add_of(Precision::Highest, out, a, b);
}

/// `out += a b`, of any precision.
///
/// # Shapes
/// `a`: m x k, `b`: k x n, `out`: m x n.
pub fn matmul_add_of<F: Float>(precision: Precision, mut out: MatrixMut<'_, F>, a: Matrix<'_, F>, b: Matrix<'_, F>) {
    product(&mut out, a, b, true, precision);
}

fn product<F: Float>(
    out: &mut MatrixMut<'_, F>,
    a: Matrix<'_, F>,
    b: Matrix<'_, F>,
    accumulate: bool,
    precision: Precision,
) {
    assert_eq!(a.columns, b.rows, "matmul: inner sizes differ");
    assert_eq!((out.rows, out.columns), (a.rows, b.columns), "matmul: output has another shape");
    if out.rows == 0 || out.columns == 0 {
        return;
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = precision;
    #[cfg(target_arch = "x86_64")]
    if let (Some(kernel), Some(a), Some(b)) = (own::Kernel::of(precision), a.as_f32(), b.as_f32())
        && let Some(mut out) = out.as_f32()
    {
        return kernel.product(&mut out, a, own::Right::Plain(b), accumulate);
    }
    general::product(out, a, b, accumulate);
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
