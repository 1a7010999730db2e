//! Products of f32 on machines with AMX, at more than twice the rate of their fused multiply-adds and as exact.
//!
//! AMX multiplies tiles of bf16 and adds in f32. Every f32 is the exact sum of three of bf16, of 8 bits each: `x = h + m + l`,
//! where `h` is `x` rounded, `m` is what that lost, rounded, and `l` the rest. Of the nine products of two such sums, six
//! are formed; `m l`, `l m` and `l l` are below 2^-25 of the whole, less than one rounding of f32. Each product of two
//! values of bf16 is exact in f32. Since h may overflow and AMX flushes denormal numbers to zero, values above 3.38e38 and
//! infinities give NaN, and what is lost of values below 1e-33 is below 1e-38.
//!
//! A step is 32 values of the inner size, and a tile 16 lines of 16 pairs of bf16: of step k, pair p holds values p and
//! 16 + p. The left operand's lines are its rows; the right one's are its pairs, and a line holds 16 columns.
//!
//! Every element is one chain of additions in the order of the inner index, beginning with what `out` held where it is added
//! to. So its bits depend on the row of the left operand, the column of the right one, and nothing else.

use std::arch::asm;
use std::arch::x86_64::{
    __cpuid_count, __m512, __m512i, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_set1_epi32, _mm512_srli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};
use std::cell::RefCell;
use std::ops::Range;

use super::microkernel::turn;
use super::own::{LANES, Line, Lines, PANEL, Panels, Right, registers_of};
use super::{Matrix, MatrixMut};

/// Values of the inner size that a tile holds.
const STEP: usize = 32;
/// Lines of a tile.
const TILE: usize = 16;
/// Tiles whose sum is one of f32.
const PARTS: usize = 3;
/// Most rows in one block of tiles of the output.
const BLOCK_ROWS: usize = 2 * TILE;
/// Most steps of the inner size in one block.
const MAX_STEPS: usize = 24;
/// Most rows of the left operand that are split at a time: with [`MAX_STEPS`], 1.2 MB, to fit the second-level cache.
const MAX_LEFT_ROWS: usize = 8 * BLOCK_ROWS;
/// Most columns of the right operand that are packed at a time for one product.
const MAX_PACKED_COLUMNS: usize = 512;
/// Lines of the next panel that every step of a block fetches: the whole panel in the course of [`MAX_LEFT_ROWS`].
const FETCHED: usize = PARTS * 2 * TILE * BLOCK_ROWS / MAX_LEFT_ROWS;

/// Whether the machine and its kernel can run these products. Asks Linux for the right to the registers, which holds for
/// the whole process.
pub(super) fn available() -> bool {
    // Leaf 7 exists where AVX-512 does.
    let tiles = |edx: u32| edx >> 22 & 1 == 1 && edx >> 24 & 1 == 1;
    is_x86_feature_detected!("avx512f") && tiles(__cpuid_count(7, 0).edx) && permitted()
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
pub(super) fn lines_of_register(rows: usize) -> usize {
    rows.div_ceil(STEP) * PARTS * TILE
}

/// The line of a packed matrix where the tiles of `row` and `column`'s panel begin, and registers of a row there.
fn line_of((rows, columns): (usize, usize), row: usize, column: usize) -> (usize, usize) {
    let panel = column / PANEL * PANEL;
    let registers = registers_of(columns, panel);
    (lines_of_register(rows) * (panel / LANES) + row / STEP * PARTS * registers * TILE, registers)
}

/// Element (row, column) of a packed matrix.
pub(super) fn value(lines: &[Line], shape: (usize, usize), row: usize, column: usize) -> f32 {
    let (first, registers) = line_of(shape, row, column);
    let (pair, odd, register) = (row % STEP % TILE, row % STEP / TILE, column % PANEL / LANES);
    let part = |part: usize| {
        let bits = lines[first + (part * registers + register) * TILE + pair][column % LANES].to_bits();
        f32::from_bits(if odd == 1 { bits & 0xffff_0000 } else { bits << 16 })
    };
    part(0) + part(1) + part(2)
}

/// Packs the columns of `matrix` that begin at `column` into one panel: step after step, its three parts, the tiles of each.
pub(super) fn pack_panel(panel: &mut [Line], matrix: Matrix<'_, f32>, column: usize) {
    let registers = registers_of(matrix.columns, column);
    assert_eq!(panel.len(), lines_of_register(matrix.rows) * registers, "panel of another length");
    let mut copies = Copies::default();
    for (step, tiles) in panel.chunks_exact_mut(PARTS * registers * TILE).enumerate() {
        for register in 0..registers {
            let first = (step * STEP, column + register * LANES);
            split_tile(tiles, (register, registers), matrix, first, (TILE, 0), &mut copies);
        }
    }
}

/// Room for two squares of values that lie otherwise than they are split.
type Copies = [[Line; TILE]; 2];

/// At most 16 x 16 values, each row contiguous.
struct Square<'a> {
    data: &'a [f32],
    stride: usize,
    rows: usize,
    columns: usize,
}

