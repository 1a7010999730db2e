//! The five regularities of spikes (section 2): a verdict on each, with its numbers. Thresholds are in
//! [`crate::definitions`]; a model without a stage has none of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definitions::{FEW_CHANNELS, FEW_TOKENS, FIXED_RATIO_VARIATION, INTERMEDIATE_SHARE, SPIKE_TOGETHER_SHARE};
use crate::median::median;
use crate::residual::ResidualTap;
use crate::results::Stage;
use crate::wide::mean;

/// One regularity of the strongest stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Regularity {
    /// What should hold.
    pub name: String,
    /// Whether it does.
    pub holds: bool,
    /// The quantity; `None` if there is no stage, or nothing to take it of.
    pub value: Option<f64>,
    /// What it is.
    pub quantity: String,
    /// Where it has to lie.
    pub threshold: Threshold,
}

/// The side of a number on which a quantity has to lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// The verdicts on the strongest stage, if there is one.
pub fn regularities(tap: &ResidualTap, stage: Option<&Stage>, seq_len: usize, d_model: usize) -> Vec<Regularity> {
    let last = tap.blocks().end - 1;
    let at_ends = |stage: &Stage| {
        let at_block = |block: usize| {
            let largest = &tap.maxima(block).largest;
            mean(stage.tokens.iter().map(|token| largest[token.sequence * seq_len + token.position]))
        };
        Some(at_block(0)?.max(at_block(last)?) / stage.peak.abs())
    };
    let beside = |stage: &Stage, of: fn(&crate::results::SpikeChannel) -> f64| -> Vec<f64> {
        stage.channels.iter().filter(|channel| channel.channel != stage.channel).map(of).collect()
    };
    let together = |stage: &Stage| mean(beside(stage, |channel| channel.share));
    let variation = |stage: &Stage| {
        let variations: Vec<f32> =
            beside(stage, |channel| channel.ratio_variation).into_iter().map(|variation| variation as f32).collect();
        (stage.tokens.len() > 1 && !variations.is_empty()).then(|| median(&variations))
    };
    let tokens = tap.maxima(0).largest.len() as f64;
    let verdict = |name: &str, quantity: &str, threshold, value: Option<f64>| {
        let holds = match (threshold, value) {
            (_, None) => false,
            (Threshold::AtMost(most), Some(value)) => value <= most,
            (Threshold::AtLeast(least), Some(value)) => value >= least,
        };
        Regularity { name: name.to_owned(), holds, value, quantity: quantity.to_owned(), threshold }
    };
    vec![
        verdict(
            "only in intermediate layers",
            "largest activation of the stage's tokens in the embedding or after the last block, as a share of the peak",
            Threshold::AtMost(INTERMEDIATE_SHARE),
            stage.and_then(at_ends),
        ),
        verdict(
            "in few channels",
            "share of the channels that spike",
            Threshold::AtMost(FEW_CHANNELS),
            stage.map(|stage| stage.channels.len() as f64 / d_model as f64),
        ),
        verdict(
            "which spike together",
            "share of the stage's tokens that spike in a channel beside its own, mean over those channels",
            Threshold::AtLeast(SPIKE_TOGETHER_SHARE),
            stage.and_then(together),
        ),
        verdict(
            "at almost fixed ratios",
            "coefficient of variation of the ratio to the stage's channel, median over the other spike channels",
            Threshold::AtMost(FIXED_RATIO_VARIATION),
            stage.and_then(variation),
        ),
        verdict(
            "for few tokens",
            "share of the tokens that are the stage's",
            Threshold::AtMost(FEW_TOKENS),
            stage.map(|stage| stage.tokens.len() as f64 / tokens),
        ),
    ]
}
