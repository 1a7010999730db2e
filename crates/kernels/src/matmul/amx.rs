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
    __cpuid_count, __m512, __m512bh, __m512i, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm512_and_si512,
    _mm512_castsi512_ps, _mm512_cvtne2ps_pbh, _mm512_loadu_epi16, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16,
    _mm512_set1_epi32, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};
use std::ops::Range;

use super::kernel::{Kernel, MAX_PACKED_COLUMNS, Packing, lines_in};
use super::microkernel::turn;
use super::packed::{LANES, Line, PANEL, Panels};
use super::tiles::{FETCHED_IN, Parts, STEP, TILE, TilePair, configure, release, run};
use super::{Matrix, MatrixMut, Right};
use crate::{Buffer, InstructionSet};

/// Most parts of steps of the inner size in one block.
const MAX_PARTS: usize = 48;
/// Most parts of steps that are multiplied at a time: 32 KB of two tiles of columns, to stay in the first-level cache while
/// tiles of rows pass by.
const MAX_NEAR_PARTS: usize = 16;
/// Most rows of the left operand that are split at a time: with [`MAX_PARTS`], 0.8 MB, to fit the second-level cache.
const MAX_LEFT_ROWS: usize = FETCHED_IN * TILE;
/// Most parts of a value.
const MOST_PARTS: usize = 2;

/// Whether the processor has the tiles, and the instructions of AVX-512 that prepare operands for them.
pub(crate) fn has_tiles() -> bool {
    // Leaf 7 exists where AVX-512 does.
    let tiles = |edx: u32| edx >> 22 & 1 == 1 && edx >> 24 & 1 == 1;
    #[allow(unused_unsafe, reason = "older compilers ask for it")]
    // SAFETY: every x86_64 processor has the instruction.
    let leaf = || unsafe { __cpuid_count(7, 0) };
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
        && tiles(leaf().edx)
}

/// Whether these products are in use. Asks Linux for the right to the registers, which holds for the whole process.
pub(super) fn available() -> bool {
    InstructionSet::in_use() >= InstructionSet::Amx && permitted()
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

/// Lines that `rows` rows of one register of columns become: step after step, its parts, a tile of each.
pub(super) fn lines_of_register(parts: Parts, rows: usize) -> usize {
    rows.div_ceil(STEP) * parts.count() * TILE
}

/// The values of a packed matrix in `row` whose register begins at `column`.
pub(super) fn line(parts: Parts, lines: &[Line], shape: (usize, usize), row: usize, column: usize) -> Line {
    let tiles = &lines[column / LANES * lines_of_register(parts, shape.0)..][row / STEP * parts.count() * TILE..];
    let (pair, odd) = (row % STEP % TILE, row % STEP / TILE);
    let part = |part: usize, lane: usize| {
        let bits = tiles[part * TILE + pair][lane].to_bits();
        f32::from_bits(if odd == 1 { bits & 0xffff_0000 } else { bits << 16 })
    };
    std::array::from_fn(|lane| (0..parts.count()).map(|at| part(at, lane)).sum())
}

/// Packs the columns of `matrix` that begin at `column` into one panel: register after register.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn pack_panel(parts: Parts, panel: &mut [Line], matrix: Matrix<'_, f32>, column: usize) {
    let columns = column..(column + PANEL).min(matrix.columns);
    pack_right(parts, panel, matrix.part(0..matrix.rows, columns));
}

/// Packs a right operand, register after register. Steps are walked along, for the sake of rows in memory.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_right(parts: Parts, lines: &mut [Line], matrix: Matrix<'_, f32>) {
    let of_register = lines_of_register(parts, matrix.rows);
    assert_eq!(lines.len(), of_register * matrix.columns.div_ceil(LANES), "panels of another length");
    for (step, row) in (0..matrix.rows).step_by(STEP).enumerate() {
        for (register, lines) in lines.chunks_exact_mut(of_register).enumerate() {
            let at = (register * LANES, row);
            pack_tile(parts, &mut lines[step * parts.count() * TILE..], matrix.transposed(), at, Lined::Pairs);
        }
    }
}

