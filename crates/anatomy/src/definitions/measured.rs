//! What is measured of activations and of attention.

use super::{
    Definition, FP16_LARGEST, MASSIVE_ABS, MASSIVE_RATIO, MIN_STAGE_BLOCKS, PAPER, PAPER_OPEN, SHARE, SHARE_OF_THREE,
    SINK_TOKEN_SHARE, SINKSCOPE, STANDOUT, STANDOUT_BLOCK, STEP_SHARE,
};
use crate::median::KEPT_BITS;
use crate::positions::SINGLE_POSITIONS;

pub(super) fn activations(spike_ratio: f64) -> Vec<Definition> {
    vec![
        Definition::new(
            "typical_token_largest",
            PAPER_OPEN,
            "M_b: median over all tokens t of max_k |H_b[t,k]|; of an even count the lower of the middle two",
        ),
        Definition::new(
            "median_abs",
            "Sun et al. 2024 (arXiv 2402.17762)",
            format!("m_b: median of all |H_b[t,k]|, from a histogram with relative error below 2^-{KEPT_BITS}"),
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
        Definition::new("share", SINKSCOPE, SHARE),
        Definition::new("share_of_three", SINKSCOPE, SHARE_OF_THREE),
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

pub(super) fn stages(spike_ratio: f64) -> Vec<Definition> {
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

pub(super) fn sinks(epsilon: f64) -> Vec<Definition> {
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
