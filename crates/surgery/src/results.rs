//! The typed results of `sinkscope operate`, field for field what `operate.json` holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_anatomy::not_finite::NotFinite;
use sinkscope_anatomy::sink_tokens::SinkTokens;

use crate::positions::ByPosition;

/// The untouched model and every variant, on the same tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The untouched model.
    pub baseline: Baseline,
    /// Where its strongest spike is; `None` if it has none.
    pub spike: Option<SpikePlace>,
    /// Which tokens sink: the default place of operations on sinks.
    #[serde(default)]
    pub sink_tokens: Option<SinkTokens>,
    /// In the order of the operations.
    pub variants: Vec<Variant>,
    /// Operations that were run to try what advice says, beside those asked for.
    #[serde(default)]
    pub trials: Vec<Variant>,
    /// Operations that were run with growing numbers of tokens kept; each step is a variant.
    #[serde(default)]
    pub sweeps: Vec<Sweep>,
    /// Pairs of variants that differ by smoothing.
    #[serde(default)]
    pub smoothing: Vec<Smoothing>,
    /// What the run says to those who quantise the model or run it on long texts.
    pub advice: Vec<Advice>,
    /// Every run by position, in at most 256 bins of positions.
    pub by_position: ByPosition,
    /// Every run by position; in `positions.parquet`.
    #[serde(skip)]
    pub positions: Vec<PositionNll>,
}

/// How well a run predicts the token at one position.
#[derive(Debug, Clone, PartialEq)]
pub struct PositionNll {
    /// The operation as typed; empty for the untouched model.
    pub name: String,
    /// Position of the target in the original tokens.
    pub position: usize,
    /// Mean over sequences, in nats.
    pub nll: f64,
}

/// How well a window predicts when it is long past.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PerplexityAfter {
    /// Four times the window's width: targets lie beyond this position.
    pub position: usize,
    /// Of the variant.
    pub value: f64,
    /// Of the untouched model, over the same targets.
    pub untouched: f64,
}

/// The untouched model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baseline {
    /// exp of `nll`; `None` if it is too large for a number.
    pub perplexity: Option<f64>,
    /// Mean negative log-likelihood per predicted token, in nats.
    pub nll: f64,
    /// Predicted tokens.
    pub tokens: usize,
    /// Sequences. 0 in files of earlier versions.
    #[serde(default)]
    pub sequences: usize,
    /// Share of sequences x heads that are sinks.
    pub sink_ratio: f64,
    /// Largest magnitude in the residual after any block.
    pub largest: f64,
}

/// The default place of operations on spikes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpikePlace {
    /// The last step-up block of the strongest stage; its peak block if none steps up.
    pub block: usize,
    /// The stage's spike channels.
    pub channels: Vec<usize>,
    /// How many tokens are the stage's.
    pub tokens: usize,
}

/// The model with one operation done to it. A variant whose activations are not finite has no figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Variant {
    /// The operation, as typed.
    pub name: String,
    /// exp of `nll`; `None` if it is not finite.
    pub perplexity: Option<f64>,
    /// Mean over the targets that both predict, in nats; `None` if there are none, or it is not finite.
    pub nll: Option<f64>,
    /// That less the untouched model's over the same targets.
    pub delta_nll: Option<f64>,
    /// 95 % bootstrap interval of `delta_nll` over sequences; `None` with fewer than two.
    pub delta_ci95: Option<[f64; 2]>,
    /// Divergence of the untouched model's next-token distribution to the variant's over these targets, in nats a token.
    #[serde(default)]
    pub kl: Option<f64>,
    /// 95 % bootstrap interval of `kl` over sequences; `None` with fewer than two.
    #[serde(default)]
    pub kl_ci95: Option<[f64; 2]>,
    /// Share of these predictions whose most likely token is the untouched model's.
    #[serde(default)]
    pub top1_agreement: Option<f64>,
    /// How many targets both predict.
    pub tokens: usize,
    /// Of a window: perplexity over the targets beyond position 4W; `None` if there are none.
    pub perplexity_after: Option<PerplexityAfter>,
    /// Share of sequences x heads that are sinks; `None` if the variant is not finite.
    pub sink_ratio: Option<f64>,
    /// Largest magnitude in the residual after any block; `None` if it is not finite.
    pub largest: Option<f64>,
    /// The first activation or log-likelihood that is not finite; `None` if all are.
    #[serde(default)]
    pub not_finite: Option<NotFinite>,
    /// Tokens whose rows were changed; `None` where the tokens themselves were.
    pub changed_tokens: Option<usize>,
    /// Attention that those tokens receive in the untouched model: mean over them, layers, heads and the queries from them on.
    pub received_before: Option<f64>,
    /// The same in the variant.
    pub received: Option<f64>,
    /// The block after which the variant's own computation begins.
    pub computed_after: usize,
    /// Of quantisation: tokens that stay as they are; `None` if none was to.
    pub kept_tokens: Option<usize>,
    /// Of quantised layers: what became of each. Empty otherwise.
    pub linear_layers: Vec<LinearLayer>,
}

/// What smoothing changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Smoothing {
    /// Which variant is smoothed, from 0.
    pub smoothed: usize,
    /// Which is the same without.
    pub plain: usize,
    /// `delta_nll` of the first less that of the second.
    pub difference: f64,
    /// 95 % bootstrap interval over sequences, both drawn together; `None` with fewer than two.
    pub difference_ci95: Option<[f64; 2]>,
}

/// An operation that was run with each of several numbers of first tokens kept as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sweep {
    /// The operation, as typed.
    pub name: String,
    /// Its runs, the fewest tokens first.
    pub steps: Vec<SweepStep>,
    /// The fewest first tokens beyond which those up to the last step are worth, on average, at most twice an average token, which
    /// is the loss left over the tokens left; `None` if the first step may lose nothing, or all up to the last are worth more.
    pub enough: Option<usize>,
}

/// A step of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SweepStep {
    /// How many first tokens of each sequence are kept.
    pub kept: usize,
    /// Which variant it is, from 0.
    pub variant: usize,
}

/// A linear layer that was quantised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinearLayer {
    /// Block, from 1.
    pub block: usize,
    /// query, key, value, attention-output, gate, up or down.
    pub projection: String,
    /// The name of its tensor, without `.weight`. Empty in files of earlier versions.
    #[serde(default)]
    pub tensor: String,
    /// How many weights it has. 0 in files of earlier versions.
    #[serde(default)]
    pub weights: usize,
    /// Largest magnitude of its input at tokens that spike, in the untouched model; `None` if none does.
    pub largest_at_spikes: Option<f32>,
    /// Largest magnitude of its input at all others.
    pub largest_elsewhere: f32,
    /// Relative error of its output, on the untouched model's inputs, at tokens that do not spike; `None` if none was sampled.
    pub error: Option<f64>,
    /// The same at tokens that spike.
    pub error_at_spikes: Option<f64>,
    /// Whether `error` is above the threshold.
    pub breaks: bool,
}

/// A line of advice: a fact that the run measured, with its figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Advice {
    /// `loss`, `layers`, `exempt`, `smoothing` or `tokens`.
    pub about: String,
    /// The operation that shows it, as typed.
    pub operation: String,
    /// In words.
    pub text: String,
    /// The figure that the text turns on.
    pub figure: f64,
    /// What it counts.
    pub unit: String,
    /// Passes that were run for this line alone.
    #[serde(default)]
    pub trials: usize,
}
