//! Blocks: an attention or feed-forward block with its weights, composed of operations, step by step, so that whoever
//! runs one (the streamed pass, a training step) can look and intervene between the steps.

mod attention;
mod feed_forward;

use sinkscope_kernels::Float;
use sinkscope_kernels::norm::{layer_norm, rms_norm, rms_norm_in_place};

pub use attention::AttentionBlock;
pub use feed_forward::FeedForwardBlock;

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
