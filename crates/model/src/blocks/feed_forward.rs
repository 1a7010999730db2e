//! The feed-forward block: SwiGLU (eq. 12) and GeGLU, two layers with one nonlinearity, one matrix, or nothing.

use sinkscope_kernels::Float;
use sinkscope_kernels::activation::{Activation, activate, activate_gated};

use super::{Norm, Product, Projection, multiply};
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
    /// Its linear layers.
    pub fn linears(&self) -> Vec<(Projection, &Linear<F>)> {
        [(Projection::Gate, &self.gate), (Projection::Up, &self.up), (Projection::Down, &self.down)]
            .into_iter()
            .filter_map(|(projection, linear)| Some((projection, linear.as_ref()?)))
            .collect()
    }

    /// Width of what W_down reads: hidden units, or the input of a block that is one matrix; 0 if there is none.
    pub fn hidden(&self) -> usize {
        self.down.as_ref().map_or(0, Linear::inputs)
    }

    /// Pre-activations of normalised input rows; the rows themselves if the block is one matrix.
    ///
    /// # Shapes
    /// `x`: rows x d_model; `gate`: rows x hidden; `up`: the same if the block is gated, else untouched.
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
        match (&self.gate, &self.up) {
            (Some(own), None) => multiply(x, &mut [Product::new(Projection::Gate, own, gate)]),
            (Some(own), Some(linear)) => {
                let gate = Product::new(Projection::Gate, own, gate);
                multiply(x, &mut [gate, Product::new(Projection::Up, linear, up)]);
            }
            (None, _) if self.down.is_some() => gate.copy_from_slice(x),
            (None, _) => {}
        }
    }

    /// What the block adds to the residual. `gate` becomes the hidden activations.
    ///
    /// # Shapes
    /// `gate`, `up`: rows x hidden, as [`FeedForwardBlock::project`] left them; `out`: rows x d_model.
    pub fn project_output(&self, gate: &mut [F], up: &[F], out: &mut [F]) {
        self.activate(gate, up);
        self.project_hidden_by(gate, out, multiply);
    }

    /// The hidden activations, in place of the gate's pre-activations.
    ///
    /// # Shapes
    /// `gate`, `up`: rows x hidden, as [`FeedForwardBlock::project`] left them.
    pub fn activate(&self, gate: &mut [F], up: &[F]) {
        match (&self.gate, &self.up) {
            (Some(_), Some(_)) => activate_gated(self.activation, gate, up),
            (Some(_), None) => activate(self.activation, gate),
            (None, _) => {}
        }
    }

    /// What the block adds to the residual, from its hidden activations, the linear layer computed by `multiply`.
    ///
    /// # Shapes
    /// `hidden`: rows x hidden; `out`: rows x d_model.
    pub fn project_hidden_by(&self, hidden: &[F], out: &mut [F], multiply: impl FnOnce(&[F], &mut [Product<'_, F>])) {
        let Some(down) = &self.down else { return out.fill(F::ZERO) };
        multiply(hidden, &mut [Product::new(Projection::Down, down, out)]);
        if let Some(norm) = self.output_norm.as_ref().filter(|_| !self.post_norm) {
            norm.forward_in_place(out);
        }
    }

    /// The norm of the residual after this block, if there is one.
    pub fn residual_norm(&self) -> Option<&Norm<F>> {
        self.output_norm.as_ref().filter(|_| self.post_norm)
    }
}
