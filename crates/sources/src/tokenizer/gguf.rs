//! The tokeniser of a GGUF file, from its `tokenizer.ggml.*` keys.

use std::path::Path;

use super::byte_level::{self, PreTokenizer};
use super::display::Spelling;
use super::sentencepiece::{MergeOrder, SentencePiece};
use super::vocabulary::Vocabulary;
use super::{Ends, Engine, Tokenizer};
use crate::checkpoint::GgufMetadata;
use crate::error::SourceError;

const SUPPORTED: &str = "gpt2 (byte-level BPE) and llama (SentencePiece)";

/// Builds the tokeniser that `tokenizer.ggml.model` names; `None` if the file has no vocabulary.
pub(super) fn read(keys: &GgufMetadata, path: &Path) -> Result<Option<Tokenizer>, SourceError> {
    match keys.text("tokenizer.ggml.model") {
        None | Some("none" | "no_vocab") => Ok(None),
        Some("gpt2") => read_byte_level(keys, path).map(Some),
        Some("llama") => read_sentencepiece(keys, path).map(Some),
        Some(other) => {
            let reason = format!("tokenizer.ggml.model is {other}, which is not supported; supported are {SUPPORTED}");
            Err(SourceError::unsupported(path, reason))
        }
    }
}

fn read_byte_level(keys: &GgufMetadata, path: &Path) -> Result<Tokenizer, SourceError> {
    let pre_tokenizer = PreTokenizer::of(keys, path)?;
    let vocabulary = Vocabulary::read(keys, path)?;
    let merges = keys.texts("tokenizer.ggml.merges").ok_or_else(|| {
        SourceError::malformed(path, "tokenizer.ggml.merges is missing: byte-level BPE cannot do without it")
    })?;
    let library = byte_level::build(&vocabulary, merges, pre_tokenizer, path)?;
    let bos = vocabulary.special(keys, "tokenizer.ggml.bos_token_id", path)?;
    let adds_bos = keys.bool("tokenizer.ggml.add_bos_token").unwrap_or(pre_tokenizer.adds_bos());
    Ok(Tokenizer {
        engine: Engine::Library(Box::new(library)),
        spelling: Spelling::ByteLevel,
        vocabulary_size: vocabulary.tokens.len(),
        bos,
        ends: ends(bos, adds_bos),
        adds_prefix: false,
        named: named(&vocabulary, keys, path)?,
        path: path.to_owned(),
    })
}

fn read_sentencepiece(keys: &GgufMetadata, path: &Path) -> Result<Tokenizer, SourceError> {
    let vocabulary = Vocabulary::read(keys, path)?;
    let bos = vocabulary.special(keys, "tokenizer.ggml.bos_token_id", path)?;
    let unknown = vocabulary.special(keys, "tokenizer.ggml.unknown_token_id", path)?;
    let adds_prefix = keys.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    // The order of Gemma's merges is that of its ids; files of its family do not carry it in the scores.
    let gemma = keys.text("general.architecture").is_some_and(|family| family.starts_with("gemma"));
    let order = if gemma { MergeOrder::Id } else { MergeOrder::Score };
    let adds_bos = keys.bool("tokenizer.ggml.add_bos_token").unwrap_or(true);
    Ok(Tokenizer {
        named: named(&vocabulary, keys, path)?,
        vocabulary_size: vocabulary.tokens.len(),
        engine: Engine::SentencePiece(SentencePiece::new(vocabulary, unknown, order, adds_prefix)),
        spelling: Spelling::SentencePiece,
        bos,
        ends: ends(bos, adds_bos),
        adds_prefix,
        path: path.to_owned(),
    })
}

/// Names of special tokens, and the keys of their ids.
const NAMED: [(&str, &str); 4] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
];

fn named(vocabulary: &Vocabulary, keys: &GgufMetadata, path: &Path) -> Result<Vec<(String, String)>, SourceError> {
    let mut named = Vec::new();
    for (name, key) in NAMED {
        if let Some(id) = vocabulary.special(keys, key, path)? {
            named.push((name.to_owned(), vocabulary.tokens[id as usize].clone()));
        }
    }
    Ok(named)
}

fn ends(bos: Option<u32>, adds_bos: bool) -> Ends {
    Ends { before: bos.filter(|_| adds_bos).into_iter().collect(), ..Ends::default() }
}
