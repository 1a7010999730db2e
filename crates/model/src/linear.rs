//! A linear layer, its weight packed for products once and not again for every tile of rows. In training it also keeps the
//! plain weight, which the optimiser changes, and the weight packed the other way round, which the backward multiplies by.

use sinkscope_kernels::matmul::{Matrix, MatrixMut, PackedRight, Precision, Right, matmul};
use sinkscope_kernels::simd::{add_columns, add_to_rows};
use sinkscope_kernels::{Buffer, Float};

/// A matrix of a linear layer, with its bias if it has one: `x W + b`.
#[derive(Debug, Clone)]
pub struct Linear<F> {
    inputs: usize,
    outputs: usize,
    /// Empty in a gradient, which nothing is multiplied by.
    weight: PackedRight<F>,
    training: Option<Training<F>>,
    /// outputs.
    pub bias: Option<Vec<F>>,
}

/// What only training needs.
#[derive(Debug, Clone)]
struct Training<F> {
    /// inputs x outputs, row-major.
    values: Buffer<F>,
    /// The weight's transpose.
    turned: PackedRight<F>,
}

impl<F: Float> Linear<F> {
    /// Packs a weight, on all threads.
    ///
    /// # Shapes
    /// `weight`: inputs x outputs, row-major; `bias`: outputs.
    ///
    /// # Panics
    /// If weight or bias have another size.
    pub fn new(weight: &[F], bias: Option<Vec<F>>, inputs: usize, outputs: usize) -> Self {
        Self::of_packed(PackedRight::in_parallel(Precision::Highest, Matrix::new(weight, inputs, outputs)), bias)
    }

    /// A layer whose weight is packed already, inputs x outputs.
    ///
    /// # Panics
    /// If the bias has another length than outputs.
    pub fn of_packed(weight: PackedRight<F>, bias: Option<Vec<F>>) -> Self {
        assert!(bias.as_ref().is_none_or(|bias| bias.len() == weight.columns()), "bias of another length");
        Self { inputs: weight.rows(), outputs: weight.columns(), weight, training: None, bias }
    }

    /// A layer of zeros that can be trained: change [`Linear::values_mut`], then [`Linear::repack`]. Until then it is fit to be
    /// a gradient.
    pub fn trainable(inputs: usize, outputs: usize, bias: bool) -> Self {
        Self {
            inputs,
            outputs,
            weight: PackedRight::default(),
            training: Some(Training { values: Buffer::zeros(inputs * outputs), turned: PackedRight::default() }),
            bias: bias.then(|| vec![F::ZERO; outputs]),
        }
    }

    /// A gradient of nothing yet.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        let mut zeros = Self::trainable(self.inputs, self.outputs, self.bias.is_some());
        zeros.set_precision(self.weight.precision());
        zeros
    }

    /// Lets the products of a trainable layer, or of this gradient, be of some precision. A layer must be repacked before it
    /// is used.
    pub fn set_precision(&mut self, precision: Precision) {
        if let Some(training) = &mut self.training {
            self.weight = PackedRight::empty(precision);
            training.turned = PackedRight::empty(precision);
        }
    }

    /// The plain weight, inputs x outputs, and the bias, to be changed; the weight is empty unless the layer is trainable.
    pub fn values_mut(&mut self) -> (&mut [F], Option<&mut Vec<F>>) {
        let values = self.training.as_mut().map(|training| &mut training.values[..]).unwrap_or_default();
        (values, self.bias.as_mut())
    }

    /// Takes over a changed plain weight, on all threads.
    pub fn repack(&mut self) {
        if let Some(Training { values, turned }) = &mut self.training {
            let matrix = Matrix::new(values, self.inputs, self.outputs);
            self.weight.pack_in_parallel(matrix);
            turned.pack_in_parallel(matrix.transposed());
        }
    }

    /// The weight as products read it: inputs x outputs.
    pub fn weight(&self) -> &PackedRight<F> {
        &self.weight
    }

    /// Width of what goes in.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Width of what comes out.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `out = x W + b`. A row of `out` is the same, to the bit, whichever other rows are computed with it, if the machine
    /// has AVX-512 and F is f32; else if the rows are cut alike.
    ///
    /// # Shapes
    /// `x`: rows x inputs, `out`: rows x outputs.
    pub fn forward(&self, out: &mut [F], x: &[F]) {
        let rows = x.len() / self.inputs;
        matmul(MatrixMut::new(out, rows, self.outputs), Matrix::new(x, rows, self.inputs), self.weight.whole());
        if let Some(bias) = &self.bias {
            add_to_rows(out, bias);
        }
    }

    /// The gradient of the input of a trainable layer: `dx = dy W^T`, or `dx += dy W^T`.
    ///
    /// # Shapes
    /// `dy`: rows x outputs; `dx`: rows x inputs.
    pub fn backward(&self, dx: &mut [F], dy: &[F], accumulate: bool) {
        let Some(Training { turned, .. }) = &self.training else { return };
        let rows = dy.len() / self.outputs;
        let dx = MatrixMut::new(dx, rows, self.inputs).accumulating(accumulate);
        matmul(dx, Matrix::new(dy, rows, self.outputs), turned.whole());
    }

    /// The tasks that add `x^T dy` of every tile to this gradient's matrix. A bias is small, and done at once.
    pub(crate) fn gradient_tasks<'a>(&'a mut self, tiles: &[(&'a [F], &'a [F])]) -> Vec<GradientTask<'a, F>> {
        let (inputs, outputs, precision) = (self.inputs, self.outputs, self.weight.precision());
        let (values, bias) = self.values_mut();
        if let Some(bias) = bias {
            for (_, dy) in tiles {
                add_columns(bias, dy);
            }
        }
        GradientTask::cut(precision, values, inputs, outputs, GradientTask::<F>::rows(precision), tiles)
    }
}

