//! The feed-forward block: SwiGLU (eq. 12) and GeGLU, two layers with one nonlinearity, one matrix, or nothing.

use sinkscope_kernels::Float;
use sinkscope_kernels::activation::{Activation, activate, activate_gated, activate_gated_into};

use super::step::Finish;
use super::{Norm, Probe, Product, Projection};
use crate::linear::Linear;
use crate::tap::Point;

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

    /// The second step, on rows: the hidden activations, or the input itself if the block is one matrix. They take the place of
    /// the gate's pre-activations, or go to `hidden`, where a backward reads both.
    ///
    /// # Shapes
    /// `input`: rows x d_model; `gate`: rows x hidden; `up`: the same if the block is gated, else empty; `hidden`: rows x hidden.
    pub fn activate<'b>(
        &self,
        input: &[F],
        gate: &'b mut [F],
        up: &mut [F],
        hidden: Option<&'b mut [F]>,
        probe: &mut impl Probe<F>,
    ) -> &'b mut [F] {
        let gated = self.up.is_some();
        match (&self.gate, &self.up) {
            (Some(own), Some(linear)) => {
                let own = Product::new(Projection::Gate, own, gate);
                probe.multiply(Point::NormalisedInput, input, &mut [own, Product::new(Projection::Up, linear, up)]);
            }
            (Some(own), None) => {
                probe.multiply(Point::NormalisedInput, input, &mut [Product::new(Projection::Gate, own, gate)]);
            }
            (None, _) if self.down.is_some() => gate.copy_from_slice(input),
            (None, _) => {}
        }
        if self.gate.is_some() {
            probe.pre_activations(gate, gated.then_some(up));
        }
        let hidden = match (&self.gate, hidden) {
            (Some(_), Some(hidden)) if gated => {
                activate_gated_into(self.activation, hidden, gate, up);
                hidden
            }
            (Some(_), Some(hidden)) => {
                hidden.copy_from_slice(gate);
                activate(self.activation, hidden);
                hidden
            }
            (Some(_), None) => {
                if gated {
                    activate_gated(self.activation, gate, up);
                } else {
                    activate(self.activation, gate);
                }
                gate
            }
            (None, _) => gate,
        };
        // Nothing has no hidden activations to show.
        if self.down.is_some() {
            probe.at(Point::Hidden, hidden);
        }
        hidden
    }

    /// The last step, on rows: what the block adds to the residual. With `spare`, of the same size, `out` becomes what the
    /// norm behind the block read.
    ///
    /// # Shapes
    /// `hidden`: rows x hidden; `out`, `residual`: rows x d_model.
    pub fn output(
        &self,
        hidden: &[F],
        out: &mut [F],
        residual: &mut [F],
        spare: Option<&mut [F]>,
        probe: &mut impl Probe<F>,
    ) {
        match &self.down {
            Some(down) => probe.multiply(Point::Hidden, hidden, &mut [Product::new(Projection::Down, down, out)]),
            None => out.fill(F::ZERO),
        }
        self.finish().add(residual, out, spare, probe);
    }

    /// Where the block normalises what it leaves.
    pub(super) fn finish(&self) -> Finish<'_, F> {
        Finish { norm: self.output_norm.as_ref(), post: self.post_norm }
    }
}
