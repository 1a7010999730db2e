//! Weights to begin with.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_kernels::Float;
use sinkscope_kernels::matmul::Precision;
use sinkscope_model::architecture::{
    Activation, Architecture, GateSignal, Layer, NormKind, NormPlacement, QkNorm, Weighting,
};
use sinkscope_model::blocks::{AttentionBlock, FeedForwardBlock, Gate, Norm, SinkLogits};
use sinkscope_model::{Linear, ParameterKind, Parameters};

use crate::error::LabError;

/// How weights begin: matrices and tables normal, norms at 1, biases, unconditional gates and sink logits at 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Initialisation {
    /// Standard deviation of matrices and tables.
    pub deviation: f64,
    /// That of the embedding; as of the others if left out.
    pub embedding_deviation: Option<f64>,
    /// Whether matrices that write to the residual begin smaller, by the root of the number of blocks that write (GPT-2).
    /// Absent blocks do not count.
    pub scale_residual: bool,
    /// Alpha of every dynamic tanh.
    pub dynamic_tanh_alpha: f64,
}

impl Default for Initialisation {
    fn default() -> Self {
        Self { deviation: 0.02, embedding_deviation: None, scale_residual: false, dynamic_tanh_alpha: 0.5 }
    }
}

/// Weights of this architecture, drawn with a seed: each parameter from a stream of its own, in f64, so that no draw depends
/// on another parameter's size.
///
/// # Errors
/// [`LabError::Request`] if the architecture contradicts itself or the deviation is no positive number.
pub fn initialise<F: Float>(a: &Architecture, how: &Initialisation, seed: u64) -> Result<Parameters<F>, LabError> {
    a.validate().map_err(LabError::Request)?;
    let embedding_deviation = how.embedding_deviation.unwrap_or(how.deviation);
    for deviation in [how.deviation, embedding_deviation] {
        if !(deviation > 0.0 && deviation.is_finite()) {
            return Err(LabError::Request(format!("a deviation of {deviation} is not a positive number")));
        }
    }
    let mut parameters = blank(a, how);
    let inventory = parameters.inventory(a);
    let smaller = (a.writing_blocks() as f64).sqrt().recip();
    for (stream, (values, info)) in parameters.values_mut().into_iter().zip(inventory).enumerate() {
        let factor = match info.kind {
            ParameterKind::Matrix { writes_residual: true, .. } if how.scale_residual => smaller * how.deviation,
            ParameterKind::Table { .. } if info.name.ends_with("embed_tokens.weight") => embedding_deviation,
            ParameterKind::Matrix { .. } | ParameterKind::Table { .. } => how.deviation,
            ParameterKind::Vector if info.name.contains(".bias_") => how.deviation,
            ParameterKind::Vector | ParameterKind::Scale | ParameterKind::Alpha => continue,
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream as u64 + 1);
        for value in values {
            let drawn: f64 = StandardNormal.sample(&mut random);
            *value = F::from_f64(factor * drawn);
        }
    }
    parameters.repack();
    Ok(parameters)
}

/// Weights of the right shapes; norms as they begin, everything else zero.
fn blank<F: Float>(a: &Architecture, how: &Initialisation) -> Parameters<F> {
    let d = a.d_model;
    let norm = |kind: NormKind, width: usize| Norm {
        gamma: vec![F::ONE; width],
        beta: (kind != NormKind::RmsNorm).then(|| vec![F::ZERO; width]),
        alpha: (kind == NormKind::DynamicTanh).then(|| F::from_f64(how.dynamic_tanh_alpha)),
        epsilon: F::from_f64(a.norm_epsilon),
    };
    let linear = |inputs: usize, outputs: usize| Linear::trainable(inputs, outputs, false);
    let attention = |layer: &Layer| {
        let (attention, placement) = (layer.mixer.attention(), layer.norm_placement);
        let (query, key, value) = (attention.query_width(), attention.key_width(), attention.value_width());
        let (query_norm, key_norm) = match attention.qk_norm {
            QkNorm::None => (None, None),
            QkNorm::PerHead => (Some(attention.head_dim), Some(attention.head_dim)),
            QkNorm::Projection => (Some(query), Some(key)),
        };
        AttentionBlock {
            input_norm: placement.on_input(true).then(|| norm(a.norm, d)),
            value_reads_residual: placement == NormPlacement::SandwichQkInput,
            query: linear(d, query),
            key: linear(d, key),
            value: linear(d, value),
            query_norm: query_norm.map(|width| norm(a.norm, width)),
            key_norm: key_norm.map(|width| norm(a.norm, width)),
            gate: attention.gate.map(|gate| Gate {
                signal: gate.signal,
                granularity: gate.granularity,
                weight: match gate.signal {
                    GateSignal::Input | GateSignal::Embedding => linear(d, attention.gate_width()),
                    GateSignal::Free => linear(1, attention.gate_width()),
                    GateSignal::Position => linear(a.max_positions, attention.gate_width()),
                },
            }),
            sink_logits: match attention.weighting {
                Weighting::SinkLogit => SinkLogits::Learned(vec![F::ZERO; attention.heads]),
                Weighting::SoftmaxPlusOne => SinkLogits::Zero,
                Weighting::Softmax | Weighting::Sigmoid { .. } => SinkLogits::None,
            },
            key_value_bias: attention.key_value_bias.then(|| (vec![F::ZERO; key], vec![F::ZERO; value])),
            slopes: attention.alibi_slopes().into_iter().map(F::from_f64).collect(),
            output: linear(attention.output_width(), d),
            output_norm: placement.has_output_norm().then(|| norm(a.norm, d)),
            post_norm: placement == NormPlacement::Post,
            group: attention.head_group(Precision::Highest),
            kv_heads: attention.kv_heads,
        }
    };
    let feed_forward = |layer: &Layer| {
        let (feed_forward, placement) = (layer.feed_forward, layer.norm_placement);
        let (dense, present) = (feed_forward.dense(), feed_forward.writes());
        FeedForwardBlock {
            input_norm: (present && placement.on_input(false)).then(|| norm(a.norm, d)),
            gate: dense.map(|dense| linear(d, dense.hidden)),
            up: dense.filter(|dense| dense.gated).map(|dense| linear(d, dense.hidden)),
            down: present.then(|| linear(feed_forward.down_inputs(d), d)),
            output_norm: (present && placement.has_output_norm()).then(|| norm(a.norm, d)),
            post_norm: placement == NormPlacement::Post,
            activation: dense.map_or(Activation::Silu, |dense| dense.activation),
        }
    };
    Parameters {
        embedding: vec![F::ZERO; a.vocabulary * d],
        positions: a.learned_positions.then(|| vec![F::ZERO; a.max_positions * d]),
        layers: a.layers().map(|layer| (attention(layer), feed_forward(layer))).collect(),
        final_norm: a.final_norm.then(|| norm(a.norm, d)),
        head: (!a.tied_embeddings).then(|| linear(d, a.vocabulary)),
    }
}
