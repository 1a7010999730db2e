//! Keys that change nothing that is computed: some whatever they say, most for one value alone.

use std::fmt;

use crate::checkpoint::GgufValue;

/// A key of an architecture that changes nothing for the values of `only`.
pub(super) struct Inert {
    pub key: &'static str,
    pub only: Only,
    /// Why it changes nothing, and what another value would mean.
    pub why: &'static str,
}

/// For which values a key changes nothing.
pub(super) enum Only {
    True,
    False,
    Flag,
    Zero,
    /// A finite number above 0.
    Number,
    /// One of these whole numbers.
    Codes(&'static [i64]),
    /// Any list of texts.
    Texts,
}

impl Only {
    pub fn accepts(&self, value: &GgufValue) -> bool {
        let number = super::keys::number(value);
        match self {
            Self::True => *value == GgufValue::Bool(true),
            Self::False => *value == GgufValue::Bool(false),
            Self::Flag => matches!(value, GgufValue::Bool(_)),
            Self::Zero => number == Some(0.0),
            Self::Number => number.is_some_and(|number| number > 0.0 && number.is_finite()),
            Self::Codes(codes) => match value {
                GgufValue::Signed(code) => codes.contains(code),
                GgufValue::Unsigned(code) => i64::try_from(*code).is_ok_and(|code| codes.contains(&code)),
                _ => false,
            },
            Self::Texts => matches!(value, GgufValue::Texts(_)),
        }
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::True => f.write_str("true"),
            Self::False => f.write_str("false"),
            Self::Flag => f.write_str("true or false"),
            Self::Zero => f.write_str("0"),
            Self::Number => f.write_str("a finite number above 0"),
            Self::Codes(codes) => {
                let codes: Vec<String> = codes.iter().map(i64::to_string).collect();
                f.write_str(&codes.join(" or "))
            }
            Self::Texts => f.write_str("a list of texts"),
        }
    }
}

const fn inert(key: &'static str, only: Only, why: &'static str) -> Inert {
    Inert { key, only, why }
}

/// As llama.cpp reads them (`llama-arch.cpp`, `llama-model.cpp`).
pub(super) const INERT: &[Inert] = &[
    inert("attention.causal", Only::True, "with false the model attends both ways, to later tokens too"),
    inert("pooling_type", Only::Codes(&[0, 3, 4]), POOLING),
    inert("classifier.output_labels", Only::Texts, "names the outputs of a head that stands behind the last norm"),
    inert("attention.layer_norm_epsilon", Only::Number, "norms of these families read layer_norm_rms_epsilon"),
    inert("attention.max_alibi_bias", Only::Zero, "another value is a penalty on distance, which these families lack"),
    inert("attention.clamp_kqv", Only::Zero, "another value is a bound on queries, keys and values"),
    inert("use_parallel_residual", Only::False, "with true attention and feed-forward blocks read the same residual"),
    inert("rope.scaling.finetuned", Only::Flag, "says how the scaling came about, not what it is"),
    inert("nextn_predict_layers", Only::Zero, "more are layers that predict several tokens ahead"),
    inert("expert_count", Only::Zero, MIXTURE),
    inert("expert_used_count", Only::Zero, MIXTURE),
    inert("expert_shared_count", Only::Zero, MIXTURE),
    inert("expert_feed_forward_length", Only::Zero, MIXTURE),
    inert("leading_dense_block_count", Only::Zero, MIXTURE),
];

const POOLING: &str = "the model ends in one vector of all tokens (1, mean) or of the first (2, CLS), as models do that attend \
                       both ways";
/// Why a mixture is refused.
pub(super) const MIXTURE: &str = "more is a mixture of experts, and feed-forward blocks must be dense";

/// What is known of a key of an architecture, named without the architecture.
pub(super) fn find(key: &str) -> Option<&'static Inert> {
    INERT.iter().find(|inert| inert.key == key)
}

/// Whether a key stands beside the architecture's own and says nothing of how it computes: where the file comes from, its
/// tokeniser (read by its own reader), how it was quantised, its parts (looked at when the file is opened).
pub(super) fn is_stamp(key: &str) -> bool {
    // The last two are those of people who publish quantised models.
    const STAMPS: [&str; 6] = ["general.", "tokenizer.", "quantize.", "split.", "mradermacher.", "duynt."];
    STAMPS.iter().any(|stamp| key.starts_with(stamp))
}
