//! Linear layers: forward, and what their gradients are.

use sinkscope_kernels::Float;
use sinkscope_kernels::matmul::{Matrix, MatrixMut, matmul, matmul_add};
use sinkscope_kernels::simd::{add_columns, add_to_rows};

use crate::weights::Linear;

/// Rows of a matrix whose gradient one task adds up.
const GRADIENT_ROWS: usize = 128;

/// Part of the gradient of a matrix, to be added up by one task.
pub struct GradientTask<'a, F> {
    /// Rows of the gradient: count x outputs.
    out: &'a mut [F],
    outputs: usize,
    /// The first of those rows.
    first: usize,
    inputs: usize,
    /// By tile: what went in (rows x inputs) and the gradient of what came out (rows x outputs).
    tiles: Vec<(&'a [F], &'a [F])>,
}

impl<F: Float> GradientTask<'_, F> {
    /// Adds what every tile contributes, in order.
    pub fn run(self) {
        let count = self.out.len() / self.outputs;
        for (x, dy) in self.tiles {
            let rows = dy.len() / self.outputs;
            matmul_add(
                MatrixMut::new(self.out, count, self.outputs),
                Matrix::strided(&x[self.first..], count, rows, 1, self.inputs),
                Matrix::new(dy, rows, self.outputs),
            );
        }
    }
}

impl<F: Float> Linear<F> {
    /// `out = x W + b`.
    ///
    /// # Shapes
    /// `x`: rows x inputs, `out`: rows x outputs.
    pub fn forward(&self, out: &mut [F], x: &[F]) {
        let rows = x.len() / self.inputs;
        matmul(
            MatrixMut::new(out, rows, self.outputs),
            Matrix::new(x, rows, self.inputs),
            Matrix::new(&self.weight, self.inputs, self.outputs),
        );
        if let Some(bias) = &self.bias {
            add_to_rows(out, bias);
        }
    }

    /// A gradient of nothing yet.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        Self {
            weight: vec![F::ZERO; self.weight.len()],
            bias: self.bias.as_ref().map(|bias| vec![F::ZERO; bias.len()]),
            inputs: self.inputs,
            outputs: self.outputs,
        }
    }

    /// The gradient of the input: `dx = dy W^T`, or `dx += dy W^T`.
    ///
    /// # Shapes
    /// `dy`: rows x outputs; `dx`: rows x inputs.
    pub fn backward(&self, dx: &mut [F], dy: &[F], accumulate: bool) {
        let rows = dy.len() / self.outputs;
        let (dx, dy) = (MatrixMut::new(dx, rows, self.inputs), Matrix::new(dy, rows, self.outputs));
        let weight = Matrix::new(&self.weight, self.inputs, self.outputs).transposed();
        if accumulate { matmul_add(dx, dy, weight) } else { matmul(dx, dy, weight) }
    }

    /// The tasks that add `x^T dy` of every tile to this gradient's matrix. A bias is small, and done at once.
    pub(super) fn gradient_tasks<'a>(
        &'a mut self,
        tiles: &[(&'a [F], &'a [F])],
    ) -> impl Iterator<Item = GradientTask<'a, F>> + use<'a, F> {
        if let Some(bias) = &mut self.bias {
            for (_, dy) in tiles {
                add_columns(bias, dy);
            }
        }
        let (inputs, outputs, tiles) = (self.inputs, self.outputs, tiles.to_vec());
        self.weight.chunks_mut(GRADIENT_ROWS * outputs).enumerate().map(move |(block, out)| GradientTask {
            out,
            outputs,
            first: block * GRADIENT_ROWS,
            inputs,
            tiles: tiles.clone(),
        })
    }
}
