//! Gates on the heads' outputs (Qiu et al. 2025).

use sinkscope_kernels::Float;
use sinkscope_kernels::gate::{HeadGates, gate_heads};

use super::TileContext;
use crate::architecture::{GateSignal, Granularity};
use crate::linear::Linear;

/// A gate on the heads' outputs: sigmoid of `W_gate` times a signal.
#[derive(Debug, Clone)]
pub struct Gate<F> {
    /// What it depends on.
    pub signal: GateSignal,
    /// How many gates a row has.
    pub granularity: Granularity,
    /// From the signal to the gates: a position is a one-hot vector, free parameters have a signal of 1.
    pub weight: Linear<F>,
}

impl<F: Float> Gate<F> {
    /// What the sigmoid is of.
    ///
    /// # Shapes
    /// `out`: rows x gates; `input`: rows x d_model, normalised.
    pub fn project(&self, out: &mut [F], input: &[F], context: &TileContext<'_, F>) {
        match self.signal {
            GateSignal::Input => self.weight.forward(out, input),
            GateSignal::Embedding => self.weight.forward(out, context.embedding),
            GateSignal::Free | GateSignal::Position => {
                let weight = self.weight.weight();
                for (position, out) in context.positions().zip(out.chunks_exact_mut(self.weight.outputs())) {
                    let row = if self.signal == GateSignal::Free { 0 } else { position };
                    out.iter_mut().enumerate().for_each(|(column, out)| *out = weight.get(row, column));
                }
            }
        }
    }

    /// Multiplies the heads' outputs.
    ///
    /// # Shapes
    /// `out`, `heads`: rows x (heads * head_dim); `gates`: rows x gates, as [`Gate::project`] leaves them.
    pub fn apply(&self, out: &mut [F], heads: &[F], gates: &[F], head_dim: usize) {
        let width = heads.len() / (gates.len() / self.weight.outputs());
        gate_heads(out, heads, gates, self.over(width / head_dim, head_dim));
    }

    /// How the gates of a row lie over its heads.
    pub(super) fn over(&self, heads: usize, head_dim: usize) -> HeadGates {
        HeadGates { heads, head_dim, granularity: self.granularity }
    }
}
