//! Norms of rows, with their weights.

use sinkscope_kernels::Float;
use sinkscope_kernels::norm::{
    RowGradients, dynamic_tanh, dynamic_tanh_backward, layer_norm, layer_norm_backward, rms_norm, rms_norm_backward,
    rms_norm_in_place,
};
use sinkscope_kernels::simd::add;

/// A norm with its weights: dynamic tanh if it has an alpha, else LayerNorm if it has a bias, else RMSNorm (eq. 5).
#[derive(Debug, Clone)]
pub struct Norm<F> {
    /// The scale, with anything the checkpoint leaves out added.
    pub gamma: Vec<F>,
    /// The bias of a LayerNorm or of dynamic tanh.
    pub beta: Option<Vec<F>>,
    /// What dynamic tanh multiplies its input by.
    pub alpha: Option<F>,
    /// Added to the mean square or the variance.
    pub epsilon: F,
}

impl<F: Float> Norm<F> {
    /// Normalises rows.
    ///
    /// # Shapes
    /// `x`, `out`: rows x gamma.len().
    pub fn forward(&self, out: &mut [F], x: &[F]) {
        match (self.alpha, &self.beta) {
            (Some(alpha), Some(beta)) => dynamic_tanh(out, x, alpha, &self.gamma, beta),
            (_, Some(beta)) => layer_norm(out, x, &self.gamma, beta, self.epsilon),
            (_, None) => rms_norm(out, x, &self.gamma, self.epsilon),
        }
    }

    /// Normalises rows in place.
    ///
    /// # Shapes
    /// `x`: rows x gamma.len().
    pub fn forward_in_place(&self, x: &mut [F]) {
        if self.beta.is_none() {
            rms_norm_in_place(x, &self.gamma, self.epsilon);
        } else {
            let input = x.to_vec();
            self.forward(x, &input);
        }
    }

    /// A gradient of nothing yet.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        Self {
            gamma: vec![F::ZERO; self.gamma.len()],
            beta: self.beta.as_ref().map(|beta| vec![F::ZERO; beta.len()]),
            alpha: self.alpha.map(|_| F::ZERO),
            epsilon: self.epsilon,
        }
    }

    /// The gradient of the input; those of the weights are added to `gradient`.
    ///
    /// # Shapes
    /// `dx`, `dy`, `x`: rows x gamma.len().
    pub fn backward(&self, dx: &mut [F], gradient: &mut Self, dy: &[F], x: &[F]) {
        let (rows, gamma) = (RowGradients { dx, dy, x }, &mut gradient.gamma);
        match (self.alpha, &mut gradient.beta) {
            (Some(alpha), Some(beta)) => {
                let alpha_gradient = gradient.alpha.get_or_insert(F::ZERO);
                dynamic_tanh_backward(rows, alpha_gradient, gamma, beta, alpha, &self.gamma);
            }
            (_, Some(beta)) => layer_norm_backward(rows, gamma, beta, &self.gamma, self.epsilon),
            (_, None) => rms_norm_backward(rows, gamma, &self.gamma, self.epsilon),
        }
    }

    /// Adds another gradient.
    pub fn add(&mut self, other: &Self) {
        add(&mut self.gamma, &other.gamma);
        if let (Some(beta), Some(other)) = (&mut self.beta, &other.beta) {
            add(beta, other);
        }
        if let (Some(alpha), Some(other)) = (&mut self.alpha, other.alpha) {
            *alpha += other;
        }
    }
}