/// The left operand in tiles of rows: step after step, its parts.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn split_left<'a>(parts: Parts, a: Matrix<'_, f32>, buffer: &'a mut Buffer<f32>) -> &'a [Line] {
    let of_rows = lines_of_register(parts, a.columns);
    let lines = lines_in(buffer, of_rows * a.rows.div_ceil(TILE));
    for (tile, lines) in lines.chunks_exact_mut(of_rows.max(1)).enumerate() {
        for (step, lines) in lines.chunks_exact_mut(parts.count() * TILE).enumerate() {
            pack_tile(parts, lines, a, (tile * TILE, step * STEP), Lined::Rows);
        }
    }
    lines
}

/// What the lines of a tile are, if one sees the right operand turned round: rows x inner size.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lined {
    /// Rows, as in the left operand.
    Rows,
    /// Pairs of the inner size, as in the right one.
    Pairs,
}

/// Packs 16 rows and 32 values of the inner size of `matrix`, from (row, value) on, as far as it reaches and else zeros, into
/// one tile for each part. Lines of rows that do not exist may keep what was there.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_tile(parts: Parts, to: &mut [Line], matrix: Matrix<'_, f32>, (row, inner): (usize, usize), lined: Lined) {
    let (rows, columns) = (row..(row + TILE).min(matrix.rows), inner..(inner + STEP).min(matrix.columns));
    let matrix = matrix.part(rows, columns);
    if matrix.row_stride != 1 && matrix.column_stride != 1 {
        let mut gathered = [0.0; TILE * STEP];
        for (row, gathered) in gathered.chunks_exact_mut(STEP).take(matrix.rows).enumerate() {
            for (column, value) in gathered[..matrix.columns].iter_mut().enumerate() {
                *value = matrix.data[row * matrix.row_stride + column * matrix.column_stride];
            }
        }
        let gathered = Matrix { data: &gathered, row_stride: STEP, column_stride: 1, ..matrix };
        return pack_tile(parts, to, gathered, (0, 0), lined);
    }
    let lies = if matrix.column_stride == 1 { Lined::Rows } else { Lined::Pairs };
    if lies == lined {
        split(parts, to, matrix, lies);
    } else {
        let mut turned = [[0.0; LANES]; MOST_PARTS * TILE];
        split(parts, &mut turned, matrix, lies);
        for (to, turned) in to.chunks_exact_mut(TILE).zip(turned.chunks_exact(TILE)).take(parts.count()) {
            // SAFETY: the machine has AVX-512; both are 16 lines, of which one is borrowed mutably.
            unsafe { turn(turned.as_ptr().cast(), LANES, (TILE, LANES), to.as_mut_ptr().cast(), LANES) };
        }
    }
}

