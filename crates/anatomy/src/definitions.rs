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

use serde::Serialize;

use crate::positions::SINGLE_POSITIONS;
use crate::sample::{LEAST_TOKENS, MOST_TOKENS, SHARE};
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

fn vocabulary(spike_ratio: f64) -> Vec<Definition> {
    vec![Definition::new(
        "probe",
        PAPER,
        format!(
            "every vocabulary item alone behind the same prefix (none: at position 0, without BOS); value: max_k |H_b[k]| \
             after the last step-up block b of the text's strongest stage (its peak block if none steps up); it spikes if \
             value >= threshold = {spike_ratio} M_b, M_b from the text (Table 2)"
        ),
    )]
}

/// Every definition of the second look at a sample, and of the verdicts.
fn causes() -> Vec<Definition> {
    let paper = |name, formula: &str| Definition::new(name, PAPER, formula);
    let ours = |name, formula: String| Definition::new(name, SINKSCOPE, formula);
    vec![
        ours(
            "regularities",
            format!(
                "of the strongest stage; i: mean over its tokens of their largest activation in the embedding or after the last \
                 block at most {INTERMEDIATE_SHARE} of the peak; ii: at most {FEW_CHANNELS} of the channels spike; iii: in its other channels, \
                 at least {SPIKE_TOGETHER_SHARE} of its tokens spike on average; iv: median ratio_variation of its other \
                 channels at most {FIXED_RATIO_VARIATION}; v: at most {FEW_TOKENS} of the tokens are its; without a stage, or a \
                 second channel or token where one is needed, it fails"
            ),
        ),
        ours(
            "sample",
            format!(
                "the first positions of evenly chosen sequences: {SHARE} of the tokens, but at least {LEAST_TOKENS} and at most \
                 {MOST_TOKENS}; spike: the tokens of the strongest stage (of the block's stage under silu), other: the tokens of no stage"
            ),
        ),
        paper(
            "silu",
            "cosine and norm_ratio of act(g) to g, g = W_gate x + b: mean over tokens, and of single tokens (points) (Fig. 2)",
        ),
        paper(
            "bilinear_error",
            "||W_down (g o u) - W_down (act(g) o u)|| / ||W_down (act(g) o u)|| over tokens and the stage's spike channels, \
             without bias and before any output norm (eq. 15); without a gate g o u is c g o g",
        ),
        paper(
            "rank_one",
            "l* (s* . x)^2 against the real output in the stage's channel (eq. 21); trigger_cosine: |cos(x, s*)|",
        ),
        paper(
            "normalisation",
            "x = sqrt(d) H_b / ||H_b|| (centred first for LayerNorm; tanh(alpha H_b) for DynamicTanh), no entry of which exceeds \
             sqrt(d) (1 for DynamicTanh), the bound: top3_energy, share of ||x||^2 in the three largest entries; \
             cosines of pairs among at most 256 tokens of a kind; with_gamma: after the norm that reads H_b (eq. 23-25)",
        ),
        ours(
            "geometry",
            format!(
                "sink key: in every head that of the same token, which sinks in most heads of all that stand in the first half of \
                 the sample's sequence (of equals the first); sink: the head's indicator holds in at least {SINK_HEAD_SHARE} of the sequences; key_rank95: least number of eigenvalues of the \
                 second-moment matrix of rotated keys with {RANK_SHARE} of their sum; logit_gap: mean over queries after the \
                 sink token of its key's logit less the mean logit of the other keys in sight, before any soft cap and \
                 ALiBi; distance: mean of t - k weighted by A[t,k]; distance_beside_sink: of the other keys; \
                 query_to_sink_key, query_to_other_keys: mean cosines (eq. 26)"
            ),
        ),
        paper(
            "tsne",
            "exact t-SNE of rotated queries and keys of tokens of the sample, in two dimensions (Fig. 6); if no heads were \
             named, of the head with the largest mean max alpha and of the one with the least in its layer",
        ),
        paper(
            "self_sinking",
            "tokens away from position 0, those of another stage left out: cosine of the embedding to the first norm's gamma (0 of an embedding of \
             zeros), length of what that norm makes of it, attention weight on itself by layer",
        ),
    ]
}

