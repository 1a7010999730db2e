//! Blocks: an attention or feed-forward block with its weights, composed in one place as steps between barriers (see [`Probe`]),
//! which the streamed pass, continuations and training all run. Beside the steps stands each block's own backward: `forward`
//! runs them over a tile of whole sequences and keeps their buffers, `backward` turns the gradient of what the block left into
//! that of what it read, and `gradient_tasks` add up what the matrices get from all tiles, in order.

mod attention;
mod attention_training;
mod feed_forward;
mod feed_forward_training;
mod gate;
mod norm;
mod rope;
mod rows;
mod step;

pub use crate::linear::GradientTask;
pub use attention::{AttentionBlock, SinkLogits};
pub use attention_training::{AttentionGradients, AttentionTrace};
pub use feed_forward::FeedForwardBlock;
pub use feed_forward_training::{FeedForwardGradients, FeedForwardTrace};
pub use gate::Gate;
pub use norm::Norm;
pub use rope::RopeTables;
pub use rows::{Attending, AttentionRows, Projected};
pub use step::{Probe, TileContext, Unseen, read};

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
