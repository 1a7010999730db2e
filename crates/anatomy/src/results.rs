//! The typed results of `sinkscope anatomy`, field for field what `anatomy.json` holds. Blocks are numbered from 1 (0 is
//! the embedding), odd attention, even feed-forward; layers, heads, channels, sequences and positions from 0.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::census::Census;
use crate::census::prediction::PredictionScore;
use crate::head_room::HeadRoom;
use crate::positions::AlphaByPosition;
use crate::probe::Probe;
use crate::regularities::Regularity;
use crate::sample::amplifier::Amplifier;
use crate::sample::embedding::SelfSinking;
use crate::sample::geometry::Geometry;
use crate::sample::normalisation::Normalisation;
use crate::sink_tokens::SinkTokens;
use crate::token_page::TokenPage;

/// Everything that was measured; a part is absent when it was not asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Anatomy {
    /// The trajectory of the largest channels over depth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// Spike tokens and stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spikes: Option<Spikes>,
    /// Whether fp16 could hold the activations; with the life cycle or the spikes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp16: Option<HeadRoom>,
    /// Attention sinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sinks: Option<Sinks>,
    /// exp of the mean negative log-likelihood over the predicted tokens of all sequences; never capped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Mean negative log-likelihood per predicted token, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nll: Option<f64>,
    /// Number of predicted tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_tokens: Option<usize>,
    /// The text itself, token by token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenPage>,
    /// The five regularities, with the spikes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regularities: Option<Vec<Regularity>>,
    /// What the second look was taken at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<SampleSize>,
    /// The amplifier at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silu: Option<Silu>,
    /// What normalisation makes of spikes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<Normalisation>,
    /// The geometry of heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geometry: Option<Geometry>,
    /// Tokens that attend to themselves early on, with the geometry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_sinking: Option<SelfSinking>,
    /// Of the step-up and step-down blocks, or of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub census: Option<Census>,
    /// How right the census is about the strongest stage; only of a census of all blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction_score: Option<PredictionScore>,
    /// The vocabulary at position 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// Pictures of queries and keys, with the geometry; absent if there are none.
    #[serde(rename = "tsne", default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<Picture>,
}

/// Queries and keys of a head, in two dimensions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Picture {
    /// Layer.
    pub layer: usize,
    /// Head.
    pub head: usize,
    /// Its points: the queries, then the keys of the same tokens.
    pub points: Vec<PicturePoint>,
}

/// A query or a key in a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PicturePoint {
    /// Whether it is a key, not a query.
    pub key: bool,
    /// Sequence of the batch.
    pub sequence: usize,
    /// Position.
    pub position: usize,
    /// Whether the token is one of the strongest stage.
    pub spike: bool,
    /// Where it stands: x and y.
    pub at: [f32; 2],
}

/// The shape of the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SampleSize {
    /// Sequences.
    pub sequences: usize,
    /// Their first positions.
    pub seq_len: usize,
    /// Tokens of the strongest stage among them.
    pub spike_tokens: usize,
}

/// The amplifier at work, block by block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Silu {
    /// The feed-forward step-up and step-down blocks of every stage.
    pub blocks: Vec<Amplifier>,
}

/// The life cycle of the largest channels (Fig. 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lifecycle {
    /// One entry per block, from 0, the embedding.
    pub blocks: Vec<BlockLifecycle>,
    /// Union of the stages' step-up blocks, ascending.
    pub step_up: Vec<usize>,
    /// Union of the stages' step-down blocks, ascending.
    pub step_down: Vec<usize>,
}

/// What kind of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlockKind {
    /// Block 0.
    Embedding,
    /// Odd blocks.
    Attention,
    /// Even blocks.
    FeedForward,
}

/// One block of the life cycle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlockLifecycle {
    /// Block number.
    pub block: usize,
    /// Embedding, attention or feed-forward.
    pub kind: BlockKind,
    /// The residual after the block.
    pub residual: ResidualLifecycle,
    /// What the block added; `None` for the embedding.
    pub output: Option<OutputLifecycle>,
}

