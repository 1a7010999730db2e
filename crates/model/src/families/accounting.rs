//! Everything that a checkpoint says is accounted for: each key is read, or inert with a reason, or refused by name; each
//! tensor is used, or a known leftover, or refused by name.

use std::path::Path;

use serde_json::Value;

use super::fields::Fields;
use crate::error::{ModelError, UnknownKey};

/// A key that does not change what a model computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inert {
    /// Its name. A dotted name is a nested key; a name in a common list is looked for in nested models too.
    pub key: &'static str,
    /// With which values.
    pub only: Only,
    /// Why.
    pub why: &'static str,
}

/// The values with which a key is inert.
#[derive(Debug, Clone, Copy)]
pub(super) enum Only {
    /// All of them.
    Any,
    /// Those that switch off what the key is about: null, false, 0, and what is empty.
    Off,
    /// These, as JSON.
    Values(&'static [&'static str]),
}

impl Only {
    pub fn allows(self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Off => match value {
                Value::Null => true,
                Value::Bool(on) => !on,
                Value::Number(number) => number.as_f64() == Some(0.0),
                Value::String(text) => text.is_empty(),
                Value::Array(values) => values.is_empty(),
                Value::Object(values) => values.is_empty(),
            },
            Self::Values(values) => {
                values.iter().any(|allowed| serde_json::from_str(allowed).is_ok_and(|allowed| same(&allowed, value)))
            }
        }
    }

    pub fn describe(self) -> String {
        match self {
            Self::Any => "any value".into(),
            Self::Off => "null, false, 0 or empty".into(),
            Self::Values(values) => values.join(" or "),
        }
    }
}

/// Whether two JSON values are equal, 1 and 1.0 included.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

pub(super) const fn any(key: &'static str, why: &'static str) -> Inert {
    Inert { key, only: Only::Any, why }
}

pub(super) const fn off(key: &'static str, why: &'static str) -> Inert {
    Inert { key, only: Only::Off, why }
}