/// Every definition of the census.
pub fn census() -> Vec<Definition> {
    let paper = |name, formula: &str| Definition::new(name, PAPER, formula);
    let ours = |name, formula: String| Definition::new(name, SINKSCOPE, formula);
    vec![
        paper(
            "frobenius",
            "||U_k||_F of U_k = c sum_i W_down[k, i] W_gate[i] W_up[i]^T, gamma folded into the columns of W_gate and W_up \
             (eq. 16-18); c is `coefficient`: 1 for a gated block; without a gate W_up = W_gate = W_in and c is that of the \
             nonlinearity's second-order term at 0",
        ),
        paper("symmetric", "||S_k||_F of S_k = (U_k + U_k^T) / 2"),
        paper("eigenvalues", "of S_k, signed, by magnitude (eq. 19)"),
        paper("dominance", "|l_1| / |l_2| of S_k"),
        paper("trigger", "s*, the eigenvector of S_k for l_1, of length 1, its largest entry positive"),
        paper("cosines", "|cos| of two triggers"),
        ours(
            "units",
            "the hidden units i of largest |W_down[k, i]| ||W_gate[i]|| ||W_up[i]||, with the cosine of the two rows \
             (collinearity)"
                .to_owned(),
        ),
        ours(
            "steering",
            "vocabulary items, or the token that texts begin with if it is always the same, walked alone at position 0, where \
             attention is the static map W_VO (eq. 22): mean |cos| of the residual to the trigger after each block; \
             attention_alone: with every feed-forward block left out; heads: what a head adds along the trigger, as a share of \
             the length of the residual it is added to"
                .to_owned(),
        ),
        ours(
            "prediction",
            format!(
                "walk: |l_1| times the mean of (s* . x)^2 over those items, x the block's normalised input without gamma and \
                 epsilon; the largest that is at least {SPIKE_RATIO} times the typical largest magnitude of the residual read names channel \
                 and peak block; step-up: blocks up to the peak where that channel's has the same sign \
                 and {STEP_SHARE} of it; step-down: blocks after it with the opposite sign and {STEP_SHARE}; channels: those \
                 with at least {SHARED_TRIGGER_SHARE} of the largest |s*^T S_k s*|"
            ),
        ),
    ]
}

fn activations(spike_ratio: f64) -> Vec<Definition> {
    vec![
        Definition::new(
            "typical_token_largest",
            PAPER_OPEN,
            "M_b: median over all tokens t of max_k |H_b[t,k]|; of an even count the lower of the middle two",
        ),
        Definition::new(
            "median_abs",
            "Sun et al. 2024 (arXiv 2402.17762)",
            "m_b: median of all |H_b[t,k]|, from a histogram with relative error below 2^-8",
        ),
        Definition::new("largest_mean", PAPER, "mean over sequences of max_t,k |H_b[t,k]|"),
        Definition::new(
            "fp16",
            SINKSCOPE,
            format!(
                "factor: {FP16_LARGEST} over the largest |H_b[t,k]| (b >= 0) or |O_b[t,k]|, O_b what block b adds; overflow: the \
                 largest of the first block that has one beyond {FP16_LARGEST}; values inside blocks are not looked at"
            ),
        ),
        Definition::new("largest", PAPER, "largest |H_b[t,k]| over the residuals after blocks b >= 1"),
        Definition::new("standout", SINKSCOPE, STANDOUT),
        Definition::new("standout_block", SINKSCOPE, STANDOUT_BLOCK),
        Definition::new(
            "spike_token",
            PAPER_OPEN,
            format!("token t with max_k |H_b[t,k]| >= {spike_ratio} M_b (and not 0) at block b"),
        ),
        Definition::new(
            "massive",
            "Sun et al. 2024 (arXiv 2402.17762)",
            format!(
                "spike token with max_k |H_b[t,k]| > {MASSIVE_ABS} and >= {MASSIVE_RATIO} m_b at some block b >= 1"
            ),
        ),
    ]
}

