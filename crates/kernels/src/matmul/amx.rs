//! Products of f32 on machines with AMX, each value as the sum of two of bf16: several times faster than fused multiply-adds,
//! with operands of 16 bits. Or each value as one of bf16, which is faster still, with operands of 8.
//!
//! AMX multiplies tiles of bf16 and adds in f32. A value of f32 is `x = h + l + rest`, where `h` is `x` rounded to the 8 bits of
//! bf16, `l` is what that lost, rounded, and `rest` at most 2^-17 of it. Of the four products of two such sums three are formed;
//! `l l` is at most 2^-16 of the whole. So a product errs by at most 2^-15, of either sign, and by some 2^-18 in the mean
//! square; what is formed is exact in f32. Values above 3.39e38 and infinities give NaN, and numbers below 1.2e-38, which a part
//! of a product can be too, count as 0. With `h` alone, a product errs by at most 2^-7, and values above 3.39e38 are infinite.
//!
//! A step is 32 values of the inner size, and a tile 16 lines of 16 pairs of bf16: of step k, pair p holds values p and
//! 16 + p. The left operand's lines are its rows; the right one's are its pairs, and a line holds 16 columns.
//!
//! Steps are added in order, those of a block to what `out` holds of the blocks before. The order of all additions of an
//! element depends on the inner size alone, so its bits depend on the row of the left operand, the column of the right one,
//! and nothing else.

use std::arch::x86_64::{
    __cpuid_count, __m512, __m512i, _CMP_ORD_Q, _MM_HINT_T0, _mm_prefetch, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_mask_add_epi32, _mm512_maskz_loadu_ps, _mm512_or_si512,
    _mm512_set1_epi32, _mm512_srli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};
use std::cell::RefCell;
use std::ops::Range;

use super::microkernel::turn;
use super::own::{LANES, Line, Lines, PANEL, Panels, Right, registers_of};
use super::tiles::{BLOCK_ROWS, FETCHED_IN, Parts, STEP, TILE, Tile, configure, fetched, release, run};
use super::{Matrix, MatrixMut};

/// Most parts of steps of the inner size in one block.
const MAX_PARTS: usize = 48;
/// Most rows of the left operand that are split at a time: with [`MAX_PARTS`], 0.8 MB, to fit the second-level cache.
const MAX_LEFT_ROWS: usize = FETCHED_IN * BLOCK_ROWS;
/// Most columns of the right operand that are packed at a time for one product.
const MAX_PACKED_COLUMNS: usize = 512;
/// Rows that are fetched ahead where they are split in order.
const AHEAD: usize = 2;

/// Whether the machine and its kernel can run these products. Asks Linux for the right to the registers, which holds for
/// the whole process.
pub(super) fn available() -> bool {
    // Leaf 7 exists where AVX-512 does.
    let tiles = |edx: u32| edx >> 22 & 1 == 1 && edx >> 24 & 1 == 1;
    #[allow(unused_unsafe, reason = "older compilers ask for it")]
    // SAFETY: every x86_64 processor has the instruction.
    let leaf = || unsafe { __cpuid_count(7, 0) };
    is_x86_feature_detected!("avx512f") && tiles(leaf().edx) && permitted()
}

#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes nothing but what the process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Lines that `rows` rows of one register of columns become.
pub(super) fn lines_of_register(parts: Parts, rows: usize) -> usize {
    rows.div_ceil(STEP) * parts.count() * TILE
}

/// The line of a packed matrix where the tiles of `row` and `column`'s panel begin, and registers of a row there.
fn line_of(parts: Parts, (rows, columns): (usize, usize), row: usize, column: usize) -> (usize, usize) {
    let panel = column / PANEL * PANEL;
    let registers = registers_of(columns, panel);
    let first = lines_of_register(parts, rows) * (panel / LANES);
    (first + row / STEP * parts.count() * registers * TILE, registers)
}

/// Element (row, column) of a packed matrix.
pub(super) fn value(parts: Parts, lines: &[Line], shape: (usize, usize), row: usize, column: usize) -> f32 {
    let (first, registers) = line_of(parts, shape, row, column);
    let (pair, odd, register) = (row % STEP % TILE, row % STEP / TILE, column % PANEL / LANES);
    let part = |part: usize| {
        let bits = lines[first + (part * registers + register) * TILE + pair][column % LANES].to_bits();
        f32::from_bits(if odd == 1 { bits & 0xffff_0000 } else { bits << 16 })
    };
    (0..parts.count()).map(part).sum()
}

