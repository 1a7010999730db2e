//! A recipe: everything that decides a run. Each choice of the paper's tables is a value here.

mod choices;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_model::architecture::{
    Activation, Architecture, AttentionGate, FeedForwardKind, GateSignal, LayerView, NormKind, NormPlacement,
    PositionEncoding, QkNorm, ResidualLayout, Rope, RopeScaling, Uniform, UniformFeedForward, Weighting,
    check_layer_count,
};

pub use self::choices::{
    DataChoice, FeedForwardChoice, GateChoice, ModelChoice, NormChoice, PlacementChoice, PositionChoice, QkNormChoice,
    TrainingChoice, WatchChoice, WeightingChoice,
};
use crate::data::bigram_backcopy::BigramBackcopyTask;
use crate::data::{Packing, SourceKind, SourceRequest};
use crate::error::LabError;
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
            attention_soft_cap: m.soft_cap,
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
