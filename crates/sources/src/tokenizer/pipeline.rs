//! How text is cut before the vocabulary applies, where the class of a tokeniser decides it and not `tokenizer.json`.
//!
//! Version 5 of `transformers` takes from `tokenizer.json` only vocabulary and merges for the classes that have a
//! constructor of their own, and normalises and cuts text as the class does. Version 4 keeps all of the file but the
//! space that a byte-level step adds before a text. Source: the constructors of `transformers` 5.24, and
//! `PreTrainedTokenizerFast.__init__` of 4.57.

use serde_json::{Map, Value};
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{NormalizerWrapper, Result, Tokenizer};

use super::byte_level::cut_as_qwen2;
use super::class::{Class, Version};

/// `library` with the steps of `class`. Tokens that are matched whole are to be added after this.
pub(super) fn of(
    class: Class,
    version: Version,
    settings: &Map<String, Value>,
    mut library: Tokenizer,
) -> Result<Tokenizer> {
    let flag = |key: &str| settings.get(key).and_then(Value::as_bool);
    let adds_space = flag("add_prefix_space");
    if version == Version::Four {
        if let Some(PreTokenizerWrapper::ByteLevel(step)) = library.get_pre_tokenizer() {
            let step = ByteLevel::new(adds_space.unwrap_or(false), step.trim_offsets, step.use_regex);
            library.with_pre_tokenizer(Some(step));
        }
        return Ok(library);
    }
    let ModelWrapper::BPE(model) = library.get_model() else { return Ok(library) };
    let Some(Steps { normalizer, pre_tokenizer, model }) = steps(class, adds_space, flag("legacy"), model, settings)?
    else {
        return Ok(library);
    };
    let mut rebuilt = Tokenizer::new(model);
    rebuilt.with_normalizer(normalizer);
    rebuilt.with_pre_tokenizer(pre_tokenizer);
    rebuilt.with_decoder(library.get_decoder().cloned());
    Ok(rebuilt)
}

struct Steps {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    model: BPE,
}

/// The steps of a class; `None` of one that has none.
fn steps(
    class: Class,
    adds_space: Option<bool>,
    legacy: Option<bool>,
    model: &BPE,
    settings: &Map<String, Value>,
) -> Result<Option<Steps>> {
    let unknown = match settings.get("unk_token") {
        None => Some("<unk>".to_owned()),
        Some(token) => token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned),
    };
    let model = |falls_back: bool, unk_token: Option<String>| {
        let mut model = model.clone();
        model.unk_token = unk_token;
        model.fuse_unk = falls_back;
        model.byte_fallback = falls_back;
        model.continuing_subword_prefix = None;
        model.end_of_word_suffix = None;
        model.ignore_merges = false;
        model
    };
    let spaces = |scheme| PreTokenizerWrapper::Metaspace(Metaspace::new('▁', scheme, false));
    let bytes = ByteLevel::new(adds_space.unwrap_or(false), true, true);
    Ok(Some(match class {
        Class::Plain | Class::Cohere => return Ok(None),
        Class::Llama => {
            let scheme = match (adds_space.unwrap_or(true), legacy.unwrap_or(false)) {
                (true, true) => PrependScheme::Always,
                (true, false) => PrependScheme::First,
                (false, _) => PrependScheme::Never,
            };
            Steps { normalizer: None, pre_tokenizer: Some(spaces(scheme)), model: model(true, None) }
        }
        Class::CodeLlama => {
            let scheme = if adds_space.unwrap_or(true) { PrependScheme::First } else { PrependScheme::Never };
            Steps { normalizer: None, pre_tokenizer: Some(spaces(scheme)), model: model(true, unknown) }
        }
        Class::Gemma => Steps {
            normalizer: Some(NormalizerWrapper::Replace(Replace::new(" ", "▁")?)),
            // The class cuts after spaces, of which the normaliser has left none.
            pre_tokenizer: None,
            model: model(true, unknown),
        },
        Class::Qwen2 => Steps {
            normalizer: Some(NormalizerWrapper::NFC(NFC)),
            pre_tokenizer: Some(cut_as_qwen2(adds_space.unwrap_or(false))?),
            model: model(false, None),
        },
        Class::Gpt2 => Steps {
            normalizer: None,
            pre_tokenizer: Some(PreTokenizerWrapper::ByteLevel(bytes)),
            model: model(false, None),
        },
        Class::GptNeoX => Steps {
            normalizer: Some(NormalizerWrapper::NFC(NFC)),
            pre_tokenizer: Some(PreTokenizerWrapper::ByteLevel(bytes)),
            model: model(false, None),
        },
    }))
}
