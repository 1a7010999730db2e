//! The innermost product in AMX: two tiles of the output, side by side, in tile registers, one step of the inner size after the
//! other.
//!
//! Of the eight tile registers four are used. A core left alone multiplies at its full rate with any number of them, because
//! operands come from caches fast enough. Two hyperthreads at work share the registers into which a core renames tiles: with all
//! eight in use each instruction waits for the one before, and a product takes twice as long.

use std::arch::asm;

use super::packed::Line;

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

/// Tiles of rows in the course of which the next tiles of the right operand are fetched.
pub(super) const FETCHED_IN: usize = 16;

/// Makes four tile registers ones of 16 lines of 64 bytes.
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
        bytes: [64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
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

/// What one or two tiles of the output, side by side, are made of.
pub(super) struct TilePair {
    /// Per step, its parts.
    pub left: *const Line,
    /// Per step, its parts, of the first tile of columns.
    pub right: *const Line,
    /// Lines from there to those of the second.
    pub apart: usize,
    pub steps: usize,
    /// What will be `right` soon: fetched into the second-level cache, a line for each tile of `right` that is read here.
    pub next: *const Line,
}

/// Computes `wide` tiles: `out (+)= left right`.
///
/// # Safety
/// The machine has AMX, and [`configure`] was called. `left` and `right` point to the tiles of `steps` steps, at least one, and
/// `out` to 16 writable rows of 16 values for each tile, `stride` apart, which overlap neither.
pub(super) unsafe fn run(parts: Parts, tiles: &TilePair, out: *mut f32, stride: usize, wide: usize, accumulate: bool) {
    // SAFETY: the caller's promises.
    unsafe {
        match (parts, wide, accumulate) {
            (Parts::One, 1, false) => run_of::<1, 1, 0>(tiles, out, stride),
            (Parts::One, 1, true) => run_of::<1, 1, 1>(tiles, out, stride),
            (Parts::One, _, false) => run_of::<1, 2, 0>(tiles, out, stride),
            (Parts::One, _, true) => run_of::<1, 2, 1>(tiles, out, stride),
            (Parts::Two, 1, false) => run_of::<2, 1, 0>(tiles, out, stride),
            (Parts::Two, 1, true) => run_of::<2, 1, 1>(tiles, out, stride),
            (Parts::Two, _, false) => run_of::<2, 2, 0>(tiles, out, stride),
            (Parts::Two, _, true) => run_of::<2, 2, 1>(tiles, out, stride),
        }
    }
}

/// # Safety
/// As [`run`], for `PARTS` parts and `WIDE` tiles that are added to if `ADD` is 1.
unsafe fn run_of<const PARTS: usize, const WIDE: usize, const ADD: usize>(
    tiles: &TilePair,
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
            ".else",
            "tilezero tmm0",
            ".if {wide} > 1",
            "tilezero tmm1",
            ".endif",
            ".endif",
            "2:",
            "tileloadd tmm2, [{left} + {line}]",
            ".if {parts} > 1",
            "tileloadd tmm3, [{right} + {line} + 1024]",
            "tdpbf16ps tmm0, tmm2, tmm3",
            "prefetcht1 [{next} + 64]",
            ".if {wide} > 1",
            "tileloadd tmm3, [{second} + {line} + 1024]",
            "tdpbf16ps tmm1, tmm2, tmm3",
            "prefetcht1 [{next} + {apart} + 64]",
            ".endif",
            ".endif",
            ".if {wide} > 1",
            "tileloadd tmm3, [{second} + {line}]",
            "tdpbf16ps tmm1, tmm2, tmm3",
            "prefetcht1 [{next} + {apart}]",
            ".endif",
            "tileloadd tmm3, [{right} + {line}]",
            "tdpbf16ps tmm0, tmm2, tmm3",
            "prefetcht1 [{next}]",
            ".if {parts} > 1",
            "tileloadd tmm2, [{left} + {line} + 1024]",
            "tdpbf16ps tmm0, tmm2, tmm3",
            ".if {wide} > 1",
            "tileloadd tmm3, [{second} + {line}]",
            "tdpbf16ps tmm1, tmm2, tmm3",
            ".endif",
            ".endif",
            "add {left}, {parts} * 1024",
            "add {right}, {parts} * 1024",
            "add {second}, {parts} * 1024",
            "add {next}, {parts} * 64",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {stride}], tmm0",
            ".if {wide} > 1",
            "tilestored [{out} + {stride} + 64], tmm1",
            ".endif",
            left = inout(reg) tiles.left => _,
            right = inout(reg) tiles.right => _,
            second = inout(reg) tiles.right.wrapping_add(tiles.apart) => _,
            next = inout(reg) tiles.next => _,
            apart = in(reg) tiles.apart * size_of::<Line>(),
            steps = inout(reg) tiles.steps => _,
            line = in(reg) 64_usize,
            out = in(reg) out,
            stride = in(reg) stride * size_of::<f32>(),
            parts = const PARTS,
            wide = const WIDE,
            add = const ADD,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack),
        );
    }
}