/// Packs the columns of `matrix` that begin at `column` into one panel: step after step, its parts, the tiles of each.
#[target_feature(enable = "avx512f")]
pub(super) fn pack_panel(parts: Parts, panel: &mut [Line], matrix: Matrix<'_, f32>, column: usize) {
    let columns = column..(column + PANEL).min(matrix.columns);
    pack_right(parts, panel, matrix.part(0..matrix.rows, columns));
}

/// Packs a right operand, one panel after the other.
#[target_feature(enable = "avx512f")]
fn pack_right(parts: Parts, lines: &mut [Line], matrix: Matrix<'_, f32>) {
    assert_eq!(
        lines.len(),
        lines_of_register(parts, matrix.rows) * matrix.columns.div_ceil(LANES),
        "panels of another length"
    );
    let mut pairs = Pairs::default();
    for row in (0..matrix.rows).step_by(STEP) {
        let in_place = matrix.column_stride == 1;
        // Where they are, rows are walked along; else squares are turned round.
        for pair in 0..if in_place { TILE } else { 1 } {
            for column in (0..matrix.columns).step_by(LANES) {
                let (first, registers) = line_of(parts, (matrix.rows, matrix.columns), row, column);
                let first = first + column % PANEL / LANES * TILE;
                let tiles = &mut lines[first..][..((parts.count() - 1) * registers + 1) * TILE];
                if in_place {
                    let line = |row: usize| RowPart::of(matrix, row, column);
                    split(parts, &mut tiles[pair..], registers * TILE, line(row + pair), line(row + TILE + pair));
                } else {
                    pairs.fill(matrix, (row, column), (row + TILE, column));
                    pairs.split(parts, tiles, registers * TILE);
                }
            }
        }
    }
}

/// The left operand as blocks of [`BLOCK_ROWS`] rows read it: step after step, the parts of each, one tile or two of it.
#[target_feature(enable = "avx512f")]
fn split_left<'a>(parts: Parts, a: Matrix<'_, f32>, scratch: &'a mut Lines) -> &'a [Line] {
    let steps = a.columns.div_ceil(STEP);
    let lines = scratch.resize(steps * parts.count() * a.rows.next_multiple_of(TILE));
    let mut pairs = Pairs::default();
    for (index, block) in lines.chunks_mut(steps * parts.count() * BLOCK_ROWS).enumerate() {
        let tiles = block.len() / (steps * parts.count() * TILE);
        let of_step = parts.count() * tiles * TILE;
        let rows = index * BLOCK_ROWS..(index * BLOCK_ROWS + tiles * TILE).min(a.rows);
        if a.column_stride == 1 {
            // Rows beyond the last keep what was there: they are rows of the output that nobody reads.
            for row in rows.clone() {
                for (step, lines) in block.chunks_exact_mut(of_step).enumerate() {
                    let line = |step: usize| RowPart::of(a, row, step);
                    let (even, odd) = (line(step * STEP), line(step * STEP + TILE));
                    split(parts, &mut lines[row - rows.start..], tiles * TILE, even, odd);
                }
            }
        } else {
            for (step, lines) in block.chunks_exact_mut(of_step).enumerate() {
                for tile in 0..tiles {
                    let (row, step) = (rows.start + tile * TILE, step * STEP);
                    pairs.fill(a, (row, step), (row, step + TILE));
                    pairs.split(parts, &mut lines[tile * TILE..], tiles * TILE);
                }
            }
        }
    }
    lines
}

/// At most 16 values side by side.
#[derive(Clone, Copy)]
struct RowPart<'a>(&'a [f32]);

impl<'a> RowPart<'a> {
    /// Those of `matrix` from (row, column) on, as far as it reaches; its columns are contiguous.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn of(matrix: Matrix<'a, f32>, row: usize, column: usize) -> Self {
        if row >= matrix.rows || column >= matrix.columns {
            return Self(&[]);
        }
        let soon = matrix.data.as_ptr().wrapping_add((row + AHEAD) * matrix.row_stride + column);
        _mm_prefetch::<_MM_HINT_T0>(soon.cast());
        let count = (matrix.columns - column).min(LANES);
        Self(&matrix.data[row * matrix.row_stride + column..][..count])
    }

    /// Zeros beyond the last.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(self) -> __m512 {
        // SAFETY: there are as many values as the mask leaves.
        unsafe { _mm512_maskz_loadu_ps(((1_u32 << self.0.len()) - 1) as u16, self.0.as_ptr()) }
    }
}

