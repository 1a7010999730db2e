//! What every number means. This page is the only place where a threshold has a value and a quantity has a formula; the
//! modules refer to it, and [`all`] puts it in every output file.
//!
//! # Notation
//!
//! A model of L layers has 2L blocks, odd ones attention, even ones feed-forward. `H_b[t, k]` is the residual after
//! block b at token t in channel k; `H_0` is the embedding. `O_b[t, k]` is what block b adds to it. `A[t, k]` is the
//! weight query t puts on key k. Tokens are those of all sequences; T is the length of one.
//!
//! # Activations (Sun, Canziani, LeCun, Zhu 2026, section 2, where the paper leaves the thresholds open)
//!
//! | name | formula |
//! |---|---|
//! | typical token's largest, `M_b` | median over tokens of `max_k abs H_b[t, k]`; of an even count the lower of the middle two, as PyTorch has it |
//! | median magnitude, `m_b` | median of all `abs H_b[t, k]`, from a histogram (error: [`crate::median`]) |
//! | spike token at block b | `max_k abs H_b[t, k] >= R M_b` and not 0; R = [`SPIKE_RATIO`] |
//! | massive token at block b (Sun et al. 2024) | a spike token with `max_k abs H_b[t, k]` above [`MASSIVE_ABS`] and at least [`MASSIVE_RATIO`] `m_b` |
//! | stage of channel k | maximal run of at least [`MIN_STAGE_BLOCKS`] consecutive blocks b >= 1 at each of which some spike token has k as its largest channel; its tokens S are the union of those tokens |
//! | mean(b) of a stage | mean over S of `H_b[t, k]` |
//! | peak block, peak | the block of the run with the largest `abs mean(b)`, and mean(b) there |
//! | spike channels of a stage | channels c with mean over S of `abs H_p[t, c]` at least `R M_p`, p the peak block; largest first |
//! | ratio variation of c | coefficient of variation over S of `H_p[t, c] / H_p[t, k]` |
//! | window of a stage | from the first block of its run to the block before the next stage of the same channel, or to the last block |
//! | step-up block | in the window, not after p, mean over S of `O_b[t, k]` with the peak's sign and at least [`STEP_SHARE`] of its magnitude |
//! | step-down block | in the window, after p, opposite sign, at least [`STEP_SHARE`] |
//! | born in the last block | a run of the last block alone, which is no stage; described as one |
//! | largest | largest `abs H_b[t, k]` over b >= 1: the "spike" of the paper's tables |
//! | standout | largest over blocks b >= 1, the last apart, of the mean over sequences of `max_t,k abs H_b[t, k]`, over `M_b`; of equal blocks the first |
//! | fp16 head-room | [`FP16_LARGEST`] over the largest of all `abs H_b[t, k]` (b >= 0) and `abs O_b[t, k]`; where it is below 1, fp16 overflows |
//!
//! Runs start at block 1 because block 0 is not the residual after a block. Of equal magnitudes the lower channel, the
//! earlier token and the earlier block count as the larger. Stages are listed by the magnitude of their peak.
//!
//! # Attention sinks
//!
//! With 0-based keys, per sequence and head:
//!
//! | name | alpha_k | sink if above epsilon, strictly | source |
//! |---|---|---|---|
//! | `paper` | `(1/T) sum_t A[t, k]` | maximum over k < floor(T/2) | eq. 27-28 |
//! | `gu` | `1/(T - k) sum_t A[t, k]` | alpha_0 | Gu et al. 2025 |
//! | `gu-max` | `1/(T - k) sum_t A[t, k]` | maximum over k < floor(T/2) | both |
//!
//! The sink ratio is the mean of that indicator over sequences and heads: alpha is never averaged before the threshold.
//! epsilon = [`SINK_EPSILON`]. A sequence of one token has no k < floor(T/2): `paper` and `gu-max` then give 0.
//!
//! T counts every key. Registers, learned tokens before the text, are keys 0 to R - 1 and queries as others are, so a text
//! of S tokens behind R registers has T = S + R, and key k is a register below R and token k - R of the text from there on.
//!
//! A token *sinks* in a head if its `alpha_k` is above epsilon there, k being one of the keys that the definition looks at.
//! It is a *sink token* of its sequence if it sinks in at least a share of [`SINK_TOKEN_SHARE`] of the model's heads, and
//! in one at least: one head alone may keep to any key of a short text.
//!
//! # What is not finite
//!
//! If a residual or a log-likelihood is infinite or undefined, there are no figures: the first such value is reported
//! instead, of the earliest block, the earliest token there, and its lowest channel ([`crate::not_finite`]).
//!
//! # Language modelling
//!
//! Perplexity is exp of the mean negative log-likelihood over the predicted tokens of all sequences, never capped.

