//! The feed-forward block in training.

use sinkscope_kernels::activation::{GatedBackward, activate, activate_backward, activate_gated_backward};
use sinkscope_kernels::{Buffer, Float};

use super::{FeedForwardBlock, GradientTask, Norm, Unseen, add_norm, input_backward, read};

/// What the backward needs of a tile's forward.
#[derive(Debug, Clone, Default)]
pub struct FeedForwardTrace<F> {
    /// The residual before the block.
    residual: Buffer<F>,
    /// What the matrices read: the residual after the input norm.
    input: Buffer<F>,
    gate: Buffer<F>,
    up: Buffer<F>,
    /// What the norm of the output or of the residual read.
    before_norm: Buffer<F>,
}

/// What a tile's backward leaves for the gradients of weights, and its buffers.
#[derive(Debug, Clone, Default)]
pub struct FeedForwardGradients<F> {
    hidden: Buffer<F>,
    d_hidden: Buffer<F>,
    d_gate: Buffer<F>,
    d_up: Buffer<F>,
    d_out: Buffer<F>,
    d_input: Buffer<F>,
    scratch: Buffer<F>,
    input_norm: Option<Norm<F>>,
    output_norm: Option<Norm<F>>,
}

/// From what a tile left, what a matrix read and the gradient of what it gave.
type Pair<'a, F> = fn(&'a FeedForwardTrace<F>, &'a FeedForwardGradients<F>) -> (&'a [F], &'a [F]);

impl<F: Float> FeedForwardBlock<F> {
    /// A gradient of nothing yet.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        Self {
            input_norm: self.input_norm.as_ref().map(Norm::zeros_like),
            gate: self.gate.as_ref().map(crate::Linear::zeros_like),
            up: self.up.as_ref().map(crate::Linear::zeros_like),
            down: self.down.as_ref().map(crate::Linear::zeros_like),
            output_norm: self.output_norm.as_ref().map(Norm::zeros_like),
            ..*self
        }
    }

    /// Adds the block's output to the residual of a tile. Of `buffers` nothing is kept.
    ///
    /// # Shapes
    /// `residual`: rows x d_model.
    pub fn forward(&self, residual: &mut [F], trace: &mut FeedForwardTrace<F>, buffers: &mut FeedForwardGradients<F>) {
        let Some(down) = &self.down else { return };
        let len = residual.len();
        let hidden = len / down.outputs() * self.hidden();
        trace.residual.fit(len).copy_from_slice(residual);
        read(self.input_norm.as_ref(), residual, trace.input.fit(len), &mut Unseen);
        let up = trace.up.fit(if self.up.is_some() { hidden } else { 0 });
        let (gate, kept) = (trace.gate.fit(hidden), buffers.hidden.fit(hidden));
        let activations = self.activate(&trace.input, gate, up, Some(kept), &mut Unseen);
        let spare = buffers.scratch.fit(len);
        self.output(activations, trace.before_norm.fit(len), residual, Some(spare), &mut Unseen);
    }

    /// Turns the gradient of the residual after the block into that of the residual before it.
    ///
    /// # Shapes
    /// `d_residual`: rows x d_model.
    pub fn backward(&self, d_residual: &mut [F], trace: &FeedForwardTrace<F>, gradients: &mut FeedForwardGradients<F>) {
        let Some(down) = &self.down else { return };
        let len = d_residual.len();
        let d_out = gradients.d_out.fit(len);
        self.finish().backward(d_residual, d_out, gradients.output_norm.as_mut(), &trace.before_norm);
        let d_input = gradients.d_input.fit(len);
        if let Some(gate) = &self.gate {
            let hidden = trace.gate.len();
            let d_hidden = gradients.d_hidden.fit(hidden);
            down.backward(d_hidden, d_out, false);
            let (d_gate, activations) = (gradients.d_gate.fit(hidden), gradients.hidden.fit(hidden));
            if let Some(up) = &self.up {
                let d_up = gradients.d_up.fit(hidden);
                let out = GatedBackward { d_gate, d_up, hidden: activations };
                activate_gated_backward(self.activation, out, d_hidden, &trace.gate, &trace.up);
                up.backward(d_input, d_up, false);
            } else {
                activations.copy_from_slice(&trace.gate);
                activate(self.activation, activations);
                activate_backward(self.activation, d_gate, d_hidden, &trace.gate);
            }
            gate.backward(d_input, d_gate, self.up.is_some());
        } else {
            down.backward(d_input, d_out, false);
        }
        let gradient = gradients.input_norm.as_mut();
        let scratch = &mut gradients.scratch;
        input_backward(self.input_norm.as_ref(), gradient, d_residual, d_input, &trace.residual, scratch);
    }

    /// What of the weights' gradient takes work, in tasks that may run at once; the rest is added at once. `self` is the
    /// gradient. Tiles contribute in the order given.
    pub fn gradient_tasks<'a>(
        &'a mut self,
        tiles: &'a [(&'a FeedForwardTrace<F>, &'a FeedForwardGradients<F>)],
    ) -> Vec<GradientTask<'a, F>> {
        for (_, gradients) in tiles {
            add_norm(&mut self.input_norm, gradients.input_norm.as_ref());
            add_norm(&mut self.output_norm, gradients.output_norm.as_ref());
        }
        let of = |x: Pair<'a, F>| -> Vec<_> { tiles.iter().map(|(trace, gradients)| x(trace, gradients)).collect() };
        let mut tasks = Vec::new();
        let one_matrix = self.gate.is_none();
        if let Some(gate) = &mut self.gate {
            tasks.extend(gate.gradient_tasks(&of(|trace, gradients| (&trace.input, &gradients.d_gate))));
        }
        if let Some(up) = &mut self.up {
            tasks.extend(up.gradient_tasks(&of(|trace, gradients| (&trace.input, &gradients.d_up))));
        }
        if let Some(down) = &mut self.down {
            tasks.extend(down.gradient_tasks(&if one_matrix {
                of(|trace, gradients| (&trace.input, &gradients.d_out))
            } else {
                of(|_, gradients| (&gradients.hidden, &gradients.d_out))
            }));
        }
        tasks
    }
}

impl<F: Float> FeedForwardGradients<F> {
    /// Begins the backward of a block: nothing has been added to the vectors' gradients.
    pub fn begin(&mut self, block: &FeedForwardBlock<F>) {
        self.input_norm = block.input_norm.as_ref().map(Norm::zeros_like);
        self.output_norm = block.output_norm.as_ref().map(Norm::zeros_like);
    }
}
