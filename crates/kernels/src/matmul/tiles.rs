//! The innermost product in AMX: a block of the output in tile registers, one step of the inner size after the other.

use std::arch::asm;

use super::own::Line;

/// Values of the inner size that a tile holds.
pub(super) const STEP: usize = 32;
/// Lines of a tile.
pub(super) const TILE: usize = 16;
/// Values of bf16 whose sum stands for one of f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    One = 1,
    Two = 2,
}

impl Parts {
    pub fn count(self) -> usize {
        self as usize
    }
}

/// Lines of the next panel that every step of a block fetches.
pub(super) const fn fetched(parts: usize) -> usize {
    parts * 2 * TILE / FETCHED_IN
}

/// Most rows in one block of the output.
pub(super) const BLOCK_ROWS: usize = 2 * TILE;
/// Blocks in the course of which the next panel of the right operand is fetched.
pub(super) const FETCHED_IN: usize = 8;

/// Makes every tile register one of 16 lines of 64 bytes.
///
/// # Safety
/// The machine has AMX, and the process may use it.
pub(super) unsafe fn configure() {
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

/// Gives the registers up, so that no switch of threads saves them.
///
/// # Safety
/// The machine has AMX, and the process may use it.
pub(super) unsafe fn release() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
}

/// A block of the output: at most two by two tiles.
pub(super) struct Tile {
    /// Per step, the parts of each tile of rows.
    pub left: *const Line,
    /// Per step, the parts of each tile of columns.
    pub right: *const Line,
    pub steps: usize,
    /// What will be read soon: fetched into the second-level cache, [`fetched`] lines a step.
    pub next: *const Line,
}

/// Computes a block of `(tall, wide)` tiles: `out (+)= left right`.
///
/// # Safety
/// The machine has AMX, and [`configure`] was called. `left` and `right` point to as many tiles as there are in `steps`
/// steps, at least one, and `out` to as many writable rows and columns, `stride` apart, which overlap neither.
pub(super) unsafe fn run(
    parts: Parts,
    tile: &Tile,
    out: *mut f32,
    stride: usize,
    tiles: (usize, usize),
    accumulate: bool,
) {
    macro_rules! of_tiles {
        ($parts:literal) => {
            match (tiles, accumulate) {
                ((1, 1), false) => run_of::<$parts, 1, 1, 0>(tile, out, stride),
                ((1, 1), true) => run_of::<$parts, 1, 1, 1>(tile, out, stride),
                ((1, _), false) => run_of::<$parts, 1, 2, 0>(tile, out, stride),
                ((1, _), true) => run_of::<$parts, 1, 2, 1>(tile, out, stride),
                ((_, 1), false) => run_of::<$parts, 2, 1, 0>(tile, out, stride),
                ((_, 1), true) => run_of::<$parts, 2, 1, 1>(tile, out, stride),
                (_, false) => run_of::<$parts, 2, 2, 0>(tile, out, stride),
                (_, true) => run_of::<$parts, 2, 2, 1>(tile, out, stride),
            }
        };
    }
    // SAFETY: the caller's promises.
    unsafe {
        match parts {
            Parts::One => of_tiles!(1),
            Parts::Two => of_tiles!(2),
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
/// As [`run`], for `PARTS` parts and a block of `TALL` by `WIDE` tiles that is added to if `ADD` is 1.
unsafe fn run_of<const PARTS: usize, const TALL: usize, const WIDE: usize, const ADD: usize>(
    tile: &Tile,
    out: *mut f32,
    stride: usize,
) {
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
            ".if {parts} > 1",
            right!(1),
            multiply!(),
            ".endif",
            right!(0),
            multiply!(),
            ".if {parts} > 1",
            left!(1),
            multiply!(),
            ".endif",
            ".set .Lfetched, 0",
            ".rept {fetched}",
            "prefetcht1 [{next} + .Lfetched]",
            ".set .Lfetched, .Lfetched + 64",
            ".endr",
            "add {left}, {parts} * {tall} * 1024",
            "add {right}, {parts} * {wide} * 1024",
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
            parts = const PARTS,
            tall = const TALL,
            wide = const WIDE,
            add = const ADD,
            fetched = const fetched(PARTS),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