/// Two squares of values, whose lines are pairs of a tile, turned round or gathered from where they lie otherwise.
#[derive(Default)]
struct Pairs {
    even: [Line; TILE],
    odd: [Line; TILE],
}

impl Pairs {
    /// Those of `matrix` from the (row, column) of each square on, and zeros where it ends.
    #[target_feature(enable = "avx512f")]
    fn fill(&mut self, matrix: Matrix<'_, f32>, even: (usize, usize), odd: (usize, usize)) {
        for (square, (row, column)) in [(&mut self.even, even), (&mut self.odd, odd)] {
            let rows = matrix.rows.saturating_sub(row).min(TILE);
            let columns = matrix.columns.saturating_sub(column).min(LANES);
            if rows < TILE || columns == 0 {
                *square = Default::default();
            }
            if rows == 0 || columns == 0 {
                continue;
            }
            let part = matrix.part(row..row + rows, column..column + columns);
            if part.row_stride == 1 {
                for column in 0..columns {
                    let far = part.data.as_ptr().wrapping_add((column + STEP) * part.column_stride);
                    _mm_prefetch::<_MM_HINT_T0>(far.cast());
                }
                let to = square.as_mut_ptr().cast();
                // SAFETY: each of the columns of `part` holds `rows` values, and `square` has room for sixteen lines.
                unsafe { turn(part.data.as_ptr(), part.column_stride, (columns, rows), to, LANES) };
            } else {
                for (row, line) in square[..rows].iter_mut().enumerate() {
                    line[columns..].fill(0.0);
                    for (column, value) in line[..columns].iter_mut().enumerate() {
                        *value = part.data[row * part.row_stride + column * part.column_stride];
                    }
                }
            }
        }
    }

    /// Splits every line, of parts that are `distance` lines apart.
    #[target_feature(enable = "avx512f")]
    fn split(&self, parts: Parts, to: &mut [Line], distance: usize) {
        for (line, (even, odd)) in self.even.iter().zip(&self.odd).enumerate() {
            split(parts, &mut to[line..], distance, RowPart(even), RowPart(odd));
        }
    }
}

/// Splits 16 pairs of f32 into one line of bf16 for each part, `distance` lines apart.
#[inline]
#[target_feature(enable = "avx512f")]
fn split(parts: Parts, to: &mut [Line], distance: usize, even: RowPart<'_>, odd: RowPart<'_>) {
    let high_half = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
    let half = _mm512_set1_epi32(0x8000);
    let quiet = _mm512_set1_epi32(0x40_0000);
    // To the nearest of bf16, of two the one that is further from 0. What is no number stays none: a carry or lost bits could
    // make one of it.
    let round = |value: __m512| {
        let (number, bits) = (_mm512_cmp_ps_mask::<_CMP_ORD_Q>(value, value), _mm512_castps_si512(value));
        _mm512_and_si512(_mm512_mask_add_epi32(_mm512_or_si512(bits, quiet), number, bits, half), high_half)
    };
    let lose = |value: __m512, part: __m512i| _mm512_sub_ps(value, _mm512_castsi512_ps(part));
    let mut rest = (even.load(), odd.load());
    for part in 0..parts.count() {
        let to = to[part * distance].as_mut_ptr();
        let part = (round(rest.0), round(rest.1));
        rest = (lose(rest.0, part.0), lose(rest.1, part.1));
        let pairs = _mm512_or_si512(part.1, _mm512_srli_epi32::<16>(part.0));
        // SAFETY: a line has room for a register.
        unsafe { _mm512_storeu_ps(to, _mm512_castsi512_ps(pairs)) };
    }
}

