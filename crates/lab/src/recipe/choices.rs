//! What a recipe can say, table by table.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_kernels::matmul::Precision;
use sinkscope_model::architecture::{GateSignal, Granularity};

use crate::data::Packing;
use crate::data::bigram_backcopy::BigramBackcopyTask;
use crate::network::Initialisation;

/// The model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelChoice {
    /// Layers, L.
    pub layers: usize,
    /// Width of the residual.
    pub d_model: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; as many as query heads if left out (GQA when fewer).
    pub kv_heads: Option<usize>,
    /// Width of a head; `d_model / heads` if left out.
    pub head_dim: Option<usize>,
    /// Hidden units of a feed-forward block; 8/3 of `d_model`, rounded up to a multiple of 8, if left out (4 of it for
    /// blocks without a gate, so that both have about as many weights).
    pub d_ffn: Option<usize>,
    /// The feed-forward blocks (Table 4).
    #[serde(default)]
    pub feed_forward: FeedForwardChoice,
    /// The kind of every norm.
    #[serde(default)]
    pub norm: NormChoice,
    /// Where blocks normalise (Table 5).
    #[serde(default)]
    pub placement: PlacementChoice,
    /// Norm on queries and keys after their projection.
    #[serde(default)]
    pub qk_norm: QkNormChoice,
    /// The norms' epsilon.
    #[serde(default = "epsilon")]
    pub norm_epsilon: f64,
    /// How positions enter.
    #[serde(default)]
    pub position: PositionChoice,
    /// Base of the rotary wavelengths.
    #[serde(default = "theta")]
    pub rope_theta: f64,
    /// A query sees itself and the `window - 1` positions before it; all if left out.
    pub window: Option<usize>,
    /// `soft_cap * tanh(score / soft_cap)` on attention scores, as Gemma 2 has it; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_cap: Option<f64>,
    /// How scores become weights.
    #[serde(default)]
    pub weighting: WeightingChoice,
    /// A learned key and value in every head that stand at no position (Sun et al. 2024): rotated queries meet the key as it is.
    #[serde(default)]
    pub key_value_bias: bool,
    /// Register tokens: so many ids beyond the vocabulary stand at the first positions of every sequence, predict nothing and
    /// are predicted by nothing. `seq_len`, `loss_from`, `loss_to` and the bias of sigmoid attention do not count them.
    /// Positions do: the first token of the text stands at position `registers`, windows and distances reach over registers, and
    /// the T of every measurement is `seq_len + registers`, so that a register can spike and be a sink.
    #[serde(default)]
    pub registers: usize,
    /// A gate on the heads' outputs (Table 7).
    pub gate: Option<GateChoice>,
    /// Whether the output head is the embedding matrix.
    #[serde(default)]
    pub tied_embeddings: bool,
    /// How weights begin.
    #[serde(default)]
    pub initialisation: Initialisation,
}

fn epsilon() -> f64 {
    1e-5
}

fn theta() -> f64 {
    10_000.0
}

/// The rows of Table 4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForwardChoice {
    /// A gated block with SiLU (eq. 12).
    #[default]
    Swiglu,
    /// Two layers with GeLU between them.
    Gelu,
    /// One matrix, d_model x d_model.
    Linear,
    /// An attention block with weights of its own in place of every feed-forward block: twice as many layers, whose even
    /// blocks add nothing.
    Attention,
}

/// The kind of every norm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NormChoice {
    /// RMSNorm (eq. 5).
    #[default]
    RmsNorm,
    /// LayerNorm with scale and bias.
    LayerNorm,
    /// `tanh(alpha x) * gamma + beta` in place of every norm, the last one too (Table 5).
    DynamicTanh,
}

/// Where blocks normalise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementChoice {
    /// On the input (eq. 4).
    #[default]
    Pre,
    /// On input and output.
    Sandwich,
    /// On the output; the input norm feeds queries and keys only, values and feed-forward blocks read the residual raw. One
    /// reading of Table 5's "sandwich, QK".
    SandwichQkInput,
    /// On the output; norm of every head's queries and keys after projection (of the whole projection, as OLMo 2, with
    /// `qk_norm = "projection"`), no input norm. The other reading.
    SandwichQkHead,
    /// On the output only; with `qk_norm = "projection"` as OLMo 2.
    Output,
    /// On the residual after the block's output was added. The last block's norm is the last of all.
    Post,
}

