//! A recipe: everything that decides a run. Each choice of the paper's tables is a value here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_kernels::matmul::Precision;
use sinkscope_model::architecture::{
    Activation, Architecture, AttentionGate, FeedForwardKind, GateSignal, Granularity, LayerView, NormKind,
    NormPlacement, PositionEncoding, QkNorm, ResidualLayout, Rope, RopeScaling, Uniform, UniformFeedForward, Weighting,
    check_layer_count,
};

use crate::data::bigram_backcopy::BigramBackcopyTask;
use crate::data::{Packing, SourceKind, SourceRequest};
use crate::error::LabError;
use crate::network::Initialisation;
use crate::optimizer::OptimizerSettings;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Of the weights' beginning and of the order of the data.
    #[serde(default)]
    pub seed: u64,
    /// What is trained.
    pub model: ModelChoice,
    /// On what.
    pub data: DataChoice,
    /// How.
    pub training: TrainingChoice,
    /// How weights follow the gradient.
    #[serde(default)]
    pub optimizer: OptimizerSettings,
    /// What is looked at on the way.
    #[serde(default)]
    pub watch: WatchChoice,
}

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
}

impl Default for WatchChoice {
    fn default() -> Self {
        Self { every: 100, sequences: 64, seq_len: 64, checkpoint_every: 500 }
    }
}

impl Recipe {
    /// Where this recipe's tokens come from.
    pub fn source(&self) -> SourceRequest {
        let (kind, packing, bos) = match &self.data {
            DataChoice::Prepared { directory, packing, bos } => {
                (SourceKind::Prepared { directory: directory.clone() }, *packing, *bos)
            }
            DataChoice::BuiltIn { vocabulary, packing, bos } => {
                (SourceKind::BuiltIn { vocabulary: *vocabulary }, *packing, *bos)
            }
            DataChoice::BigramBackcopy { tokens, triggers, concentration, table_seed } => {
                let (tokens, triggers, concentration) = (*tokens, *triggers, *concentration);
                let task = BigramBackcopyTask { tokens, triggers, concentration, seed: *table_seed };
                (SourceKind::BigramBackcopy(task), Packing::Stream, true)
            }
        };
        SourceRequest { kind, packing, bos, seed: self.seed }
    }

    /// The model that this recipe trains; `vocabulary` is the data's, without registers.
    ///
    /// # Errors
    /// [`LabError::Request`] if sizes do not fit each other, or choices contradict each other.
    pub fn architecture(&self, vocabulary: usize) -> Result<Architecture, LabError> {
        let m = &self.model;
        let wrong = |reason: String| Err(LabError::Request(reason));
        if let Err(reason) = check_layer_count(m.layers) {
            return wrong(format!("model: {reason}"));
        }
        let head_dim = match m.head_dim {
            Some(head_dim) => head_dim,
            None if m.heads > 0 && m.d_model.is_multiple_of(m.heads) => m.d_model / m.heads,
            None => {
                return wrong(format!(
                    "model: d_model = {} does not divide by heads = {}; give head_dim",
                    m.d_model, m.heads
                ));
            }
        };
        let gated = m.feed_forward == FeedForwardChoice::Swiglu;
        let d_ffn =
            m.d_ffn.unwrap_or(if gated { (8 * m.d_model).div_ceil(3).next_multiple_of(8) } else { 4 * m.d_model });
        let (kind, activation) = match m.feed_forward {
            FeedForwardChoice::Swiglu => (FeedForwardKind::TwoLayer, Activation::Silu),
            FeedForwardChoice::Gelu => (FeedForwardKind::TwoLayer, Activation::Gelu),
            FeedForwardChoice::Linear => (FeedForwardKind::Linear, Activation::Silu),
            FeedForwardChoice::Attention => (FeedForwardKind::Absent, Activation::Silu),
        };
        let (norm_placement, qk_norm) = match (m.placement, m.qk_norm) {
            (PlacementChoice::SandwichQkHead, QkNormChoice::None) => (NormPlacement::Output, QkNorm::PerHead),
            (placement, qk_norm) => (
                match placement {
                    PlacementChoice::Pre => NormPlacement::Pre,
                    PlacementChoice::Sandwich => NormPlacement::Sandwich,
                    PlacementChoice::SandwichQkInput => NormPlacement::SandwichQkInput,
                    PlacementChoice::Output | PlacementChoice::SandwichQkHead => NormPlacement::Output,
                    PlacementChoice::Post => NormPlacement::Post,
                },
                match qk_norm {
                    QkNormChoice::None => QkNorm::None,
                    QkNormChoice::PerHead => QkNorm::PerHead,
                    QkNormChoice::Projection => QkNorm::Projection,
                },
            ),
        };
        let seq_len = self.training.seq_len.max(self.watch.seq_len);
        let layers = if m.feed_forward == FeedForwardChoice::Attention { 2 * m.layers } else { m.layers };
        let uniform = Uniform {
            family: "sinkscope".to_owned(),
            d_model: m.d_model,
            heads: m.heads,
            kv_heads: m.kv_heads.unwrap_or(m.heads),
            head_dim,
            d_ffn,
            vocabulary: vocabulary.saturating_add(m.registers),
            max_positions: seq_len.saturating_add(m.registers),
            norm: match m.norm {
                NormChoice::RmsNorm => NormKind::RmsNorm,
                NormChoice::LayerNorm => NormKind::LayerNorm,
                NormChoice::DynamicTanh => NormKind::DynamicTanh,
            },
            norm_epsilon: m.norm_epsilon,
            norm_placement,
            residual: ResidualLayout::Sequential,
            qk_norm,
            feed_forward: UniformFeedForward { kind, activation, gated },
            position: match m.position {
                PositionChoice::Rotary => PositionEncoding::Rotary(vec![Rope {
                    theta: m.rope_theta,
                    rotary_dim: head_dim,
                    scaling: RopeScaling::None,
                }]),
                PositionChoice::Learned => PositionEncoding::Learned,
                PositionChoice::Alibi => PositionEncoding::Alibi,
                PositionChoice::None => PositionEncoding::None,
            },
            layers: vec![LayerView { window: m.window, rope: 0 }; layers],
            attention_scale: (head_dim as f64).powf(-0.5),
            weighting: match m.weighting {
                WeightingChoice::Softmax => Weighting::Softmax,
                WeightingChoice::SoftmaxPlusOne => Weighting::SoftmaxPlusOne,
                WeightingChoice::SinkLogit => Weighting::SinkLogit,
                WeightingChoice::Sigmoid => Weighting::Sigmoid { bias: -(self.training.seq_len as f64).ln() },
            },
            key_value_bias: m.key_value_bias,
            gate: m.gate.map(|gate| AttentionGate { signal: gate.signal, granularity: gate.granularity }),
            attention_soft_cap: None,
            logit_soft_cap: None,
            embedding_scale: 1.0,
            tied_embeddings: m.tied_embeddings,
            registers: m.registers,
        };
        let architecture = Architecture::try_from(uniform).and_then(|a| a.validate().map(|()| a));
        let architecture = architecture.map_err(|reason| LabError::Request(format!("model: {reason}")))?;
        self.check()?;
        Ok(architecture)
    }

