//! Which class of `transformers` a tokeniser is loaded as, and what that class puts before a text.
//!
//! Versions 4 and 5 differ. In version 4 the classes of Llama, Gemma, Cohere and GPT-NeoX go by `add_bos_token` and their
//! own default for it, whatever the post-processor of `tokenizer.json` says; the others go by the post-processor. In
//! version 5 all go by the post-processor and ignore `add_bos_token`, but for Code Llama, which always adds BOS, and
//! GPT-NeoX, which never does. Source: `transformers` 4.57 and 5.24, `AutoTokenizer.from_pretrained`,
//! `PreTrainedTokenizerBase._from_pretrained`, and the classes.

use serde_json::Value;

/// The generation of `transformers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// 4.x, as 4.57 does.
    Four,
    /// 5.x, as 5.24 does.
    Five,
}

impl Version {
    /// The one that saved `config.json`; 5 if it does not say.
    pub(super) fn of(config: &Value) -> Self {
        let version = config.get("transformers_version").and_then(Value::as_str);
        let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        if major.is_some_and(|major| major < 5) { Self::Four } else { Self::Five }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Four => Self::Five,
            Self::Five => Self::Four,
        }
    }

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Four => 4,
            Self::Five => 5,
        }
    }
}

/// A class, with or without `Fast` in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// `PreTrainedTokenizerFast`, `TokenizersBackend`, and every class that adds nothing to `tokenizer.json`.
    Plain,
    /// `LlamaTokenizer`.
    Llama,
    /// `CodeLlamaTokenizer`.
    CodeLlama,
    /// `GemmaTokenizer`.
    Gemma,
    /// `CohereTokenizer`.
    Cohere,
    /// `Qwen2Tokenizer`.
    Qwen2,
    /// `GPT2Tokenizer`.
    Gpt2,
    /// `GPTNeoXTokenizer`.
    GptNeoX,
}

/// Classes that make something else of `tokenizer.json` than it says, in one version or both: another pipeline, other special
/// tokens, or none that loads. With spaces between.
const OTHER_CLASSES: &str = "AlbertTokenizer BarthezTokenizer BartTokenizer BertTokenizer BigBirdTokenizer \
    CamembertTokenizer CLIPTokenizer ConvBertTokenizer DebertaTokenizer DebertaV2Tokenizer DistilBertTokenizer \
    ElectraTokenizer FunnelTokenizer GPTSw3Tokenizer LayoutLMTokenizer LayoutLMv2Tokenizer LayoutLMv3Tokenizer \
    LongformerTokenizer LxmertTokenizer MBartTokenizer MistralCommonBackend MobileBertTokenizer MPNetTokenizer \
    NllbTokenizer PegasusTokenizer ReformerTokenizer RemBertTokenizer RobertaTokenizer T5Tokenizer WhisperTokenizer \
    XGLMTokenizer XLMRobertaTokenizer XLNetTokenizer";

/// Where what stands before a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    /// In the post-processor of `tokenizer.json`.
    PostProcessor,
    /// BOS, or nothing.
    Bos(bool),
}

impl Class {
    /// The class as which `AutoTokenizer` loads the tokeniser of `settings` (`tokenizer_config.json`) and `config`;
    /// `byte_level`: whether `tokenizer.json` names a byte-level step.
    pub(super) fn of(version: Version, settings: &Value, config: &Value, byte_level: bool) -> Self {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let declared = text(settings, "tokenizer_class").or_else(|| text(config, "tokenizer_class"));
        let declared = declared.as_deref().map(Self::named);
        let model_type = text(config, "model_type").unwrap_or_default();
        match version {
            Version::Four => declared.unwrap_or_else(|| Self::of_model_in_4(&model_type)),
            Version::Five => match (declared, Self::of_model_in_5(&model_type)) {
                (Some(_), Some(Self::Plain)) => Self::Plain,
                // The published class of models of this type is known to be wrong.
                (Some(_), Some(Self::Qwen2)) if model_type == "qwen2" => Self::Qwen2,
                (Some(Self::Llama), _) if byte_level => Self::Plain,
                (Some(declared), _) => declared,
                (None, registered) => registered.unwrap_or(Self::Plain),
            },
        }
    }

    /// The class that the files declare, if it is one whose doings are not imitated here and it is not known to be overridden.
    pub(super) fn refused(version: Version, settings: &Value, config: &Value) -> Option<String> {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let declared = text(settings, "tokenizer_class").or_else(|| text(config, "tokenizer_class"))?;
        let model_type = text(config, "model_type").unwrap_or_default();
        let overridden = version == Version::Five
            && (Self::of_model_in_5(&model_type) == Some(Self::Plain) || model_type == "qwen2");
        let name = declared.strip_suffix("Fast").unwrap_or(&declared);
        // In version 5 Cohere's class normalises the text first.
        let cohere = version == Version::Five && name == "CohereTokenizer";
        (!overridden && (cohere || OTHER_CLASSES.split(' ').any(|other| other == name))).then_some(declared)
    }

    fn named(name: &str) -> Self {
        match name.strip_suffix("Fast").unwrap_or(name) {
            "LlamaTokenizer" => Self::Llama,
            "CodeLlamaTokenizer" => Self::CodeLlama,
            "GemmaTokenizer" => Self::Gemma,
            "CohereTokenizer" => Self::Cohere,
            "Qwen2Tokenizer" => Self::Qwen2,
            "GPT2Tokenizer" => Self::Gpt2,
            "GPTNeoXTokenizer" => Self::GptNeoX,
            _ => Self::Plain,
        }
    }