/// The residual after a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResidualLifecycle {
    /// The three channels of largest magnitude, each with where it was reached.
    pub top: Vec<TopChannel>,
    /// Mean over sequences of the largest magnitude.
    pub largest_mean: f64,
    /// `M_b`: the median over all tokens of `max_k |H_b[t, k]|`.
    pub typical_token_largest: f64,
    /// `m_b`: the median of all `|H_b|` entries.
    pub median_abs: f64,
    /// Spike tokens at this block.
    pub spike_tokens: usize,
    /// Tokens that are also massive in the sense of Sun et al. (2024): above 100 and at least 1000 `m_b`.
    pub massive_tokens: usize,
}

/// What a block added to the residual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutputLifecycle {
    /// The three channels of largest magnitude.
    pub top: Vec<TopChannel>,
}

/// A channel and the token at which its magnitude is largest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopChannel {
    /// Channel.
    pub channel: usize,
    /// The value there, sign kept.
    pub value: f32,
    /// Sequence.
    pub sequence: usize,
    /// Position in the sequence.
    pub position: usize,
    /// The token's text (empty if no tokeniser is at hand).
    pub token: String,
}

/// Spike tokens, stages and channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spikes {
    /// R: a token spikes at block b if its largest magnitude is at least R `M_b`.
    pub ratio: f64,
    /// The tables' "spike": the largest `|H_b[t, k]|` over residuals of blocks b >= 1.
    pub largest: f64,
    /// Where `largest` was found.
    pub largest_at: Option<LargestAt>,
    /// Tokens that are massive (Sun et al. 2024) at some block.
    pub massive: usize,
    /// Strongest first.
    pub stages: Vec<Stage>,
    /// Spike channels of the first stage.
    pub channels: Vec<usize>,
    /// Spikes born in the last block: channels that are the largest of a spike token after it and not after the block
    /// before. A run of one block is no stage; each is described as a stage is, strongest first.
    #[serde(default)]
    pub last_block: Vec<Stage>,
}

/// Where the largest activation is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LargestAt {
    /// Block.
    pub block: usize,
    /// Channel.
    pub channel: usize,
    /// Sequence.
    pub sequence: usize,
    /// Position.
    pub position: usize,
}

/// A maximal run of blocks at which some token is a spike token whose largest channel is `channel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// The channel that defines the stage.
    pub channel: usize,
    /// First block of the run.
    pub first_block: usize,
    /// Last block of the run.
    pub last_block: usize,
    /// Blocks that inject the spike.
    pub step_up: Vec<usize>,
    /// Blocks that remove it.
    pub step_down: Vec<usize>,
    /// What each block of the window adds in the stage's channel.
    pub outputs: Vec<StageOutput>,
    /// The block of the run at which |mean(b)| is largest.
    pub peak_block: usize,
    /// mean(b) there, sign kept.
    pub peak: f64,
    /// The spike channels, largest mean magnitude first.
    pub channels: Vec<SpikeChannel>,
    /// The union over the run of its spike tokens, in sequence and position order.
    pub tokens: Vec<SpikeToken>,
    /// Share of sequences whose position 0 is among the tokens.
    pub share_at_position_0: f64,
    /// Share of all other tokens that are among the tokens.
    pub rate_elsewhere: f64,
    /// The vocabulary items that spike away from position 0, the most frequent first.
    pub elsewhere: Vec<SpikingElsewhere>,
}

impl Stage {
    /// The block after which its spikes are whole.
    pub fn whole_after(&self) -> usize {
        self.step_up.last().copied().unwrap_or(self.peak_block)
    }
}

