//! A model whose layers are alike but for their windows and rotary embeddings: what a recipe trains, and what most families are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Activation, Architecture, Attention, AttentionGate, Dense, FeedForward, Layer, Mixer, NormKind, NormPlacement,
    Position, QkNorm, ResidualLayout, Rope, Weighting,
};

/// A model of layers that are alike: every choice once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uniform {
    /// As of [`Architecture`].
    pub family: String,
    /// As of [`Architecture`].
    pub d_model: usize,
    /// As of [`Attention`].
    pub heads: usize,
    /// As of [`Attention`].
    pub kv_heads: usize,
    /// Width of a head, its values included.
    pub head_dim: usize,
    /// Hidden units of a feed-forward block.
    pub d_ffn: usize,
    /// As of [`Architecture`].
    pub vocabulary: usize,
    /// As of [`Architecture`].
    pub max_positions: usize,
    /// As of [`Architecture`].
    pub norm: NormKind,
    /// As of [`Architecture`].
    pub norm_epsilon: f64,
    /// As of [`Layer`].
    pub norm_placement: NormPlacement,
    /// As of [`Layer`].
    pub residual: ResidualLayout,
    /// As of [`Attention`].
    pub qk_norm: QkNorm,
    /// The feed-forward blocks.
    pub feed_forward: UniformFeedForward,
    /// How positions enter.
    pub position: PositionEncoding,
    /// One entry per layer.
    pub layers: Vec<LayerView>,
    /// Factor on attention scores.
    pub attention_scale: f64,
    /// As of [`Attention`].
    pub weighting: Weighting,
    /// As of [`Attention`].
    pub key_value_bias: bool,
    /// As of [`Attention`].
    #[serde(deserialize_with = "Option::deserialize")]
    pub gate: Option<AttentionGate>,
    /// `cap * tanh(score / cap)` on attention scores.
    #[serde(deserialize_with = "Option::deserialize")]
    pub attention_soft_cap: Option<f64>,
    /// As of [`Architecture`].
    #[serde(deserialize_with = "Option::deserialize")]
    pub logit_soft_cap: Option<f64>,
    /// As of [`Architecture`].
    pub embedding_scale: f64,
    /// As of [`Architecture`].
    pub tied_embeddings: bool,
    /// As of [`Architecture`].
    #[serde(default)]
    pub registers: usize,
}

/// What differs between the layers: what a query sees, and how it is rotated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerView {
    /// As of [`Attention`].
    #[serde(deserialize_with = "Option::deserialize")]
    pub window: Option<usize>,
    /// Index into the ropes of [`PositionEncoding::Rotary`].
    pub rope: usize,
}

/// The feed-forward blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UniformFeedForward {
    /// What they are made of.
    pub kind: FeedForwardKind,
    /// The nonlinearity.
    #[schemars(with = "String")]
    pub activation: Activation,
    /// Whether a second, linear branch multiplies it (SwiGLU, GeGLU).
    pub gated: bool,
}

/// What feed-forward blocks are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForwardKind {
    /// Two layers with a nonlinearity between them.
    TwoLayer,
    /// One matrix.
    Linear,
    /// Nothing: even blocks add zero. Attention in place of every feed-forward block is twice as many layers of this kind.
    Absent,
}

/// How positions enter the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PositionEncoding {
    /// A learned vector per position, added to the embedding: cannot extend.
    Learned,
    /// Rotary embedding of queries and keys; layers choose among these.
    Rotary(Vec<Rope>),
    /// A penalty on scores, linear in distance, with a slope a head (Press et al. 2022).
    Alibi,
    /// Nothing but causality (NoPE).
    None,
}

impl TryFrom<Uniform> for Architecture {
    type Error = String;

    /// # Errors
    /// If a layer names a rope that there is not.
    fn try_from(uniform: Uniform) -> Result<Self, String> {
        let feed_forward = match uniform.feed_forward.kind {
            FeedForwardKind::TwoLayer => {
                let UniformFeedForward { activation, gated, .. } = uniform.feed_forward;
                FeedForward::Dense(Dense { hidden: uniform.d_ffn, activation, gated })
            }
            FeedForwardKind::Linear => FeedForward::Linear,
            FeedForwardKind::Absent => FeedForward::None,
        };
        let position = |index: usize, layer: &LayerView| match &uniform.position {
            PositionEncoding::Learned | PositionEncoding::None => Ok(Position::None),
            PositionEncoding::Alibi => Ok(Position::Alibi),
            PositionEncoding::Rotary(ropes) => match ropes.get(layer.rope) {
                Some(rope) => Ok(Position::Rotary(rope.clone())),
                None => Err(format!("layer {index} names rope {}, of {}", layer.rope, ropes.len())),
            },
        };
        let layer = |(index, layer): (usize, &LayerView)| {
            let attention = Attention {
                heads: uniform.heads,
                kv_heads: uniform.kv_heads,
                head_dim: uniform.head_dim,
                value_dim: uniform.head_dim,
                window: layer.window,
                position: position(index, layer)?,
                qk_norm: uniform.qk_norm,
                scale: uniform.attention_scale,
                soft_cap: uniform.attention_soft_cap,
                weighting: uniform.weighting,
                key_value_bias: uniform.key_value_bias,
                gate: uniform.gate,
            };
            Ok::<_, String>(Layer {
                mixer: Mixer::Attention(attention),
                feed_forward,
                norm_placement: uniform.norm_placement,
                residual: uniform.residual,
            })
        };
        let layers = uniform.layers.iter().enumerate().map(layer).collect::<Result<Vec<_>, _>>()?;
        let (kinds, order) = Self::kinds_of(layers);
        Ok(Self {
            learned_positions: uniform.position == PositionEncoding::Learned,
            final_norm: uniform.norm_placement.has_final_norm(),
            family: uniform.family,
            d_model: uniform.d_model,
            vocabulary: uniform.vocabulary,
            max_positions: uniform.max_positions,
            norm: uniform.norm,
            norm_epsilon: uniform.norm_epsilon,
            kinds,
            order,
            logit_soft_cap: uniform.logit_soft_cap,
            embedding_scale: uniform.embedding_scale,
            tied_embeddings: uniform.tied_embeddings,
            registers: uniform.registers,
        })
    }
}
