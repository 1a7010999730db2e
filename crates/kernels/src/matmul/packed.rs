//! A right operand packed once and multiplied many times: weights, which every tile meets, or the keys and values of a
//! sequence, which every tile of its queries meets. On machines with AVX-512 a thread of a pool that has no other task to give
//! away offers others half of the rows of a large product; the bits are the same.

use std::ops::Range;

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::own::{Kernel, LANES, Lines, PANEL, Panels, shared};
use super::{Matrix, MatrixMut, Precision, general, transpose};
use crate::Float;

/// Columns that [`PackedRight::from_columns`] asks for at a time.
const COLUMNS: usize = 32;

/// A right operand, packed for products of some precision: in panels of columns on machines with AVX-512, else as it is,
/// row-major.
///
/// # Memory
/// As many values as the matrix has, its columns rounded up to a multiple of 16, and with AMX, for less than the highest
/// precision, its rows to one of 32; for [`Precision::Medium`] half of that.
#[derive(Debug, Clone)]
pub struct PackedRight<F> {
    rows: usize,
    columns: usize,
    precision: Precision,
    storage: Storage<F>,
}

#[derive(Debug, Clone)]
enum Storage<F> {
    Plain(Vec<F>),
    #[cfg(target_arch = "x86_64")]
    Panels(Kernel, Lines),
}

impl<F: Float> Default for PackedRight<F> {
    /// An empty matrix, to be packed into, for products of the highest precision.
    fn default() -> Self {
        Self::empty(Precision::Highest)
    }
}

