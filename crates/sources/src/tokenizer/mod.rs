//! From text to token ids and back: `tokenizer.json` of a Hugging Face directory, or the vocabulary inside a GGUF file.
//!
//! Byte-level BPE runs on the `tokenizers` crate, whether it comes from `tokenizer.json` or is assembled from GGUF keys
//! (`byte_level`). A SentencePiece vocabulary inside a GGUF file has scores and no merges; `sentencepiece` merges
//! by those scores as the SentencePiece library does.
//!
//! A tokeniser of a directory is what `transformers` makes of it: `class` says which of its classes loads it and which
//! token that class puts before a text, `pipeline` how the class cuts text, and `added` which tokens come from the files
//! beside `tokenizer.json`. Where versions 4 and 5 differ, the one that saved `config.json` counts.

mod added;
mod byte_level;
mod chat_template;
mod class;
mod display;
mod folder;
mod gguf;
mod pipeline;
mod sentencepiece;
mod vocabulary;

use std::path::{Path, PathBuf};

use crate::checkpoint::Metadata;
use crate::error::SourceError;
use added::Beside;
pub use chat_template::{ChatTemplate, CompiledTemplate};
use display::Spelling;
pub use display::character_of_byte;
use sentencepiece::SentencePiece;

/// The tokeniser that comes with a checkpoint.
#[derive(Debug)]
pub struct Tokenizer {
    engine: Engine,
    spelling: Spelling,
    vocabulary_size: usize,
    bos: Option<u32>,
    ends: Ends,
    adds_prefix: bool,
    /// The special tokens that have a name (`bos_token` and its like), as chat templates know them.
    named: Vec<(String, String)>,
    path: PathBuf,
}

/// What the model's own tokeniser puts around a text.
#[derive(Debug, Default)]
struct Ends {
    before: Vec<u32>,
    after: Vec<u32>,
    /// What is to be said where versions of `transformers` or files of the directory do not agree on it.
    doubt: Option<String>,
}

#[derive(Debug)]
enum Engine {
    Library(Box<tokenizers::Tokenizer>),
    SentencePiece(SentencePiece),
}

impl Tokenizer {
    /// Reads the tokeniser of the checkpoint at `path`: `tokenizer.json` in a Hugging Face directory or in
    /// memory, the `tokenizer.ggml.*` keys of a GGUF file. `None` if the checkpoint has neither; a directory with only a
    /// SentencePiece `tokenizer.model` counts as having none.
    ///
    /// # Errors
    /// If the file cannot be read or contradicts itself (a merge of an unknown token, an id outside the vocabulary),
    /// or if the GGUF file names a tokeniser or pre-tokeniser that is not supported.
    pub fn from_metadata(metadata: &Metadata, path: &Path) -> Result<Option<Self>, SourceError> {
        match metadata {
            Metadata::HuggingFace { folder, config } => folder::read(folder, config),
            Metadata::Memory { config, tokenizer, tokenizer_config } => {
                let settings = tokenizer_config.as_object().cloned().unwrap_or_default();
                let beside = Beside { settings, ..Beside::default() };
                tokenizer.map(|bytes| folder::parse(bytes, path, &beside, config)).transpose()
            }
            Metadata::Gguf(keys) => gguf::read(keys, path),
        }
    }

    /// The ids of `text`. No special token is added, but one that is spelled out in the text, such as
    /// `<|im_start|>`, becomes its id.
    ///
    /// # Errors
    /// If the tokeniser has no way to write a piece of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, SourceError> {
        match &self.engine {
            Engine::Library(library) => match library.encode_fast(text, false) {
                Ok(encoding) => Ok(encoding.get_ids().to_vec()),
                Err(error) => {
                    Err(SourceError::unsupported(&self.path, format!("the tokeniser cannot encode the text: {error}")))
                }
            },
            Engine::SentencePiece(pieces) => pieces.encode(text).map_err(|character| {
                let reason =
                    format!("the vocabulary has no token for {character:?}, no byte tokens and no unknown token");
                SourceError::unsupported(&self.path, reason)
            }),
        }
    }

    /// The text of one token, for display: ` the`, not `Ġthe` or `▁the`. Bytes that are not UTF-8 by themselves are
    /// written `\xNN`; an id that has no token is written `<id N>`.
    pub fn decode_token(&self, id: u32) -> String {
        self.token(id).unwrap_or_else(|| format!("<id {id}>"))
    }

    /// As [`Tokenizer::decode_token`]; `None` of an id that has no token.
    pub(crate) fn token(&self, id: u32) -> Option<String> {
        let (spelled, added) = match &self.engine {
            Engine::Library(library) => match library.get_added_vocabulary().simple_id_to_token(id) {
                Some(content) => (content, true),
                None => (library.id_to_token(id)?, false),
            },
            Engine::SentencePiece(pieces) => (pieces.piece(id)?.to_owned(), false),
        };
        let whole = added && self.spelling == Spelling::ByteLevel;
        Some(if whole { spelled } else { self.spelling.text(&spelled) })
    }

    /// Whether text that spells the token out is read as one special token. The unknown token is left out: other texts give it too.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        let spelled = match &self.engine {
            Engine::Library(library) => {
                let added = library.get_added_vocabulary();
                added.simple_id_to_token(id).filter(|token| added.is_special_token(token))
            }
            Engine::SentencePiece(pieces) => pieces.control(id).map(str::to_owned),
        };
        spelled.is_some_and(|token| !self.named.iter().any(|(name, text)| name == "unk_token" && *text == token))
    }

    /// Number of tokens the tokeniser knows, special ones included. A model's embedding may have more rows.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    /// The id of the beginning-of-sequence token, if the checkpoint names one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether the model's own tokeniser puts a token, the beginning-of-sequence token as a rule, before a text.
    pub fn adds_bos(&self) -> bool {
        !self.ends.before.is_empty()
    }

    /// The token that the model's own tokeniser puts before a text, if it puts one there.
    ///
    /// # Errors
    /// If it puts several there.
    pub fn first(&self) -> Result<Option<u32>, SourceError> {
        match self.ends.before[..] {
            [] => Ok(None),
            [first] => Ok(Some(first)),
            _ => {
                let tokens = self.named(&self.ends.before);
                let reason = format!(
                    "the post-processor puts several tokens ({tokens}) before a text; supported is one, so say with --bos \
                     whether sequences begin with the BOS token"
                );
                Err(SourceError::unsupported(&self.path, reason))
            }
        }
    }

    /// Says in the log what of the ends of a text is not as clear as it should be.
    pub(crate) fn warn_of_ends(&self) {
        let path = self.path.display();
        if let Some(doubt) = &self.ends.doubt {
            tracing::warn!("{path}: {doubt}; --bos always or never settles it");
        }
        if !self.ends.after.is_empty() {
            let tokens = self.named(&self.ends.after);
            tracing::warn!("{path}: the tokeniser ends a text with {tokens}, which is left out between documents");
        }
    }

    fn named(&self, ids: &[u32]) -> String {
        ids.iter().map(|&id| format!("{:?}", self.decode_token(id))).collect::<Vec<_>>().join(", ")
    }

    /// Whether a text is encoded as if a space stood before it, so that a later part of a text must be given without
    /// its first space.
    pub(crate) fn adds_prefix(&self) -> bool {
        self.adds_prefix
    }
}