/// Splits at most 16 rows of at most 32 values into lines of pairs of bf16, each of what lies together: one tile for each part.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn split(parts: Parts, to: &mut [Line], matrix: Matrix<'_, f32>, lies: Lined) {
    let halves = |count: usize| (count.min(LANES), count.saturating_sub(LANES));
    let mask = |count: usize| ((1_u32 << count) - 1) as u16;
    let (inner, rows) = (halves(matrix.columns), (matrix.rows, matrix.rows));
    // From one line to the next, and from the first values of pairs to the second; how many lines and values of either exist;
    // and from a line to one that is read soon.
    let (stride, second, existing, values, ahead) = match lies {
        Lined::Rows => (matrix.row_stride, LANES, rows, inner, TILE * matrix.row_stride),
        Lined::Pairs => (matrix.column_stride, LANES * matrix.column_stride, inner, rows, STEP * matrix.column_stride),
    };
    let masks = (mask(values.0), mask(values.1));
    let high_half = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
    // SAFETY: there are as many numbers as a register holds.
    let order = unsafe { _mm512_loadu_epi16(PAIRED.as_ptr()) };
    let to = &mut to[..parts.count() * TILE];
    for at in 0..if lies == Lined::Rows { matrix.rows } else { TILE } {
        let load = |first: usize, exists: bool, mask: u16| {
            let from = matrix.data.as_ptr().wrapping_add(first);
            _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(ahead).cast());
            // SAFETY: the mask leaves values of the matrix. A prefetch may point anywhere.
            unsafe { _mm512_maskz_loadu_ps(if exists { mask } else { 0 }, from) }
        };
        let mut rest =
            (load(at * stride, at < existing.0, masks.0), load(at * stride + second, at < existing.1, masks.1));
        for part in 0..parts.count() {
            let rounded = _mm512_cvtne2ps_pbh(rest.1, rest.0);
            // SAFETY: both are 64 bytes of any value.
            let pairs = _mm512_permutexvar_epi16(order, unsafe { std::mem::transmute::<__m512bh, __m512i>(rounded) });
            // SAFETY: a line has room for a register.
            unsafe { _mm512_storeu_ps(to[part * TILE + at].as_mut_ptr(), _mm512_castsi512_ps(pairs)) };
            let lose = |value: __m512, part: __m512i| _mm512_sub_ps(value, _mm512_castsi512_ps(part));
            rest = (lose(rest.0, _mm512_slli_epi32::<16>(pairs)), lose(rest.1, _mm512_and_si512(pairs, high_half)));
        }
    }
}

/// Where the halves of pairs are among sixteen first ones and then sixteen second ones.
static PAIRED: [i16; 2 * LANES] = {
    let mut order = [0; 2 * LANES];
    let mut pair = 0;
    while pair < LANES {
        (order[2 * pair], order[2 * pair + 1]) = (pair as i16, (LANES + pair) as i16);
        pair += 1;
    }
    order
};

/// Cuts `0 .. size` into pieces of at most `most`, about even, all but the last a multiple of `unit`.
fn cut(size: usize, most: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let piece = size.div_ceil(size.div_ceil(most).max(1)).next_multiple_of(unit);
    (0..size).step_by(piece.max(1)).map(move |start| start..(start + piece).min(size))
}

/// `out = a b`, or `out += a b`. The shapes agree, and [`available`] was true.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn product(
    parts: Parts,
    out: &mut MatrixMut<'_, f32>,
    a: Matrix<'_, f32>,
    b: Right<'_, f32>,
    packing: &mut Packing,
) {
    // SAFETY: the machine has AMX, and the process may use it.
    unsafe { configure() };
    let adds = out.accumulate;
    for steps in cut(a.columns, MAX_PARTS / parts.count() * STEP, STEP) {
        out.accumulate = adds || steps.start > 0;
        for rows in cut(a.rows, MAX_LEFT_ROWS, TILE) {
            let left = SplitRows {
                parts,
                tiles: split_left(parts, a.part(rows.clone(), steps.clone()), &mut packing.left),
                rows,
                steps: steps.len().div_ceil(STEP),
            };
            match b {
                Right::Packed(panels) => {
                    let panels = Panels { first_row: panels.first_row + steps.start, ..panels };
                    block(out, &left, 0..out.columns, &panels);
                }
                Right::Plain(b, _) => {
                    for columns in cut(out.columns, MAX_PACKED_COLUMNS, PANEL) {
                        let b = b.part(steps.clone(), columns.clone());
                        let lines = lines_of_register(parts, b.rows) * b.columns.div_ceil(LANES);
                        let lines = lines_in(&mut packing.right, lines);
                        pack_right(parts, lines, b);
                        let panels = Panels::whole(Kernel::Tiles(parts), lines, (b.rows, b.columns));
                        block(out, &left, columns, &panels);
                    }
                }
            }
        }
    }
    // SAFETY: as above.
    unsafe { release() };
}

/// Some rows of a left operand, of one block of the inner size.
struct SplitRows<'a> {
    parts: Parts,
    tiles: &'a [Line],
    rows: Range<usize>,
    steps: usize,
}

