//! Blocks: an attention or feed-forward block with its weights, composed of operations, step by step, so that whoever
//! runs one (the streamed pass, a training step) can look and intervene between the steps.

mod attention;
mod feed_forward;

use sinkscope_kernels::Float;
use sinkscope_kernels::matmul::{Matrix, MatrixMut, matmul};
use sinkscope_kernels::norm::{layer_norm, rms_norm, rms_norm_in_place};
use sinkscope_kernels::simd::add_to_rows;

pub use attention::AttentionBlock;
pub use feed_forward::FeedForwardBlock;

use crate::weights::Linear;

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

/// A norm with its weights: LayerNorm if it has a bias, else RMSNorm (eq. 5).
#[derive(Debug, Clone)]
pub struct Norm<F> {
    /// The scale, with anything the checkpoint leaves out added.
    pub gamma: Vec<F>,
    /// The bias of a LayerNorm.
    pub beta: Option<Vec<F>>,
    /// Added to the mean square or the variance.
    pub epsilon: F,
}

impl<F: Float> Norm<F> {
    /// Normalises rows.
    ///
    /// # Shapes
    /// `x`, `out`: rows x gamma.len().
    pub fn forward(&self, out: &mut [F], x: &[F]) {
        match &self.beta {
            None => rms_norm(out, x, &self.gamma, self.epsilon),
            Some(beta) => layer_norm(out, x, &self.gamma, beta, self.epsilon),
        }
    }

    /// Normalises rows in place.
    ///
    /// # Shapes
    /// `x`: rows x gamma.len().
    pub fn forward_in_place(&self, x: &mut [F]) {
        match &self.beta {
            None => rms_norm_in_place(x, &self.gamma, self.epsilon),
            Some(beta) => {
                let input = x.to_vec();
                layer_norm(x, &input, &self.gamma, beta, self.epsilon);
            }
        }
    }
}

impl<F: Float> Linear<F> {
    /// `out = x W + b`.
    ///
    /// # Shapes
    /// `x`: rows x inputs, `out`: rows x outputs.
    pub fn forward(&self, out: &mut [F], x: &[F]) {
        let rows = x.len() / self.inputs;
        matmul(
            MatrixMut::new(out, rows, self.outputs),
            Matrix::new(x, rows, self.inputs),
            Matrix::new(&self.weight, self.inputs, self.outputs),
        );
        if let Some(bias) = &self.bias {
            add_to_rows(out, bias);
        }
    }
}
