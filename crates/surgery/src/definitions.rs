//! What the numbers of a comparison mean.

use sinkscope_anatomy::definitions::Definition;

use crate::operation::FORMS;

/// Relative error of its output above which a quantised layer breaks.
pub const BREAKS: f64 = 0.5;
/// Tokens that share a scale in each channel of a cache.
pub const CHANNEL_TOKENS: usize = 32;
/// Most sequences that damage is measured in, evenly chosen,
pub const SAMPLED_SEQUENCES: usize = 8;
/// fewer where smoothing gives each sequence weights of its own,
pub const SMOOTHED_SEQUENCES: usize = 2;
/// most of their first positions,
pub const SAMPLED_POSITIONS: usize = 256;
/// most tokens there that do not spike, evenly chosen,
pub const SAMPLED_TOKENS: usize = 64;
/// and most that do.
pub const SAMPLED_SPIKES: usize = 32;

const SINKSCOPE: &str = "sinkscope";
const SUN: &str = "Sun et al. 2024 (arXiv 2402.17762)";

/// Every definition of `sinkscope operate`, beside those of the anatomy.
pub fn definitions() -> Vec<Definition> {
    let mut all = of_operations();
    all.extend(of_schemes());
    all.extend(of_quantisation());
    all
}

fn ours(name: &'static str, formula: &str) -> Definition {
    Definition::new(name, SINKSCOPE, formula)
}

fn of_operations() -> Vec<Definition> {
    let mut all = vec![
        ours(
            "delta_nll",
            "mean over the targets that both predict of the variant's negative log-likelihood less the untouched model's; nll and \
             perplexity are the variant's over those targets",
        ),
        ours("delta_ci95", "percentile bootstrap over sequences of delta_nll, both runs drawn together"),
        Definition::new(
            "place",
            SUN,
            "spikes: the residual right after the last step-up block of the strongest stage (its peak block if none steps up), at \
             the stage's tokens and spike channels, unless @block, @position or @channels say otherwise",
        ),
        Definition::new(
            "mean",
            SUN,
            "for each sequence the mean, entry by entry, over the chosen tokens of all other sequences; with a calibration text, \
             over that text's tokens",
        ),
        ours(
            "received",
            "attention that the changed tokens receive, divided by the number of queries from them on: mean over those tokens, heads \
             and layers; received_before in the untouched model",
        ),
        ours(
            "not_finite",
            "the first value of a variant that is infinite or undefined: of the earliest block whose residual holds one, the \
             earliest token there, and its lowest channel; else the first token whose log-likelihood is; such a variant has no \
             figures",
        ),
        ours("perplexity_after", "over targets at positions beyond 4 W, of the variant and of the untouched model"),
    ];
    let defined = FORMS.iter().filter_map(|form| Some(Definition::new(form.name(), form.source, form.definition?)));
    all.extend(defined);
    all
}