/// A vocabulary item that spikes away from position 0, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpikingElsewhere {
    /// Token id.
    pub id: u32,
    /// Token text (empty if no tokeniser is at hand).
    pub text: String,
    /// How often it stands away from position 0.
    pub occurrences: usize,
    /// How often it spikes there.
    pub spiking: usize,
    /// How often it is then the first token of its sequence that spikes.
    pub first: usize,
    /// How often it is then its own first occurrence in the sequence.
    pub first_occurrence: usize,
    /// Its least position among those.
    pub least_position: usize,
}

/// What a block of a stage's window adds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageOutput {
    /// Block.
    pub block: usize,
    /// Mean over the stage's tokens of its output in the stage's channel, sign kept.
    pub mean: f64,
}

/// One spike channel of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpikeChannel {
    /// Channel.
    pub channel: usize,
    /// Mean over the stage's tokens at the peak block, sign kept.
    pub mean: f64,
    /// Coefficient of variation over the stage's tokens of the ratio of this channel to the stage's channel (regularity
    /// iv: almost fixed ratios); 0 for the stage's channel itself.
    pub ratio_variation: f64,
    /// Share of the stage's tokens that reach R `M_b` in this channel at the peak block (regularity iii: they spike
    /// together).
    pub share: f64,
}

/// One spike token of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpikeToken {
    /// Sequence.
    pub sequence: usize,
    /// Position.
    pub position: usize,
    /// Token id.
    pub id: u32,
    /// Token text (empty if no tokeniser is at hand).
    pub text: String,
    /// Its value in the stage's channel at the peak block.
    pub value: f32,
}

/// Attention sinks. The named definition is that of `ratio` and of everything that does not say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sinks {
    /// `paper`, `gu` or `gu-max`.
    pub definition: String,
    /// The threshold on alpha, strict.
    pub epsilon: f64,
    /// Share of sequences x heads that are sinks (eq. 28).
    pub ratio: f64,
    /// 95 % bootstrap interval over sequences; `None` with fewer than two sequences.
    pub ratio_ci95: Option<[f64; 2]>,
    /// The continuous measure: mean over sequences and heads of max alpha.
    pub mean_max_alpha: f64,
    /// 95 % bootstrap interval over sequences of `mean_max_alpha`.
    pub mean_max_alpha_ci95: Option<[f64; 2]>,
    /// Sink ratio of each layer.
    pub by_layer: Vec<f64>,
    /// Interval of each layer's ratio.
    pub by_layer_ci95: Option<Vec<[f64; 2]>>,
    /// layers x heads: mean over sequences of max alpha.
    pub heads: Vec<Vec<f64>>,
    /// Interval of each head's mean max alpha.
    pub heads_ci95: Option<Vec<Vec<[f64; 2]>>>,
    /// layers x heads: mean over sequences of alpha at position 0.
    pub position_0: Vec<Vec<f64>>,
    /// layers x heads: share of sequences in which the head is a sink.
    pub head_ratio: Vec<Vec<f64>>,
    /// layers x heads: mean entropy of a query's attention, in nats.
    pub entropy: Vec<Vec<f64>>,
    /// layers x heads: mean attention weight of a query on itself.
    pub to_self: Vec<Vec<f64>>,
    /// alpha of `paper` over the positions of keys.
    pub by_position: AlphaByPosition,
    /// Which tokens sink, under the named definition.
    #[serde(default)]
    pub tokens: Option<SinkTokens>,
    /// The other definitions, by name.
    pub other_definitions: std::collections::BTreeMap<String, OtherDefinition>,
}

/// A sink ratio under another definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OtherDefinition {
    /// Share of sequences x heads that are sinks.
    pub ratio: f64,
    /// Its interval.
    pub ratio_ci95: Option<[f64; 2]>,
    /// Mean of max alpha under this definition.
    pub mean_max_alpha: f64,
    /// Sink ratio of each layer.
    pub by_layer: Vec<f64>,
    /// layers x heads: mean over sequences of max alpha under this definition.
    pub heads: Vec<Vec<f64>>,
}