impl<F: Float> PackedRight<F> {
    /// An empty matrix, to be packed into, for products of some precision.
    pub fn empty(precision: Precision) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let (Some(_), Some(kernel)) = (F::as_f32(&[]), Kernel::of(precision)) {
            return Self { rows: 0, columns: 0, precision, storage: Storage::Panels(kernel, Lines::default()) };
        }
        Self { rows: 0, columns: 0, precision, storage: Storage::Plain(Vec::new()) }
    }

    /// Lets what is packed next be for products of some precision; unless it is so already, nothing is left of what is here.
    pub fn set_precision(&mut self, precision: Precision) {
        if self.precision != precision {
            *self = Self::empty(precision);
        }
    }

    /// Packs `matrix` for products of some precision, on this thread.
    pub fn new(precision: Precision, matrix: Matrix<'_, F>) -> Self {
        let mut packed = Self::empty(precision);
        packed.pack(matrix);
        packed
    }

    /// Packs `matrix` for products of some precision, on all threads.
    pub fn in_parallel(precision: Precision, matrix: Matrix<'_, F>) -> Self {
        let mut packed = Self::empty(precision);
        packed.pack_in_parallel(matrix);
        packed
    }

    /// Packs `matrix` in place of what was here, on this thread. Nothing is allocated unless it is larger.
    pub fn pack(&mut self, matrix: Matrix<'_, F>) {
        (self.rows, self.columns) = (matrix.rows, matrix.columns);
        match &mut self.storage {
            Storage::Plain(values) => {
                values.resize(matrix.rows * matrix.columns, F::ZERO);
                let rows = values.chunks_exact_mut(matrix.columns.max(1));
                rows.enumerate().for_each(|(row, out)| copy_row(out, matrix, row));
            }
            #[cfg(target_arch = "x86_64")]
            Storage::Panels(kernel, lines) => {
                let lines = lines.fit(kernel.lines(matrix.rows, matrix.columns));
                if let Some(matrix) = matrix.as_f32() {
                    kernel.pack(lines, matrix);
                }
            }
        }
    }

    /// Packs `matrix` in place of what was here, on all threads.
    pub fn pack_in_parallel(&mut self, matrix: Matrix<'_, F>) {
        (self.rows, self.columns) = (matrix.rows, matrix.columns);
        match &mut self.storage {
            Storage::Plain(values) => {
                values.resize(matrix.rows * matrix.columns, F::ZERO);
                let rows = values.par_chunks_exact_mut(matrix.columns.max(1));
                rows.enumerate().for_each(|(row, out)| copy_row(out, matrix, row));
            }
            #[cfg(target_arch = "x86_64")]
            Storage::Panels(kernel, lines) => {
                let lines = lines.fit(kernel.lines(matrix.rows, matrix.columns));
                let Some(matrix) = matrix.as_f32() else { return };
                let panels = lines.par_chunks_mut(kernel.lines(matrix.rows, PANEL).max(1));
                panels.enumerate().for_each(|(index, panel)| kernel.pack_panel(panel, matrix, index * PANEL));
            }
        }
    }

    /// A rows x columns matrix for products of some precision, whose columns come a few at a time: `fill(first, values)`
    /// writes columns `first ..`, one after the other, as many as `values` holds, `rows` each. It is called on all threads,
    /// in any order.
    ///
    /// # Errors
    /// The first that `fill` gives.
    pub fn from_columns<E: Send>(
        precision: Precision,
        rows: usize,
        columns: usize,
        fill: impl Fn(usize, &mut [F]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let mut packed = Self { rows, columns, ..Self::empty(precision) };
        let piece = (COLUMNS * rows).max(1);
        match &mut packed.storage {
            Storage::Plain(values) => {
                let mut turned = vec![F::ZERO; rows * columns];
                let pieces = turned.par_chunks_mut(piece).enumerate();
                pieces.try_for_each(|(index, values)| fill(index * COLUMNS, values))?;
                values.resize(rows * columns, F::ZERO);
                let pieces = values.par_chunks_mut((COLUMNS * columns).max(1)).enumerate();
                pieces.for_each(|(index, out)| transpose(out, &turned, columns, rows, index * COLUMNS));
            }
            #[cfg(target_arch = "x86_64")]
            Storage::Panels(kernel, lines) => {
                let lines = lines.fit(kernel.lines(rows, columns));
                let panels = lines.par_chunks_mut(kernel.lines(rows, PANEL).max(1)).enumerate();
                panels.try_for_each_init(Vec::new, |values, (index, panel)| {
                    let first = index * PANEL;
                    let count = (columns - first).min(PANEL);
                    values.resize(count * rows, F::ZERO);
                    fill(first, values)?;
                    if let Some(matrix) = Matrix::new(values, count, rows).transposed().as_f32() {
                        kernel.pack_panel(panel, matrix, 0);
                    }
                    Ok(())
                })?;
            }
        }
        Ok(packed)
    }

    /// Number of rows: the inner size of products.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// What it was asked to be packed for.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Element (row, column), as products see it.
    pub fn get(&self, row: usize, column: usize) -> F {
        assert!(row < self.rows && column < self.columns, "element outside of a packed matrix");
        match &self.storage {
            Storage::Plain(values) => values[row * self.columns + column],
            #[cfg(target_arch = "x86_64")]
            Storage::Panels(kernel, lines) => {
                F::from_f32(kernel.value(lines.get(), (self.rows, self.columns), row, column))
            }
        }
    }

    /// The matrix as products see it: rows x columns, row-major.
    pub fn to_vec(&self) -> Vec<F> {
        match &self.storage {
            Storage::Plain(values) => values.clone(),
            #[cfg(target_arch = "x86_64")]
            Storage::Panels(kernel, lines) => {
                let mut out = vec![F::ZERO; self.rows * self.columns];
                for (row, out) in out.chunks_exact_mut(self.columns.max(1)).enumerate() {
                    for (index, out) in out.chunks_mut(LANES).enumerate() {
                        let line = kernel.line(lines.get(), (self.rows, self.columns), row, index * LANES);
                        out.iter_mut().zip(line).for_each(|(out, value)| *out = F::from_f32(value));
                    }
                }
                out
            }
        }
    }

    /// All of it, as a right operand.
    pub fn whole(&self) -> PackedPart<'_, F> {
        self.part(0..self.rows, 0..self.columns)
    }

    /// Some rows and columns of it, as a right operand. The first column must be a multiple of
    /// [`PackedPart::FIRST_COLUMN`]. Of what is packed for less than the highest precision so must the first row; up to the next
    /// such multiple, rows beyond the last are multiplied by 0, and must hold numbers that bf16 can (below 3.39e38).
    pub fn part(&self, rows: Range<usize>, columns: Range<usize>) -> PackedPart<'_, F> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows outside of a packed matrix");
        assert!(columns.start <= columns.end && columns.end <= self.columns, "columns outside of a packed matrix");
        let aligned = |at: usize| at.is_multiple_of(PackedPart::<F>::FIRST_COLUMN);
        assert!(aligned(columns.start), "part begins inside a packed panel");
        let whole_steps = self.precision == Precision::Highest || aligned(rows.start);
        assert!(whole_steps, "part begins with a row that is packed together with one before");
        PackedPart { of: self, rows, columns }
    }
}

