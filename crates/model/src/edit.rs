//! Edits: what changes a pass while it runs.

pub use sinkscope_kernels::attention::Mask;

use crate::blocks::{Product, Projection};
use crate::linear::Linear;
use crate::tap::{Place, Point};

/// A change to the values of a pass, made before anything later reads them and before taps see them.
///
/// [`Point::Residual`], [`Point::Output`], [`Point::NormalisedInput`], [`Point::UnrotatedKey`], [`Point::Query`],
/// [`Point::Key`], [`Point::Value`], [`Point::Heads`] and [`Point::Hidden`] can be edited. Where a [`LinearEdit`] measures,
/// the normalised input is edited twice, each time from the same values.
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

/// Another way to compute the linear layers of blocks.
pub trait LinearEdit: Sync {
    /// Whether it computes those of `block`. Must not change during a pass.
    fn wants(&self, block: usize) -> bool;

    /// Whether it must know all inputs of a sequence before it computes with any: those of sequences longer than
    /// [`CHUNK_ROWS`](crate::tap::CHUNK_ROWS) are then shown to [`LinearBlock::measure`] first. Shorter ones come whole.
    fn measures(&self) -> bool;

    /// Called once a group with a block's decoded layers.
    fn begin<'e>(&'e self, block: usize, linears: &[(Projection, &Linear<f32>)]) -> Box<dyn LinearBlock + 'e>;
}

/// The linear layers of one block, for one group of sequences. Inputs are those of [`Point::NormalisedInput`],
/// [`Point::Heads`] and [`Point::Hidden`].
pub trait LinearBlock: Sync {
    /// Looks at inputs, before any of their sequence is multiplied. Called from several threads at once.
    ///
    /// # Shapes
    /// `x`: place.rows x inputs.
    fn measure(&self, input: Point, place: &Place, x: &[f32]);

    /// Computes the layers that share an input. Called from several threads at once.
    ///
    /// # Shapes
    /// `x`: the places' rows in order x inputs.
    fn multiply(&self, input: Point, places: &[Place], x: &[f32], products: &mut [Product<'_, f32>]);

    /// Called when the block is done.
    fn finish(self: Box<Self>) {}
}
