//! On other processors than x86_64 there is no kernel of our own.

use super::packed::Line;
use super::{Matrix, MatrixMut, Precision, Right};

/// None.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {}

impl Kernel {
    pub fn of(_: Precision) -> Option<Self> {
        None
    }

    pub fn rounds(self) -> bool {
        match self {}
    }

    pub fn lines(self, _: usize, _: usize) -> usize {
        match self {}
    }

    pub fn pack_panel(self, _: &mut [Line], _: Matrix<'_, f32>, _: usize) {
        match self {}
    }

    pub fn line(self, _: &[Line], _: (usize, usize), _: usize, _: usize) -> Line {
        match self {}
    }

    pub fn product(self, _: MatrixMut<'_, f32>, _: Matrix<'_, f32>, _: Right<'_, f32>) {
        match self {}
    }
}