/// Memory that a thread's products share.
#[derive(Default)]
struct Scratch {
    left: Lines,
    right: Lines,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Cuts `0 .. size` into pieces of at most `most`, about even, all but the last a multiple of `unit`.
fn cut(size: usize, most: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let piece = size.div_ceil(size.div_ceil(most).max(1)).next_multiple_of(unit);
    (0..size).step_by(piece.max(1)).map(move |start| start..(start + piece).min(size))
}

/// `out (+)= a b`. The shapes agree, and [`available`] was true.
#[target_feature(enable = "avx512f")]
pub(super) fn product(parts: Parts, out: &mut MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Right<'_>, accumulate: bool) {
    SCRATCH.with_borrow_mut(|Scratch { left, right }| {
        // SAFETY: the machine has AMX, and the process may use it.
        unsafe { configure() };
        for steps in cut(a.columns, MAX_PARTS / parts.count() * STEP, STEP) {
            let accumulate = accumulate || steps.start > 0;
            for rows in cut(a.rows, MAX_LEFT_ROWS, BLOCK_ROWS) {
                let left = Left {
                    parts,
                    tiles: split_left(parts, a.part(rows.clone(), steps.clone()), left),
                    rows,
                    steps: steps.len().div_ceil(STEP),
                };
                match b {
                    Right::Packed(panels) => {
                        let panels = Panels { first_row: panels.first_row + steps.start, ..panels };
                        block(out, &left, 0..out.columns, &panels, accumulate);
                    }
                    Right::Plain(b) => {
                        for columns in cut(out.columns, MAX_PACKED_COLUMNS, PANEL) {
                            let b = b.part(steps.clone(), columns.clone());
                            let lines = right.resize(lines_of_register(parts, b.rows) * b.columns.div_ceil(LANES));
                            pack_right(parts, lines, b);
                            let shape = (b.rows, b.columns);
                            let panels = Panels { lines, shape, first_row: 0, first_column: 0 };
                            block(out, &left, columns, &panels, accumulate);
                        }
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe { release() };
    });
}

/// Some rows of a left operand, of one block of the inner size.
struct Left<'a> {
    parts: Parts,
    tiles: &'a [Line],
    rows: Range<usize>,
    steps: usize,
}

/// What the rows of `left` and `columns` of the output receive from one block of the inner size. `panels` begin with the
/// first of the columns and of the block's steps.
#[target_feature(enable = "avx512f")]
fn block(out: &mut MatrixMut<'_, f32>, left: &Left<'_>, columns: Range<usize>, panels: &Panels<'_>, accumulate: bool) {
    let Left { parts, steps, .. } = *left;
    for column in columns.clone().step_by(PANEL) {
        let width = (columns.end - column).min(PANEL);
        let at = |column: usize| line_of(parts, panels.shape, panels.first_row, panels.first_column + column);
        let (line, registers) = at(column - columns.start);
        let right = panels.lines[line..].as_ptr();
        let next = if column + PANEL < columns.end { at(column + PANEL - columns.start).0 } else { line };
        let next = panels.lines[next..].as_ptr();
        for (index, first) in left.rows.clone().step_by(BLOCK_ROWS).enumerate() {
            let height = (left.rows.end - first).min(BLOCK_ROWS);
            let at = first * out.row_stride + column;
            let tile = Tile {
                left: left.tiles[index * steps * parts.count() * 2 * TILE..].as_ptr(),
                right,
                steps,
                next: next.wrapping_add(index * steps * fetched(parts.count())),
            };
            if !accumulate {
                for row in 0..height {
                    let at = out.data.as_ptr().wrapping_add(at + row * out.row_stride);
                    _mm_prefetch::<_MM_HINT_T0>(at.cast());
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(LANES).cast());
                }
            }
            let (tall, wide) = (height.div_ceil(TILE), registers);
            if height == tall * TILE && width == wide * LANES {
                let to = &mut out.data[at..];
                // SAFETY: the machine has AMX, which is configured. The block's rows and columns exist in `out`, whose
                // view reaches as far as its shape says and is borrowed mutably. The left operand begins with the
                // tiles of the block's rows, the right one with those of the panel.
                unsafe { run(parts, &tile, to.as_mut_ptr(), out.row_stride, (tall, wide), accumulate) };
            } else {
                let mut whole = [0.0; BLOCK_ROWS * PANEL];
                let row = |row: usize| at + row * out.row_stride..at + row * out.row_stride + width;
                if accumulate {
                    for (index, whole) in whole.chunks_exact_mut(PANEL).take(height).enumerate() {
                        whole[..width].copy_from_slice(&out.data[row(index)]);
                    }
                }
                // SAFETY: as above; `whole` has room for every block.
                unsafe { run(parts, &tile, whole.as_mut_ptr(), PANEL, (tall, wide), accumulate) };
                for (index, whole) in whole.chunks_exact(PANEL).take(height).enumerate() {
                    out.data[row(index)].copy_from_slice(&whole[..width]);
                }
            }
        }
    }
}