pub(super) const fn only(key: &'static str, values: &'static [&'static str], why: &'static str) -> Inert {
    Inert { key, only: Only::Values(values), why }
}

pub(super) const DROPOUT: &str = "dropout is off outside of training";
const GENERATION: &str = "about generation";
const LABELS: &str = "about a classifier's labels";
pub(super) const OUTPUT: &str = "what a call returns, not what it computes";
const PRECISION: &str =
    "values are computed in the precision that --precision names, from the type in which each tensor is stored";
pub(super) const STAMP: &str = "a stamp of the tool that saved the model";
const TOKENS: &str = "about tokens and text, not about what the model computes of them";
const TRAINING: &str = "about training";
const KERNEL: &str = "which implementation computes attention, not what it computes";
const ENCODER: &str = "about encoders";

/// What any configuration may carry: the fields of transformers' `PreTrainedConfig` in versions 4 and 5, defaults of
/// generation that were kept in configurations, and stamps of tools.
pub(super) const COMMON: &[Inert] = &[
    any("architectures", "of a nested model, which the wrapper's own decides about"),
    any("_name_or_path", STAMP),
    any("name_or_path", STAMP),
    any("_commit_hash", STAMP),
    any("transformers_version", STAMP),
    any("transformers.js_config", STAMP),
    any("unsloth_version", STAMP),
    any("unsloth_fixed", STAMP),
    any("model_max_length", TOKENS),
    any("tokenizer_class", TOKENS),
    any("bos_token_id", TOKENS),
    any("eos_token_id", TOKENS),
    any("pad_token_id", TOKENS),
    any("unk_token_id", TOKENS),
    any("sep_token_id", TOKENS),
    any("decoder_start_token_id", TOKENS),
    any("loss_type", TRAINING),
    any("custom_pipeline", GENERATION),
    any("custom_pipelines", GENERATION),
    any("prefix", TOKENS),
    any("torch_dtype", PRECISION),
    any("dtype", PRECISION),
    any("use_bfloat16", PRECISION),
    any("use_cache", "keys and values are kept or computed again: the same values"),
    any("cache_implementation", "how keys and values are kept"),
    any("initializer_range", "how weights begin, before they are trained"),
    any("attention_dropout", DROPOUT),
    any("attn_pdrop", DROPOUT),
    any("embd_pdrop", DROPOUT),
    any("resid_pdrop", DROPOUT),
    any("hidden_dropout", DROPOUT),
    any("hidden_dropout_prob", DROPOUT),
    any("classifier_dropout", DROPOUT),
    any("classifier_dropout_prob", DROPOUT),
    any("gradient_checkpointing", TRAINING),
    any("return_dict", OUTPUT),
    any("output_hidden_states", OUTPUT),
    any("output_attentions", OUTPUT),
    any("torchscript", OUTPUT),
    any("tf_legacy_loss", TRAINING),
    any("attn_implementation", KERNEL),
    any("_attn_implementation", KERNEL),
    any("_attn_implementation_internal", KERNEL),
    any("_attn_implementation_autoset", KERNEL),
    any("_flash_attn_2_enabled", KERNEL),
    any("use_flash_attention_2", KERNEL),
    any("pretraining_tp", "how products were cut in training: the same values but for rounding"),
    any("chunk_size_feed_forward", "how many rows a feed-forward block takes at a time: the same values"),
    any("id2label", LABELS),
    any("label2id", LABELS),
    any("num_labels", LABELS),
    any("problem_type", LABELS),
    any("finetuning_task", LABELS),
    any("task_specific_params", GENERATION),
    any("max_length", GENERATION),
    any("min_length", GENERATION),
    any("do_sample", GENERATION),
    any("assistant_confidence_threshold", GENERATION),
    any("assistant_lookbehind", GENERATION),
    any("encoder_repetition_penalty", GENERATION),
    any("epsilon_cutoff", GENERATION),
    any("eta_cutoff", GENERATION),
    any("num_assistant_tokens", GENERATION),
    any("num_assistant_tokens_schedule", GENERATION),
    any("target_lookbehind", GENERATION),
    any("experts_implementation", "which implementation computes experts, of which there are none"),
    any("early_stopping", GENERATION),
    any("num_beams", GENERATION),
    any("num_beam_groups", GENERATION),
    any("diversity_penalty", GENERATION),
    any("temperature", GENERATION),
    any("top_k", GENERATION),
    any("top_p", GENERATION),
    any("typical_p", GENERATION),
    any("repetition_penalty", GENERATION),
    any("length_penalty", GENERATION),
    any("no_repeat_ngram_size", GENERATION),
    any("encoder_no_repeat_ngram_size", GENERATION),
    any("bad_words_ids", GENERATION),
    any("num_return_sequences", GENERATION),
    any("output_scores", GENERATION),
    any("return_dict_in_generate", GENERATION),
    any("forced_bos_token_id", GENERATION),
    any("forced_eos_token_id", GENERATION),
    any("remove_invalid_values", GENERATION),
    any("exponential_decay_length_penalty", GENERATION),
    any("suppress_tokens", GENERATION),
    any("begin_suppress_tokens", GENERATION),
    any(
        "is_decoder",
        "decides about a cache and about cross-attention, which is refused; attention is causal either way",
    ),
    any("rope_scaling.finetuned", "how the scaled model was trained"),
    off("is_encoder_decoder", ENCODER),
    off("add_cross_attention", ENCODER),
    off("tie_encoder_decoder", ENCODER),
    off("cross_attention_hidden_size", ENCODER),
    off("pruned_heads", "heads that are not there"),
    only("is_causal", &["true"], "attention is causal"),
    off("use_bidirectional_attention", "attention is causal"),
    off("quantization_config", "a quantised model is read as GGUF"),
    off("compression_config", "a quantised model is read as GGUF"),
    off("quantization", "a quantised model is read as GGUF"),
];

/// What a family reads and tolerates.
pub(super) struct Tolerated<'a> {
    /// The family, for messages.
    pub family: &'a str,
    /// Its own inert keys.
    pub inert: &'a [Inert],
    /// Keys that the user lets pass.
    pub allowed: &'a [String],
}