mod explained;
mod measured;

use serde::Serialize;

pub use self::explained::census;
use self::explained::{causes, vocabulary};
use self::measured::{activations, sinks, stages};
use crate::token_page;

/// R: how many times the typical token's largest magnitude a spike token reaches at least.
pub const SPIKE_RATIO: f64 = 5.0;
/// The strict threshold on alpha above which a head is a sink head.
pub const SINK_EPSILON: f64 = 0.3;
/// Share of the peak that the output of a step-up or step-down block has at least.
pub const STEP_SHARE: f64 = 0.05;
/// Magnitude above which an activation can be massive.
pub const MASSIVE_ABS: f64 = 100.0;
/// Multiple of the median magnitude that a massive activation reaches at least.
pub const MASSIVE_RATIO: f64 = 1000.0;
/// Consecutive blocks that a stage has at least.
pub const MIN_STAGE_BLOCKS: usize = 2;
/// Channels listed per block.
pub const TOP_CHANNELS: usize = 3;
/// Share of the peak channel's response to its trigger that another channel of the same block has at least to count as
/// sharing that trigger.
pub const SHARED_TRIGGER_SHARE: f64 = 0.02;
/// Regularity i: share of the peak that a stage's tokens have at most in the embedding and after the last block.
pub const INTERMEDIATE_SHARE: f64 = 0.1;
/// Regularity ii: share of the channels that spike at most.
pub const FEW_CHANNELS: f64 = 0.05;
/// Regularity iii: share of a stage's tokens that spike in its other channels at least.
pub const SPIKE_TOGETHER_SHARE: f64 = 0.9;
/// Regularity iv: coefficient of variation of the ratios between spike channels at most.
pub const FIXED_RATIO_VARIATION: f64 = 0.1;
/// Regularity v: share of the tokens that spike at most.
pub const FEW_TOKENS: f64 = 0.05;
/// Share of the sum of the eigenvalues that defines the 95 % rank.
pub const RANK_SHARE: f64 = 0.95;
/// Share of the sequences in which a head is a sink at least, for the head to be called a sink head.
pub const SINK_HEAD_SHARE: f64 = 0.5;
/// Share of the model's heads in which a token sinks at least, for it to be a sink token.
pub const SINK_TOKEN_SHARE: f64 = 0.05;
/// Share of the sequences whose first token spikes at least, for the first token to spike as a rule.
pub const RULE_SHARE: f64 = 0.5;
/// The largest number of fp16.
pub const FP16_LARGEST: f64 = 65_504.0;
/// Resamples of a bootstrap interval.
pub const BOOTSTRAP_RESAMPLES: usize = 1000;
/// Probability mass of an interval.
pub const INTERVAL: f64 = 0.95;

/// The definition of `standout`.
pub const STANDOUT: &str = "largest over the blocks b >= 1, the last one apart, of largest_mean over typical_token_largest: how far a \
                            spike stands out that is not only the scale of the last residual";
/// That of its block.
pub const STANDOUT_BLOCK: &str = "the block b where standout is reached; of equals the first";
/// That of `share`.
pub const SHARE: &str = "largest over the blocks b >= 1 of the mean over sequences of max_t max_k H_b[t,k]^2 / ||H_b[t]||^2: how much \
                         of a token's squared length one channel owns, whatever the width and the scale";
