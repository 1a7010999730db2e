//! Everything that a checkpoint says is accounted for: each key is read, or inert with a reason, or refused by name; each
//! tensor is used, or a known leftover, or refused by name.

use std::cell::RefCell;
use std::path::Path;

use serde_json::Value;

use crate::error::{ModelError, UnknownKey};

/// Keys that do not change what a model computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inert {
    /// Their names, with spaces between. A dotted name is a nested key; a name in a common list is looked for in nested models
    /// too.
    keys: &'static str,
    /// With which values.
    pub only: Only,
    pub why: &'static str,
}

impl Inert {
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.keys.split(' ')
    }

    /// What a list knows of a key that goes by one of these names.
    pub fn find(mut list: impl Iterator<Item = &'static Self>, names: &[&str]) -> Option<&'static Self> {
        list.find(|inert| inert.keys().any(|key| names.contains(&key)))
    }
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

pub(super) const fn any(keys: &'static str, why: &'static str) -> Inert {
    Inert { keys, only: Only::Any, why }
}

pub(super) const fn off(keys: &'static str, why: &'static str) -> Inert {
    Inert { keys, only: Only::Off, why }
}

pub(super) const fn only(keys: &'static str, values: &'static [&'static str], why: &'static str) -> Inert {
    Inert { keys, only: Only::Values(values), why }
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
    any(
        "_name_or_path name_or_path _commit_hash transformers_version transformers.js_config unsloth_version \
         unsloth_fixed",
        STAMP,
    ),
    any(
        "model_max_length tokenizer_class bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id \
         decoder_start_token_id prefix",
        TOKENS,
    ),
    any("loss_type gradient_checkpointing tf_legacy_loss", TRAINING),
    any(
        "custom_pipeline custom_pipelines task_specific_params max_length min_length do_sample \
         assistant_confidence_threshold assistant_lookbehind encoder_repetition_penalty epsilon_cutoff eta_cutoff \
         num_assistant_tokens num_assistant_tokens_schedule target_lookbehind early_stopping num_beams \
         num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty \
         no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores \
         return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values \
         exponential_decay_length_penalty suppress_tokens begin_suppress_tokens",
        GENERATION,
    ),
    any("torch_dtype dtype use_bfloat16", PRECISION),
    any("use_cache", "keys and values are kept or computed again: the same values"),
    any("cache_implementation", "how keys and values are kept"),
    any("initializer_range", "how weights begin, before they are trained"),
    any(
        "attention_dropout attn_pdrop embd_pdrop resid_pdrop hidden_dropout hidden_dropout_prob classifier_dropout \
         classifier_dropout_prob",
        DROPOUT,
    ),
    any("return_dict output_hidden_states output_attentions torchscript", OUTPUT),
    any(
        "attn_implementation _attn_implementation _attn_implementation_internal _attn_implementation_autoset \
         _flash_attn_2_enabled use_flash_attention_2",
        KERNEL,
    ),
    any("pretraining_tp", "how products were cut in training: the same values but for rounding"),
    any("chunk_size_feed_forward", "how many rows a feed-forward block takes at a time: the same values"),
    any("id2label label2id num_labels problem_type finetuning_task", LABELS),
    any("experts_implementation", "which implementation computes experts, of which there are none"),
    any(
        "is_decoder",
        "decides about a cache and about cross-attention, which is refused; attention is causal either way",
    ),
    any("rope_scaling.finetuned", "how the scaled model was trained"),
    off("is_encoder_decoder add_cross_attention tie_encoder_decoder cross_attention_hidden_size", ENCODER),
    off("pruned_heads", "heads that are not there"),
    off("use_bidirectional_attention", "attention is causal"),
    off("quantization_config compression_config quantization", "a quantised model is read as GGUF"),
    only("is_causal", &["true"], "attention is causal"),
];

/// What there is to say against a key that was not read; `None` if it is inert. `listed`: what is known of it.
pub(super) fn unknown(key: &str, value: &Value, listed: Option<&Inert>) -> Option<UnknownKey> {
    if listed.is_some_and(|inert| inert.only.allows(value)) {
        return None;
    }
    let known = listed.map(|inert| format!("only {} is known: {}", inert.only.describe(), inert.why));
    Some(UnknownKey { key: key.to_owned(), value: value.to_string(), known })
}

/// What the user lets pass of the keys of a file, and what was let pass.
pub(super) struct Account<'a> {
    pub path: &'a Path,
    /// The family, for messages.
    pub family: &'a str,
    /// Patterns of keys.
    allowed: &'a [String],
    passed: RefCell<Vec<String>>,
}

impl<'a> Account<'a> {
    pub fn new(path: &'a Path, family: &'a str, allowed: &'a [String]) -> Self {
        Self { path, family, allowed, passed: RefCell::default() }
    }

    /// Refuses keys, but for those that the user lets pass.
    ///
    /// # Errors
    /// If others are left.
    pub fn refuse(&self, keys: Vec<UnknownKey>) -> Result<(), ModelError> {
        let (passed, keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(|unknown| self.allows(&unknown.key));
        self.passed.borrow_mut().extend(passed.into_iter().map(|unknown| unknown.key));
        if keys.is_empty() {
            return Ok(());
        }
        Err(ModelError::UnknownKeys { path: self.path.to_owned(), family: self.family.to_owned(), keys })
    }

    pub fn allows(&self, key: &str) -> bool {
        any_matches(self.allowed, key)
    }

    /// The keys that only the user let pass.
    pub fn passed(self) -> Vec<String> {
        self.passed.into_inner()
    }
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
        let mut keys: Vec<&str> = COMMON.iter().flat_map(Inert::keys).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
        assert!(COMMON.iter().all(|inert| !inert.why.is_empty()));
    }
}
