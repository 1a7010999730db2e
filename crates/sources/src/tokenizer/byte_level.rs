//! Byte-level BPE from the vocabulary and merges of a GGUF file.
//!
//! A GGUF file names its pre-tokeniser (how text is cut before merges apply) but does not describe it. Each one known
//! here is what the `tokenizer.json` of the named models does.

use std::collections::HashMap;
use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::vocabulary::{TokenKind, Vocabulary};
use crate::checkpoint::GgufMetadata;
use crate::error::SourceError;

const SUPPORTED: &str = "gpt-2, default, llama-bpe, llama3, llama-v3, dbrx, qwen2, deepseek-r1-qwen, smollm";

/// How text is cut before merges apply. GPT-2's own cut is built into the library's byte-level step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PreTokenizer {
    /// Words with their leading space, runs of digits, runs of other signs, contractions in lower case.
    Gpt2,
    /// Contractions in any case, words with one leading sign, digits by threes, line ends apart.
    /// A piece that is a token whole is never built from merges.
    Llama3,
    /// As `Llama3`, but a piece is always built from merges.
    Cl100k,
    /// As `Llama3`, but digits one by one, and merges always; `normalise`: text is brought to NFC first.
    Qwen2 { normalise: bool },
    /// Digits one by one, the rest as GPT-2.
    SmolLm,
}

impl PreTokenizer {
    /// The one that `tokenizer.ggml.pre` names. Files older than that key, and those whose converter did not know
    /// the model (`default`), are read as GPT-2's.
    pub(super) fn of(keys: &GgufMetadata, path: &Path) -> Result<Self, SourceError> {
        match keys.text("tokenizer.ggml.pre") {
            Some("gpt-2" | "gpt2") => Ok(Self::Gpt2),
            None | Some("default") => {
                if keys.text("general.architecture").is_some_and(|family| family != "gpt2") {
                    tracing::warn!(
                        "{}: the file does not say how its tokeniser cuts text; cutting as GPT-2 does",
                        path.display()
                    );
                }
                Ok(Self::Gpt2)
            }
            Some("llama-bpe" | "llama3" | "llama-v3") => Ok(Self::Llama3),
            Some("dbrx") => Ok(Self::Cl100k),
            Some("qwen2") => Ok(Self::Qwen2 { normalise: true }),
            Some("deepseek-r1-qwen") => Ok(Self::Qwen2 { normalise: false }),
            Some("smollm") => Ok(Self::SmolLm),
            Some(other) => {
                let reason =
                    format!("tokenizer.ggml.pre is {other}, which is not supported; supported are {SUPPORTED}");
                Err(SourceError::unsupported(path, reason))
            }
        }
    }

    /// Whether files that do not say so begin a text with the beginning-of-sequence token.
    pub(super) fn adds_bos(self) -> bool {
        self == Self::Llama3
    }

    fn steps(self) -> tokenizers::Result<Vec<PreTokenizerWrapper>> {
        let bytes = |cut: bool| PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, cut));
        Ok(match self {
            Self::Gpt2 => vec![bytes(true)],
            Self::SmolLm => vec![PreTokenizerWrapper::Digits(Digits::new(true)), bytes(true)],
            Self::Llama3 | Self::Cl100k => vec![cut_at(r"\p{N}{1,3}")?, bytes(false)],
            Self::Qwen2 { .. } => vec![cut_at(r"\p{N}")?, bytes(false)],
        })
    }
}

/// The cut of Qwen 2, with or without a space before the text.
pub(super) fn cut_as_qwen2(adds_space: bool) -> tokenizers::Result<PreTokenizerWrapper> {
    let bytes = PreTokenizerWrapper::ByteLevel(ByteLevel::new(adds_space, true, false));
    Ok(PreTokenizerWrapper::Sequence(Sequence::new(vec![cut_at(r"\p{N}")?, bytes])))
}

/// The cut that Llama 3 and Qwen 2 share but for their `digits`.
fn cut_at(digits: &str) -> tokenizers::Result<PreTokenizerWrapper> {
    let alternatives = [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        digits,
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ];
    let pattern = SplitPattern::Regex(alternatives.join("|"));
    Ok(PreTokenizerWrapper::Split(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?))
}

/// Assembles the tokeniser.
pub(super) fn build(
    vocabulary: &Vocabulary,
    merges: &[String],
    pre_tokenizer: PreTokenizer,
    path: &Path,
) -> Result<tokenizers::Tokenizer, SourceError> {
    let ids: HashMap<String, u32> = vocabulary.tokens.iter().cloned().zip(0..).collect();
    let merges = merges
        .iter()
        .enumerate()
        .map(|(index, merge)| parse_merge(index, merge, &ids).map_err(|reason| SourceError::malformed(path, reason)))
        .collect::<Result<Vec<_>, _>>()?;
    let unusable = |error: tokenizers::Error| SourceError::malformed(path, format!("the vocabulary: {error}"));
    let model = BPE::builder()
        .vocab_and_merges(ids.into_iter().collect::<Vocab>(), merges)
        .ignore_merges(pre_tokenizer == PreTokenizer::Llama3)
        .build()
        .map_err(unusable)?;
    let mut library = tokenizers::Tokenizer::new(model);
    if pre_tokenizer == (PreTokenizer::Qwen2 { normalise: true }) {
        library.with_normalizer(Some(NFC));
    }
    library.with_pre_tokenizer(Some(Sequence::new(pre_tokenizer.steps().map_err(unusable)?)));
    library.with_decoder(Some(ByteLevel::default()));

    let of_kind = |kind: TokenKind, special: bool| -> Vec<AddedToken> {
        let tokens = vocabulary.tokens.iter().zip(&vocabulary.kinds).filter(|(_, of)| **of == kind);
        tokens.map(|(token, _)| AddedToken::from(token.as_str(), special).normalized(false)).collect()
    };
    library.add_special_tokens(&of_kind(TokenKind::Control, true));
    library.add_tokens(&of_kind(TokenKind::UserDefined, false));
    Ok(library)
}

/// Splits `left right`, and makes sure that both and their union are tokens.
fn parse_merge(index: usize, merge: &str, ids: &HashMap<String, u32>) -> Result<(String, String), String> {
    let Some((left, right)) = merge.split_once(' ').filter(|(_, right)| !right.contains(' ')) else {
        return Err(format!("tokenizer.ggml.merges: entry {index} is {merge:?}, not two tokens with a space between"));
    };
    let union = format!("{left}{right}");
    match [left, right, &union].into_iter().find(|token| !ids.contains_key(*token)) {
        Some(token) => Err(format!(
            "tokenizer.ggml.merges: entry {index} ({merge:?}) needs the token {token:?}, which is not in the vocabulary"
        )),
        None => Ok((left.to_owned(), right.to_owned())),
    }
}
