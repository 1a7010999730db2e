//! Weights, decoded when a layer needs them: each role's rows gathered from the tensor that holds them, in their own
//! order, on all threads, and the file's pages given back afterwards.

use rayon::prelude::*;
use sinkscope_kernels::Float;
use sinkscope_kernels::matmul::{Matrix, PackedRight, Precision};
use sinkscope_sources::SourceError;

use crate::architecture::{Architecture, GateSignal, NormKind};
use crate::error::ModelError;
use crate::families::{BiasRule, Location, Naming, Role, RowOrder, rows};
use crate::linear::Linear;
use sinkscope_sources::checkpoint::{Checkpoint, Tensor};

/// Rows decoded by one task.
const ROWS_PER_TASK: usize = 32;

/// The weights of a checkpoint by role.
#[derive(Debug)]
pub(crate) struct Weights {
    checkpoint: Checkpoint,
    naming: Naming,
    /// Of the products with them.
    pub precision: Precision,
}

impl Weights {
    pub fn new(checkpoint: Checkpoint, naming: Naming) -> Self {
        Self { checkpoint, naming, precision: Precision::Highest }
    }

    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    fn tensor(&self, location: &Location) -> Result<&Tensor, ModelError> {
        Ok(self.checkpoint.require(&location.tensor)?)
    }

    /// Checks that the weight of `role` is there, with the shape that the architecture gives it.
    pub fn check(&self, role: Role, layer: usize, inputs: usize, a: &Architecture) -> Result<(), ModelError> {
        let location = self.naming.weight(role, layer, a);
        let outputs = rows(role, layer, a);
        self.check_shape(&location, if inputs == 1 { None } else { Some(inputs) }, outputs)?;
        if role.is_norm() && a.norm == NormKind::DynamicTanh {
            self.check_shape(&self.naming.alpha(role, layer, a), None, 1)?;
        }
        match self.bias_location(role, layer, a) {
            Some(bias) => self.check_shape(&bias, None, outputs),
            None => Ok(()),
        }
    }

    /// Where the bias of `role` is; `None` if there is none.
    fn bias_location(&self, role: Role, layer: usize, a: &Architecture) -> Option<Location> {
        let location = self.naming.bias(role, layer, a);
        let there = match self.naming.bias_rule(role, a) {
            BiasRule::Always => true,
            BiasRule::IfStored => self.checkpoint.has(&location.tensor),
            BiasRule::Never => false,
        };
        there.then_some(location)
    }

    /// The name of the tensor that holds the weight of `role`.
    pub fn name(&self, role: Role, layer: usize, a: &Architecture) -> String {
        self.naming.weight(role, layer, a).tensor
    }

    /// The names of the tensors that hold the weight of `role` and what stands beside it.
    pub fn tensors_of(&self, role: Role, layer: usize, a: &Architecture) -> Vec<String> {
        let alpha = (role.is_norm() && a.norm == NormKind::DynamicTanh).then(|| self.naming.alpha(role, layer, a));
        let locations = [Some(self.naming.weight(role, layer, a)), self.bias_location(role, layer, a), alpha];
        locations.into_iter().flatten().map(|location| location.tensor).collect()
    }

    fn check_shape(&self, location: &Location, inputs: Option<usize>, outputs: usize) -> Result<(), ModelError> {
        let stored = location.order.stored_rows(outputs);
        let expected = match (inputs, location.transposed) {
            (None, _) => vec![stored],
            (Some(inputs), false) => vec![stored, inputs],
            (Some(inputs), true) => vec![inputs, stored],
        };
        let tensor = self.tensor(location)?;
        if tensor.shape() == expected {
            return Ok(());
        }
        let reason = format!("has shape {:?}; the configuration asks for {expected:?}", tensor.shape());
        Err(ModelError::tensor(self.checkpoint.path(), &location.tensor, reason))
    }

