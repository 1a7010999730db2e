//! What steps of every block have in common: rows and where they stand, a probe inside, and the way back into the residual.
//!
//! A block is a few steps between barriers. A step works on the rows of one tile, in buffers that its caller owns; whatever
//! must wait for other rows (keys for queries, scales for inputs) waits between steps. The streamed pass, continuations and
//! training run the same steps: the pass brings a probe that shows and edits, training brings buffers that its backward reads.

use sinkscope_kernels::Float;
use sinkscope_kernels::attention::{Look, Mask, Scan};
use sinkscope_kernels::rope::RopeTable;
use sinkscope_kernels::simd::add;

use super::{Norm, Product, multiply};
use crate::tap::{Place, Point};

/// What sees a step from inside. Each method has a default that does nothing, or what the block itself would do.
pub trait Probe<F: Float> {
    /// Called with the rows of the step's places, in order, at a point; may change them.
    fn at(&mut self, point: Point, rows: &mut [F]) {
        let _ = (point, rows);
    }

    /// Called with the pre-activations of a feed-forward block: of its gate, and of its linear branch if it has one.
    fn pre_activations(&mut self, gate: &[F], up: Option<&[F]>) {
        let _ = (gate, up);
    }

    /// Computes linear layers that share the input `x`, which stands at the point `input`.
    fn multiply(&mut self, input: Point, x: &[F], products: &mut [Product<'_, F>]) {
        let _ = input;
        multiply(x, products);
    }

    /// What attention is to tell of its weights.
    fn look(&self) -> Look {
        Look::Nothing
    }

    /// Queries and keys of a sequence that do not meet.
    fn mask(&self, place: &Place) -> Mask<'_> {
        let _ = place;
        Mask::default()
    }

    /// Called with what attention tells of the rows of a place, by key-value head.
    fn scanned(&mut self, place: &Place, scans: &[Scan<F>]) {
        let _ = (place, scans);
    }
}

/// A probe that sees nothing.
#[derive(Debug, Clone, Copy)]
pub struct Unseen;

impl<F: Float> Probe<F> for Unseen {}

/// What the rows of a step have beside themselves.
#[derive(Debug, Clone, Copy)]
pub struct TileContext<'a, F> {
    /// Where the rows stand: runs of rows of one sequence each.
    pub places: &'a [Place],
    /// The layer's rotary table, if it has one.
    pub rope: Option<&'a RopeTable<F>>,
    /// The tokens' embedding without positions, if gates depend on it, else empty: rows x d_model.
    pub embedding: &'a [F],
}

impl<F> TileContext<'_, F> {
    /// The position of every row.
    pub(super) fn positions(&self) -> impl Iterator<Item = usize> {
        self.places.iter().flat_map(|place| place.position..place.position + place.rows)
    }
}

/// The first step of every block, on rows: what it reads of the residual, after its input norm or as it is.
///
/// # Shapes
/// `residual`, `input`: rows x d_model.
pub fn read<F: Float>(norm: Option<&Norm<F>>, residual: &[F], input: &mut [F], probe: &mut impl Probe<F>) {
    match norm {
        Some(norm) => norm.forward(input, residual),
        None => input.copy_from_slice(residual),
    }
    probe.at(Point::NormalisedInput, input);
}

/// Where a block normalises what it leaves.
pub(super) struct Finish<'a, F> {
    pub norm: Option<&'a Norm<F>>,
    /// Whether the norm is of the residual after the block's output was added.
    pub post: bool,
}

impl<F: Float> Finish<'_, F> {
    /// Adds a block's output to the residual. With `spare`, of the same size, `out` becomes what the norm read.
    pub fn add(&self, residual: &mut [F], out: &mut [F], spare: Option<&mut [F]>, probe: &mut impl Probe<F>) {
        let added = match (self.norm.filter(|_| !self.post), spare) {
            (Some(norm), Some(spare)) => {
                norm.forward(spare, out);
                spare
            }
            (Some(norm), None) => {
                norm.forward_in_place(out);
                &mut *out
            }
            (None, spare) => {
                let kept = spare.is_some();
                probe.at(Point::Output, out);
                add(residual, out);
                match self.norm {
                    Some(norm) if kept => {
                        out.copy_from_slice(residual);
                        norm.forward(residual, out);
                    }
                    Some(norm) => norm.forward_in_place(residual),
                    None => {}
                }
                return probe.at(Point::Residual, residual);
            }
        };
        probe.at(Point::Output, added);
        add(residual, added);
        probe.at(Point::Residual, residual);
    }

    /// From the gradient of the residual after the block, `d_out`, that of the block's output, and in `d_residual` what
    /// passes the block by. `read` is what the norm read.
    pub fn backward(&self, d_residual: &mut [F], d_out: &mut [F], gradient: Option<&mut Norm<F>>, read: &[F]) {
        match (self.norm, gradient) {
            (Some(norm), Some(gradient)) => {
                norm.backward(d_out, gradient, d_residual, read);
                if self.post {
                    d_residual.copy_from_slice(d_out);
                }
            }
            _ => d_out.copy_from_slice(d_residual),
        }
    }
}