fn of_schemes() -> Vec<Definition> {
    vec![
        ours(
            "quantize",
            "of the blocks' linear layers (those of +only without those of +except), inputs (a8), weights (w8, w4, w3) or both \
             become the nearest point of a grid and are multiplied in f32; embedding, output head, gates of heads, norms, biases \
             and the products of attention stay as they are. Integers of b bits: symmetric, scale = largest magnitude / \
             (2^(b-1) - 1) in f32, x / scale rounded half to even and clamped to plus or minus 2^(b-1) - 1, times scale; a group \
             of zeros stays zero; a value that is not finite is refused",
        ),
        ours(
            "quantize.tensor",
            "one scale of inputs per sequence and linear input (query, key and value share theirs, gate and up too)",
        ),
        ours("quantize.token", "one scale of inputs per token and linear input"),
        ours(
            "quantize.static",
            "+static: the largest magnitude that a shared scale is of is that of all other sequences, or of the calibration text, in \
             the untouched model and without tokens that are kept; what is larger goes to the largest point",
        ),
        ours(
            "quantize.weights",
            "w8, w4a8, w8a8: one scale per output; wB-gN: one per output and N neighbouring inputs",
        ),
        Definition::new(
            "quantize.smooth-w8a8",
            "Xiao et al. 2022 (arXiv 2211.10438)",
            "channel j of an input is divided by s_j = max|X_j|^0.5 / max|W_j|^0.5 and its weights multiplied by it (1 where either is \
             0), then inputs are quantised per token (-token, O1 of the paper) or per sequence (-tensor, O2; with +static O3) and \
             weights per output; max|X_j| is over all other sequences, or over the calibration text, in the untouched model and \
             without tokens that are kept; max|W_j| over all quantised layers that share the input. The four inputs of a layer are \
             smoothed, each by its own factors",
        ),
        ours(
            "quantize.fp8",
            "weights one scale per output, inputs one per sequence: largest magnitude over the format's largest number, x / scale \
             rounded half to even to the nearest number of E4M3 without infinities (at most 448) or E5M2 (at most 57,344)",
        ),
        Definition::new(
            "quantize.mxfp4",
            "OCP Microscaling Formats 1.0",
            "32 neighbouring inputs share a power of two, the exponent of their largest magnitude less 2; x / scale rounded half to even \
             to 0, 0.5, 1, 1.5, 2, 3, 4 or 6, larger ones to 6",
        ),
        ours(
            "quantize.nvfp4",
            "16 neighbouring inputs share a scale: their largest magnitude over 6 and over a global scale, rounded to E4M3, times the \
             global scale, which is the largest magnitude of the whole weight, or of a sequence's inputs, over 6 * 448; x / scale \
             rounded as in mxfp4",
        ),
        Definition::new(
            "quantize.q8_0",
            "GGML",
            "32 neighbouring inputs share a scale, their largest magnitude over 127: x over it is rounded half away from zero and \
             multiplied by the scale rounded to f16",
        ),
        Definition::new(
            "quantize.hadamard",
            "Ashkboos et al. 2024 (arXiv 2404.00456)",
            "inputs and weights are first rotated by Hadamard matrices over the square root of their size, the largest power of two \
             that divides the number of inputs, along the diagonal; the product stays the same",
        ),
    ]
}

fn of_quantisation() -> Vec<Definition> {
    vec![
        ours(
            "keep-spikes",
            "the strongest stage's tokens, or those at @position, keep their inputs as they are, meet weights as they are, and have \
             no part in scales",
        ),
        ours(
            "cache",
            "keys after rotation (k:), and values (v:), become points of a grid as under quantize: one scale per token and head; \
             -channel: one per channel and run of 32 positions, kept tokens apart (arXiv 2402.02750); keep-sinks: except \
             those of sink_tokens; keep-spikes: except those of the strongest stage's tokens; or of the tokens at @position or +keep",
        ),
        Definition::new(
            "linear_layers.error",
            SINKSCOPE,
            format!(
                "on the inputs that the untouched model gives a layer: length of the difference between the output of the \
                 quantised layer and of the untouched one, over the length of the latter; over {SAMPLED_TOKENS} tokens that do not \
                 spike (error_at_spikes: {SAMPLED_SPIKES} that do, 0 where they are kept), evenly chosen from the first \
                 {SAMPLED_POSITIONS} positions of {SAMPLED_SEQUENCES} sequences ({SMOOTHED_SEQUENCES} where each is smoothed by the others). What earlier quantised layers do to the inputs \
                 has no part in it. A layer breaks if error is above {BREAKS}"
            ),
        ),
        ours(
            "linear_layers.largest",
            "largest magnitude of a layer's input in the untouched model, over all tokens of its kind",
        ),
        ours(
            "kl",
            "Kullback-Leibler divergence of the untouched model's distribution of the next token to the variant's, sum over the \
             vocabulary of p (log p - log q), in nats: mean over the predictions of delta_nll; kl_ci95 its percentile bootstrap \
             over sequences",
        ),
        ours(
            "top1_agreement",
            "share of these predictions whose most likely token, the first of equally likely ones, is the untouched model's",
        ),
        ours(
            "sweeps.enough",
            "the fewest first tokens n beyond which a further one, up to the last step m, wins back on average at most twice the \
             worth of an average token: (loss at n - loss at m) / (m - n) is at most 2 loss at n / (T - n)",
        ),
        ours(
            "smoothing",
            "delta_nll of a smoothed variant less that of the same scheme without smoothing, with the percentile bootstrap over \
             sequences, both drawn together",
        ),
        ours(
            "trials",
            "passes that were run to try what advice says, each with an operation that anyone can type: the exemption of the \
             layers that break, or of the one that loses most if none breaks and the interval of the loss lies above 0",
        ),
        ours("advice", "what the run measured, in words; nothing is said of what it did not run"),
    ]
}
