//! Our own kernels for f32: the choice of the best that the machine has, and what they share.

use std::cell::RefCell;
use std::sync::LazyLock;

use super::packed::{LANES, Line, Panels};
use super::tiles::Parts;
use super::{Matrix, MatrixMut, Precision, Right, amx, blocked};
use crate::Buffer;

/// Most columns of a right operand that are packed at a time for one product.
pub(super) const MAX_PACKED_COLUMNS: usize = 512;
/// Rows are shared in multiples of this.
const SHARED_ROWS: usize = 32;

/// A way to multiply. Each packs panels of [`PANEL`](super::packed::PANEL) columns in its own form, one panel after the other,
/// the last perhaps narrower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// Fused multiply-adds of AVX-512.
    Vectors,
    /// Products of tiles of AMX, each value as one of bf16 or split into two. Where they are, there is AVX-512.
    Tiles(Parts),
}

/// Memory that a thread's products share, for what they pack of their operands.
#[derive(Default)]
pub(super) struct Packing {
    pub left: Buffer<f32>,
    pub right: Buffer<f32>,
}

thread_local! {
    static PACKING: RefCell<Packing> = RefCell::default();
}

/// As many lines as are asked for, with any values.
pub(super) fn lines_in(buffer: &mut Buffer<f32>, count: usize) -> &mut [Line] {
    buffer.fit(count * LANES).as_chunks_mut().0
}

impl Kernel {
    /// The fastest that is exact enough, if the machine can run any. Linux is asked for tiles when they are first wanted.
    pub fn of(precision: Precision) -> Option<Self> {
        static TILES: LazyLock<bool> = LazyLock::new(amx::available);
        match precision {
            Precision::High if *TILES => Some(Self::Tiles(Parts::Two)),
            Precision::Medium if *TILES => Some(Self::Tiles(Parts::One)),
            Precision::Highest | Precision::High | Precision::Medium => blocked::available().then_some(Self::Vectors),
        }
    }

    /// Whether it rounds operands.
    pub fn rounds(self) -> bool {
        self != Self::Vectors
    }

    /// Fewest multiplications for which another thread is woken: a tenth of a millisecond of them.
    fn worth_sharing(self) -> usize {
        match self {
            Self::Vectors => 1 << 23,
            Self::Tiles(_) => 1 << 25,
        }
    }

    /// Lines of a packed matrix.
    pub fn lines(self, rows: usize, columns: usize) -> usize {
        let of_register = match self {
            Self::Vectors => rows,
            Self::Tiles(parts) => amx::lines_of_register(parts, rows),
        };
        columns.div_ceil(LANES) * of_register
    }

    /// Packs the columns of `matrix` that begin at `column` into one panel.
    pub fn pack_panel(self, panel: &mut [Line], matrix: Matrix<'_, f32>, column: usize) {
        match self {
            Self::Vectors => blocked::pack_panel(panel, matrix, column),
            // SAFETY: where there are tiles, `amx::available` has seen AVX-512 with what its functions need.
            Self::Tiles(parts) => unsafe { amx::pack_panel(parts, panel, matrix, column) },
        }
    }

    /// The values of a packed matrix of some shape in `row` from `column` on, a multiple of [`LANES`].
    pub fn line(self, lines: &[Line], shape: (usize, usize), row: usize, column: usize) -> Line {
        match self {
            Self::Vectors => blocked::line(lines, shape, row, column),
            Self::Tiles(parts) => amx::line(parts, lines, shape, row, column),
        }
    }

    /// `out = a b`, or `out += a b`. The shapes agree and are not empty, and what is packed was packed by this kernel.
    pub fn product(self, mut out: MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Right<'_, f32>) {
        match b {
            Right::Packed(panels) => self.share(out, a, panels),
            Right::Plain(..) => self.alone(&mut out, a, b),
        }
    }

    /// As [`Kernel::product`]. A thread of a pool that has no task left for others offers them half of the rows. The bits are
    /// the same, because rows do not depend on each other.
    fn share(self, mut out: MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Panels<'_>) {
        let half = (out.rows / 2).next_multiple_of(SHARED_ROWS);
        let large = half < out.rows && half * a.columns * out.columns >= self.worth_sharing();
        if !large || rayon_core::current_thread_has_pending_tasks() != Some(false) || rayon::current_num_threads() == 1
        {
            return self.alone(&mut out, a, Right::Packed(b));
        }
        let (above, below) = out.data.split_at_mut(half * out.row_stride);
        let (above, mut below) =
            (MatrixMut { data: above, rows: half, ..out }, MatrixMut { data: below, rows: a.rows - half, ..out });
        let rows_of_a = |rows| a.part(rows, 0..a.columns);
        rayon::join_context(
            |_| self.share(above, rows_of_a(0..half), b),
            |context| {
                if context.migrated() {
                    self.share(below, rows_of_a(half..a.rows), b);
                } else {
                    // Nobody was idle.
                    self.alone(&mut below, rows_of_a(half..a.rows), Right::Packed(b));
                }
            },
        );
    }

    /// As [`Kernel::product`], on this thread.
    fn alone(self, out: &mut MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Right<'_, f32>) {
        if a.columns == 0 && !out.accumulate {
            for row in 0..out.rows {
                out.data[row * out.row_stride..][..out.columns].fill(0.0);
            }
        }
        PACKING.with_borrow_mut(|packing| match self {
            Self::Vectors => blocked::product(out, a, b, packing),
            // SAFETY: where there are tiles, `amx::available` has seen AVX-512 with what its functions need.
            Self::Tiles(parts) => unsafe { amx::product(parts, out, a, b, packing) },
        });
    }
}
