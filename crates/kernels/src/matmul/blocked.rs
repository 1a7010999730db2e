//! Products of f32 on machines with AVX-512: cut so that what is read often is near.
//!
//! The inner size is cut into blocks of at most [`MAX_INNER`]; for one of them, [`MAX_LEFT_ROWS`] rows of the left operand
//! fit the second-level cache, and panels of [`PANEL`] columns of the right one stream past them. A panel's values lie one
//! step after the other ([`pack_panel`]). A left operand whose rows are contiguous is read where it is; so are operands whose
//! steps are contiguous and near one another, and a right one that few rows meet. Rows and inner size are cut evenly, so that
//! no tile is much smaller than the others.
//!
//! An element is `sum over blocks of (sum over steps of a block)`, in order, so its bits depend on the row of the left
//! operand, the column of the right one, and nothing else: not on other rows and columns, nor on what is packed.

use std::ops::Range;

use super::kernel::{Kernel, MAX_PACKED_COLUMNS, Packing, lines_in};
use super::microkernel::{Left, MAX_ROWS, MAX_WIDE_ROWS, Tile, WIDE, copy, run, turn};
use super::packed::{LANES, Line, PANEL, Panels};
use super::{Matrix, MatrixMut, Right};
use crate::{Buffer, InstructionSet};

/// Most steps of the inner size in one block.
const MAX_INNER: usize = 768;
/// Most rows of the left operand in one block.
const MAX_LEFT_ROWS: usize = 264;
/// Rows of the left operand whose distance is a multiple of this many values fall on the same few sets of the first-level
/// cache; steps of an operand that are so far apart or farther lie each on a page of its own.
const FAR: usize = 1024;

/// Whether these products are in use: the machine then has what they need.
pub(super) fn available() -> bool {
    InstructionSet::in_use() >= InstructionSet::Avx512
}

/// Registers of a row in the panel that begins at `column`, a multiple of [`PANEL`].
fn registers_of(columns: usize, column: usize) -> usize {
    (columns - column).min(PANEL).div_ceil(LANES)
}

/// Where the values of row `row` in the panel that begins at `column` lie, in lines, and the lines of a row there.
fn line_of((rows, columns): (usize, usize), row: usize, column: usize) -> (usize, usize) {
    let of_row = registers_of(columns, column);
    (rows * (column / LANES) + row * of_row, of_row)
}

/// The values of a packed matrix in `row` whose register holds `column`.
pub(super) fn line(lines: &[Line], shape: (usize, usize), row: usize, column: usize) -> Line {
    let (first, _) = line_of(shape, row, column / PANEL * PANEL);
    lines[first + column % PANEL / LANES]
}

/// Packs the columns of `matrix` that begin at `column` into one panel: row after row, each filled up with zeros to a whole
/// line.
pub(super) fn pack_panel(panel: &mut [Line], matrix: Matrix<'_, f32>, column: usize) {
    let of_row = registers_of(matrix.columns, column);
    assert_eq!(panel.len(), matrix.rows * of_row, "panel of another length");
    if matrix.rows == 0 {
        return;
    }
    for register in 0..of_row {
        let first = column + register * LANES;
        let width = (matrix.columns - first).min(LANES);
        let part = matrix.part(0..matrix.rows, first..first + width);
        let stride = of_row * LANES;
        if part.row_stride == 1 {
            for row in (0..part.rows).step_by(LANES) {
                let (rows, to) = ((part.rows - row).min(LANES), &mut panel[row * of_row + register..]);
                // SAFETY: the machine has AVX-512: `available` was asked. The columns of `part` hold `rows` values each from
                // `row` on. `to` has `rows` lines, `of_row` apart, by the assertion above.
                unsafe {
                    let from = part.data[row..].as_ptr();
                    turn(from, part.column_stride, (width, rows), to.as_mut_ptr().cast(), stride);
                }
            }
        } else if part.column_stride == 1 || width == 1 {
            let to = &mut panel[register..];
            // SAFETY: as above, for all rows of `part`.
            unsafe { copy(part.data.as_ptr(), part.row_stride, (part.rows, width), to.as_mut_ptr().cast(), stride) };
        } else {
            for (row, lines) in panel.chunks_exact_mut(of_row).enumerate() {
                gather(&mut lines[register], &part.data[row * part.row_stride..], part.column_stride, width);
            }
        }
    }
}

