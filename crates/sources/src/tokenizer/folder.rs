//! The tokeniser of a Hugging Face model directory.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::AddedToken;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::ModelWrapper;

use super::added::{Beside, Special};
use super::class::{Class, Prefix, Version};
use super::display::Spelling;
use super::{Ends, Engine, Tokenizer, pipeline};
use crate::byte_order_mark;
use crate::error::SourceError;

/// Reads `tokenizer.json` and what stands beside it.
pub(super) fn read(folder: &Path, config: &Value) -> Result<Option<Tokenizer>, SourceError> {
    let path = folder.join("tokenizer.json");
    let Some(bytes) = read_if_present(&path)? else { return Ok(None) };
    let beside = Beside {
        settings: object(&folder.join("tokenizer_config.json"))?,
        special_tokens_map: object(&folder.join("special_tokens_map.json"))?,
        added_tokens: object(&folder.join("added_tokens.json"))?,
        folder: folder.to_owned(),
    };
    parse(&bytes, &path, &beside, config).map(Some)
}

/// The part of a `tokenizer.json` at which the library panics if it is no JSON. The rest is large, and not kept.
#[derive(Deserialize)]
struct Decoder {
    #[serde(default, rename = "decoder")]
    _decoder: Value,
}

/// Reads the content of a `tokenizer.json`; `path` is where it was.
pub(super) fn parse(bytes: &[u8], path: &Path, beside: &Beside, config: &Value) -> Result<Tokenizer, SourceError> {
    let unusable =
        |error: &dyn Display| SourceError::malformed(path, format!("not a tokenizer.json that can be used: {error}"));
    let bytes = byte_order_mark::strip(bytes).map_err(|reason| SourceError::malformed(path, reason))?;
    serde_json::from_slice::<Decoder>(bytes).map_err(|error| unusable(&error))?;
    let mut library = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| unusable(&error))?;
    // A tokenizer.json saved after training on short texts may still cut or pad what it encodes.
    library
        .with_truncation(None)
        .map_err(|error| SourceError::malformed(path, format!("truncation cannot be switched off: {error}")))?;
    library.with_padding(None);
    without_dropout(&mut library);
    let version = Version::of(config);
    let settings = Value::Object(beside.settings.clone());
    if let Some(class) = Class::refused(version, &settings, config) {
        let reason = format!(
            "is of the class {class}, which makes other tokens of a text than this file says; supported are those that take \
             it as it is, and the tokenisers of Llama, Code Llama, Gemma, Qwen 2, GPT-2 and GPT-NeoX"
        );
        return Err(SourceError::unsupported(path, reason));
    }
    for key in ["split_special_tokens", "model_specific_special_tokens"] {
        let set = settings.get(key).filter(|value| !value.is_null() && **value != Value::Bool(false));
        if let Some(value) = set.filter(|value| value.as_object().is_none_or(|object| !object.is_empty())) {
            let file = path.with_file_name("tokenizer_config.json");
            return Err(SourceError::unsupported(file, format!("field `{key}` is {value}, which is not supported")));
        }
    }
    let byte_level = contains(bytes, b"\"ByteLevel\"");
    let class = |version| Class::of(version, &settings, config, byte_level);

    let template = template(&library);
    let present: BTreeMap<u64, AddedToken> =
        library.get_added_tokens_decoder().into_iter().map(|(id, token)| (u64::from(id), token)).collect();
    let special = Special::read(beside, version, class(version), &present)?;
    let named = special.all_named();
    let [bos, eos] = ["bos_token", "eos_token"].map(|name| special.named(name).map(str::to_owned));
    let mut library = pipeline::of(class(version), version, &beside.settings, library)
        .map_err(|error| SourceError::malformed(path, format!("the steps of its class cannot be built: {error}")))?;
    special.add_to(&mut library);

    let [bos, eos] = [bos, eos].map(|content| content.and_then(|content| library.token_to_id(&content)));
    let [adds_bos, adds_eos] = [flag(beside, "add_bos_token")?, flag(beside, "add_eos_token")?];
    let around = |version: Version| match class(version).prefix(version, adds_bos) {
        Prefix::PostProcessor => template.clone(),
        Prefix::Bos(adds) => {
            let ends = version == Version::Four && adds_eos == Some(true);
            let list = |token: Option<u32>, adds: bool| -> Vec<u32> { token.filter(|_| adds).into_iter().collect() };
            (list(bos, adds), list(eos, ends))
        }
    };
    let (before, after) = around(version);
    let doubt =
        disagreement(version, &before, &around(version.other()).0, config).or_else(|| unheeded(adds_bos, &before));
    let of_config = || config.get("bos_token_id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let byte_level = library.get_decoder().is_some_and(is_byte_level);
    let spelling = if byte_level { Spelling::ByteLevel } else { Spelling::SentencePiece };
    Ok(Tokenizer {
        vocabulary_size: library.get_vocab_size(true),
        adds_prefix: adds_prefix(&library),
        engine: Engine::Library(Box::new(library)),
        spelling,
        bos: bos.or_else(of_config).or_else(|| before.first().copied()),
        ends: Ends { before, after, doubt },
        named,
        path: path.to_owned(),
    })
}