impl Tolerated<'_> {
    /// Looks at every key that was not read, and gives those that only the user lets pass.
    ///
    /// # Errors
    /// If a key is not inert, or not with its value.
    pub fn settle(&self, fields: &Fields<'_>) -> Result<Vec<String>, ModelError> {
        let mut passed = Vec::new();
        let mut unknown = Vec::new();
        for (key, value) in fields.unread() {
            let last = key.rsplit_once("text_config.").map_or(&key[..], |(_, nested)| nested);
            let listed = self.inert.iter().chain(COMMON).find(|inert| inert.key == key || inert.key == last);
            if listed.is_some_and(|inert| inert.only.allows(value)) {
                continue;
            }
            if any_matches(self.allowed, &key) {
                passed.push(key);
                continue;
            }
            refuse_quantised(&key, value, fields.path)?;
            let known = listed.map(|inert| format!("{}: {}", inert.why, inert.only.describe()));
            unknown.push(UnknownKey { key, value: value.to_string(), known });
        }
        if unknown.is_empty() {
            return Ok(passed);
        }
        Err(ModelError::UnknownKeys { path: fields.path.to_owned(), family: self.family.to_owned(), keys: unknown })
    }
}

/// A model that is to be quantised when it is loaded computes something else than its float tensors do.
fn refuse_quantised(key: &str, value: &Value, path: &Path) -> Result<(), ModelError> {
    if !["quantization_config", "compression_config", "quantization"].contains(&key) {
        return Ok(());
    }
    let method = match value.get("quant_method").and_then(Value::as_str) {
        Some(method) => format!("by {method}"),
        None => "by a method that is not named".into(),
    };
    Err(ModelError::unsupported(
        path,
        format!(
            "field `{key}` says that the model is quantised {method}, so its tensors as stored are not what it computes with; \
             supported are F32, F16 and BF16 weights without `{key}`, or a quantised GGUF file"
        ),
    ))
}

/// Tensors that belong to no causal language model, yet are often stored beside one.
pub(super) const COMMON_LEFTOVERS: &[&str] = &[
    // Rotary frequencies, which follow from the configuration.
    "*rotary_emb.inv_freq",
    // Heads of classifiers and reward models.
    "score.*",
    "v_head.*",
    "qa_outputs.*",
    "classifier.*",
];

/// Whether a name is of one of these patterns.
pub(crate) fn any_matches(patterns: &[impl AsRef<str>], name: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern.as_ref(), name))
}

/// Whether a name is of a pattern, in which `*` stands for anything.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let Some(end) = pieces.pop() else { return true };
    for piece in pieces {
        match name.find(piece) {
            Some(at) => name = &name[at + piece.len()..],
            None => return false,
        }
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(matches("a.*.bias", "a.0.b.bias") && matches("*inv_freq", "inv_freq") && matches("a", "a"));
        assert!(matches("h.*.attn.*bias", "h.3.attn.masked_bias") && matches("score.*", "score.weight"));
        assert!(!matches("a.*.bias", "a.bias") && !matches("a*", "ba") && !matches("a", "ab"));
        assert!(!matches("h.*.attn.bias", "h.3.attn.c_attn.bias"));
    }

    #[test]
    fn off_and_listed_values() {
        for value in [json!(null), json!(false), json!(0), json!(0.0), json!(""), json!([]), json!({})] {
            assert!(Only::Off.allows(&value), "{value}");
        }
        for value in [json!(true), json!(1), json!("x"), json!([1]), json!({"a": null})] {
            assert!(!Only::Off.allows(&value), "{value}");
        }
        assert!(Only::Values(&["1", "null"]).allows(&json!(1.0)) && Only::Values(&["1", "null"]).allows(&json!(null)));
        assert!(!Only::Values(&["1"]).allows(&json!("1")));
    }

    #[test]
    fn every_inert_key_stands_once_in_the_common_list() {
        let mut keys: Vec<&str> = COMMON.iter().map(|inert| inert.key).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
        assert!(COMMON.iter().all(|inert| !inert.why.is_empty()));
    }
}