fn stages(spike_ratio: f64) -> Vec<Definition> {
    vec![
        Definition::new(
            "stage",
            PAPER_OPEN,
            format!(
                "of channel k: maximal run of at least {MIN_STAGE_BLOCKS} consecutive blocks b >= 1 at which some spike token's \
                 largest channel is k; its tokens are the union of those tokens; listed by |peak|, strongest first"
            ),
        ),
        Definition::new(
            "peak",
            PAPER_OPEN,
            "mean over the stage's tokens of H_b[t,k] at the peak block: the block of the run where its magnitude is largest",
        ),
        Definition::new(
            "spike_channels",
            PAPER_OPEN,
            format!(
                "channels whose mean |H_b| over the stage's tokens at the peak block is >= {spike_ratio} M_b, largest first"
            ),
        ),
        Definition::new(
            "ratio_variation",
            PAPER_OPEN,
            "standard deviation over |mean|, over the stage's tokens, of H[t,c] / H[t,k] at the peak block",
        ),
        Definition::new(
            "step_up",
            PAPER_OPEN,
            format!(
                "blocks of the window, not after the peak block, whose output in channel k averaged over the stage's tokens has \
                 the sign of the peak and at least {STEP_SHARE} of its magnitude; the window runs from the first block of the \
                 run to the block before the next stage of the same channel, or to the last block"
            ),
        ),
        Definition::new(
            "step_down",
            PAPER_OPEN,
            format!("blocks of the window after the peak block, opposite sign, at least {STEP_SHARE} of the magnitude"),
        ),
        Definition::new(
            "share_at_position_0",
            SINKSCOPE,
            "share of sequences whose token at position 0 is among the stage's tokens",
        ),
        Definition::new(
            "last_block",
            SINKSCOPE,
            "channels that are the largest of a spike token after the last block and not after the block before: a run of one \
             block, which is no stage; described as a stage is",
        ),
        Definition::new("rate_elsewhere", SINKSCOPE, "share of the tokens at other positions among the stage's tokens"),
    ]
}

fn sinks(epsilon: f64) -> Vec<Definition> {
    vec![
        Definition::new(
            "sink_ratio.paper",
            "Sun, Canziani, LeCun, Zhu 2026 (arXiv 2603.05498), eq. 27-28",
            format!(
                "mean over sequences and heads of the indicator max_{{k < floor(T/2)}} alpha_k > {epsilon}, with alpha_k = (1/T) \
                 sum_t A[t,k], keys 0-based"
            ),
        ),
        Definition::new(
            "sink_ratio.gu",
            "Gu et al. 2025 (arXiv 2410.10781)",
            format!("as paper, with alpha_k = 1/(T-k) sum_t A[t,k] and the indicator alpha_0 > {epsilon}"),
        ),
        Definition::new(
            "sink_ratio.gu-max",
            "Gu et al. 2025 (arXiv 2410.10781), over the positions of eq. 28",
            format!("as paper, with alpha_k = 1/(T-k) sum_t A[t,k]: max_{{k < floor(T/2)}} alpha_k > {epsilon}"),
        ),
        Definition::new(
            "mean_max_alpha",
            SINKSCOPE,
            "mean over sequences and heads of the quantity that the indicator compares with its threshold",
        ),
        Definition::new(
            "by_position",
            "Sun, Canziani, LeCun, Zhu 2026 (arXiv 2603.05498), eq. 27",
            format!(
                "mean over sequences, heads of the layer and positions k of a bin of alpha_k = (1/T) sum_t A[t,k]; bins are \
                 single positions below {SINGLE_POSITIONS}, then double in width"
            ),
        ),
        Definition::new(
            "sink_tokens",
            SINKSCOPE,
            format!(
                "token k of a sequence, k one of the keys that the definition looks at, with alpha_k > {epsilon} in at least \
                 {SINK_TOKEN_SHARE} of the model's heads and in one at least; share_at_position_0: share of sequences whose first \
                 token is one; rate_elsewhere: share of all other tokens that are"
            ),
        ),
        Definition::new(
            "registers",
            SINKSCOPE,
            "learned tokens before the text count as keys, queries and part of T: a text of S tokens behind R of them has T = \
             S + R, and they are keys 0 to R - 1; what they predict does not count in nll",
        ),
        Definition::new("position_0", SINKSCOPE, "mean over sequences of alpha_0, which all definitions share"),
        Definition::new(
            "entropy",
            SINKSCOPE,
            "mean over queries of -sum_k p_k ln p_k, in nats; p_k = A[t,k], and what a softmax gives to no key as one more; \
             for sigmoids A[t,k] over their sum",
        ),
        Definition::new("to_self", SINKSCOPE, "mean over queries of A[t,t]"),
    ]
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
}