impl<'a> Square<'a> {
    /// Those of `matrix` from (row, column) on, as far as it reaches: where they are, or in `copy`.
    fn of(matrix: Matrix<'a, f32>, row: usize, column: usize, copy: &'a mut [Line; TILE]) -> Self {
        let (rows, columns) = (row.min(matrix.rows)..matrix.rows, column.min(matrix.columns)..matrix.columns);
        let part = matrix.part(first(rows, TILE), first(columns, LANES));
        let (rows, columns) = if part.columns == 0 { (0, 0) } else { (part.rows, part.columns) };
        if rows == 0 || part.column_stride == 1 {
            return Self { data: part.data, stride: part.row_stride, rows, columns };
        }
        if part.row_stride == 1 {
            // SAFETY: the machine has AVX-512: `available` was asked. Each of the columns of `part` holds `rows` values, and
            // `copy` has room for sixteen lines.
            unsafe { turn(part.data.as_ptr(), part.column_stride, (columns, rows), copy.as_mut_ptr().cast(), LANES) };
        } else {
            for (row, line) in copy[..rows].iter_mut().enumerate() {
                for (column, value) in line[..columns].iter_mut().enumerate() {
                    *value = part.data[row * part.row_stride + column * part.column_stride];
                }
            }
        }
        Self { data: copy.as_flattened(), stride: LANES, rows, columns }
    }
}

/// The first `most` of a range, or all of it.
fn first(range: Range<usize>, most: usize) -> Range<usize> {
    range.start..range.end.min(range.start + most)
}

/// Splits 16 lines of pairs into tile `register` of each part, of `registers`: those of `matrix` from (row, column) on, and
/// those `distance` further on.
fn split_tile(
    tiles: &mut [Line],
    (register, registers): (usize, usize),
    matrix: Matrix<'_, f32>,
    (row, column): (usize, usize),
    distance: (usize, usize),
    copies: &mut Copies,
) {
    let [even, odd] = copies;
    let even = Square::of(matrix, row, column, even);
    let odd = Square::of(matrix, row + distance.0, column + distance.1, odd);
    let (high, rest) = tiles[register * TILE..].split_at_mut(registers * TILE);
    let (middle, low) = rest.split_at_mut(registers * TILE);
    // SAFETY: the machine has AVX-512: `available` was asked.
    unsafe { split([&mut high[..TILE], &mut middle[..TILE], &mut low[..TILE]], &even, &odd) };
}