/// That of `share_of_three`.
pub const SHARE_OF_THREE: &str = "as share, of the three largest channels of a token together";

/// A threshold as text has it: of 0.05, `5 %`.
pub fn in_percent(share: f64) -> String {
    // To the digits that a constant is typed with.
    format!("{} %", (share * 1e8).round() / 1e6)
}

/// A small count as text has it: of 2, `two`.
pub fn in_words(count: usize) -> String {
    let words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    words.get(count).map_or_else(|| count.to_string(), |word| (*word).to_owned())
}

/// One measured quantity: what it is called, how it is computed, where that comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Definition {
    /// The name under which results carry it.
    pub name: &'static str,
    /// How it is computed, thresholds filled in.
    pub formula: String,
    /// Where it comes from.
    pub source: &'static str,
}

impl Definition {
    /// A definition of `name` after `source`.
    pub fn new(name: &'static str, source: &'static str, formula: impl Into<String>) -> Self {
        Self { name, formula: formula.into(), source }
    }

    /// Formula and source in one line, as the `definitions` object of an output file has it.
    pub fn text(&self) -> String {
        format!("{} [{}]", self.formula, self.source)
    }
}

const PAPER: &str = "Sun, Canziani, LeCun, Zhu 2026 (arXiv 2603.05498)";
const PAPER_OPEN: &str = "Sun, Canziani, LeCun, Zhu 2026 (arXiv 2603.05498), section 2; threshold of sinkscope";
const SINKSCOPE: &str = "sinkscope";

/// Every definition with the thresholds of this run.
pub fn all(spike_ratio: f64, epsilon: f64) -> Vec<Definition> {
    let mut definitions = activations(spike_ratio);
    definitions.extend(stages(spike_ratio));
    definitions.extend(sinks(epsilon));
    definitions.push(Definition::new(
        "ci95",
        SINKSCOPE,
        format!(
            "percentile bootstrap over sequences, {BOOTSTRAP_RESAMPLES} resamples, {INTERVAL} of the mass; absent with fewer \
             than two sequences"
        ),
    ));
    definitions.push(Definition::new(
        "nll",
        PAPER,
        "mean negative log-likelihood over the predicted tokens of all sequences, in nats",
    ));
    definitions.push(Definition::new("perplexity", PAPER, "exp(nll), never capped"));
    definitions.push(Definition::new(
        "tokens",
        SINKSCOPE,
        format!(
            "the first sequences: at most {} tokens, and {} values of alpha; largest: the H_b[t,k] of largest magnitude over \
             b >= 1 and k; received: for every token k, layer and head alpha_k = (1/T) sum_t A[t,k] (eq. 27), the head \
             fastest, one unsigned byte q each in base64, {}",
            token_page::MOST_TOKENS,
            token_page::MOST_VALUES,
            token_page::SCALE
        ),
    ));
    definitions.extend(causes());
    definitions.extend(vocabulary(spike_ratio));
    definitions.extend(census());
    definitions
}

/// Every definition of the probe.
pub fn probe(spike_ratio: f64) -> Vec<Definition> {
    let mut definitions = activations(spike_ratio);
    definitions.extend(stages(spike_ratio));
    definitions.extend(vocabulary(spike_ratio));
    definitions
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_thresholds_are_filled_in() {
        let definitions = all(7.5, 0.25);
        let names: BTreeSet<_> = definitions.iter().map(|definition| definition.name).collect();
        assert_eq!(names.len(), definitions.len());
        let text = |name| definitions.iter().find(|definition| definition.name == name).map(Definition::text);
        assert!(text("spike_token").is_some_and(|text| text.contains(">= 7.5 M_b")));
        assert!(text("sink_ratio.gu").is_some_and(|text| text.contains("> 0.25")));
    }

    #[test]
    fn thresholds_read_as_they_are_typed() {
        assert_eq!([0.05, 0.3, 0.95, 0.07, 0.125].map(in_percent), ["5 %", "30 %", "95 %", "7 %", "12.5 %"]);
        assert_eq!([0, 2, 10, 11].map(in_words), ["no", "two", "ten", "11"]);
    }
}
