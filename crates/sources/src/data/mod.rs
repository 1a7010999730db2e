//! Where tokens come from: text and token files, and the text inside the binary.
//!
//! A text file is read document by document (a `.txt` file is one, each object of a `.jsonl`, `.ndjson` or `.json` file, each
//! row of a `.parquet` file), and only as far as the wanted sequences need. The documents' tokens are strung together with
//! nothing in between, in the order of the file, and cut into sequences of equal length. Each conversation of a file of chats is a
//! document too, the text that the model's template makes of it.

mod batch;
mod compression;
mod containment;
pub mod conversation;
mod digest;
pub mod document;
mod json;
mod non_numbers;
mod once;
mod parquet_column;
mod plain_text;
mod sequences;
mod token_file;

use std::path::Path;

pub use batch::TokenBatch;
use sha2::{Digest, Sha256};

use crate::error::SourceError;
use crate::tokenizer::{ChatTemplate, Tokenizer};
use document::{Flow, Part};
use sequences::Sequences;

/// The text used when none is named, written for this project.
pub const SAMPLE_TEXT: &str = include_str!("sample_text.txt");

/// What [`SAMPLE_TEXT`] is called in results and messages.
pub const SAMPLE_TEXT_NAME: &str = "the built-in text";

/// Tokens per sequence where the request does not say.
pub const DEFAULT_SEQ_LEN: usize = 64;

/// Most sequences taken from a text where the request does not say.
pub const DEFAULT_SEQUENCES: usize = 64;

/// Whether a beginning-of-sequence token heads each sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BosPolicy {
    /// Text: as the model's own tokeniser does. Conversations: as the template does. Token files: as they are.
    #[default]
    Auto,
    /// Each sequence begins with it; one that begins with it by its template gets no other.
    Always,
    /// None is added.
    Never,
}

/// Which tokens are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextRequest<'a> {
    /// A file that [`document::read`] reads, or [`document::STANDARD_INPUT`].
    pub text: Option<&'a Path>,
    /// The field or column that holds the text; [`document::TEXT_FIELD`] if absent.
    pub field: Option<&'a str>,
    /// A JSON file of token ids, `{"tokens": [[...], ...]}`; not together with `text`.
    pub tokens: Option<&'a Path>,
    /// A file of conversations, and the template that makes text of them; not together with `text` or `tokens`.
    pub chat: Option<(&'a Path, &'a ChatTemplate)>,
    /// Tokens per sequence, a BOS token included; [`DEFAULT_SEQ_LEN`] for text if absent. For a token file, it must
    /// be the length of the sequences in the file.
    pub seq_len: Option<usize>,
    /// Number of sequences, exactly; if absent, as many as a text gives but at most [`DEFAULT_SEQUENCES`], and all of
    /// a token file.
    pub sequences: Option<usize>,
    /// Whether sequences begin with a BOS token.
    pub bos: BosPolicy,
}

/// Tokens, and where they are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// The sequences.
    pub batch: TokenBatch,
    /// The file, or [`SAMPLE_TEXT_NAME`]. Where `sha256` covers only a part of a large file, this says which:
    /// `FILE (its first N bytes)`. Of conversations, it also says where the template is from.
    pub source: String,
    /// SHA-256 of the file as it is stored, in lower-case hexadecimal. Of a text file larger than 256 MiB, only what
    /// had to be read is covered.
    pub sha256: String,
    /// Whether each sequence begins with the BOS token, or with the token that the model's own tokeniser puts there.
    pub bos: bool,
    /// How many tokens are special ones that the text spells out, such as `<|im_start|>`. Tokens that were put before sequences
    /// are not counted.
    pub special_tokens: usize,
    /// What was made of conversations, if these are some.
    pub chat: Option<Chat>,
}

/// How conversations became tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// The file or the key that holds the chat template.
    pub template: &'static str,
    /// Conversations read, the last perhaps in part.
    pub conversations: usize,
    /// Whether a BOS token was put before sequences that begin with none. Otherwise BOS tokens are those of the template.
    pub adds_bos: bool,
}

/// Loads the sequences that `request` asks for. `vocabulary` is the model's: ids from 0 to below it.
///
/// A token file's sequences are taken as they are; with [`BosPolicy::Always`] each becomes one token longer.
///
/// # Memory
/// The tokens, and one document at a time; a `.txt` file is read in parts of 64 KiB. A compressed `.parquet` file is
/// unpacked in memory, as its format is read from the end.
///
/// # Errors
/// If the request contradicts itself, or the file cannot be read, is not what its extension says, holds too little
/// text or tokens outside the vocabulary, or if text is given for a checkpoint without a tokeniser.
pub fn load(request: &TextRequest<'_>, tokenizer: Option<&Tokenizer>, vocabulary: usize) -> Result<Data, SourceError> {
    if request.sequences == Some(0) {
        return Err(SourceError::Request("0 sequences were asked for; at least 1 is needed".to_owned()));
    }
    if let Some(seq_len @ 0..=1) = request.seq_len {
        let reason = format!("a sequence length of {seq_len} was asked for; at least 2 tokens are needed");
        return Err(SourceError::Request(reason));
    }
    let bos = tokenizer.and_then(Tokenizer::bos);
    if request.bos == BosPolicy::Always && bos.is_none() {
        let reason = "a BOS token was asked for, but the checkpoint names none; leave it out, or begin the sequences \
                      of a token file with it";
        return Err(SourceError::Request(reason.to_owned()));
    }
    let given = [
        ("a text", request.text),
        ("a token file", request.tokens),
        ("conversations", request.chat.map(|chat| chat.0)),
    ];
    let given: Vec<String> =
        given.iter().filter_map(|(what, path)| path.map(|path| format!("{what} ({})", path.display()))).collect();
    if let [first, second, ..] = &given[..] {
        return Err(SourceError::Request(format!("both {first} and {second} were given; give one of them")));
    }
    let data = if let Some(tokens) = request.tokens {
        token_file::load(tokens, request, bos)?
    } else {
        let data = load_text(request, tokenizer)?;
        Data { special_tokens: tokenizer.map_or(0, |tokenizer| special_tokens(&data, tokenizer)), ..data }
    };
    check_vocabulary(&data, tokenizer, vocabulary)?;
    Ok(data)
}