    fn of_model_in_4(model_type: &str) -> Self {
        match model_type {
            "llama" | "mistral" | "phi3" => Self::Llama,
            "gemma" | "gemma2" | "gemma3" | "gemma3_text" => Self::Gemma,
            "qwen2" | "qwen3" => Self::Qwen2,
            "gpt2" => Self::Gpt2,
            "gpt_neox" | "olmo2" => Self::GptNeoX,
            _ => Self::Plain,
        }
    }

    /// `None` of a model type that is not registered, of which Llama is one.
    fn of_model_in_5(model_type: &str) -> Option<Self> {
        match model_type {
            "mistral" | "olmo2" | "phi3" => Some(Self::Plain),
            "gemma" | "gemma2" | "gemma3" | "gemma3_text" => Some(Self::Gemma),
            "qwen2" | "qwen3" => Some(Self::Qwen2),
            "gpt2" => Some(Self::Gpt2),
            "gpt_neox" => Some(Self::GptNeoX),
            _ => None,
        }
    }

    /// What stands before a text. `add_bos_token` is that of `tokenizer_config.json`.
    pub(super) fn prefix(self, version: Version, add_bos_token: Option<bool>) -> Prefix {
        match (version, self) {
            (Version::Four, Self::Llama | Self::CodeLlama | Self::Gemma | Self::Cohere) => {
                Prefix::Bos(add_bos_token.unwrap_or(true))
            }
            (Version::Four, Self::GptNeoX) => Prefix::Bos(add_bos_token.unwrap_or(false)),
            (Version::Five, Self::CodeLlama) => Prefix::Bos(true),
            (Version::Five, Self::GptNeoX) => Prefix::Bos(false),
            _ => Prefix::PostProcessor,
        }
    }

    /// The special tokens that a class has where `tokenizer_config.json` does not name others.
    pub(super) fn defaults(self, version: Version) -> &'static [(&'static str, &'static str)] {
        const CODE_LLAMA: [(&str, &str); 8] = [
            ("unk_token", "<unk>"),
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("prefix_token", "\u{2581}<PRE>"),
            ("middle_token", "\u{2581}<MID>"),
            ("suffix_token", "\u{2581}<SUF>"),
            ("eot_token", "\u{2581}<EOT>"),
            ("fill_token", "<FILL_ME>"),
        ];
        const GEMMA: [(&str, &str); 5] = [
            ("unk_token", "<unk>"),
            ("bos_token", "<bos>"),
            ("eos_token", "<eos>"),
            ("pad_token", "<pad>"),
            ("mask_token", "<mask>"),
        ];
        const COHERE: [(&str, &str); 7] = [
            ("unk_token", "<UNK>"),
            ("bos_token", "<BOS_TOKEN>"),
            ("eos_token", "<|END_OF_TURN_TOKEN|>"),
            ("pad_token", "<PAD>"),
            ("cls_token", "<CLS>"),
            ("sep_token", "<SEP>"),
            ("mask_token", "<MASK_TOKEN>"),
        ];
        const GPT: [(&str, &str); 4] = [
            ("unk_token", "<|endoftext|>"),
            ("bos_token", "<|endoftext|>"),
            ("eos_token", "<|endoftext|>"),
            ("pad_token", "<|padding|>"),
        ];
        const QWEN2: [(&str, &str); 3] =
            [("unk_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>"), ("pad_token", "<|endoftext|>")];
        match (self, version) {
            (Self::Plain, _) => &[],
            (Self::Llama, _) => &CODE_LLAMA[..3],
            (Self::CodeLlama, Version::Four) => &CODE_LLAMA[..7],
            (Self::CodeLlama, Version::Five) => &CODE_LLAMA,
            (Self::Gemma, Version::Four) => &GEMMA[..4],
            (Self::Gemma, Version::Five) => &GEMMA,
            (Self::Cohere, Version::Four) => &COHERE[..3],
            (Self::Cohere, Version::Five) => &COHERE,
            (Self::Qwen2, _) => &QWEN2,
            (Self::Gpt2, _) | (Self::GptNeoX, Version::Four) => &GPT[..3],
            (Self::GptNeoX, Version::Five) => &GPT,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_that_make_other_tokens_are_refused_unless_their_model_overrides_them() {
        let refused = |version, class: &str, model_type: &str| {
            Class::refused(version, &json!({ "tokenizer_class": class }), &json!({ "model_type": model_type }))
                .is_some()
        };
        for class in ["RobertaTokenizerFast", "BertTokenizer", "T5Tokenizer", "WhisperTokenizer"] {
            assert!(refused(Version::Five, class, "llama") && refused(Version::Four, class, "qwen2"), "{class}");
            assert!(!refused(Version::Five, class, "mistral") && !refused(Version::Five, class, "qwen2"), "{class}");
        }
        assert!(refused(Version::Five, "CohereTokenizerFast", "llama"));
        for class in ["CohereTokenizerFast", "LlamaTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend"] {
            assert!(!refused(Version::Four, class, "llama"), "{class}");
        }
    }
}
