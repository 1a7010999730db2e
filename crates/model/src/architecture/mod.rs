//! One architecture type, many models: plain data, a point in the space that the paper varies. A file per axis.

mod attention;
mod feed_forward;
mod gate;
mod layer;
mod norm;
mod rope;
mod uniform;
mod weighting;

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use attention::{Attention, Mixer, Position};
pub use feed_forward::{Activation, Dense, FeedForward};
pub use gate::{AttentionGate, GateSignal, Granularity};
pub use layer::{Layer, ResidualLayout};
pub use norm::{NormKind, NormPlacement, QkNorm};
pub use rope::{Rope, RopeScaling};
pub use uniform::{FeedForwardKind, LayerView, PositionEncoding, Uniform, UniformFeedForward};
pub use weighting::Weighting;

/// The shape and the design choices of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The family's name as its checkpoints spell it, such as `llama` or `gemma2`.
    pub family: String,
    /// Width of the residual.
    pub d_model: usize,
    /// Number of token ids.
    pub vocabulary: usize,
    /// Positions the model was made for.
    pub max_positions: usize,
    /// Whether a learned vector per position is added to the embedding: such a model cannot extend.
    pub learned_positions: bool,
    /// The kind of every norm.
    pub norm: NormKind,
    /// The norms' epsilon.
    pub norm_epsilon: f64,
    /// Every kind of layer, in the order in which they first come.
    pub kinds: Vec<Layer>,
    /// Of each layer, its kind.
    pub order: Vec<usize>,
    /// Whether the output head has a norm of its own before it.
    pub final_norm: bool,
    /// `cap * tanh(logit / cap)` on the logits.
    #[serde(deserialize_with = "Option::deserialize")]
    pub logit_soft_cap: Option<f64>,
    /// Factor on the embedding.
    pub embedding_scale: f64,
    /// Whether the output head is the embedding matrix.
    pub tied_embeddings: bool,
    /// Learned tokens that stand before every sequence: the last ids of the vocabulary.
    #[serde(default, skip_serializing_if = "no_registers")]
    pub registers: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "of serde's form")]
fn no_registers(registers: &usize) -> bool {
    *registers == 0
}

/// Most layers of a model that is read or trained. No real one comes near.
const MOST_LAYERS: usize = 1 << 12;

/// Whether a model can have so many layers: to be asked before there is a list of them.
///
/// # Errors
/// What would be right.
pub fn check_layer_count(count: usize) -> Result<(), String> {
    let possible = (1..=MOST_LAYERS).contains(&count);
    if possible {
        Ok(())
    } else {
        Err(format!("the number of layers is {count}; it must lie between 1 and {MOST_LAYERS}"))
    }
}

/// Sizes that are neither 0 nor so large that products of two overflow; a real model stays far below.
fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), String> {
    match sizes.iter().find(|(_, size)| *size == 0 || *size > 1 << 30) {
        Some((what, size)) => Err(format!("the {what} is {size}; it must lie between 1 and 2^30")),
        None => Ok(()),
    }
}

fn check_scale(what: &str, scale: f64) -> Result<(), String> {
    if is_positive(scale) {
        Ok(())
    } else {
        Err(format!("the factor on {what} is {scale}; it must be positive, and f32 hold it"))
    }
}

fn check_soft_cap(cap: Option<f64>) -> Result<(), String> {
    match cap {
        Some(cap) if !is_positive(cap) => Err(format!("a soft cap of {cap} is not positive, or f32 does not hold it")),
        _ => Ok(()),
    }
}

/// Whether f32, in which models are computed, has a positive number for this one.
fn is_positive(value: f64) -> bool {
    let value = value as f32;
    value > 0.0 && value.is_finite()
}

impl Architecture {
    /// The kinds of layers, and of each layer its kind.
    pub fn kinds_of(layers: impl IntoIterator<Item = Layer>) -> (Vec<Layer>, Vec<usize>) {
        let mut kinds: Vec<Layer> = Vec::new();
        let kind = |layer: Layer| {
            kinds.iter().position(|kind| *kind == layer).unwrap_or_else(|| {
                kinds.push(layer);
                kinds.len() - 1
            })
        };
        let order = layers.into_iter().map(kind).collect();
        (kinds, order)
    }

    /// Number of layers, L.
    pub fn layer_count(&self) -> usize {
        self.order.len()
    }

    /// A layer, from 0.
    pub fn layer(&self, index: usize) -> &Layer {
        &self.kinds[self.order[index]]
    }

    /// A layer's attention.
    pub fn attention(&self, layer: usize) -> &Attention {
        self.layer(layer).mixer.attention()
    }

