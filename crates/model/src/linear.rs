//! A linear layer, its weight packed for products once and not again for every tile of rows.

use sinkscope_kernels::Float;
use sinkscope_kernels::matmul::{Matrix, MatrixMut, PackedRight, matmul_packed};
use sinkscope_kernels::simd::add_to_rows;

/// A matrix of a linear layer, with its bias if it has one: `x W + b`.
#[derive(Debug, Clone)]
pub struct Linear<F> {
    weight: PackedRight<F>,
    /// outputs.
    pub bias: Option<Vec<F>>,
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
        Self::of_packed(PackedRight::in_parallel(Matrix::new(weight, inputs, outputs)), bias)
    }

    /// A layer whose weight is packed already, inputs x outputs.
    ///
    /// # Panics
    /// If the bias has another length than outputs.
    pub fn of_packed(weight: PackedRight<F>, bias: Option<Vec<F>>) -> Self {
        assert!(bias.as_ref().is_none_or(|bias| bias.len() == weight.columns()), "bias of another length");
        Self { weight, bias }
    }

    /// Packs other values in place of the weight's, on all threads, without allocating.
    ///
    /// # Shapes
    /// `weight`: inputs x outputs, row-major.
    ///
    /// # Panics
    /// If it has another size.
    pub fn set_weight(&mut self, weight: &[F]) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        assert_eq!(weight.len(), inputs * outputs, "weight of another size");
        self.weight.pack_in_parallel(Matrix::new(weight, inputs, outputs));
    }

    /// The weight as products read it: inputs x outputs.
    pub fn weight(&self) -> &PackedRight<F> {
        &self.weight
    }

    /// Width of what goes in.
    pub fn inputs(&self) -> usize {
        self.weight.rows()
    }

    /// Width of what comes out.
    pub fn outputs(&self) -> usize {
        self.weight.columns()
    }

    /// `out = x W + b`. A row of `out` is the same, to the bit, whichever other rows are computed with it, if the machine
    /// has AVX-512 and F is f32; else if the rows are cut alike.
    ///
    /// # Shapes
    /// `x`: rows x inputs, `out`: rows x outputs.
    pub fn forward(&self, out: &mut [F], x: &[F]) {
        let rows = x.len() / self.inputs();
        matmul_packed(
            MatrixMut::new(out, rows, self.outputs()),
            Matrix::new(x, rows, self.inputs()),
            &self.weight.whole(),
        );
        if let Some(bias) = &self.bias {
            add_to_rows(out, bias);
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
        let mut layer = Linear::new(&values(inputs * outputs, 1), Some(bias.clone()), inputs, outputs);
        for seed in [1, 2] {
            let weight = values(inputs * outputs, seed);
            layer.set_weight(&weight);
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