/// Packs a matrix, panel after panel.
fn pack<'a>(buffer: &'a mut Buffer<f32>, matrix: Matrix<'_, f32>) -> Panels<'a> {
    let lines = lines_in(buffer, Kernel::Vectors.lines(matrix.rows, matrix.columns));
    for (index, panel) in lines.chunks_mut(Kernel::Vectors.lines(matrix.rows, PANEL)).enumerate() {
        pack_panel(panel, matrix, index * PANEL);
    }
    Panels::whole(Kernel::Vectors, lines, (matrix.rows, matrix.columns))
}

/// `out[j] = from[j * stride]` for j < count, and 0 beyond.
fn gather(out: &mut [f32], from: &[f32], stride: usize, count: usize) {
    out[count..].fill(0.0);
    for (index, value) in out[..count].iter_mut().enumerate() {
        *value = from[index * stride];
    }
}

/// Cuts `0 .. size` into as few pieces of at most `most` as can be, as even as can be.
fn even(size: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = size.div_ceil(most);
    (0..count).map(move |piece| piece * size / count..(piece + 1) * size / count)
}

/// Where panels of some columns of the right operand come from, for one block of the inner size.
enum Source<'a> {
    /// Packed before; rows from some row on, columns from `first_column` of the output on.
    Packed { panels: Panels<'a>, row: usize, first_column: usize },
    /// Packed when it is wanted: each panel meets one block of rows only, and stays in the second-level cache.
    OnDemand { matrix: Matrix<'a, f32>, buffer: &'a mut Buffer<f32> },
    /// Read where it is: columns are contiguous, and near one another or met by few rows.
    InPlace(Matrix<'a, f32>),
}

impl Source<'_> {
    /// The values of the first step in the columns from `column` on, and the distance to those of the next step: all
    /// columns if they are in place, else a panel of them.
    fn panel(&mut self, column: usize) -> (*const f32, usize) {
        match self {
            Self::Packed { panels, row, first_column } => {
                let (row, column) = (panels.first_row + *row, panels.first_column + column - *first_column);
                let (line, of_row) = line_of(panels.shape, row, column);
                (panels.lines[line..].as_ptr().cast(), of_row * LANES)
            }
            Self::OnDemand { matrix, buffer } => {
                let of_row = registers_of(matrix.columns, column);
                let packed = lines_in(buffer, matrix.rows * of_row);
                pack_panel(packed, *matrix, column);
                (packed.as_ptr().cast(), of_row * LANES)
            }
            Self::InPlace(matrix) => (matrix.data[column..].as_ptr(), matrix.row_stride),
        }
    }
}

/// `out = a b`, or `out += a b`. The shapes agree and are not empty, and [`available`] was true.
pub(super) fn product(out: &mut MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Right<'_, f32>, packing: &mut Packing) {
    let Packing { left, right } = packing;
    let columns = 0..out.columns;
    let adds = out.accumulate;
    for steps in even(a.columns, MAX_INNER) {
        out.accumulate = adds || steps.start > 0;
        let a = a.part(0..a.rows, steps.clone());
        match b {
            Right::Packed(panels) => {
                let source = Source::Packed { panels, row: steps.start, first_column: 0 };
                block(out, a, columns.clone(), source, left);
            }
            Right::Plain(b, _) => {
                let b = b.part(steps, columns.clone());
                let near = b.row_stride < FAR && a.rows <= MAX_LEFT_ROWS;
                if b.column_stride == 1 && (near || a.rows <= MAX_ROWS) {
                    block(out, a, columns.clone(), Source::InPlace(b), left);
                } else if a.rows <= MAX_LEFT_ROWS {
                    block(out, a, columns.clone(), Source::OnDemand { matrix: b, buffer: right }, left);
                } else {
                    for first in columns.clone().step_by(MAX_PACKED_COLUMNS) {
                        let some = first..(first + MAX_PACKED_COLUMNS).min(columns.end);
                        let panels = pack(right, b.part(0..b.rows, some.clone()));
                        block(out, a, some, Source::Packed { panels, row: 0, first_column: first }, left);
                    }
                }
            }
        }
    }
}

