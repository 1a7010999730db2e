//! What the numbers of a comparison mean.

use sinkscope_anatomy::definitions::Definition;

const SINKSCOPE: &str = "sinkscope";
const SUN: &str = "Sun et al. 2024 (arXiv 2402.17762)";

/// Every definition of `sinkscope operate`, beside those of the anatomy.
pub fn definitions() -> Vec<Definition> {
    let ours = |name, formula: &str| Definition::new(name, SINKSCOPE, formula);
    vec![
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
        ours("zero-rescale-spikes", "spike entries zero, then the row multiplied so that its length is what it was"),
        ours("skip-block", "what the block adds is zero at the chosen tokens"),
        ours(
            "sink-value",
            "the value vectors of the chosen tokens, all heads, in every attention block or the one named",
        ),
        ours(
            "received",
            "attention that the changed tokens receive, divided by the number of queries from them on: mean over those tokens, heads \
             and layers; received_before in the untouched model",
        ),
        ours(
            "self-only",
            "the chosen tokens attend to nothing but themselves, in every attention block or the one named",
        ),
        ours(
            "forbid-sink",
            "no token but themselves attends to the chosen tokens, in every attention block or the one named",
        ),
        Definition::new(
            "window",
            "Xiao et al. 2023 (arXiv 2309.17453)",
            "query i sees keys i - W + 1 to i and 0 to S - 1; a sink outside the window is met by the query rotated to position \
             min(i, W + S - 1), unless original-positions; a layer's own window stays where it is smaller",
        ),
        ours("perplexity_after", "over targets at positions beyond 4 W, of the variant and of the untouched model"),
        ours("random-tokens", "every token an id drawn uniformly; no target is left to compare"),
    ]
}