    /// The matrix of `role`, and its bias if the checkpoint has one.
    pub fn linear<F: Float>(
        &self,
        role: Role,
        layer: usize,
        inputs: usize,
        a: &Architecture,
    ) -> Result<Linear<F>, ModelError> {
        let outputs = rows(role, layer, a);
        let signal = a.attention(layer).gate.map(|gate| gate.signal).filter(|_| role == Role::AttentionGate);
        if signal == Some(GateSignal::Free) {
            // A vector: nothing is multiplied by it.
            return Ok(Linear::new(&self.values(role, layer, a)?, None, inputs, outputs));
        }
        let location = self.naming.weight(role, layer, a);
        let tensor = self.tensor(&location)?;
        let looked_up = signal.is_some_and(|signal| !signal.is_product());
        let precision = if looked_up { Precision::Highest } else { self.precision };
        let weight = if location.transposed {
            let values = columns(tensor, location.order, inputs, outputs)?;
            PackedRight::in_parallel(precision, Matrix::new(&values, inputs, outputs))
        } else {
            packed(precision, tensor, location.order, 0, (inputs, outputs))?
        };
        tensor.release();
        Ok(Linear::of_packed(weight, self.bias(role, layer, a)?))
    }

    /// Writes the matrix of `role`, inputs x outputs, to where the values of its tensor keep it.
    pub fn put(&self, role: Role, layer: usize, a: &Architecture, (weights, stored): (&[f32], &mut [f32])) {
        let location = self.naming.weight(role, layer, a);
        let outputs = rows(role, layer, a);
        let (inputs, all) = (weights.len() / outputs, location.order.stored_rows(outputs));
        for output in 0..outputs {
            let row = location.order.stored(output).0;
            for input in 0..inputs {
                let at = if location.transposed { input * all + row } else { row * inputs + input };
                stored[at] = weights[input * outputs + output];
            }
        }
    }

    /// Outputs `range` of the matrix of `role`, a piece of the output head, with their biases.
    pub fn outputs<F: Float>(
        &self,
        role: Role,
        range: std::ops::Range<usize>,
        inputs: usize,
        a: &Architecture,
    ) -> Result<Linear<F>, ModelError> {
        let location = self.naming.weight(role, 0, a);
        let tensor = self.tensor(&location)?;
        let weight = packed(self.precision, tensor, location.order, range.start, (inputs, range.len()))?;
        tensor.release_rows(range.clone());
        Ok(Linear::of_packed(weight, None))
    }

    /// Rows `range` of a matrix with `width` columns: pieces of the embedding.
    pub fn rows<F: Float>(
        &self,
        role: Role,
        range: std::ops::Range<usize>,
        width: usize,
        a: &Architecture,
    ) -> Result<Vec<F>, ModelError> {
        let location = self.naming.weight(role, 0, a);
        let tensor = self.tensor(&location)?;
        let mut out = vec![F::ZERO; range.len() * width];
        out.par_chunks_mut(ROWS_PER_TASK * width).enumerate().try_for_each(|(task, out)| {
            gather(tensor, location.order, range.start + task * ROWS_PER_TASK, width, out)
        })?;
        tensor.release_rows(range);
        Ok(out)
    }

    /// Rows of a matrix with `width` columns, in any order: the embeddings of tokens.
    pub fn rows_of(&self, role: Role, ids: &[u32], width: usize, a: &Architecture) -> Result<Vec<f32>, ModelError> {
        let location = self.naming.weight(role, 0, a);
        let tensor = self.tensor(&location)?;
        let mut out = vec![0.0; ids.len() * width];
        out.par_chunks_mut(width)
            .zip(ids)
            .try_for_each(|(out, &id)| gather_f32(tensor, location.order, id as usize, width, out))?;
        tensor.release();
        Ok(out)
    }

    /// The bias of `role`, if there is one.
    pub fn bias<F: Float>(&self, role: Role, layer: usize, a: &Architecture) -> Result<Option<Vec<F>>, ModelError> {
        let Some(location) = self.bias_location(role, layer, a) else { return Ok(None) };
        self.vector(self.tensor(&location)?, location.order, rows(role, layer, a)).map(Some)
    }

