//! The innermost product, in AVX-512: a tile of the output in registers, one step of the inner size after the other.
//!
//! Every element is its own chain of fused multiply-adds, from 0, in the order of the inner index. So its bits depend on
//! neither the size of the tile nor where it stands in it.

use std::arch::asm;
use std::arch::x86_64::{
    _MM_HINT_T0, _mm_load_ss, _mm_prefetch, _mm512_add_ps, _mm512_broadcastss_ps, _mm512_castpd_ps, _mm512_castps_pd,
    _mm512_fmadd_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4,
    _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use super::packed::LANES;

/// Most rows of a tile: with two registers a row, 24 accumulators, which leaves room for the operands.
pub(super) const MAX_ROWS: usize = 12;
/// Most rows of a tile of [`WIDE`] registers a row.
pub(super) const MAX_WIDE_ROWS: usize = 3;
/// Registers a row of a wide tile, for products of few rows.
pub(super) const WIDE: usize = 8;
/// Steps of the inner size between two advances of the pointers.
const STEPS: usize = 4;
/// Steps that the right operand is fetched ahead.
const PREFETCH: usize = 16;

/// How a left operand lies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Left {
    /// A row's values are together, rows so far apart.
    Rows(usize),
    /// The values of a step of the inner size are together, steps so far apart.
    Steps(usize),
}

/// A tile of a product: `out (+)= left right`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    /// `inner` steps of `rows` rows.
    pub left: *const f32,
    pub left_lies: Left,
    /// `inner` steps of `columns` values, `right_stride` apart.
    pub right: *const f32,
    pub right_stride: usize,
    pub out: *mut f32,
    pub out_stride: usize,
    pub rows: usize,
    pub inner: usize,
    /// More than `(registers - 1) * LANES`, at most `registers * LANES`.
    pub columns: usize,
    /// Adds to `out` instead of overwriting it.
    pub accumulate: bool,
}

/// Computes a tile of `registers` registers a row: 1 or 2 with at most [`MAX_ROWS`] rows, or [`WIDE`] with at most
/// [`MAX_WIDE_ROWS`].
///
/// # Safety
/// The machine has AVX-512F. `left`, `right` and `out` point to as many values as the fields of [`Tile`] say, readable or
/// writable, and `out` overlaps neither operand.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn run(tile: &Tile, registers: usize) {
    macro_rules! of_rows {
        ($registers:literal, $($rows:literal)*) => {
            match (tile.rows, tile.left_lies) {
                // SAFETY: the caller's promises, and as many rows and registers as the tile has.
                $(($rows, Left::Steps(stride)) => unsafe { tile_of::<$rows, $registers, false>(tile, stride) },)*
                // SAFETY: as above.
                $(($rows, Left::Rows(stride)) => unsafe { tile_of::<$rows, $registers, true>(tile, stride) },)*
                (rows, _) => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    match registers {
        1 => of_rows!(1, 1 2 3 4 5 6 7 8 9 10 11 12),
        2 => of_rows!(2, 1 2 3 4 5 6 7 8 9 10 11 12),
        WIDE => of_rows!(8, 1 2 3),
        registers => unreachable!("a tile of {registers} registers a row"),
    }
}

/// # Safety
/// As [`run`], for a tile of `ROWS` rows and `REGISTERS` registers a row, whose left operand is in rows `left_stride` apart
/// if `IN_ROWS`, and else in steps.
#[target_feature(enable = "avx512f")]
unsafe fn tile_of<const ROWS: usize, const REGISTERS: usize, const IN_ROWS: bool>(tile: &Tile, left_stride: usize) {
    let last = tile.columns - (REGISTERS - 1) * LANES;
    let mask = u16::MAX >> (LANES - last);
    let stride = tile.right_stride;
    let mut sums = [[_mm512_setzero_ps(); REGISTERS]; ROWS];
    // SAFETY (of all pointers below): step k < inner of row i < ROWS lies at `left[k * left_stride + i]` or, in rows, at
    // `left[i * left_stride + k]`; column j < columns of it at `right[k * stride + j]`. Only existing rows, steps and
    // columns are read, the last register of a row through the mask; the same holds for `out`. Prefetches may point
    // anywhere. Pointers to rows beyond the last, and beyond the last step, come from wrapping arithmetic and are not read.
    // The `asm` is empty.
    unsafe {
        for row in 0..ROWS {
            for register in 0..REGISTERS {
                let at = tile.out.wrapping_add(row * tile.out_stride + register * LANES);
                _mm_prefetch::<_MM_HINT_T0>(at.cast());
            }
        }
        // Wrapping everywhere: what checks for overflow, as tests do, would be five times slower here.
        let ahead = PREFETCH.wrapping_mul(stride);
        let mut step = |left: [*const f32; 4], right: *const f32| {
            for register in 0..REGISTERS {
                let at = right.wrapping_add(ahead).wrapping_add(register * LANES);
                _mm_prefetch::<_MM_HINT_T0>(at.cast());
            }
            let mut columns = [_mm512_setzero_ps(); REGISTERS];
            for (register, column) in columns.iter_mut().enumerate() {
                let mask = if register + 1 == REGISTERS { mask } else { u16::MAX };
                *column = _mm512_maskz_loadu_ps(mask, right.wrapping_add(register * LANES));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let factor = if IN_ROWS {
                    left[row / 3].wrapping_add((row % 3).wrapping_mul(left_stride))
                } else {
                    left[0].wrapping_add(row)
                };
                let factor = _mm512_broadcastss_ps(_mm_load_ss(factor));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_fmadd_ps(factor, column, *sum);
                }
            }
        };
        // Pointers to every third row, whose relation the compiler does not know: else it computes all rows' addresses and
        // loads all their values ahead, more than there are registers.
        let mut left = [tile.left; 4];
        if IN_ROWS {
            for (third, left) in left.iter_mut().enumerate() {
                *left = left.wrapping_add(third * 3 * left_stride);
                asm!("/* {0} */", inout(reg) * left, options(pure, readonly, nostack, preserves_flags));
            }
        }
        let advance = if IN_ROWS { 1 } else { left_stride };
        let mut right = tile.right;
        let mut steps = tile.inner;
        while steps >= STEPS {
            for at in 0..STEPS {
                let right = right.wrapping_add(at.wrapping_mul(stride));
                step(left.map(|left| left.wrapping_add(at.wrapping_mul(advance))), right);
            }
            left = left.map(|left| left.wrapping_add(STEPS.wrapping_mul(advance)));
            right = right.wrapping_add(STEPS.wrapping_mul(stride));
            steps -= STEPS;
        }
        for _ in 0..steps {
            step(left, right);
            left = left.map(|left| left.wrapping_add(advance));
            right = right.wrapping_add(stride);
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (register, mut sum) in sums.into_iter().enumerate() {
                let at = tile.out.add(row * tile.out_stride + register * LANES);
                let whole = register + 1 < REGISTERS || mask == u16::MAX;
                let mask = if whole { u16::MAX } else { mask };
                if tile.accumulate {
                    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum);
                }
                if whole {
                    _mm512_storeu_ps(at, sum);
                } else {
                    _mm512_mask_storeu_ps(at, mask, sum);
                }
            }
        }
    }
}

