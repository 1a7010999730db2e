//! Views of matrices: what products read and write.

use std::ops::Range;

use crate::Float;

/// A read-only strided view of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, F> {
    pub(super) data: &'a [F],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
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
    pub(super) fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "part exceeds its matrix");
        let empty = rows.is_empty() || columns.is_empty();
        let first = if empty { 0 } else { rows.start * self.row_stride + columns.start * self.column_stride };
        Self { data: &self.data[first..], rows: rows.len(), columns: columns.len(), ..self }
    }

    pub(super) fn as_f32(self) -> Option<Matrix<'a, f32>> {
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

/// A writable view of a matrix whose rows are contiguous: what a product overwrites, or is added to.
#[derive(Debug)]
pub struct MatrixMut<'a, F> {
    pub(super) data: &'a mut [F],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) accumulate: bool,
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
        Self { data, rows, columns, row_stride, accumulate: false }
    }

    /// Products are added to what is there if `accumulate`, and else overwrite it.
    #[must_use]
    pub fn accumulating(self, accumulate: bool) -> Self {
        Self { accumulate, ..self }
    }

    pub(super) fn as_f32(&mut self) -> Option<MatrixMut<'_, f32>> {
        let Self { rows, columns, row_stride, accumulate, .. } = *self;
        F::as_f32_mut(self.data).map(|data| MatrixMut { data, rows, columns, row_stride, accumulate })
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
