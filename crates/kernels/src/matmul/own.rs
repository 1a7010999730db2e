//! What our own kernels for f32 share: packed panels of the right operand, and the choice of the best kernel the machine
//! has.

use std::sync::LazyLock;

use super::tiles::Parts;
use super::{Matrix, MatrixMut, Precision, amx, blocked};
use crate::Buffer;

/// Values of a register, and of a cache line.
pub(super) const LANES: usize = 16;
/// Columns of a panel: two registers.
pub(super) const PANEL: usize = 2 * LANES;

/// A cache line of values.
pub(super) type Line = [f32; LANES];

/// Cache lines of values.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Buffer<f32>);

impl Lines {
    /// As many as are asked for, with any values.
    pub fn fit(&mut self, count: usize) -> &mut [Line] {
        self.0.fit(count * LANES).as_chunks_mut().0
    }

    pub fn get(&self) -> &[Line] {
        self.0.as_chunks().0
    }
}

/// A right operand.
#[derive(Debug, Clone, Copy)]
pub(super) enum Right<'a> {
    /// Wherever it lies.
    Plain(Matrix<'a, f32>),
    /// Packed.
    Packed(Panels<'a>),
}

/// A packed matrix, from some row and column on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panels<'a> {
    pub lines: &'a [Line],
    /// Of the whole matrix.
    pub shape: (usize, usize),
    pub first_row: usize,
    /// A multiple of [`PANEL`].
    pub first_column: usize,
}

/// Registers of a row in the panel that begins at `column`, a multiple of [`PANEL`].
pub(super) fn registers_of(columns: usize, column: usize) -> usize {
    (columns - column).min(PANEL).div_ceil(LANES)
}

/// Rows are shared in multiples of this.
const SHARED_ROWS: usize = 32;

/// `out (+)= a b`. A thread of a pool that has no task left for others offers them half of the rows. The bits are the same,
/// because rows do not depend on each other. The shapes agree and are not empty, and `b` was packed by `kernel`.
pub(super) fn shared(kernel: Kernel, mut out: MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Panels<'_>, accumulate: bool) {
    let half = (out.rows / 2).next_multiple_of(SHARED_ROWS);
    let large = half < out.rows && half * a.columns * out.columns >= kernel.worth_sharing();
    if !large || rayon_core::current_thread_has_pending_tasks() != Some(false) || rayon::current_num_threads() == 1 {
        return kernel.product(&mut out, a, Right::Packed(b), accumulate);
    }
    let (above, mut below) = out.split_at(half);
    let rows_of_a = |rows| a.part(rows, 0..a.columns);
    rayon::join_context(
        |_| shared(kernel, above, rows_of_a(0..half), b, accumulate),
        |context| {
            if context.migrated() {
                shared(kernel, below, rows_of_a(half..a.rows), b, accumulate);
            } else {
                // Nobody was idle.
                kernel.product(&mut below, rows_of_a(half..a.rows), Right::Packed(b), accumulate);
            }
        },
    );
}

/// A way to multiply. Each packs panels of [`PANEL`] columns in its own form, one panel after the other, the last perhaps
/// narrower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// Fused multiply-adds of AVX-512.
    Vectors,
    /// Products of tiles of AMX, each value as one of bf16 or split into two. Where they are, there is AVX-512.
    Tiles(Parts),
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

    /// Packs a matrix.
    pub fn pack(self, lines: &mut [Line], matrix: Matrix<'_, f32>) {
        let of_panel = self.lines(matrix.rows, PANEL).max(1);
        for (index, panel) in lines.chunks_mut(of_panel).enumerate() {
            self.pack_panel(panel, matrix, index * PANEL);
        }
    }

    /// Element (row, column) of a packed matrix of some shape.
    pub fn value(self, lines: &[Line], shape: (usize, usize), row: usize, column: usize) -> f32 {
        match self {
            Self::Vectors => blocked::line(lines, shape, row, column)[column % LANES],
            Self::Tiles(parts) => amx::value(parts, lines, shape, row, column),
        }
    }

    /// Those in `row` from `column` on, a multiple of [`LANES`].
    pub fn line(self, lines: &[Line], shape: (usize, usize), row: usize, column: usize) -> Line {
        match self {
            Self::Vectors => *blocked::line(lines, shape, row, column),
            Self::Tiles(parts) => std::array::from_fn(|lane| amx::value(parts, lines, shape, row, column + lane)),
        }
    }

    /// `out (+)= a b`. The shapes agree and are not empty, and `b` was packed by the same kernel.
    pub fn product(self, out: &mut MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Right<'_>, accumulate: bool) {
        if a.columns == 0 && !accumulate {
            for row in 0..out.rows {
                out.data[row * out.row_stride..][..out.columns].fill(0.0);
            }
        }
        match self {
            Self::Vectors => blocked::product(out, a, b, accumulate),
            // SAFETY: where there are tiles, `amx::available` has seen AVX-512 with what its functions need.
            Self::Tiles(parts) => unsafe { amx::product(parts, out, a, b, accumulate) },
        }
    }
}