/// Splits lines of pairs of f32 into three times as many of bf16, with zeros beyond what there is.
#[target_feature(enable = "avx512f")]
fn split(to: [&mut [Line]; PARTS], even: &Square<'_>, odd: &Square<'_>) {
    let high_half = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
    let half = _mm512_set1_epi32(0x8000);
    let row = |square: &Square<'_>, line: usize| {
        let columns = if line < square.rows { square.columns } else { 0 };
        let from = square.data.as_ptr().wrapping_add(line * square.stride);
        // SAFETY: row `line` exists and has as many columns as the mask leaves.
        unsafe { _mm512_maskz_loadu_ps(((1_u32 << columns) - 1) as u16, from) }
    };
    // To the nearest of bf16, of two the one that is further from 0.
    let round = |value: __m512| _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(value), half), high_half);
    let lose = |value: __m512, part: __m512i| _mm512_sub_ps(value, _mm512_castsi512_ps(part));
    let [high, middle, low] = to;
    for (line, ((high, middle), low)) in high.iter_mut().zip(middle).zip(low).enumerate() {
        let mut rest = (row(even, line), row(odd, line));
        for to in [high, middle, low] {
            let part = (round(rest.0), round(rest.1));
            rest = (lose(rest.0, part.0), lose(rest.1, part.1));
            let pairs = _mm512_or_si512(part.1, _mm512_srli_epi32::<16>(part.0));
            // SAFETY: a line has room for a register.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), _mm512_castsi512_ps(pairs)) };
        }
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
pub(super) fn product(out: &mut MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Right<'_>, accumulate: bool) {
    SCRATCH.with_borrow_mut(|Scratch { left, right }| {
        // SAFETY: the machine has AMX, and the process may use it.
        unsafe { configure() };
        for steps in cut(a.columns, MAX_STEPS * STEP, STEP) {
            let accumulate = accumulate || steps.start > 0;
            let a = a.part(0..a.rows, steps.clone());
            match b {
                Right::Packed(panels) => {
                    let all = 0..out.columns;
                    let panels = Panels { first_row: panels.first_row + steps.start, ..panels };
                    block(out, a, all, |column| panel_at(&panels, column), left, accumulate);
                }
                Right::Plain(b) => {
                    // What meets one block of rows only is packed when it is wanted, and stays near.
                    let most = if a.rows <= MAX_LEFT_ROWS { out.columns } else { MAX_PACKED_COLUMNS };
                    for columns in cut(out.columns, most, PANEL) {
                        let b = b.part(steps.clone(), columns.clone());
                        if a.rows <= MAX_LEFT_ROWS {
                            let panel = |column: usize| {
                                let registers = registers_of(b.columns, column);
                                let packed = right.resize(lines_of_register(b.rows) * registers);
                                pack_panel(packed, b, column);
                                Panel { tiles: packed.as_ptr(), registers, next: None }
                            };
                            block(out, a, columns, panel, left, accumulate);
                        } else {
                            let lines = right.resize(lines_of_register(b.rows) * b.columns.div_ceil(LANES));
                            for (index, panel) in lines.chunks_mut(lines_of_register(b.rows) * 2).enumerate() {
                                pack_panel(panel, b, index * PANEL);
                            }
                            let shape = (b.rows, b.columns);
                            let panels = Panels { lines, shape, first_row: 0, first_column: 0 };
                            block(out, a, columns, |column| panel_at(&panels, column), left, accumulate);
                        }
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    });
}

/// Where a panel of the right operand lies.
struct Panel {
    tiles: *const Line,
    /// Of a row of it.
    registers: usize,
    /// The panel after it, if it is known.
    next: Option<*const Line>,
}

fn panel_at(panels: &Panels<'_>, column: usize) -> Panel {
    let at = |column| {
        let (line, registers) = line_of(panels.shape, panels.first_row, column);
        (panels.lines[line..].as_ptr(), registers)
    };
    let column = panels.first_column + column;
    let (tiles, registers) = at(column);
    Panel { tiles, registers, next: (column + PANEL < panels.shape.1).then(|| at(column + PANEL).0) }
}

/// What `columns` of the output receive from one block of the inner size, all columns of `a`. `panel` gives the panel of a
/// column, counted from the first of `columns`.
fn block(
    out: &mut MatrixMut<'_, f32>,
    a: Matrix<'_, f32>,
    columns: Range<usize>,
    mut panel: impl FnMut(usize) -> Panel,
    scratch: &mut Lines,
    accumulate: bool,
) {
    let steps = a.columns.div_ceil(STEP);
    for rows in cut(a.rows, MAX_LEFT_ROWS, BLOCK_ROWS) {
        let left = split_left(a.part(rows.clone(), 0..a.columns), scratch);
        for column in columns.clone().step_by(PANEL) {
            let width = (columns.end - column).min(PANEL);
            let panel = panel(column - columns.start);
            for (index, first) in rows.clone().step_by(BLOCK_ROWS).enumerate() {
                let height = (rows.end - first).min(BLOCK_ROWS);
                let at = first * out.row_stride + column;
                let tile = Tile {
                    left: left[index * steps * PARTS * 2 * TILE..].as_ptr(),
                    right: panel.tiles,
                    steps,
                    next: panel.next.unwrap_or(panel.tiles).wrapping_add(index * steps * FETCHED),
                };
                let (tall, wide) = (height.div_ceil(TILE), panel.registers);
                if height == tall * TILE && width == wide * LANES {
                    let to = &mut out.data[at..];
                    // SAFETY: the machine has AMX, which is configured. The block's rows and columns exist in `out`, whose
                    // view reaches as far as its shape says and is borrowed mutably. The left operand begins with the
                    // tiles of the block's rows, the right one with those of the panel.
                    unsafe { run(&tile, to.as_mut_ptr(), out.row_stride, (tall, wide), accumulate) };
                } else {
                    let mut whole = [0.0; BLOCK_ROWS * PANEL];
                    let lines = whole.chunks_exact_mut(PANEL).zip(out.data[at..].chunks_mut(out.row_stride.max(1)));
                    if accumulate {
                        lines.take(height).for_each(|(whole, out)| whole[..width].copy_from_slice(&out[..width]));
                    }
                    // SAFETY: as above; `whole` has room for every block.
                    unsafe { run(&tile, whole.as_mut_ptr(), PANEL, (tall, wide), accumulate) };
                    let lines = whole.chunks_exact(PANEL).zip(out.data[at..].chunks_mut(out.row_stride.max(1)));
                    lines.take(height).for_each(|(whole, out)| out[..width].copy_from_slice(&whole[..width]));
                }
            }
        }
    }
}

/// The left operand as blocks of [`BLOCK_ROWS`] rows read it: step after step, the parts of each, one tile or two of it.
fn split_left<'a>(a: Matrix<'_, f32>, scratch: &'a mut Lines) -> &'a [Line] {
    let steps = a.columns.div_ceil(STEP);
    let lines = scratch.resize(steps * PARTS * a.rows.next_multiple_of(TILE));
    let mut copies = Copies::default();
    for (index, block) in lines.chunks_mut(steps * PARTS * BLOCK_ROWS).enumerate() {
        let tiles = block.len() / (steps * PARTS * TILE);
        for (step, parts) in block.chunks_exact_mut(PARTS * tiles * TILE).enumerate() {
            for tile in 0..tiles {
                let first = (index * BLOCK_ROWS + tile * TILE, step * STEP);
                split_tile(parts, (tile, tiles), a, first, (0, TILE), &mut copies);
            }
        }
    }
    lines
}

/// Makes every tile register one of 16 lines of 64 bytes.
///
/// # Safety
/// The machine has AMX, and the process may use it.
unsafe fn configure() {
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }
    static ALL: Configuration = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    // SAFETY: the caller's promise; the configuration is one of the first palette.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const ALL, options(nostack, readonly, preserves_flags)) };
}

/// A block of the output: at most two by two tiles.
struct Tile {
    /// Per step, the parts of each tile of rows.
    left: *const Line,
    /// Per step, the parts of each tile of columns.
    right: *const Line,
    steps: usize,
    /// What will be read soon: fetched into the second-level cache, [`FETCHED`] lines a step.
    next: *const Line,
}

/// Computes a block of `(tall, wide)` tiles: `out (+)= left right`.
///
/// # Safety
/// The machine has AMX, and [`configure`] was called. `left` and `right` point to as many tiles as there are in `steps`
/// steps, at least one, and `out` to as many writable rows and columns, `stride` apart, which overlap neither.
unsafe fn run(tile: &Tile, out: *mut f32, stride: usize, tiles: (usize, usize), accumulate: bool) {
    // SAFETY: the caller's promises.
    unsafe {
        match (tiles, accumulate) {
            ((1, 1), false) => run_of::<1, 1, 0>(tile, out, stride),
            ((1, 1), true) => run_of::<1, 1, 1>(tile, out, stride),
            ((1, _), false) => run_of::<1, 2, 0>(tile, out, stride),
            ((1, _), true) => run_of::<1, 2, 1>(tile, out, stride),
            ((_, 1), false) => run_of::<2, 1, 0>(tile, out, stride),
            ((_, 1), true) => run_of::<2, 1, 1>(tile, out, stride),
            (_, false) => run_of::<2, 2, 0>(tile, out, stride),
            (_, true) => run_of::<2, 2, 1>(tile, out, stride),
        }
    }
}

/// Loads the tiles of part `$part` of the left operand.
macro_rules! left {
    ($part:literal) => {
        concat!(
            "tileloadd tmm4, [{left} + {line} + ",
            $part,
            " * {tall} * 1024]\n",
            ".if {tall} > 1\n",
            "tileloadd tmm5, [{left} + {line} + ",
            $part,
            " * {tall} * 1024 + 1024]\n",
            ".endif",
        )
    };
}

/// Loads the tiles of part `$part` of the right operand.
macro_rules! right {
    ($part:literal) => {
        concat!(
            "tileloadd tmm6, [{right} + {line} + ",
            $part,
            " * {wide} * 1024]\n",
            ".if {wide} > 1\n",
            "tileloadd tmm7, [{right} + {line} + ",
            $part,
            " * {wide} * 1024 + 1024]\n",
            ".endif",
        )
    };
}

/// Adds the products of the tiles that are loaded.
macro_rules! multiply {
    () => {
        concat!(
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            ".if {wide} > 1\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            ".endif\n",
            ".if {tall} > 1\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            ".if {wide} > 1\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
            ".endif\n",
            ".endif",
        )
    };
}

/// # Safety
/// As [`run`], for a block of `TALL` by `WIDE` tiles that is added to if `ADD` is 1.
unsafe fn run_of<const TALL: usize, const WIDE: usize, const ADD: usize>(tile: &Tile, out: *mut f32, stride: usize) {
    // SAFETY: the caller's promises: every load and store is of a tile that exists. Prefetches may point anywhere.
    unsafe {
        asm!(
            ".if {add}",
            "tileloadd tmm0, [{out} + {stride}]",
            ".if {wide} > 1",
            "tileloadd tmm1, [{out} + {stride} + 64]",
            ".endif",
            ".if {tall} > 1",
            "tileloadd tmm2, [{below} + {stride}]",
            ".if {wide} > 1",
            "tileloadd tmm3, [{below} + {stride} + 64]",
            ".endif",
            ".endif",
            ".else",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            ".endif",
            "2:",
            left!(0),
            right!(2),
            multiply!(),
            right!(1),
            multiply!(),
            ".set .Lfetched, 0",
            ".rept {fetched}",
            "prefetcht1 [{next} + .Lfetched]",
            ".set .Lfetched, .Lfetched + 64",
            ".endr",
            right!(0),
            multiply!(),
            left!(1),
            multiply!(),
            right!(1),
            multiply!(),
            left!(2),
            right!(0),
            multiply!(),
            "add {left}, {tall} * 3072",
            "add {right}, {wide} * 3072",
            "add {next}, {fetched} * 64",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {stride}], tmm0",
            ".if {wide} > 1",
            "tilestored [{out} + {stride} + 64], tmm1",
            ".endif",
            ".if {tall} > 1",
            "tilestored [{below} + {stride}], tmm2",
            ".if {wide} > 1",
            "tilestored [{below} + {stride} + 64], tmm3",
            ".endif",
            ".endif",
            left = inout(reg) tile.left => _,
            right = inout(reg) tile.right => _,
            next = inout(reg) tile.next => _,
            steps = inout(reg) tile.steps => _,
            line = in(reg) 64_usize,
            out = in(reg) out,
            below = in(reg) out.wrapping_add(TILE * stride),
            stride = in(reg) stride * size_of::<f32>(),
            tall = const TALL,
            wide = const WIDE,
            add = const ADD,
            fetched = const FETCHED,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