fn copy_row<F: Float>(out: &mut [F], matrix: Matrix<'_, F>, row: usize) {
    for (column, value) in out.iter_mut().enumerate() {
        *value = matrix.data[row * matrix.row_stride + column * matrix.column_stride];
    }
}

/// Some rows and columns of a [`PackedRight`].
#[derive(Debug, Clone)]
pub struct PackedPart<'a, F> {
    of: &'a PackedRight<F>,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<F> PackedPart<'_, F> {
    /// What the first column of a part must be a multiple of.
    pub const FIRST_COLUMN: usize = 32;
}

/// `out = a b`, in the precision that `b` was packed for: in the highest the same bits as [`matmul`](super::matmul) with the
/// matrix that was packed. A thread of a pool may do other tasks of the pool meanwhile: it must hold no lock.
///
/// # Shapes
/// `a`: m x k, `b`: k x n, `out`: m x n.
pub fn matmul_packed<F: Float>(mut out: MatrixMut<'_, F>, a: Matrix<'_, F>, b: &PackedPart<'_, F>) {
    product(&mut out, a, b, false);
}

/// `out += a b`, in the precision that `b` was packed for: the same bits as [`matmul_add_of`](super::matmul_add_of) with the
/// matrix that was packed. A thread of a pool may do other tasks of the pool meanwhile: it must hold no lock.
///
/// # Shapes
/// `a`: m x k, `b`: k x n, `out`: m x n.
pub fn matmul_packed_add<F: Float>(mut out: MatrixMut<'_, F>, a: Matrix<'_, F>, b: &PackedPart<'_, F>) {
    product(&mut out, a, b, true);
}

fn product<F: Float>(out: &mut MatrixMut<'_, F>, a: Matrix<'_, F>, b: &PackedPart<'_, F>, accumulate: bool) {
    assert_eq!(a.columns, b.rows.len(), "matmul: inner sizes differ");
    assert_eq!((out.rows, out.columns), (a.rows, b.columns.len()), "matmul: output has another shape");
    if out.rows == 0 || out.columns == 0 {
        return;
    }
    match &b.of.storage {
        Storage::Plain(values) => {
            let whole = Matrix::new(values, b.of.rows, b.of.columns);
            general::product(out, a, whole.part(b.rows.clone(), b.columns.clone()), accumulate);
        }
        #[cfg(target_arch = "x86_64")]
        Storage::Panels(kernel, lines) => {
            let panels = Panels {
                lines: lines.get(),
                shape: (b.of.rows, b.of.columns),
                first_row: b.rows.start,
                first_column: b.columns.start,
            };
            if let (Some(out), Some(a)) = (out.as_f32(), a.as_f32()) {
                shared(*kernel, out, a, panels, accumulate);
            }
        }
    }
}
