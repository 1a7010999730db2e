//! A look at a model in training: what the examination of any checkpoint says, in short.

mod detail;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_anatomy::census::norms::norms;
use sinkscope_anatomy::census::quadratic::QuadraticForm;
use sinkscope_anatomy::error::AnatomyError;
use sinkscope_anatomy::examination::{AnatomyRequest, Surroundings, examine};
use sinkscope_model::Model;
use sinkscope_sources::data::TokenBatch;

pub use detail::Detail;

use crate::measure::standout;

/// What a look shows. All of it is of the same held-out sequences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Watched {
    /// Mean negative log-likelihood per predicted token, in nats.
    pub nll: f64,
    /// exp of it.
    pub perplexity: f64,
    /// The tables' "spike": the largest magnitude in the residual after any block.
    pub spike: f64,
    /// Where it is.
    pub spike_at: Option<SpikeAt>,
    /// Its magnitude over that of the typical token at the same block.
    pub spike_over_typical: Option<f64>,
    /// The strongest stage, if any token spikes by the definition.
    pub stage: Option<WatchedStage>,
    /// Sink ratio (eq. 28).
    pub sink_ratio: f64,
    /// That of Gu et al.: of the first position alone.
    pub sink_ratio_gu: Option<f64>,
    /// The continuous measure: mean over sequences and heads of max alpha.
    pub mean_max_alpha: f64,
    /// Sink ratio of each layer.
    pub sink_ratio_by_layer: Vec<f64>,
    /// By block from 0: the mean over sequences of the largest magnitude in the residual.
    pub largest_by_block: Vec<f64>,
    /// By block from 0: the typical token's largest magnitude.
    pub typical_by_block: Vec<f64>,
    /// `||U_k||_F` of the spike's channel in every feed-forward block that has one (eq. 16).
    pub frobenius: Vec<f64>,
    /// What the recipe asked for beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// The held-out sequences of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// Those that looks are of.
    pub batch: TokenBatch,
    /// Whether looks show the detail.
    pub detail: bool,
    /// For the detail: sequences of the training length, if that is another.
    pub long: Option<TokenBatch>,
}

#[cfg(test)]
impl HeldOut {
    /// These, without detail.
    pub fn plain(batch: TokenBatch) -> Self {
        Self { batch, detail: false, long: None }
    }
}

/// Where the largest activation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpikeAt {
    /// Block.
    pub block: usize,
    /// Channel.
    pub channel: usize,
    /// Position in its sequence.
    pub position: usize,
}

/// The strongest stage in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WatchedStage {
    /// Its channel.
    pub channel: usize,
    /// Mean over its tokens in that channel at the peak block.
    pub peak: f64,
    /// That block.
    pub peak_block: usize,
    /// Over the typical token's largest there.
    pub peak_over_typical: f64,
    /// Blocks that inject it.
    pub step_up: Vec<usize>,
    /// Share of sequences whose first token is among its tokens.
    pub share_at_position_0: f64,
}

/// Looks at a model.
///
/// # Errors
/// If a weight or an activation is not finite.
pub fn look(model: &Model, held_out: &HeldOut, seed: u64) -> Result<Watched, AnatomyError> {
    let request =
        AnatomyRequest { lifecycle: true, spikes: true, sinks: true, nll: true, seed, ..AnatomyRequest::nothing() };
    let around = Surroundings { memory: MEMORY, text: &|_| String::new(), progress: &|_| {} };
    let anatomy = examine(model, &held_out.batch, &request, around)?.anatomy;
    let blocks = anatomy.lifecycle.map(|lifecycle| lifecycle.blocks).unwrap_or_default();
    let typical_by_block: Vec<f64> = blocks.iter().map(|block| block.residual.typical_token_largest).collect();
    let over = |value: f64, block: usize| value.abs() / typical_by_block[block].max(f64::MIN_POSITIVE);
    let spikes = anatomy.spikes;
    let at = spikes.as_ref().and_then(|spikes| spikes.largest_at.as_ref());
    let at = at.map(|at| SpikeAt { block: at.block, channel: at.channel, position: at.position });
    let spike = spikes.as_ref().map_or(0.0, |spikes| spikes.largest);
    let stage = spikes.and_then(|spikes| spikes.stages.into_iter().next()).map(|stage| WatchedStage {
        channel: stage.channel,
        peak: stage.peak,
        peak_block: stage.peak_block,
        peak_over_typical: over(stage.peak, stage.peak_block),
        step_up: stage.step_up,
        share_at_position_0: stage.share_at_position_0,
    });
    let nll = anatomy.nll.unwrap_or(f64::NAN);
    let sinks = anatomy.sinks;
    let mut watched = Watched {
        nll,
        perplexity: nll.exp(),
        spike,
        spike_at: at,
        spike_over_typical: at.map(|at| over(spike, at.block)),
        stage,
        sink_ratio: sinks.as_ref().map_or(0.0, |sinks| sinks.ratio),
        sink_ratio_gu: sinks.as_ref().and_then(|sinks| Some(sinks.other_definitions.get("gu")?.ratio)),
        mean_max_alpha: sinks.as_ref().map_or(0.0, |sinks| sinks.mean_max_alpha),
        sink_ratio_by_layer: sinks.map(|sinks| sinks.by_layer).unwrap_or_default(),
        largest_by_block: blocks.iter().map(|block| block.residual.largest_mean).collect(),
        typical_by_block,
        frobenius: match at {
            Some(at) => frobenius(model, at.channel)?,
            None => Vec::new(),
        },
        detail: None,
    };
    if held_out.detail {
        let block = standout(&watched).map(|(block, _)| block);
        let HeldOut { batch, long, .. } = held_out;
        watched.detail = Some(detail::detail(model, batch, long.as_ref(), block, &watched.typical_by_block)?);
    }
    Ok(watched)
}

/// Bytes for the activations of a look; a small model on a few sequences stays far below.
const MEMORY: u64 = 1 << 30;

/// By layer: the norm of the quadratic form of a channel.
fn frobenius(model: &Model, channel: usize) -> Result<Vec<f64>, AnatomyError> {
    let mut all = Vec::new();
    for layer in 0..model.architecture().layer_count() {
        if let Some(form) = QuadraticForm::new(&model.feed_forward_block(layer)?) {
            all.push(norms(&form).frobenius[channel]);
        }
    }
    Ok(all)
}