/// What the rows of `left` and `columns` of the output receive from one block of the inner size. `panels` begin with the
/// first of the columns and of the block's steps.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn block(out: &mut MatrixMut<'_, f32>, left: &SplitRows<'_>, columns: Range<usize>, panels: &Panels<'_>) {
    let SplitRows { parts, steps, .. } = *left;
    let of_step = parts.count() * TILE;
    let apart = lines_of_register(parts, panels.shape.0);
    let right = |column: usize, step: usize| {
        let register = (panels.first_column + column - columns.start) / LANES;
        &panels.lines[register * apart + (panels.first_row / STEP + step) * of_step..]
    };
    for column in columns.clone().step_by(PANEL) {
        for near in cut(steps, MAX_NEAR_PARTS / parts.count(), 1) {
            // After the last columns, those again.
            let next = if near.end < steps { (column, near.end) } else { ((column + PANEL).min(columns.end - 1), 0) };
            let columns = column..(column + PANEL).min(columns.end);
            let (lines, last) = (right(column, near.start), (columns.len().div_ceil(LANES) - 1) * apart);
            let tiles = TilePair {
                left: left.tiles[near.start * of_step..].as_ptr(),
                right: lines[..last + near.len() * of_step].as_ptr(),
                apart,
                steps: near.len(),
                next: right(next.0, next.1).as_ptr(),
            };
            // SAFETY: the machine has AMX, which is configured, and there are as many tiles of columns and steps.
            unsafe { panel(out, left, columns, &tiles, out.accumulate || near.start > 0) };
        }
    }
}

/// What the rows of `left` and at most [`PANEL`] columns of the output receive from a few steps. `of_first` is what the first
/// tile of rows is made of.
///
/// # Safety
/// The machine has AMX, which is configured. The right operand of `of_first` has tiles for the columns and steps, and its left
/// one points to a step of `left` that as many follow.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn panel(
    out: &mut MatrixMut<'_, f32>,
    left: &SplitRows<'_>,
    columns: Range<usize>,
    of_first: &TilePair,
    accumulate: bool,
) {
    let of_step = left.parts.count() * TILE;
    let wide = columns.len().div_ceil(LANES);
    for (index, row) in left.rows.clone().step_by(TILE).enumerate() {
        let height = (left.rows.end - row).min(TILE);
        let at = row * out.row_stride + columns.start;
        let tiles = TilePair {
            left: of_first.left.wrapping_add(index * left.steps * of_step),
            next: of_first.next.wrapping_add(index * of_first.steps * of_step / FETCHED_IN),
            ..*of_first
        };
        if !accumulate {
            for row in 0..height {
                let at = out.data.as_ptr().wrapping_add(at + row * out.row_stride);
                _mm_prefetch::<_MM_HINT_T0>(at.cast());
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(LANES).cast());
            }
        }
        if height == TILE && columns.len() == wide * LANES {
            let to = &mut out.data[at..];
            // SAFETY: the caller's promises. The rows and columns exist in `out`, whose view reaches as far as its shape says
            // and is borrowed mutably, and the left operand has tiles for each sixteen of its rows.
            unsafe { run(left.parts, &tiles, to.as_mut_ptr(), out.row_stride, wide, accumulate) };
        } else {
            let mut whole = [0.0; TILE * PANEL];
            let row = |row: usize| at + row * out.row_stride..at + row * out.row_stride + columns.len();
            if accumulate {
                for (index, whole) in whole.chunks_exact_mut(PANEL).take(height).enumerate() {
                    whole[..columns.len()].copy_from_slice(&out.data[row(index)]);
                }
            }
            // SAFETY: as above; `whole` has room for two tiles side by side.
            unsafe { run(left.parts, &tiles, whole.as_mut_ptr(), PANEL, wide, accumulate) };
            for (index, whole) in whole.chunks_exact(PANEL).take(height).enumerate() {
                out.data[row(index)].copy_from_slice(&whole[..columns.len()]);
            }
        }
    }
}
