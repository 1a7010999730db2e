//! A feed-forward block as one quadratic form for each of its outputs (eq. 16-18).
//!
//! Where the nonlinearity of a gated block is close to the identity, output channel k is `F(x)_k = x^T U_k x` with
//! `U_k = sum_i W_down[k, i] W_gate[i] W_up[i]^T`, and only the symmetric part `S_k` of `U_k` counts. x is the normalised
//! input without gamma; gamma is folded into the weights, so that x has the same length for every token.
//!
//! A block without a gate has no such form. Its analogue is the second-order term of its nonlinearity at 0, where
//! `GeLU(z) = z / 2 + z^2 / sqrt(2 pi) + ...` and `SiLU(z) = z / 2 + z^2 / 4 + ...`: the same formula with
//! `W_gate = W_up = W_in` and that coefficient. It holds for small pre-activations only. For large ones the nonlinearity
//! becomes linear, so such a block does not amplify quadratically without bound as a gated one does; ReLU has no
//! second-order term at all. Biases, and the bias of a LayerNorm, add linear terms and are left out.

use sinkscope_kernels::matmul::{Matrix, MatrixMut, matmul};
use sinkscope_model::architecture::Activation;
use sinkscope_model::blocks::FeedForwardBlock;

/// The coefficient of `x^T U_k x` in a block of two layers; `None` if its nonlinearity has no quadratic term.
pub fn coefficient(gated: bool, activation: Activation) -> Option<f64> {
    match (gated, activation) {
        (true, _) => Some(1.0),
        (false, Activation::Gelu | Activation::GeluTanh) => Some((2.0 * std::f64::consts::PI).sqrt().recip()),
        (false, Activation::Silu) => Some(0.25),
        (false, Activation::Relu) => None,
    }
}

/// The quadratic forms of a block.
#[derive(Debug, Clone)]
pub struct QuadraticForm {
    /// Width of the residual.
    pub d_model: usize,
    /// Hidden units.
    pub d_ffn: usize,
    /// W_gate with gamma folded in: d_model x d_ffn, a column a hidden unit.
    pub gate: Vec<f32>,
    /// W_up likewise; `None` if the block has no gate, where it is W_gate.
    pub up: Option<Vec<f32>>,
    /// W_down: d_ffn x d_model, a row a hidden unit.
    pub down: Vec<f32>,
    /// Factor on every form.
    pub coefficient: f64,
}

impl QuadraticForm {
    /// Copies a block's weights and folds gamma in. `None` if it has no nonlinearity, or one without a quadratic term.
    pub fn new(block: &FeedForwardBlock<f32>) -> Option<Self> {
        let (inner, down) = (block.gate.as_ref()?, block.down.as_ref()?);
        let coefficient = coefficient(block.up.is_some(), block.activation)?;
        let (d_model, d_ffn) = (inner.inputs(), inner.outputs());
        let mut gate = inner.weight().to_vec();
        let mut up = block.up.as_ref().map(|up| up.weight().to_vec());
        if let Some(norm) = &block.input_norm {
            for weight in [Some(&mut gate), up.as_mut()].into_iter().flatten() {
                for (row, gamma) in weight.chunks_exact_mut(d_ffn).zip(&norm.gamma) {
                    for weight in row {
                        *weight *= gamma;
                    }
                }
            }
        }
        Some(Self { d_model, d_ffn, gate, up, down: down.weight().to_vec(), coefficient })
    }

    /// W_up, or what stands for it.
    pub fn up(&self) -> &[f32] {
        self.up.as_deref().unwrap_or(&self.gate)
    }

    /// `w_k`: what each hidden unit adds to channel k.
    pub fn down_of(&self, channel: usize) -> Vec<f32> {
        self.down.iter().skip(channel).step_by(self.d_model).copied().collect()
    }

    /// `x^T U_k x` for rows x and every channel k.
    ///
    /// # Shapes
    /// `x`: rows x d_model; the result: the same.
    pub fn outputs(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.d_model;
        let mut hidden = self.project(&self.gate, x);
        let up = self.project(self.up(), x);
        for (hidden, up) in hidden.iter_mut().zip(up) {
            *hidden *= up * self.coefficient as f32;
        }
        let mut out = vec![0.0; x.len()];
        matmul(
            MatrixMut::new(&mut out, rows, self.d_model),
            Matrix::new(&hidden, rows, self.d_ffn),
            Matrix::new(&self.down, self.d_ffn, self.d_model),
        );
        out
    }

    /// `S_k x` without S_k, given `w_k` ([`Self::down_of`]).
    pub fn apply(&self, down: &[f32], x: &[f32]) -> Vec<f32> {
        let half = 0.5 * self.coefficient as f32;
        let weighted = |weight: &[f32]| -> Vec<f32> {
            self.project(weight, x).iter().zip(down).map(|(hidden, down)| half * hidden * down).collect()
        };
        let mut out = self.project_back(&self.gate, &weighted(self.up()));
        let other = self.project_back(self.up(), &weighted(&self.gate));
        out.iter_mut().zip(other).for_each(|(out, other)| *out += other);
        out
    }

    fn project(&self, weight: &[f32], x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.d_model;
        let mut out = vec![0.0; rows * self.d_ffn];
        matmul(
            MatrixMut::new(&mut out, rows, self.d_ffn),
            Matrix::new(x, rows, self.d_model),
            Matrix::new(weight, self.d_model, self.d_ffn),
        );
        out
    }

    fn project_back(&self, weight: &[f32], hidden: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.d_model];
        matmul(
            MatrixMut::new(&mut out, self.d_model, 1),
            Matrix::new(weight, self.d_model, self.d_ffn),
            Matrix::new(hidden, self.d_ffn, 1),
        );
        out
    }
}
