//! Keys that change nothing that is computed: some whatever they say, most for one value alone.

use crate::families::accounting::{Inert, any, only};

/// As llama.cpp reads them (`llama-arch.cpp`, `llama-model.cpp`), named without the architecture.
const INERT: &[Inert] = &[
    only("attention.causal", &["true"], "with false the model attends both ways, to later tokens too"),
    only("pooling_type", &["0", "3", "4"], POOLING),
    any("classifier.output_labels", "names the outputs of a head that stands behind the last norm"),
    only("attention.max_alibi_bias", &["0"], "another value is a penalty on distance, which these families lack"),
    only("attention.clamp_kqv", &["0"], "another value is a bound on queries, keys and values"),
    only("use_parallel_residual", &["false"], "with true attention and feed-forward blocks read the same residual"),
    only("attention.sliding_window", &["0"], "which layers of this family have a window is not written in the file"),
    only("logit_scale", &["1"], "this family has no factor on the logits"),
    only("residual_scale", &["1"], "this family has no factor on what blocks add"),
    only("rope.scaling.finetuned", &["true", "false"], "says how the scaling came about, not what it is"),
    only("nextn_predict_layers", &["0"], "more are layers that predict several tokens ahead"),
    only(
        "expert_count expert_used_count expert_shared_count expert_feed_forward_length leading_dense_block_count",
        &["0"],
        MIXTURE,
    ),
];

const POOLING: &str = "models that end in one vector of all tokens (1, mean) or of the first (2, CLS) attend both ways";
/// Why a mixture is refused.
pub(super) const MIXTURE: &str = "a mixture of experts is not supported, feed-forward blocks must be dense";

/// What is known of a key of an architecture, named without the architecture.
pub(super) fn find(key: &str) -> Option<&'static Inert> {
    Inert::find(INERT.iter(), &[key])
}

/// Whether a key stands beside the architecture's own and says nothing of how it computes: where the file comes from, its
/// tokeniser (read by its own reader), how it was quantised, its parts (looked at when the file is opened).
pub(super) fn is_stamp(key: &str) -> bool {
    // The last two are those of people who publish quantised models.
    const STAMPS: [&str; 6] = ["general.", "tokenizer.", "quantize.", "split.", "mradermacher.", "duynt."];
    STAMPS.iter().any(|stamp| key.starts_with(stamp))
}
