//! All weights of a model in memory at once: what training changes and checkpoints are written from.

use std::borrow::Cow;

use safetensors::{Dtype, View};
use serde_json::Value;
use sinkscope_kernels::Float;
use sinkscope_kernels::matmul::{Precision, transpose};

use crate::architecture::{Architecture, NormKind};
use crate::assembly::{self, Blank, ByRole};
use crate::blocks::{AttentionBlock, FeedForwardBlock, Gate, Norm, SinkLogits};
use crate::error::ModelError;
use crate::families::{Naming, Role, Slot, describe, inventory, rows};
use crate::linear::Linear;
use crate::model::Model;
use sinkscope_sources::checkpoint::Checkpoint;

/// The weights of a model, or something of the same shape for each of them: gradients, moments.
#[derive(Debug, Clone)]
pub struct Parameters<F> {
    /// Vocabulary x d_model.
    pub embedding: Vec<F>,
    /// Positions x d_model, if they are learned.
    pub positions: Option<Vec<F>>,
    /// One entry per layer.
    pub layers: Vec<(AttentionBlock<F>, FeedForwardBlock<F>)>,
    /// The norm before the output head; `None` if the last block's norm is the last.
    pub final_norm: Option<Norm<F>>,
    /// The output head; the embedding if `None`.
    pub head: Option<Linear<F>>,
}

/// What a parameter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// The name of its tensor in a checkpoint.
    pub name: String,
    /// What its values are.
    pub kind: ParameterKind,
}

/// What the values of a parameter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// The matrix of a linear layer: inputs x outputs here, outputs x inputs in a checkpoint.
    Matrix {
        /// Width of what goes in.
        inputs: usize,
        /// Width of what comes out.
        outputs: usize,
        /// Whether what comes out is added to the residual.
        writes_residual: bool,
    },
    /// Rows that are looked up: rows x width, here and in a checkpoint.
    Table {
        /// How many.
        rows: usize,
        /// Values in each.
        width: usize,
    },
    /// The scale of a norm.
    Scale,
    /// The alpha of a dynamic tanh.
    Alpha,
    /// Any other vector.
    Vector,
}

impl ParameterKind {
    fn shape(self, len: usize) -> Vec<usize> {
        match self {
            Self::Matrix { inputs, outputs, .. } => vec![outputs, inputs],
            Self::Table { rows, width } => vec![rows, width],
            Self::Scale | Self::Alpha | Self::Vector => vec![len],
        }
    }
}

/// Which part of a role's weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Weight,
    Bias,
    Alpha,
}

/// A part of the weight of a role, and its values.
type Parts<'a, F> = Vec<(Slot, Part, &'a mut [F])>;

impl<F: Float> Parameters<F> {
    /// Weights of the right shapes before they are drawn: gammas are 1, alphas of dynamic tanh `alpha`, everything else 0.
    ///
    /// # Errors
    /// None that this architecture could cause, once it is valid.
    pub fn blank(a: &Architecture, alpha: f64) -> Result<Self, ModelError> {
        let blank = Blank { architecture: a, alpha };
        let layer = |layer| {
            let attention = assembly::attention(&blank, a, layer, Precision::Highest)?;
            Ok::<_, ModelError>((attention, assembly::feed_forward(&blank, a, layer)?))
        };
        Ok(Self {
            embedding: vec![F::ZERO; a.vocabulary * a.d_model],
            positions: a.learned_positions.then(|| vec![F::ZERO; a.max_positions * a.d_model]),
            layers: (0..a.layer_count()).map(layer).collect::<Result<_, _>>()?,
            final_norm: a.final_norm.then(|| blank.norm(Role::FinalNorm, 0)).transpose()?,
            head: (!a.tied_embeddings).then(|| blank.linear(Role::Head, 0, a.d_model)).transpose()?,
        })
    }

    /// Takes over changed matrices, on all threads: what products read is not what [`Parameters::values_mut`] gives.
    pub fn repack(&mut self) {
        self.linears_mut().for_each(|(linear, _)| linear.repack());
    }

    /// Lets the products of trainable matrices, and those of attention, be of some precision, and packs the matrices for it.
    /// What is looked up in a matrix stays as it is.
    pub fn set_precision(&mut self, precision: Precision) {
        for (attention, _) in &mut self.layers {
            attention.group.precision = precision;
        }
        for (linear, _) in self.linears_mut().filter(|&(_, multiplies)| multiplies) {
            linear.set_precision(precision);
            linear.repack();
        }
    }

    /// Every matrix, and whether something is multiplied by it.
    fn linears_mut(&mut self) -> impl Iterator<Item = (&mut Linear<F>, bool)> {
        let of_layers = self.layers.iter_mut().flat_map(|(attention, feed_forward)| {
            let always = [&mut attention.query, &mut attention.key, &mut attention.value, &mut attention.output];
            let hidden = [&mut feed_forward.gate, &mut feed_forward.up, &mut feed_forward.down];
            let gate = attention.gate.as_mut().map(|gate| (&mut gate.weight, gate.signal.is_product()));
            always.into_iter().chain(hidden.into_iter().flatten()).map(|linear| (linear, true)).chain(gate)
        });
        of_layers.chain(self.head.as_mut().map(|head| (head, true)))
    }