    /// The choices that once meant something else, with the number of what they mean now. A choice that is not named, here or in
    /// what a run left, means what it meant first: 1.
    pub fn variants(&self) -> BTreeMap<String, u32> {
        let m = &self.model;
        let gated_by_embedding = m.gate.is_some_and(|gate| gate.signal == GateSignal::Embedding);
        let changed = [
            // Of 1, it met queries before their rotation.
            ("key_value_bias", m.key_value_bias && m.position == PositionChoice::Rotary),
            // Of 1, gates read learned positions too.
            ("embedding_gate", gated_by_embedding && m.position == PositionChoice::Learned),
            // Of 1, one more norm stood before the output head.
            ("post_norm", m.placement == PlacementChoice::Post),
            // Of 1, absent blocks counted.
            ("scale_residual", m.initialisation.scale_residual && m.feed_forward == FeedForwardChoice::Attention),
        ];
        changed.into_iter().filter(|(_, chosen)| *chosen).map(|(name, _)| (name.to_owned(), 2)).collect()
    }

    /// What is wrong with numbers that no other part looks at.
    fn check(&self) -> Result<(), LabError> {
        let wrong = |reason: String| Err(LabError::Request(reason));
        let (t, o, w) = (&self.training, &self.optimizer, &self.watch);
        for (what, value) in [
            ("training.steps", t.steps),
            ("training.sequences", t.sequences as u64),
            ("training.accumulation", t.accumulation as u64),
            ("training.loss_from", t.loss_from as u64),
            ("watch.every", w.every),
            ("watch.sequences", w.sequences as u64),
            ("watch.checkpoint_every", w.checkpoint_every),
        ] {
            if value == 0 {
                return wrong(format!("{what} = 0; the least is 1"));
            }
        }
        for (what, value) in [("training.seq_len", t.seq_len), ("watch.seq_len", w.seq_len)] {
            if value < 2 {
                return wrong(format!("{what} = {value}; a sequence that predicts something has at least 2 tokens"));
            }
        }
        let last = t.loss_to.unwrap_or(t.seq_len);
        if t.loss_from > last || last > t.seq_len {
            return wrong(format!(
                "training: loss_from = {} to loss_to = {last} are no positions of sequences of {}",
                t.loss_from, t.seq_len
            ));
        }
        if !t.sequences.is_multiple_of(t.accumulation) {
            return wrong(format!(
                "training: sequences = {} do not divide into accumulation = {} parts",
                t.sequences, t.accumulation
            ));
        }
        for (what, value, good) in [
            ("optimizer.learning_rate", o.learning_rate, o.learning_rate > 0.0),
            ("optimizer.final_ratio", o.final_ratio, (0.0..=1.0).contains(&o.final_ratio)),
            ("optimizer.beta1", o.beta1, (0.0..1.0).contains(&o.beta1)),
            ("optimizer.beta2", o.beta2, (0.0..1.0).contains(&o.beta2)),
            ("optimizer.epsilon", o.epsilon, o.epsilon > 0.0),
            ("optimizer.weight_decay", o.weight_decay, o.weight_decay >= 0.0),
            ("optimizer.clip", o.clip, o.clip >= 0.0),
        ] {
            if !(good && value.is_finite()) {
                return wrong(format!("{what} = {value} makes no sense"));
            }
        }
        Ok(())
    }
}
