//! The feed-forward block: SwiGLU (eq. 12) and GeGLU, or two layers with one nonlinearity.

use sinkscope_kernels::Float;
use sinkscope_kernels::activation::{Activation, activate, activate_gated};

use super::Norm;
use crate::linear::Linear;

/// A feed-forward block with its weights.
#[derive(Debug, Clone)]
pub struct FeedForwardBlock<F> {
    /// Norm of the input.
    pub input_norm: Option<Norm<F>>,
    /// W_gate; the only inner projection of a block without gate.
    pub gate: Linear<F>,
    /// W_up, the linear branch of a gated block.
    pub up: Option<Linear<F>>,
    /// W_down.
    pub down: Linear<F>,
    /// Norm of what the block adds.
    pub output_norm: Option<Norm<F>>,
    /// The nonlinearity on the gate.
    pub activation: Activation,
}

impl<F: Float> FeedForwardBlock<F> {
    /// Pre-activations of normalised input rows.
    ///
    /// # Shapes
    /// `x`: rows x d_model; `gate`: rows x d_ffn; `up`: the same if the block is gated, else untouched.
    pub fn project(&self, x: &[F], gate: &mut [F], up: &mut [F]) {
        self.gate.forward(gate, x);
        if let Some(linear) = &self.up {
            linear.forward(up, x);
        }
    }

    /// What the block adds to the residual. `gate` becomes the hidden activations.
    ///
    /// # Shapes
    /// `gate`, `up`: rows x d_ffn, as [`FeedForwardBlock::project`] left them; `out`: rows x d_model.
    pub fn project_output(&self, gate: &mut [F], up: &[F], out: &mut [F]) {
        match &self.up {
            Some(_) => activate_gated(self.activation, gate, up),
            None => activate(self.activation, gate),
        }
        self.down.forward(out, gate);
        if let Some(norm) = &self.output_norm {
            norm.forward_in_place(out);
        }
    }
}
