//! The tokeniser of a Hugging Face model directory.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::decoders::DecoderWrapper;

use super::display::Spelling;
use super::{Engine, Tokenizer};
use crate::error::ModelError;

/// Reads `tokenizer.json`, and from `tokenizer_config.json` or `config.json` which token begins a sequence.
pub(super) fn read(folder: &Path, config: &Value) -> Result<Option<Tokenizer>, ModelError> {
    let path = folder.join("tokenizer.json");
    let Some(bytes) = read_if_present(&path)? else { return Ok(None) };
    let settings_path = folder.join("tokenizer_config.json");
    let settings = match read_if_present(&settings_path)? {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| ModelError::malformed(&settings_path, format!("not valid JSON: {error}")))?,
        None => Value::Null,
    };
    parse(&bytes, &path, &settings, config).map(Some)
}

/// The part of a `tokenizer.json` at which the library panics if it is no JSON. The rest is large, and not kept.
#[derive(Deserialize)]
struct Decoder {
    #[serde(default, rename = "decoder")]
    _decoder: Value,
}

/// Reads the content of a `tokenizer.json`; `path` is where it was, `settings` the content of `tokenizer_config.json`.
pub(super) fn parse(bytes: &[u8], path: &Path, settings: &Value, config: &Value) -> Result<Tokenizer, ModelError> {
    let unusable =
        |error: &dyn Display| ModelError::malformed(path, format!("not a tokenizer.json that can be used: {error}"));
    serde_json::from_slice::<Decoder>(bytes).map_err(|error| unusable(&error))?;
    let mut library = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| unusable(&error))?;
    // A tokenizer.json saved after training on short texts may still cut or pad what it encodes.
    library
        .with_truncation(None)
        .map_err(|error| ModelError::malformed(path, format!("truncation cannot be switched off: {error}")))?;
    library.with_padding(None);

    let bos = bos(&library, settings, config);
    let adds_bos = match settings.get("add_bos_token").and_then(Value::as_bool) {
        Some(explicit) => explicit && bos.is_some(),
        None => bos.is_some() && first_of_template(&library) == bos,
    };
    let byte_level = library.get_decoder().is_some_and(is_byte_level);
    let spelling = if byte_level { Spelling::ByteLevel } else { Spelling::SentencePiece };
    Ok(Tokenizer {
        vocabulary_size: library.get_vocab_size(true),
        adds_prefix: adds_prefix(&library),
        engine: Engine::Library(Box::new(library)),
        spelling,
        bos,
        adds_bos,
        path: path.to_owned(),
    })
}

fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ModelError::io(path, error)),
    }
}

/// `bos_token` of `tokenizer_config.json`, a string or an object with `content`; else `bos_token_id` of `config.json`.
fn bos(library: &tokenizers::Tokenizer, settings: &Value, config: &Value) -> Option<u32> {
    let token = settings.get("bos_token").and_then(|token| match token {
        Value::String(content) => Some(content.as_str()),
        Value::Object(fields) => fields.get("content").and_then(Value::as_str),
        _ => None,
    });
    match token.and_then(|token| library.token_to_id(token)) {
        Some(id) => Some(id),
        None => config.get("bos_token_id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()),
    }
}

/// The token that the post-processor puts before a text, if any.
fn first_of_template(library: &tokenizers::Tokenizer) -> Option<u32> {
    library.encode_fast("", true).ok().and_then(|encoding| encoding.get_ids().first().copied())
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