pub(super) fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SourceError::io(path, error)),
    }
}

/// A JSON object; empty if there is no such file.
pub(super) fn object(path: &Path) -> Result<Map<String, Value>, SourceError> {
    let Some(bytes) = read_if_present(path)? else { return Ok(Map::new()) };
    let bytes = byte_order_mark::strip(&bytes).map_err(|reason| SourceError::malformed(path, reason))?;
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(SourceError::malformed(path, format!("is {other}; expected a JSON object"))),
        Err(error) => Err(SourceError::malformed(path, format!("not valid JSON: {error}"))),
    }
}

/// A tokeniser that was trained with dropout merges at random, which is for training alone.
fn without_dropout(library: &mut tokenizers::Tokenizer) {
    let ModelWrapper::BPE(model) = library.get_model() else { return };
    if model.dropout.is_some() {
        let mut model = model.clone();
        model.dropout = None;
        library.with_model(model);
    }
}

/// A switch of `tokenizer_config.json`; null means no, as in Python.
fn flag(beside: &Beside, key: &str) -> Result<Option<bool>, SourceError> {
    match beside.settings.get(key) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(false)),
        Some(Value::Bool(on)) => Ok(Some(*on)),
        Some(other) => {
            let file = beside.folder.join("tokenizer_config.json");
            Err(SourceError::malformed(file, format!("{key} is {other}; expected true or false")))
        }
    }
}

/// The tokens that the post-processor puts before a text, and those after it.
fn template(library: &tokenizers::Tokenizer) -> (Vec<u32>, Vec<u32>) {
    if library.get_post_processor().is_none() {
        return (Vec::new(), Vec::new());
    }
    let Ok(encoding) = library.encode("a", true) else { return (Vec::new(), Vec::new()) };
    let (ids, added) = (encoding.get_ids(), encoding.get_special_tokens_mask());
    let before = added.iter().take_while(|&&added| added == 1).count();
    let after = added[before..].iter().rev().take_while(|&&added| added == 1).count();
    (ids[..before].to_vec(), ids[ids.len() - after..].to_vec())
}

/// What is to be said if the two generations of `transformers` begin a text differently.
fn disagreement(version: Version, ours: &[u32], theirs: &[u32], config: &Value) -> Option<String> {
    let begins = |tokens: &[u32]| if tokens.is_empty() { "no BOS token" } else { "a BOS token" };
    let saved = match config.get("transformers_version").and_then(Value::as_str) {
        Some(saved) => format!("config.json was saved by {saved}"),
        None => "config.json names no version".to_owned(),
    };
    (ours != theirs).then(|| {
        format!(
            "transformers {} puts {} before a text, transformers {} {}; this is done as by {0}, since {saved}",
            version.number(),
            begins(ours),
            version.other().number(),
            begins(theirs)
        )
    })
}

/// What is to be said if both generations pass over `add_bos_token`.
fn unheeded(adds_bos: Option<bool>, before: &[u32]) -> Option<String> {
    let said = adds_bos.filter(|&adds| adds == before.is_empty())?;
    let done = if before.is_empty() { "no BOS token is" } else { "a BOS token is" };
    Some(format!(
        "add_bos_token of tokenizer_config.json is {said}, but {done} put before a text: transformers goes by the \
         post-processor of tokenizer.json here"
    ))
}

fn is_byte_level(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(is_byte_level),
        _ => false,
    }
}

/// Whether `a` is encoded as ` a` would be in the middle of a text.
fn adds_prefix(library: &tokenizers::Tokenizer) -> bool {
    let first = library.encode_fast("a", false).ok().and_then(|encoding| encoding.get_ids().first().copied());
    let spelled = first.and_then(|id| library.id_to_token(id));
    spelled.is_some_and(|token| token.starts_with(['▁', 'Ġ']))
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