    /// Every layer in order.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &Layer> {
        self.order.iter().map(|&kind| &self.kinds[kind])
    }

    /// The largest of what layers have.
    pub fn most(&self, of_layer: impl Fn(&Layer) -> usize) -> usize {
        self.kinds.iter().map(of_layer).max().unwrap_or(0)
    }

    /// Whether any layer is such.
    pub fn any(&self, is_such: impl Fn(&Layer) -> bool) -> bool {
        self.kinds.iter().any(is_such)
    }

    /// Query heads of the layer that has most.
    pub fn most_heads(&self) -> usize {
        self.most(|layer| layer.mixer.attention().heads)
    }

    /// Number of blocks, 2 L (attention and feed-forward).
    pub fn blocks(&self) -> usize {
        2 * self.layer_count()
    }

    /// Number of blocks that add something to the residual.
    pub fn writing_blocks(&self) -> usize {
        self.layers().map(|layer| 1 + usize::from(layer.feed_forward.writes())).sum()
    }

    /// The tokens that stand before every sequence: the last ids of the vocabulary.
    pub fn register_ids(&self) -> Range<u32> {
        (self.vocabulary - self.registers) as u32..self.vocabulary as u32
    }

    /// Whether the positions of a sequence of `seq_len` tokens are encoded in another way than the same positions of one of
    /// `longer` tokens.
    pub fn encodes_differently(&self, seq_len: usize, longer: usize) -> bool {
        self.any(|layer| {
            let rope = layer.mixer.attention().rope();
            rope.is_some_and(|rope| rope.frequencies(seq_len) != rope.frequencies(longer))
        })
    }

    /// Whether a position beyond `max_positions` has no meaning: it has parameters of its own.
    pub fn has_parameters_by_position(&self) -> bool {
        let signal = |layer: &Layer| layer.mixer.attention().gate.map(|gate| gate.signal);
        self.learned_positions || self.any(|layer| signal(layer) == Some(GateSignal::Position))
    }

    /// Whether gates depend on the tokens' embedding.
    pub fn gates_read_embedding(&self) -> bool {
        self.any(|layer| layer.mixer.attention().gates_read_embedding())
    }

    /// What is wrong with this combination, if anything.
    ///
    /// # Errors
    /// A sentence that names the field, its value and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        check_sizes(&[
            ("hidden size", self.d_model),
            ("vocabulary size", self.vocabulary),
            ("number of positions", self.max_positions),
        ])?;
        if self.registers >= self.vocabulary {
            return Err(format!("{} registers leave nothing of a vocabulary of {}", self.registers, self.vocabulary));
        }
        check_layer_count(self.order.len())?;
        if let Some(kind) = self.order.iter().find(|&&kind| kind >= self.kinds.len()) {
            return Err(format!("a layer is of kind {kind}, of {}", self.kinds.len()));
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon < 1.0) {
            return Err(format!("the norm's epsilon is {}; it must lie between 0 and 1", self.norm_epsilon));
        }
        check_scale("the embedding", self.embedding_scale)?;
        check_soft_cap(self.logit_soft_cap)?;
        let heads = self.kinds.first().map_or(0, |layer| layer.mixer.attention().heads);
        for (kind, layer) in self.kinds.iter().enumerate() {
            let attention = layer.mixer.attention();
            attention.validate()?;
            if attention.heads != heads {
                return Err(format!(
                    "layers have {heads} and {} heads; only as many in each are supported",
                    attention.heads
                ));
            }
            if let FeedForward::Dense(dense) = layer.feed_forward {
                check_sizes(&[("feed-forward size", dense.hidden)])?;
            }
            if layer.residual == ResidualLayout::Parallel && layer.norm_placement != NormPlacement::Pre {
                return Err("parallel blocks are only defined with norms on the block's input".into());
            }
            if attention.window == Some(0) {
                let index = self.order.iter().position(|&other| other == kind).unwrap_or_default();
                return Err(format!("layer {index} has an attention window of 0; the least is 1"));
            }
        }
        Ok(())
    }

    /// Floating-point operations of the matrix products and attention of a forward pass over sequences of `seq_len`, per
    /// token, two per multiply-add: the arithmetic that the fraction of bound counts. The output head is counted if
    /// `with_head`.
    pub fn flops_per_token(&self, seq_len: usize, with_head: bool) -> f64 {
        let of_layer = |layer: &Layer| {
            let mixer = layer.mixer.attention().multiplications(self.d_model, seq_len);
            mixer + layer.feed_forward.multiplications(self.d_model)
        };
        let head = if with_head { self.d_model as f64 * self.vocabulary as f64 } else { 0.0 };
        2.0 * (self.layers().map(of_layer).sum::<f64>() + head)
    }
}