    /// The alpha of a dynamic tanh.
    pub fn alpha<F: Float>(&self, role: Role, layer: usize, a: &Architecture) -> Result<F, ModelError> {
        let location = self.naming.alpha(role, layer, a);
        let alpha: Vec<F> = self.vector(self.tensor(&location)?, location.order, 1)?;
        Ok(alpha[0])
    }

    /// A role that is a vector.
    pub fn values<F: Float>(&self, role: Role, layer: usize, a: &Architecture) -> Result<Vec<F>, ModelError> {
        let location = self.naming.weight(role, layer, a);
        self.vector(self.tensor(&location)?, location.order, rows(role, layer, a))
    }

    /// The scale of a norm, with whatever the family leaves out of its checkpoints added.
    pub fn gamma<F: Float>(&self, role: Role, layer: usize, a: &Architecture) -> Result<Vec<F>, ModelError> {
        let location = self.naming.weight(role, layer, a);
        let mut gamma: Vec<F> = self.vector(self.tensor(&location)?, location.order, rows(role, layer, a))?;
        if self.naming.gamma_offset != 0.0 {
            for gamma in &mut gamma {
                *gamma += F::from_f32(self.naming.gamma_offset);
            }
        }
        Ok(gamma)
    }

    fn vector<F: Float>(&self, tensor: &Tensor, order: RowOrder, len: usize) -> Result<Vec<F>, ModelError> {
        let mut stored = vec![0.0; tensor.row_len()];
        tensor.decode_rows(0..1, &mut stored)?;
        tensor.release();
        (0..len)
            .map(|row| stored.get(order.stored(row).0).map(|&v| F::from_f32(v)))
            .collect::<Option<_>>()
            .ok_or_else(|| ModelError::tensor(self.checkpoint.path(), tensor.name(), "is too short"))
    }
}

/// Rows `first ..` of a weight stored output x input, which are the columns of the product's right operand.
fn packed<F: Float>(
    precision: Precision,
    tensor: &Tensor,
    order: RowOrder,
    first: usize,
    (inputs, outputs): (usize, usize),
) -> Result<PackedRight<F>, ModelError> {
    let fill = |row: usize, out: &mut [F]| gather(tensor, order, first + row, inputs, out);
    PackedRight::from_columns(precision, inputs, outputs, fill)
}

/// A weight stored input x output (GPT-2): its columns, in order.
fn columns<F: Float>(tensor: &Tensor, order: RowOrder, inputs: usize, outputs: usize) -> Result<Vec<F>, ModelError> {
    let mut weight = vec![F::ZERO; outputs * inputs];
    weight.par_chunks_mut(outputs).enumerate().try_for_each(|(input, out)| {
        let mut stored = vec![0.0; tensor.row_len()];
        tensor.decode_rows(input..input + 1, &mut stored)?;
        for (row, out) in out.iter_mut().enumerate() {
            *out = F::from_f32(stored[order.stored(row).0]);
        }
        Ok::<(), SourceError>(())
    })?;
    Ok(weight)
}

/// Decodes the weight's rows `first ..`, as many as `out` holds.
fn gather<F: Float>(
    tensor: &Tensor,
    order: RowOrder,
    first: usize,
    width: usize,
    out: &mut [F],
) -> Result<(), ModelError> {
    if let Some(out) = F::as_f32_mut(out) {
        return gather_f32(tensor, order, first, width, out);
    }
    let mut decoded = vec![0.0; out.len()];
    gather_f32(tensor, order, first, width, &mut decoded)?;
    for (out, value) in out.iter_mut().zip(decoded) {
        *out = F::from_f32(value);
    }
    Ok(())
}

fn gather_f32(tensor: &Tensor, order: RowOrder, first: usize, width: usize, out: &mut [f32]) -> Result<(), ModelError> {
    let rows = out.len() / width;
    let mut row = 0;
    while row < rows {
        let (stored, run) = order.stored(first + row);
        let run = run.min(rows - row);
        tensor.decode_rows(stored..stored + run, &mut out[row * width..(row + run) * width])?;
        row += run;
    }
    Ok(())
}