    /// Every parameter, in an order that depends on the architecture alone.
    pub fn values_mut(&mut self) -> Vec<&mut [F]> {
        self.parts_mut().into_iter().map(|(_, _, values)| values).collect()
    }

    /// What [`Parameters::values_mut`] gives, in the same order.
    pub fn inventory(&mut self, architecture: &Architecture) -> Vec<ParameterInfo> {
        let (_, naming) = describe(architecture);
        self.parts_mut().into_iter().map(|(slot, part, _)| info(architecture, &naming, slot, part)).collect()
    }

    fn parts_mut(&mut self) -> Parts<'_, F> {
        let Self { embedding, positions, layers, final_norm, head } = self;
        let mut parts: Parts<'_, F> = Vec::new();
        let of = |role, layer| Slot { role, layer, inputs: 0 };
        parts.push((of(Role::Embedding, 0), Part::Weight, embedding));
        if let Some(positions) = positions {
            parts.push((of(Role::Positions, 0), Part::Weight, positions));
        }
        for (layer, (attention, feed_forward)) in layers.iter_mut().enumerate() {
            attention_parts(attention, layer, &mut parts);
            feed_forward_parts(feed_forward, layer, &mut parts);
        }
        if let Some(norm) = final_norm {
            norm_parts(norm, of(Role::FinalNorm, 0), &mut parts);
        }
        if let Some(head) = head {
            linear_parts(head, of(Role::Head, 0), &mut parts);
        }
        parts
    }
}

fn attention_parts<'a, F: Float>(block: &'a mut AttentionBlock<F>, layer: usize, parts: &mut Parts<'a, F>) {
    let of = |role| Slot { role, layer, inputs: 0 };
    for (norm, role) in [
        (&mut block.input_norm, Role::AttentionInputNorm),
        (&mut block.query_norm, Role::QueryNorm),
        (&mut block.key_norm, Role::KeyNorm),
        (&mut block.output_norm, Role::AttentionOutputNorm),
    ] {
        if let Some(norm) = norm {
            norm_parts(norm, of(role), parts);
        }
    }
    for (linear, role) in [
        (&mut block.query, Role::Query),
        (&mut block.key, Role::Key),
        (&mut block.value, Role::Value),
        (&mut block.output, Role::AttentionOutput),
    ] {
        linear_parts(linear, of(role), parts);
    }
    if let Some(Gate { weight, .. }) = &mut block.gate {
        linear_parts(weight, of(Role::AttentionGate), parts);
    }
    if let SinkLogits::Learned(logits) = &mut block.sink_logits {
        parts.push((of(Role::SinkLogit), Part::Weight, logits));
    }
    if let Some((key, value)) = &mut block.key_value_bias {
        parts.push((of(Role::BiasKey), Part::Weight, key));
        parts.push((of(Role::BiasValue), Part::Weight, value));
    }
}

fn feed_forward_parts<'a, F: Float>(block: &'a mut FeedForwardBlock<F>, layer: usize, parts: &mut Parts<'a, F>) {
    let of = |role| Slot { role, layer, inputs: 0 };
    for (norm, role) in
        [(&mut block.input_norm, Role::FeedForwardInputNorm), (&mut block.output_norm, Role::FeedForwardOutputNorm)]
    {
        if let Some(norm) = norm {
            norm_parts(norm, of(role), parts);
        }
    }
    for (linear, role) in [(&mut block.gate, Role::Gate), (&mut block.up, Role::Up), (&mut block.down, Role::Down)] {
        if let Some(linear) = linear {
            linear_parts(linear, of(role), parts);
        }
    }
}

fn norm_parts<'a, F: Float>(norm: &'a mut Norm<F>, slot: Slot, parts: &mut Parts<'a, F>) {
    parts.push((slot, Part::Weight, &mut norm.gamma));
    if let Some(beta) = &mut norm.beta {
        parts.push((slot, Part::Bias, beta));
    }
    if let Some(alpha) = &mut norm.alpha {
        parts.push((slot, Part::Alpha, std::slice::from_mut(alpha)));
    }
}

fn linear_parts<'a, F: Float>(linear: &'a mut Linear<F>, slot: Slot, parts: &mut Parts<'a, F>) {
    let inputs = linear.inputs();
    let (values, bias) = linear.values_mut();
    parts.push((Slot { inputs, ..slot }, Part::Weight, values));
    if let Some(bias) = bias {
        parts.push((slot, Part::Bias, bias));
    }
}

