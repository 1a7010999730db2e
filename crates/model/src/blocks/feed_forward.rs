//! The feed-forward block: SwiGLU (eq. 12) and GeGLU, or two layers with one nonlinearity.

use sinkscope_kernels::Float;
use sinkscope_kernels::activation::{Activation, activate, activate_gated};

use super::{Norm, Product, Projection, multiply};
use crate::weights::Linear;

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
    /// Its linear layers.
    pub fn linears(&self) -> Vec<(Projection, &Linear<F>)> {
        let up = self.up.as_ref().map(|up| (Projection::Up, up));
        [(Projection::Gate, &self.gate)].into_iter().chain(up).chain([(Projection::Down, &self.down)]).collect()
    }

    /// Pre-activations of normalised input rows.
    ///
    /// # Shapes
    /// `x`: rows x d_model; `gate`: rows x d_ffn; `up`: the same if the block is gated, else untouched.
    pub fn project(&self, x: &[F], gate: &mut [F], up: &mut [F]) {
        self.project_by(x, gate, up, multiply);
    }

    /// As [`FeedForwardBlock::project`], the linear layers computed by `multiply`.
    pub fn project_by(
        &self,
        x: &[F],
        gate: &mut [F],
        up: &mut [F],
        multiply: impl FnOnce(&[F], &mut [Product<'_, F>]),
    ) {
        let gate = Product::new(Projection::Gate, &self.gate, gate);
        match &self.up {
            None => multiply(x, &mut [gate]),
            Some(linear) => multiply(x, &mut [gate, Product::new(Projection::Up, linear, up)]),
        }
    }

    /// What the block adds to the residual. `gate` becomes the hidden activations.
    ///
    /// # Shapes
    /// `gate`, `up`: rows x d_ffn, as [`FeedForwardBlock::project`] left them; `out`: rows x d_model.
    pub fn project_output(&self, gate: &mut [F], up: &[F], out: &mut [F]) {
        self.activate(gate, up);
        self.project_hidden_by(gate, out, multiply);
    }

    /// The hidden activations, in place of the gate's pre-activations.
    ///
    /// # Shapes
    /// `gate`, `up`: rows x d_ffn, as [`FeedForwardBlock::project`] left them.
    pub fn activate(&self, gate: &mut [F], up: &[F]) {
        match &self.up {
            Some(_) => activate_gated(self.activation, gate, up),
            None => activate(self.activation, gate),
        }
    }

    /// What the block adds to the residual, from its hidden activations, the linear layer computed by `multiply`.
    ///
    /// # Shapes
    /// `hidden`: rows x d_ffn; `out`: rows x d_model.
    pub fn project_hidden_by(&self, hidden: &[F], out: &mut [F], multiply: impl FnOnce(&[F], &mut [Product<'_, F>])) {
        multiply(hidden, &mut [Product::new(Projection::Down, &self.down, out)]);
        if let Some(norm) = &self.output_norm {
            norm.forward_in_place(out);
        }
    }
}