fn load_text(request: &TextRequest<'_>, tokenizer: Option<&Tokenizer>) -> Result<Data, SourceError> {
    let path = request.text.or(request.chat.map(|chat| chat.0));
    let name = path.map_or_else(|| SAMPLE_TEXT_NAME.to_owned(), |path| path.display().to_string());
    let Some(tokenizer) = tokenizer else {
        let reason = "text needs a tokeniser, and the checkpoint has none that can be read (a tokenizer.json, or the \
                      vocabulary of a GGUF file); give token ids with --tokens";
        return Err(SourceError::data(name, reason));
    };
    let head = match request.bos {
        BosPolicy::Always => tokenizer.bos(),
        BosPolicy::Auto if request.chat.is_none() => tokenizer.first()?,
        BosPolicy::Auto | BosPolicy::Never => None,
    };
    if request.bos == BosPolicy::Auto && request.chat.is_none() {
        tokenizer.warn_of_ends();
    }
    let (mut documents, mut begun) = (0, 0);
    let mut sequences =
        Sequences::new(head, request.chat.is_some(), request.seq_len.unwrap_or(DEFAULT_SEQ_LEN), request.sequences);
    let mut take = |part: Part<'_>| -> Result<Flow, SourceError> {
        // Such a tokeniser sees a space before every text, so the part's own is left out.
        let drop_space = part.continues && tokenizer.adds_prefix();
        let text = if drop_space { part.text.strip_prefix(' ').unwrap_or(part.text) } else { part.text };
        let ids = tokenizer.encode(text)?;
        documents += usize::from(!part.continues);
        begun += usize::from(!part.continues && head.is_some() && ids.first() == head.as_ref());
        sequences.extend(&ids);
        Ok(if sequences.is_full() { Flow::Enough } else { Flow::More })
    };
    if let Some((path, template)) = request.chat {
        let compiled = template.compile(tokenizer)?;
        let (source, sha256) = document::read_conversations(path, &|messages| compiled.render(messages), &mut take)?;
        let batch = sequences.finish(&source)?;
        let first = batch.tokens.iter().step_by(batch.seq_len);
        let bos = tokenizer.bos().is_some_and(|bos| first.copied().all(|id| id == bos));
        let chat = Chat { template: template.origin(), conversations: documents, adds_bos: head.is_some() };
        return Ok(Data { batch, source, sha256, bos, special_tokens: 0, chat: Some(chat) });
    }
    let (source, sha256) = if let Some(path) = path {
        document::read(path, request.field.unwrap_or(document::TEXT_FIELD), &mut take)?
    } else {
        take(Part { text: SAMPLE_TEXT, continues: false })?;
        (name, hex::encode(Sha256::digest(SAMPLE_TEXT.as_bytes())))
    };
    let batch = sequences.finish(&source)?;
    if let Some(head) = head.filter(|_| begun > 0) {
        let token = tokenizer.decode_token(head);
        tracing::warn!(
            "{source}: {begun} of {documents} documents begin with the BOS token {token:?}, and each sequence begins with one \
             more; --bos never adds none"
        );
    }
    Ok(Data { batch, source, sha256, bos: head.is_some(), special_tokens: 0, chat: None })
}

/// Counts the special tokens that the text of `data` spells out.
fn special_tokens(data: &Data, tokenizer: &Tokenizer) -> usize {
    let TokenBatch { tokens, seq_len, .. } = &data.batch;
    let heads = data.chat.as_ref().map_or(data.bos, |chat| chat.adds_bos);
    let of_text = tokens.chunks(*seq_len).flat_map(|sequence| &sequence[usize::from(heads)..]);
    of_text.filter(|&&id| tokenizer.is_special(id)).count()
}

fn check_vocabulary(data: &Data, tokenizer: Option<&Tokenizer>, vocabulary: usize) -> Result<(), SourceError> {
    let TokenBatch { tokens, seq_len, .. } = &data.batch;
    let Some(index) = tokens.iter().position(|&id| id as usize >= vocabulary) else { return Ok(()) };
    let (sequence, position, id) = (index / seq_len, index % seq_len, tokens[index]);
    let spelled = tokenizer.and_then(|tokenizer| tokenizer.token(id));
    let token = spelled.map_or_else(String::new, |token| format!(" ({token:?})"));
    let reason = format!(
        "sequence {sequence}, position {position}: token id {id}{token} is outside the model's vocabulary of {vocabulary} \
         (ids from 0)"
    );
    Err(SourceError::data(&data.source, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_text_has_its_length() {
        let words = SAMPLE_TEXT.split_whitespace().count();
        assert!((2800..=3300).contains(&words), "{words} words");
    }

    #[test]
    fn the_built_in_text_is_plain() {
        assert!(SAMPLE_TEXT.is_ascii());
        assert!(SAMPLE_TEXT.chars().all(|character| !character.is_ascii_control() || character == '\n'));
        assert!(SAMPLE_TEXT.ends_with('\n'));
    }
}
