//! The vocabulary inside a GGUF file, checked.

use std::path::Path;

use crate::checkpoint::GgufMetadata;
use crate::error::SourceError;

/// What kind of token it is, as GGUF numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A piece of text.
    Normal,
    /// What stands for text that has no token.
    Unknown,
    /// A control token such as `<s>`.
    Control,
    /// A token that is matched whole, before any merge.
    UserDefined,
    /// A row of the embedding without a meaning.
    Unused,
    /// One byte, for text that has no other token.
    Byte,
}

/// `tokenizer.ggml.tokens` with the kind and score of each.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// The tokens as spelled in the file, by id.
    pub(super) tokens: Vec<String>,
    /// As many as there are tokens.
    pub(super) kinds: Vec<TokenKind>,
    /// As many as there are tokens, if the file has them: the higher, the earlier a piece is merged.
    pub(super) scores: Option<Vec<f64>>,
}

impl Vocabulary {
    /// Reads and checks the arrays.
    pub(super) fn read(keys: &GgufMetadata, path: &Path) -> Result<Self, SourceError> {
        let malformed = |reason: String| SourceError::malformed(path, reason);
        let tokens = keys
            .texts("tokenizer.ggml.tokens")
            .filter(|tokens| !tokens.is_empty())
            .ok_or_else(|| malformed("tokenizer.ggml.tokens is missing or is not a list of strings".to_owned()))?
            .to_vec();
        if u32::try_from(tokens.len()).is_err() {
            return Err(malformed(format!(
                "tokenizer.ggml.tokens holds {} tokens, too many for 32 bits",
                tokens.len()
            )));
        }
        let same_length = |key: &str, length: usize| {
            if length == tokens.len() {
                return Ok(());
            }
            Err(malformed(format!("{key} has {length} entries, but there are {} tokens", tokens.len())))
        };
        let kinds = match keys.integers("tokenizer.ggml.token_type") {
            Some(numbers) => {
                same_length("tokenizer.ggml.token_type", numbers.len())?;
                numbers.iter().map(|&number| kind(number)).collect()
            }
            None => vec![TokenKind::Normal; tokens.len()],
        };
        let scores = match keys.floats("tokenizer.ggml.scores") {
            Some(scores) => {
                same_length("tokenizer.ggml.scores", scores.len())?;
                if let Some(id) = scores.iter().position(|score| score.is_nan()) {
                    return Err(malformed(format!("tokenizer.ggml.scores: the score of token {id} is not a number")));
                }
                Some(scores.to_vec())
            }
            None => None,
        };
        Ok(Self { tokens, kinds, scores })
    }

    /// The id of a special token, if the file has the key; checked against the vocabulary.
    pub(super) fn special(&self, keys: &GgufMetadata, key: &str, path: &Path) -> Result<Option<u32>, SourceError> {
        let Some(id) = keys.unsigned(key) else { return Ok(None) };
        match u32::try_from(id) {
            // llama.cpp writes the largest integer for "none".
            Ok(u32::MAX) => Ok(None),
            Ok(small) if (small as usize) < self.tokens.len() => Ok(Some(small)),
            _ => {
                Err(SourceError::malformed(path, format!("{key} is {id}, but there are {} tokens", self.tokens.len())))
            }
        }
    }
}

/// Numbers above 6 do not exist; 0 is "undefined", which converters write for ordinary tokens.
fn kind(number: i64) -> TokenKind {
    match number {
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        5 => TokenKind::Unused,
        6 => TokenKind::Byte,
        _ => TokenKind::Normal,
    }
}