fn info(a: &Architecture, naming: &Naming, slot: Slot, part: Part) -> ParameterInfo {
    let Slot { role, layer, inputs } = slot;
    let name = match part {
        Part::Weight => naming.weight(role, layer, a).tensor,
        Part::Bias => naming.bias(role, layer, a).tensor,
        Part::Alpha => naming.alpha(role, layer, a).tensor,
    };
    let kind = match (part, role) {
        (Part::Alpha, _) => ParameterKind::Alpha,
        (Part::Weight, Role::Embedding) => ParameterKind::Table { rows: a.vocabulary, width: a.d_model },
        (Part::Weight, Role::Positions) => ParameterKind::Table { rows: a.max_positions, width: a.d_model },
        (Part::Weight, role) if role.is_norm() => ParameterKind::Scale,
        // Free gates have no signal to be multiplied by.
        (Part::Weight, _) if inputs > 1 => ParameterKind::Matrix {
            inputs,
            outputs: rows(role, layer, a),
            writes_residual: matches!(role, Role::AttentionOutput | Role::Down),
        },
        _ => ParameterKind::Vector,
    };
    ParameterInfo { name, kind }
}

/// How many weights an architecture has.
pub fn count(a: &Architecture) -> u64 {
    let beside = match a.norm {
        NormKind::RmsNorm => (0, 0),
        NormKind::LayerNorm => (1, 0),
        NormKind::DynamicTanh => (1, 1),
    };
    let of = |slot: Slot| {
        let outputs = rows(slot.role, slot.layer, a) as u64;
        let norm = if slot.role.is_norm() { beside.0 * outputs + beside.1 } else { 0 };
        outputs * slot.inputs as u64 + norm
    };
    inventory(a).into_iter().map(of).sum()
}

/// A tensor as a checkpoint holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTensor<'a> {
    /// Its name.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Row-major; as many as the product of `shape`.
    pub values: Cow<'a, [f32]>,
}

impl<'a> StoredTensor<'a> {
    /// A tensor with its name.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>, values: impl Into<Cow<'a, [f32]>>) -> Self {
        Self { name: name.into(), shape: shape.into(), values: values.into() }
    }
}

impl View for StoredTensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
    }
    fn data_len(&self) -> usize {
        size_of_val(&self.values[..])
    }
}

impl Parameters<f32> {
    /// All weights as a checkpoint of this architecture holds them.
    pub fn tensors(&mut self, architecture: &Architecture) -> Vec<StoredTensor<'static>> {
        let inventory = self.inventory(architecture);
        let stored = |(values, info): (&mut [f32], ParameterInfo)| {
            let mut turned = values.to_vec();
            if let ParameterKind::Matrix { inputs, outputs, .. } = info.kind {
                transpose(&mut turned, values, inputs, outputs, 0);
            }
            StoredTensor::new(info.name, info.kind.shape(values.len()), turned)
        };
        self.values_mut().into_iter().zip(inventory).map(stored).collect()
    }

    /// Takes all weights from tensors that [`Parameters::tensors`] gave.
    ///
    /// # Errors
    /// [`ModelError::Request`] if one is missing or has another shape.
    pub fn set_tensors<'t>(
        &mut self,
        architecture: &Architecture,
        find: impl Fn(&str) -> Option<(&'t [usize], &'t [f32])>,
    ) -> Result<(), ModelError> {
        let inventory = self.inventory(architecture);
        for (values, info) in self.values_mut().into_iter().zip(inventory) {
            let expected = info.kind.shape(values.len());
            let stored = match find(&info.name) {
                Some((shape, stored)) if shape == expected && stored.len() == values.len() => stored,
                Some((shape, _)) => {
                    let reason = format!("tensor {} has shape {shape:?}; the model asks for {expected:?}", info.name);
                    return Err(ModelError::Request(reason));
                }
                None => return Err(ModelError::Request(format!("tensor {} is missing", info.name))),
            };
            match info.kind {
                ParameterKind::Matrix { inputs, outputs, .. } => transpose(values, stored, outputs, inputs, 0),
                _ => values.copy_from_slice(stored),
            }
        }
        self.repack();
        Ok(())
    }
}

/// The content of a `config.json`, with which a directory that holds tensors of this architecture is read as a model: as a
/// `LlamaForCausalLM` where that says everything.
pub fn config(architecture: &Architecture) -> Value {
    describe(architecture).0
}

/// A model of weights in memory, to be run and examined as any other.
///
/// # Errors
/// If a weight is not finite, or the tensors cannot be stored.
pub fn in_memory(
    name: &str,
    architecture: &Architecture,
    parameters: &mut Parameters<f32>,
) -> Result<Model, ModelError> {
    let tensors = parameters.tensors(architecture).into_iter().map(|tensor| (tensor.name.clone(), tensor));
    let bytes = safetensors::serialize(tensors, None)
        .map_err(|error| ModelError::Request(format!("the weights cannot be stored: {error}")))?;
    Model::from_checkpoint(Checkpoint::from_memory(name, config(architecture), bytes)?)
}
