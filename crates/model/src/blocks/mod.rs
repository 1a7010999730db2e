//! Blocks: an attention or feed-forward block with its weights, composed of operations, step by step, so that whoever
//! runs one (the streamed pass, a training step) can look and intervene between the steps. Beside the steps stands each
//! block's own backward: `forward` keeps a trace of a tile of whole sequences, `backward` turns the gradient of what the
//! block left into that of what it read, and `gradient_tasks` add up what the matrices get from all tiles, in order.

mod attention;
mod attention_training;
mod feed_forward;
mod feed_forward_training;
mod norm;

pub use crate::linear::GradientTask;
pub use attention::{AttendOptions, AttentionBlock, Gate, RopeTables, SinkLogits};
pub use attention_training::{AttentionGradients, AttentionTrace};
pub use feed_forward::FeedForwardBlock;
pub use feed_forward_training::{FeedForwardGradients, FeedForwardTrace};
pub use norm::Norm;

use sinkscope_kernels::rope::RopeTable;
use sinkscope_kernels::simd::add;
use sinkscope_kernels::{Buffer, Float};

use crate::linear::Linear;

/// A linear layer of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// W_Q.
    Query,
    /// W_K.
    Key,
    /// W_V.
    Value,
    /// W_O.
    AttentionOutput,
    /// W_gate; the only inner projection of a block without gate.
    Gate,
    /// W_up.
    Up,
    /// W_down.
    Down,
}

/// A linear layer about to be computed.
#[derive(Debug)]
pub struct Product<'p, F> {
    /// Which.
    pub projection: Projection,
    /// Its weights.
    pub linear: &'p Linear<F>,
    /// Where its output goes: rows x outputs.
    pub out: &'p mut [F],
}

impl<'p, F> Product<'p, F> {
    /// One to compute.
    pub fn new(projection: Projection, linear: &'p Linear<F>, out: &'p mut [F]) -> Self {
        Self { projection, linear, out }
    }
}

/// Computes linear layers that share their input, as they are.
///
/// # Shapes
/// `x`: rows x inputs.
pub fn multiply<F: Float>(x: &[F], products: &mut [Product<'_, F>]) {
    for product in products {
        product.linear.forward(product.out, x);
    }
}

/// What a tile of whole sequences has beside its rows.
#[derive(Debug, Clone, Copy)]
pub struct TileContext<'a, F> {
    /// Tokens of each sequence.
    pub seq_len: usize,
    /// The layer's rotary table, if it has one.
    pub rope: Option<&'a RopeTable<F>>,
    /// The tokens' embedding without positions, if gates depend on it, else empty: rows x d_model.
    pub embedding: &'a [F],
}

/// Where a block normalises what it leaves.
struct Finish<'a, F> {
    norm: Option<&'a Norm<F>>,
    /// Whether the norm is of the residual after the block's output was added.
    post: bool,
}

impl<F: Float> Finish<'_, F> {
    /// Adds a block's output to the residual; `out` becomes what the norm read.
    fn forward(&self, residual: &mut [F], out: &mut [F], scratch: &mut Buffer<F>) {
        match self.norm {
            None => add(residual, out),
            Some(norm) if self.post => {
                add(residual, out);
                out.copy_from_slice(residual);
                norm.forward(residual, out);
            }
            Some(norm) => {
                let normalised = scratch.fit(out.len());
                norm.forward(normalised, out);
                add(residual, normalised);
            }
        }
    }

    /// From the gradient of the residual after the block, `d_out`, that of the block's output, and in `d_residual` what
    /// passes the block by. `read` is what the norm read.
    fn backward(&self, d_residual: &mut [F], d_out: &mut [F], gradient: Option<&mut Norm<F>>, read: &[F]) {
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

/// Adds to `d_residual` the gradient of what a block read through `norm`, given that of its input.
fn input_backward<F: Float>(
    norm: Option<&Norm<F>>,
    gradient: Option<&mut Norm<F>>,
    d_residual: &mut [F],
    d_input: &[F],
    residual: &[F],
    scratch: &mut Buffer<F>,
) {
    match (norm, gradient) {
        (Some(norm), Some(gradient)) => {
            let through = scratch.fit(d_input.len());
            norm.backward(through, gradient, d_input, residual);
            add(d_residual, through);
        }
        _ => add(d_residual, d_input),
    }
}

/// Adds the gradient of a norm's weights, if both are there.
fn add_norm<F: Float>(gradient: &mut Option<Norm<F>>, tile: Option<&Norm<F>>) {
    if let (Some(gradient), Some(tile)) = (gradient, tile) {
        gradient.add(tile);
    }
}
