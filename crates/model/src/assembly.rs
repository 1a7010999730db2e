//! From weights by their roles to blocks: those of a checkpoint, and those that a training begins with.

use sinkscope_kernels::Float;
use sinkscope_kernels::matmul::Precision;

use crate::architecture::{Activation, Architecture, Layer, NormKind, NormPlacement, QkNorm, Weighting};
use crate::blocks::{AttentionBlock, FeedForwardBlock, Gate, Norm, SinkLogits};
use crate::error::ModelError;
use crate::families::{Role, gate_inputs, rows};
use crate::linear::Linear;

/// Weights, by what they are for. What each gives, an architecture has.
pub(crate) trait ByRole<F> {
    fn linear(&self, role: Role, layer: usize, inputs: usize) -> Result<Linear<F>, ModelError>;
    fn norm(&self, role: Role, layer: usize) -> Result<Norm<F>, ModelError>;
    fn values(&self, role: Role, layer: usize) -> Result<Vec<F>, ModelError>;
}

/// The norm that a block, from 1, applies to its input.
pub(crate) fn input_norm<F: Float>(
    weights: &impl ByRole<F>,
    a: &Architecture,
    block: usize,
) -> Result<Option<Norm<F>>, ModelError> {
    let index = (block - 1) / 2;
    let Layer { feed_forward, norm_placement, .. } = a.layer(index);
    let (role, there) = match block % 2 {
        1 => (Role::AttentionInputNorm, norm_placement.on_input(true)),
        _ => (Role::FeedForwardInputNorm, feed_forward.writes() && norm_placement.on_input(false)),
    };
    there.then(|| weights.norm(role, index)).transpose()
}

/// The attention block of a layer.
pub(crate) fn attention<F: Float>(
    weights: &impl ByRole<F>,
    a: &Architecture,
    layer: usize,
    precision: Precision,
) -> Result<AttentionBlock<F>, ModelError> {
    let Layer { mixer, norm_placement, .. } = a.layer(layer);
    let attention = mixer.attention();
    let linear = |role, inputs| weights.linear(role, layer, inputs);
    let norm = |there: bool, role| there.then(|| weights.norm(role, layer)).transpose();
    let values = |there: bool, role| there.then(|| weights.values(role, layer)).transpose();
    let qk = attention.qk_norm != QkNorm::None;
    let bias = attention.key_value_bias;
    let gate = attention.gate.map(|gate| {
        let inputs = gate_inputs(a, gate.signal);
        let weight = linear(Role::AttentionGate, inputs)?;
        Ok::<_, ModelError>(Gate { signal: gate.signal, granularity: gate.granularity, weight })
    });
    Ok(AttentionBlock {
        input_norm: input_norm(weights, a, 2 * layer + 1)?,
        value_reads_residual: *norm_placement == NormPlacement::SandwichQkInput,
        query: linear(Role::Query, a.d_model)?,
        key: linear(Role::Key, a.d_model)?,
        value: linear(Role::Value, a.d_model)?,
        query_norm: norm(qk, Role::QueryNorm)?,
        key_norm: norm(qk, Role::KeyNorm)?,
        gate: gate.transpose()?,
        sink_logits: match attention.weighting {
            Weighting::SinkLogit => SinkLogits::Learned(weights.values(Role::SinkLogit, layer)?),
            Weighting::SoftmaxPlusOne => SinkLogits::Zero,
            Weighting::Softmax | Weighting::Sigmoid { .. } => SinkLogits::None,
        },
        key_value_bias: values(bias, Role::BiasKey)?.zip(values(bias, Role::BiasValue)?),
        slopes: attention.alibi_slopes().into_iter().map(F::from_f64).collect(),
        output: linear(Role::AttentionOutput, attention.output_width())?,
        output_norm: norm(norm_placement.has_output_norm(), Role::AttentionOutputNorm)?,
        post_norm: *norm_placement == NormPlacement::Post,
        group: attention.head_group(precision),
        kv_heads: attention.kv_heads,
    })
}

/// The feed-forward block of a layer.
pub(crate) fn feed_forward<F: Float>(
    weights: &impl ByRole<F>,
    a: &Architecture,
    layer: usize,
) -> Result<FeedForwardBlock<F>, ModelError> {
    let Layer { feed_forward, norm_placement, .. } = a.layer(layer);
    let linear = |there: bool, role, inputs| there.then(|| weights.linear(role, layer, inputs)).transpose();
    let dense = feed_forward.dense();
    let after = feed_forward.writes() && norm_placement.has_output_norm();
    Ok(FeedForwardBlock {
        input_norm: input_norm(weights, a, 2 * layer + 2)?,
        gate: linear(dense.is_some(), Role::Gate, a.d_model)?,
        up: linear(dense.is_some_and(|dense| dense.gated), Role::Up, a.d_model)?,
        down: linear(feed_forward.writes(), Role::Down, feed_forward.down_inputs(a.d_model))?,
        output_norm: after.then(|| weights.norm(Role::FeedForwardOutputNorm, layer)).transpose()?,
        post_norm: *norm_placement == NormPlacement::Post,
        activation: dense.map_or(Activation::Silu, |dense| dense.activation),
    })
}

/// Weights that nobody has drawn yet: norms of 1 (alphas of their own), everything else 0.
pub(crate) struct Blank<'a> {
    pub architecture: &'a Architecture,
    /// Alpha of every dynamic tanh.
    pub alpha: f64,
}

impl<F: Float> ByRole<F> for Blank<'_> {
    fn linear(&self, role: Role, layer: usize, inputs: usize) -> Result<Linear<F>, ModelError> {
        Ok(Linear::trainable(inputs, rows(role, layer, self.architecture), false))
    }

    fn norm(&self, role: Role, layer: usize) -> Result<Norm<F>, ModelError> {
        let Architecture { norm, norm_epsilon, .. } = self.architecture;
        let width = rows(role, layer, self.architecture);
        Ok(Norm {
            gamma: vec![F::ONE; width],
            beta: (*norm != NormKind::RmsNorm).then(|| vec![F::ZERO; width]),
            alpha: (*norm == NormKind::DynamicTanh).then(|| F::from_f64(self.alpha)),
            epsilon: F::from_f64(*norm_epsilon),
        })
    }

    fn values(&self, role: Role, layer: usize) -> Result<Vec<F>, ModelError> {
        Ok(vec![F::ZERO; rows(role, layer, self.architecture)])
    }
}