/// Turns round at most 16 x 16 values: `to[k * to_stride + i] = from[i * from_stride + k]` for i < rows, k < columns, and
/// 0 for `rows <= i < 16`. Rows of `to` are written in order, so they may overlap.
///
/// # Safety
/// The machine has AVX-512F. `from` points to `rows` readable rows of `columns` values, `to` to `columns` writable rows
/// of 16 values, and the two do not overlap.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn turn(
    from: *const f32,
    from_stride: usize,
    (rows, columns): (usize, usize),
    to: *mut f32,
    to_stride: usize,
) {
    let mask = u16::MAX >> (LANES - columns);
    let zero = _mm512_setzero_ps();
    let mut x = [zero; LANES];
    for (row, x) in x.iter_mut().enumerate() {
        if row < rows {
            // SAFETY: the row exists, and the mask leaves its `columns` values.
            *x = unsafe { _mm512_maskz_loadu_ps(mask, from.add(row * from_stride)) };
        }
    }
    // Pairs of rows, fours of rows, then the quarters of registers: y[j + 4 q] is column j + 4 q.
    let mut y = [zero; LANES];
    for four in (0..LANES).step_by(4) {
        let [a, b, c, d] = [x[four], x[four + 1], x[four + 2], x[four + 3]];
        let low = (_mm512_castps_pd(_mm512_unpacklo_ps(a, b)), _mm512_castps_pd(_mm512_unpacklo_ps(c, d)));
        let high = (_mm512_castps_pd(_mm512_unpackhi_ps(a, b)), _mm512_castps_pd(_mm512_unpackhi_ps(c, d)));
        y[four] = _mm512_castpd_ps(_mm512_unpacklo_pd(low.0, low.1));
        y[four + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low.0, low.1));
        y[four + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high.0, high.1));
        y[four + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high.0, high.1));
    }
    for j in 0..4 {
        let even = (_mm512_shuffle_f32x4::<0x88>(y[j], y[4 + j]), _mm512_shuffle_f32x4::<0x88>(y[8 + j], y[12 + j]));
        let odd = (_mm512_shuffle_f32x4::<0xdd>(y[j], y[4 + j]), _mm512_shuffle_f32x4::<0xdd>(y[8 + j], y[12 + j]));
        x[j] = _mm512_shuffle_f32x4::<0x88>(even.0, even.1);
        x[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd.0, odd.1);
        x[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even.0, even.1);
        x[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd.0, odd.1);
    }
    for (column, x) in x.into_iter().enumerate() {
        if column < columns {
            // SAFETY: row `column` of `to` exists and has 16 values.
            unsafe { _mm512_storeu_ps(to.add(column * to_stride), x) };
        }
    }
}

/// Copies rows of at most 16 values: `to[k * to_stride + j] = from[k * from_stride + j]` for k < rows, j < columns, and 0
/// for `columns <= j < 16`. Rows of `to` are written in order, so they may overlap.
///
/// # Safety
/// The machine has AVX-512F. `from` points to `rows` readable rows of `columns` values, `to` to `rows` writable rows of 16
/// values, and the two do not overlap.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn copy(
    from: *const f32,
    from_stride: usize,
    (rows, columns): (usize, usize),
    to: *mut f32,
    to_stride: usize,
) {
    let mask = u16::MAX >> (LANES - columns);
    for row in 0..rows {
        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add((row + PREFETCH) * from_stride).cast());
        // SAFETY: the row exists in both, and the mask leaves its `columns` values. A prefetch may point anywhere.
        unsafe { _mm512_storeu_ps(to.add(row * to_stride), _mm512_maskz_loadu_ps(mask, from.add(row * from_stride))) };
    }
}
