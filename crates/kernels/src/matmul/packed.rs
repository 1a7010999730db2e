//! A right operand packed once and multiplied many times: weights, which every tile of rows meets, or the keys and values of a
//! sequence, which every tile of its queries meets. On machines with AVX-512 a thread of a pool that has no other task to give
//! away offers others half of the rows of a large product; the bits are the same.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::Kernel;
use super::{Matrix, Precision, Right, transpose};
use crate::{Buffer, Float};

/// Values of a register, and of a cache line.
pub(super) const LANES: usize = 16;
/// Columns of a panel: two registers.
pub(super) const PANEL: usize = 2 * LANES;

/// A cache line of values.
pub(super) type Line = [f32; LANES];

/// A right operand, packed for products of some precision: in panels of columns on machines with AVX-512, else as it is,
/// row-major.
///
/// # Memory
/// As many values as the matrix has, its columns rounded up to a multiple of 16, and with AMX, for less than the highest
/// precision, its rows to one of 32; for [`Precision::Medium`] half of that.
#[derive(Debug, Clone, Default)]
pub struct PackedRight<F> {
    rows: usize,
    columns: usize,
    precision: Precision,
    /// The panels of [`PackedRight::kernel`], or the matrix.
    values: Buffer<F>,
}

/// Some rows and columns of a packed matrix of f32.
#[derive(Debug, Clone, Copy)]
pub struct Panels<'a> {
    /// What packed it.
    pub(super) kernel: Kernel,
    pub(super) lines: &'a [Line],
    /// Of the whole matrix.
    pub(super) shape: (usize, usize),
    pub(super) first_row: usize,
    /// A multiple of [`PANEL`].
    pub(super) first_column: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl<F> PackedRight<F> {
    /// What the first column of a part must be a multiple of.
    pub const FIRST_COLUMN: usize = PANEL;
}

impl<F: Float> PackedRight<F> {
    /// An empty matrix, to be packed into, for products of some precision.
    pub fn empty(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
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
        let kernel = self.kernel();
        let (len, values) = self.pieces(matrix.rows, matrix.columns);
        values.chunks_mut(len).enumerate().for_each(|(index, piece)| pack_piece(kernel, piece, matrix, index));
    }

    /// Packs `matrix` in place of what was here, on all threads.
    pub fn pack_in_parallel(&mut self, matrix: Matrix<'_, F>) {
        let kernel = self.kernel();
        let (len, values) = self.pieces(matrix.rows, matrix.columns);
        values.par_chunks_mut(len).enumerate().for_each(|(index, piece)| pack_piece(kernel, piece, matrix, index));
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
        let mut packed = Self::empty(precision);
        let kernel = packed.kernel();
        let (len, values) = packed.pieces(rows, columns);
        if kernel.is_some() {
            values.par_chunks_mut(len).enumerate().try_for_each_init(Vec::new, |filled, (index, panel)| {
                let first = index * PANEL;
                let count = (columns - first).min(PANEL);
                filled.resize(count * rows, F::ZERO);
                fill(first, filled)?;
                pack_piece(kernel, panel, Matrix::new(filled, count, rows).transposed(), 0);
                Ok(())
            })?;
        } else {
            let mut turned = vec![F::ZERO; rows * columns];
            let pieces = turned.par_chunks_mut((PANEL * rows).max(1)).enumerate();
            pieces.try_for_each(|(index, values)| fill(index * PANEL, values))?;
            let pieces = values.par_chunks_mut((PANEL * columns).max(1)).enumerate();
            pieces.for_each(|(index, out)| transpose(out, &turned, columns, rows, index * PANEL));
        }
        Ok(packed)
    }

    /// What packs and multiplies it; `None` if it is kept as it is.
    fn kernel(&self) -> Option<Kernel> {
        F::as_f32(&[]).and_then(|_| Kernel::of(self.precision))
    }

    /// Memory for a rows x columns matrix, and the length of each of the pieces that are packed one by one: panels, or rows.
    fn pieces(&mut self, rows: usize, columns: usize) -> (usize, &mut [F]) {
        (self.rows, self.columns) = (rows, columns);
        let (piece, all) = match self.kernel() {
            Some(kernel) => (kernel.lines(rows, PANEL) * LANES, kernel.lines(rows, columns) * LANES),
            None => (columns, rows * columns),
        };
        (piece.max(1), self.values.fit(all))
    }

    fn lines(&self) -> &[Line] {
        F::as_f32(&self.values).unwrap_or_default().as_chunks().0
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
        let Some(kernel) = self.kernel() else { return self.values[row * self.columns + column] };
        let line = kernel.line(self.lines(), (self.rows, self.columns), row, column / LANES * LANES);
        F::from_f32(line[column % LANES])
    }

    /// The matrix as products see it: rows x columns, row-major.
    pub fn to_vec(&self) -> Vec<F> {
        let Some(kernel) = self.kernel() else { return self.values.to_vec() };
        let mut out = vec![F::ZERO; self.rows * self.columns];
        for (row, out) in out.chunks_exact_mut(self.columns.max(1)).enumerate() {
            for (index, out) in out.chunks_mut(LANES).enumerate() {
                let line = kernel.line(self.lines(), (self.rows, self.columns), row, index * LANES);
                out.iter_mut().zip(line).for_each(|(out, value)| *out = F::from_f32(value));
            }
        }
        out
    }

    /// All of it, as a right operand.
    pub fn whole(&self) -> Right<'_, F> {
        self.part(0..self.rows, 0..self.columns)
    }

    /// Some rows and columns of it, as a right operand. The first column must be a multiple of
    /// [`PackedRight::FIRST_COLUMN`]. Of what is packed for less than the highest precision so must the first row; up to the next
    /// such multiple, rows beyond the last are multiplied by 0, and must hold numbers that bf16 can (below 3.39e38).
    pub fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Right<'_, F> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows outside of a packed matrix");
        assert!(columns.start <= columns.end && columns.end <= self.columns, "columns outside of a packed matrix");
        let aligned = |at: usize| at.is_multiple_of(Self::FIRST_COLUMN);
        assert!(aligned(columns.start), "part begins inside a packed panel");
        let whole_steps = self.precision == Precision::Highest || aligned(rows.start);
        assert!(whole_steps, "part begins with a row that is packed together with one before");
        match self.kernel() {
            Some(kernel) => Right::Packed(Panels {
                first_row: rows.start,
                first_column: columns.start,
                rows: rows.len(),
                columns: columns.len(),
                ..Panels::whole(kernel, self.lines(), (self.rows, self.columns))
            }),
            None => {
                Right::Plain(Matrix::new(&self.values, self.rows, self.columns).part(rows, columns), self.precision)
            }
        }
    }
}

impl<'a> Panels<'a> {
    /// A packed matrix.
    pub(super) fn whole(kernel: Kernel, lines: &'a [Line], shape: (usize, usize)) -> Self {
        Self { kernel, lines, shape, first_row: 0, first_column: 0, rows: shape.0, columns: shape.1 }
    }
}

/// Packs one piece of a matrix: the panel or the row of this index.
fn pack_piece<F: Float>(kernel: Option<Kernel>, piece: &mut [F], matrix: Matrix<'_, F>, index: usize) {
    let Some(kernel) = kernel else {
        for (column, value) in piece.iter_mut().enumerate() {
            *value = matrix.data[index * matrix.row_stride + column * matrix.column_stride];
        }
        return;
    };
    if let (Some(panel), Some(matrix)) = (F::as_f32_mut(piece), matrix.as_f32()) {
        kernel.pack_panel(panel.as_chunks_mut().0, matrix, index * PANEL);
    }
}