/// Part of the gradient of a matrix, to be added up by one task.
pub struct GradientTask<'a, F> {
    precision: Precision,
    /// Rows of the gradient: count x outputs.
    out: &'a mut [F],
    outputs: usize,
    /// The first of those rows.
    first: usize,
    inputs: usize,
    /// By tile: what went in (rows x inputs) and the gradient of what came out (rows x outputs).
    tiles: Vec<(&'a [F], &'a [F])>,
}

impl<'a, F: Float> GradientTask<'a, F> {
    /// Most rows of a matrix whose gradient one task of several adds up. Each task packs what the rows are multiplied by, which
    /// takes a larger share of the time where products are faster.
    pub fn rows(precision: Precision) -> usize {
        if precision.rounds::<F>() { 256 } else { 128 }
    }

    /// The tasks that add `x^T dy` of every tile to a matrix, in products of some precision, each to at most `rows` of its rows.
    ///
    /// # Shapes
    /// `gradient`: inputs x outputs; of each tile `x`: rows x inputs, `dy`: rows x outputs.
    pub fn cut(
        precision: Precision,
        gradient: &'a mut [F],
        inputs: usize,
        outputs: usize,
        rows: usize,
        tiles: &[(&'a [F], &'a [F])],
    ) -> Vec<Self> {
        let rows = inputs.div_ceil(inputs.div_ceil(rows).max(1)).max(1);
        let task = |(block, out)| Self { precision, out, outputs, first: block * rows, inputs, tiles: tiles.to_vec() };
        gradient.chunks_mut(rows * outputs).enumerate().map(task).collect()
    }

    /// Adds what every tile contributes, in order.
    pub fn run(self) {
        let count = self.out.len() / self.outputs;
        for (x, dy) in self.tiles {
            let rows = dy.len() / self.outputs;
            matmul(
                MatrixMut::new(self.out, count, self.outputs).accumulating(true),
                Matrix::strided(&x[self.first..], count, rows, 1, self.inputs),
                Right::Plain(Matrix::new(dy, rows, self.outputs), self.precision),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_gives_what_its_plain_weight_gives_also_after_it_has_changed() {
        let (inputs, outputs, rows) = (7, 37, 5);
        let values = |count: usize, seed: usize| -> Vec<f64> {
            (0..count).map(|index| ((index * 31 + seed * 17) % 23) as f64 - 11.0).collect()
        };
        let (x, bias) = (values(rows * inputs, 0), values(outputs, 3));
        let mut layer = Linear::trainable(inputs, outputs, true);
        for seed in [1, 2] {
            let weight = values(inputs * outputs, seed);
            let (own, own_bias) = layer.values_mut();
            own.copy_from_slice(&weight);
            own_bias.expect("a bias").copy_from_slice(&bias);
            layer.repack();
            let plain = Linear::new(&weight, Some(bias.clone()), inputs, outputs);
            assert_eq!(plain.weight().to_vec(), weight);
            assert_eq!(layer.weight().to_vec(), weight);
            let mut out = vec![0.0; rows * outputs];
            layer.forward(&mut out, &x);
            for (at, found) in out.iter().enumerate() {
                let (row, column) = (at / outputs, at % outputs);
                let sum: f64 = (0..inputs).map(|k| x[row * inputs + k] * weight[k * outputs + column]).sum();
                assert_eq!(*found, sum + bias[column]);
            }
        }
    }
}