/// What `columns` of the output receive from one block of the inner size, all columns of `a`.
fn block(
    out: &mut MatrixMut<'_, f32>,
    a: Matrix<'_, f32>,
    columns: Range<usize>,
    mut right: Source<'_>,
    buffer: &mut Buffer<f32>,
) {
    let steps = a.columns;
    let left_in_place = if a.column_stride == 1 && !a.row_stride.is_multiple_of(FAR) {
        Some(Left::Rows(a.row_stride))
    } else if a.row_stride == 1 && a.column_stride < FAR {
        Some(Left::Steps(a.column_stride))
    } else {
        None
    };
    for rows in even(a.rows, MAX_LEFT_ROWS) {
        let part = a.part(rows.clone(), 0..steps);
        let left = if left_in_place.is_some() { part.data } else { pack_left(part, buffer) };
        let mut column = columns.start;
        while column < columns.end {
            let ((panel, stride), left_over) = (right.panel(column), columns.end - column);
            let in_place = matches!(right, Source::InPlace(_));
            let wide = in_place && rows.len() <= MAX_WIDE_ROWS && left_over >= WIDE * LANES;
            let registers = if wide { WIDE } else { left_over.min(PANEL).div_ceil(LANES) };
            let width = left_over.min(registers * LANES);
            for tile in even(rows.len(), MAX_ROWS) {
                let first = rows.start + tile.start;
                let (lies, at) = match left_in_place {
                    Some(lies @ Left::Rows(stride)) => (lies, tile.start * stride),
                    Some(lies @ Left::Steps(_)) => (lies, tile.start),
                    None => (Left::Steps(tile.len()), tile.start * steps),
                };
                let tile = Tile {
                    left: left[at..].as_ptr(),
                    left_lies: lies,
                    right: panel,
                    right_stride: stride,
                    out: out.data[first * out.row_stride + column..].as_mut_ptr(),
                    out_stride: out.row_stride,
                    rows: tile.len(),
                    inner: steps,
                    columns: width,
                    accumulate: out.accumulate,
                };
                // SAFETY: the machine has AVX-512: `available` was asked. Rows `first .. first + tile.rows` and columns
                // `column .. column + width` exist in `out`, whose view reaches as far as its shape says and is borrowed
                // mutably, so that it overlaps nothing else. `left` begins with the tile's rows: of the view itself,
                // whose rows or steps are as far apart as it says, or of what `pack_left` makes, all steps of the rows before
                // the tile's and then all of the tile's. The same columns and steps exist in the right operand or its panels, by
                // the assertions on shapes in `matmul`.
                unsafe { run(&tile, registers) };
            }
            column += width;
        }
    }
}

/// The left operand as tiles read it: tile after tile, all steps of its rows, the values of a step together.
fn pack_left<'a>(a: Matrix<'_, f32>, buffer: &'a mut Buffer<f32>) -> &'a [f32] {
    // `turn` and `copy` write sixteen values where a step has at most twelve.
    let packed = buffer.fit(a.rows * a.columns + LANES);
    for tile in even(a.rows, MAX_ROWS) {
        let (height, at) = (tile.len(), tile.start * a.columns);
        let part = a.part(tile, 0..a.columns);
        let to = &mut packed[at..];
        assert!(to.len() >= height * a.columns + LANES, "packed rows exceed their memory");
        if part.column_stride == 1 {
            for step in (0..part.columns).step_by(LANES) {
                let (steps, to) = ((part.columns - step).min(LANES), &mut to[step * height..]);
                // SAFETY: the machine has AVX-512: `available` was asked. The rows of `part` hold `steps` values from
                // `step` on. `to` has room for `height` values of each of these steps and sixteen more; the rows that
                // `turn` writes overlap, and what it writes too much is overwritten by the next step or tile.
                unsafe { turn(part.data[step..].as_ptr(), part.row_stride, (height, steps), to.as_mut_ptr(), height) };
            }
        } else if part.row_stride == 1 || height == 1 {
            // SAFETY: as above; each step of `part` holds `height` values.
            unsafe {
                copy(part.data.as_ptr(), part.column_stride, (part.columns, height), to.as_mut_ptr(), height);
            }
        } else {
            for (step, to) in to[..height * part.columns].chunks_exact_mut(height).enumerate() {
                gather(to, &part.data[step * part.column_stride..], part.row_stride, height);
            }
        }
    }
    packed
}
