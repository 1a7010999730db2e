//! The feed-forward block: SwiGLU (eq. 12) and GeGLU, two layers with one nonlinearity, one matrix, or nothing.

use sinkscope_kernels::Float;
use sinkscope_kernels::activation::{Activation, activate, activate_gated};

use super::Norm;
use crate::linear::Linear;

/// A feed-forward block with its weights. Without `gate` it is the matrix `down`; without that it adds nothing.
#[derive(Debug, Clone)]
pub struct FeedForwardBlock<F> {
    /// Norm of the input.
    pub input_norm: Option<Norm<F>>,
    /// W_gate; the only inner projection of a block without a linear branch.
    pub gate: Option<Linear<F>>,
    /// W_up, the linear branch of a gated block.
    pub up: Option<Linear<F>>,
    /// W_down.
    pub down: Option<Linear<F>>,
    /// Norm of what the block adds, or of the residual after it.
    pub output_norm: Option<Norm<F>>,
    /// Whether that norm is of the residual after the block's output was added.
    pub post_norm: bool,
    /// The nonlinearity on the gate.
    pub activation: Activation,
}

impl<F: Float> FeedForwardBlock<F> {
    /// Hidden units; 0 if there are none.
    pub fn hidden(&self) -> usize {
        self.gate.as_ref().map_or(0, |gate| gate.outputs())
    }

    /// Pre-activations of normalised input rows.
    ///
    /// # Shapes
    /// `x`: rows x d_model; `gate`: rows x hidden; `up`: the same if the block is gated, else untouched.
    pub fn project(&self, x: &[F], gate: &mut [F], up: &mut [F]) {
        if let Some(linear) = &self.gate {
            linear.forward(gate, x);
        }
        if let Some(linear) = &self.up {
            linear.forward(up, x);
        }
    }

    /// What the block adds to the residual. `gate` becomes the hidden activations.
    ///
    /// # Shapes
    /// `x`: normalised input rows; `gate`, `up`: rows x hidden, as [`FeedForwardBlock::project`] left them; `out`: rows x
    /// d_model.
    pub fn project_output(&self, x: &[F], gate: &mut [F], up: &[F], out: &mut [F]) {
        self.project_hidden(x, gate, up, out);
        if let Some(norm) = self.output_norm.as_ref().filter(|_| !self.post_norm) {
            norm.forward_in_place(out);
        }
    }

    /// What the block's matrices make of a tile, before any norm. Shapes as of [`FeedForwardBlock::project_output`].
    pub(super) fn project_hidden(&self, x: &[F], gate: &mut [F], up: &[F], out: &mut [F]) {
        match &self.up {
            Some(_) => activate_gated(self.activation, gate, up),
            None => activate(self.activation, gate),
        }
        match &self.down {
            Some(down) => down.forward(out, if self.gate.is_some() { gate } else { x }),
            None => out.fill(F::ZERO),
        }
    }

    /// The norm of the residual after this block, if there is one.
    pub fn residual_norm(&self) -> Option<&Norm<F>> {
        self.output_norm.as_ref().filter(|_| self.post_norm)
    }
}
