//! The feed-forward block in training.

use sinkscope_kernels::Float;
use sinkscope_kernels::activation::{activate, activate_backward, activate_gated_backward, activate_gated_into};

use super::{FeedForwardBlock, Finish, GradientTask, Norm, add_norm, fit, input_backward};

/// What the backward needs of a tile's forward.
#[derive(Debug, Clone, Default)]
pub struct FeedForwardTrace<F> {
    /// The residual before the block.
    residual: Vec<F>,
    /// What the matrices read: the residual after the input norm.
    input: Vec<F>,
    gate: Vec<F>,
    up: Vec<F>,
    /// What the norm of the output or of the residual read.
    before_norm: Vec<F>,
}

/// What a tile's backward leaves for the gradients of weights, and its buffers.
#[derive(Debug, Clone)]
pub struct FeedForwardGradients<F> {
    hidden: Vec<F>,
    d_hidden: Vec<F>,
    d_gate: Vec<F>,
    d_up: Vec<F>,
    d_out: Vec<F>,
    d_input: Vec<F>,
    scratch: Vec<F>,
    input_norm: Option<Norm<F>>,
    output_norm: Option<Norm<F>>,
}

/// From what a tile left, what a matrix read and the gradient of what it gave.
type Pair<'a, F> = fn(&'a FeedForwardTrace<F>, &'a FeedForwardGradients<F>) -> (&'a [F], &'a [F]);

impl<F: Float> FeedForwardBlock<F> {
    fn finish(&self) -> Finish<'_, F> {
        Finish { norm: self.output_norm.as_ref(), post: self.post_norm }
    }

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

    /// Buffers for the backward of a tile.
    pub fn gradients(&self) -> FeedForwardGradients<F> {
        FeedForwardGradients {
            hidden: Vec::new(),
            d_hidden: Vec::new(),
            d_gate: Vec::new(),
            d_up: Vec::new(),
            d_out: Vec::new(),
            d_input: Vec::new(),
            scratch: Vec::new(),
            input_norm: self.input_norm.as_ref().map(Norm::zeros_like),
            output_norm: self.output_norm.as_ref().map(Norm::zeros_like),
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
        fit(&mut trace.residual, len).copy_from_slice(residual);
        let input = fit(&mut trace.input, len);
        match &self.input_norm {
            Some(norm) => norm.forward(input, residual),
            None => input.copy_from_slice(residual),
        }
        let up = fit(&mut trace.up, if self.up.is_some() { hidden } else { 0 });
        self.project(input, fit(&mut trace.gate, hidden), up);
        let out = fit(&mut trace.before_norm, len);
        let activations = fit(&mut buffers.hidden, hidden);
        if self.up.is_some() {
            activate_gated_into(self.activation, activations, &trace.gate, up);
        } else {
            activations.copy_from_slice(&trace.gate);
            self.activate(activations, up);
        }
        down.forward(out, activations);
        self.finish().forward(residual, out, &mut buffers.scratch);
    }

    /// Turns the gradient of the residual after the block into that of the residual before it.
    ///
    /// # Shapes
    /// `d_residual`: rows x d_model.
    pub fn backward(&self, d_residual: &mut [F], trace: &FeedForwardTrace<F>, gradients: &mut FeedForwardGradients<F>) {
        let Some(down) = &self.down else { return };
        let len = d_residual.len();
        let d_out = fit(&mut gradients.d_out, len);
        self.finish().backward(d_residual, d_out, gradients.output_norm.as_mut(), &trace.before_norm);
        let d_input = fit(&mut gradients.d_input, len);
        if let Some(gate) = &self.gate {
            let hidden = trace.gate.len();
            let d_hidden = fit(&mut gradients.d_hidden, hidden);
            down.backward(d_hidden, d_out, false);
            let (d_gate, activations) = (fit(&mut gradients.d_gate, hidden), fit(&mut gradients.hidden, hidden));
            if let Some(up) = &self.up {
                let d_up = fit(&mut gradients.d_up, hidden);
                let (gates, ups) = (&trace.gate, &trace.up);
                activate_gated_backward(self.activation, d_gate, d_up, activations, d_hidden, gates, ups);
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
    /// Forgets what was added to the vectors' gradients.
    pub fn clear(&mut self) {
        for norm in [&mut self.input_norm, &mut self.output_norm].into_iter().flatten() {
            *norm = norm.zeros_like();
        }
    }
}
