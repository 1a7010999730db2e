//! What explains spikes and sinks: the vocabulary, the second look at a sample, the verdicts, the weights.

use super::{
    Definition, FEW_CHANNELS, FEW_TOKENS, FIXED_RATIO_VARIATION, INTERMEDIATE_SHARE, PAPER, RANK_SHARE,
    SHARED_TRIGGER_SHARE, SINK_HEAD_SHARE, SINKSCOPE, SPIKE_RATIO, SPIKE_TOGETHER_SHARE, STEP_SHARE, TOP_CHANNELS,
    in_words,
};
use crate::sample::normalisation::MOST_TOKENS as MOST_COMPARED;
use crate::sample::{LEAST_TOKENS, MOST_TOKENS, SHARE};

pub(super) fn vocabulary(spike_ratio: f64) -> Vec<Definition> {
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
pub(super) fn causes() -> Vec<Definition> {
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
        Definition::new(
            "normalisation",
            PAPER,
            format!(
                "x = sqrt(d) H_b / ||H_b|| (centred first for LayerNorm; tanh(alpha H_b) for DynamicTanh), no entry of which \
                 exceeds sqrt(d) (1 for DynamicTanh), the bound: top3_energy, share of ||x||^2 in the {} largest entries; \
                 cosines of pairs among at most {MOST_COMPARED} tokens of a kind; with_gamma: after the norm that reads H_b \
                 (eq. 23-25)",
                in_words(TOP_CHANNELS)
            ),
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
