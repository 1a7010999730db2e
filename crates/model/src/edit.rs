//! Edits: what changes a pass while it runs.

pub use sinkscope_kernels::attention::Mask;

use crate::tap::{Place, Point};

/// A change to the values of a pass, made before anything later reads them and before taps see them.
///
/// [`Point::Residual`], [`Point::Output`], [`Point::NormalisedInput`], [`Point::Query`], [`Point::Key`] and
/// [`Point::Value`] can be edited.
pub trait Edit: Sync {
    /// Whether this edit touches `point` of `block`. Must not change during a pass.
    fn wants(&self, point: Point, block: usize) -> bool;

    /// Changes the rows at `place`: rows x width, row-major. Called from several threads at once.
    fn apply(&self, point: Point, place: &Place, values: &mut [f32]);

    /// Which queries and keys of a sequence do not meet in an attention block; of several edits the first that says so
    /// decides.
    fn mask(&self, block: usize, sequence: usize) -> Option<Mask<'_>> {
        let _ = (block, sequence);
        None
    }
}