/// Norm on queries and keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QkNormChoice {
    /// None.
    #[default]
    None,
    /// Each head on its own.
    PerHead,
    /// The whole projection at once.
    Projection,
}

/// How positions enter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PositionChoice {
    /// Rotary embedding of queries and keys.
    #[default]
    Rotary,
    /// A learned vector per position.
    Learned,
    /// A penalty on distance.
    Alibi,
    /// Not at all, but for causality.
    None,
}

/// How scores become weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WeightingChoice {
    /// Softmax.
    #[default]
    Softmax,
    /// Softmax with one more score of 0.
    SoftmaxPlusOne,
    /// Softmax with one more, learned score a head.
    SinkLogit,
    /// Sigmoid of every score, less the logarithm of the `seq_len` of training.
    Sigmoid,
}

/// The rows of Table 7 are `input` and `free` with each granularity, and `position` and `embedding` with `channel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateChoice {
    /// `input`: conditional; `free`: unconditional; `position`, `embedding` (of the token, without its position): static.
    pub signal: GateSignal,
    /// `channel`, `head` or `single`.
    pub granularity: Granularity,
}

/// What is trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "source", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataChoice {
    /// What `sinkscope data prepare` made.
    Prepared {
        /// The directory.
        directory: PathBuf,
        /// How documents become sequences.
        #[serde(default)]
        packing: Packing,
        /// Whether every sequence begins with BOS.
        #[serde(default = "yes")]
        bos: bool,
    },
    /// The text inside the binary.
    BuiltIn {
        /// Tokens of the vocabulary that is learnt from it.
        vocabulary: usize,
        /// How documents become sequences.
        #[serde(default)]
        packing: Packing,
        /// Whether every sequence begins with BOS.
        #[serde(default = "yes")]
        bos: bool,
    },
    /// The synthetic task in which a sink has a known job (Guo et al. 2024).
    BigramBackcopy {
        /// Ordinary tokens; `<s>` comes after them.
        #[serde(default = "tokens")]
        tokens: usize,
        /// How many of them are triggers.
        #[serde(default = "triggers")]
        triggers: usize,
        /// Concentration of the Dirichlet distribution that rows of the bigram table come from.
        #[serde(default = "concentration")]
        concentration: f64,
        /// Seed of table and triggers.
        #[serde(default)]
        table_seed: u64,
    },
}

fn yes() -> bool {
    true
}

fn tokens() -> usize {
    BigramBackcopyTask::default().tokens
}

fn triggers() -> usize {
    BigramBackcopyTask::default().triggers
}

fn concentration() -> f64 {
    BigramBackcopyTask::default().concentration
}

/// How long, and on how much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingChoice {
    /// Steps of the optimiser.
    pub steps: u64,
    /// Sequences of a step.
    pub sequences: usize,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Parts that a step's sequences are computed in, one after the other; saves memory.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// The first position, from 1, whose prediction counts in the loss (Table 8's minimum).
    #[serde(default = "one")]
    pub loss_from: usize,
    /// The last; the whole sequence if left out.
    pub loss_to: Option<usize>,
    /// How exact products are, forward and backward: `highest`, all 24 bits of f32; `high`, operands of 16 bits; or
    /// `medium`, of the 8 of bf16. The lower, the faster on machines with AMX; elsewhere all are the same. Weights, moments,
    /// gradients and everything else are of f32 in all.
    #[serde(default, skip_serializing_if = "is_highest")]
    pub precision: Precision,
}

// A reference is what serde gives. Recipes of the highest precision are written as they were when there was no other, so
// that summaries of runs keep their keys.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_highest(precision: &Precision) -> bool {
    *precision == Precision::Highest
}

fn one() -> usize {
    1
}

/// What is looked at on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WatchChoice {
    /// Steps from one look to the next; the first is before the first step and the last after the last.
    pub every: u64,
    /// Held-out sequences looked at.
    pub sequences: usize,
    /// Their tokens; the paper's sink ratio takes 64.
    pub seq_len: usize,
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
    /// Whether looks also show where the standout is, how much of a token one channel owns, how many first tokens spike, and the
    /// perplexity at the training length.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub detail: bool,
}

impl Default for WatchChoice {
    fn default() -> Self {
        Self { every: 100, sequences: 64, seq_len: 64, checkpoint_every: 500, detail: false }
    }
}
