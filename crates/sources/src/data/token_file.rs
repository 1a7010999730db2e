//! A file of exact token ids: `{"tokens": [[ids of one sequence], ...]}`.

use std::path::Path;

use serde_json::Number;
use sha2::{Digest, Sha256};

use super::batch::TokenBatch;
use super::{BosPolicy, Data, TextRequest};
use crate::byte_order_mark;
use crate::error::SourceError;

#[derive(serde::Deserialize)]
struct TokenFile {
    tokens: Vec<Vec<Number>>,
}

/// Loads the sequences of the file at `path`, all of one length.
pub(super) fn load(path: &Path, request: &TextRequest<'_>, bos: Option<u32>) -> Result<Data, SourceError> {
    let name = path.display().to_string();
    let wrong = |reason: String| SourceError::data(&name, reason);
    let bytes = std::fs::read(path).map_err(|error| SourceError::io(path, error))?;
    if bytes.is_empty() {
        return Err(wrong("the file is empty".to_owned()));
    }
    let json = byte_order_mark::strip(&bytes).map_err(|reason| SourceError::malformed(path, reason))?;
    let TokenFile { tokens: lists } = serde_json::from_slice(json).map_err(|error| {
        SourceError::malformed(path, format!("not JSON of the form {{\"tokens\": [[id, ...], ...]}}: {error}"))
    })?;
    let Some(seq_len) = lists.first().map(Vec::len) else {
        return Err(wrong("there are no sequences in it".to_owned()));
    };
    if let Some((index, list)) = lists.iter().enumerate().find(|(_, list)| list.len() != seq_len) {
        let length = list.len();
        let reason =
            format!("sequence {index} has {length} tokens, but sequence 0 has {seq_len}; all must be of one length");
        return Err(wrong(reason));
    }
    if seq_len < 2 {
        return Err(wrong(format!("its sequences have {seq_len} tokens; at least 2 are needed")));
    }
    if let Some(asked) = request.seq_len.filter(|&asked| asked != seq_len) {
        let reason = format!("its sequences have {seq_len} tokens, but a sequence length of {asked} was asked for");
        return Err(wrong(reason));
    }
    let sequences = request.sequences.unwrap_or(lists.len());
    if sequences > lists.len() {
        let reason = format!("{sequences} sequences were asked for, but there are {}", lists.len());
        return Err(wrong(reason));
    }

    let head = bos.filter(|_| request.bos == BosPolicy::Always);
    let seq_len = seq_len + usize::from(head.is_some());
    let mut tokens = Vec::with_capacity(sequences * seq_len);
    for (sequence, list) in lists.iter().take(sequences).enumerate() {
        tokens.extend(head);
        for (position, number) in list.iter().enumerate() {
            let id = number.as_u64().and_then(|id| u32::try_from(id).ok());
            tokens.push(id.ok_or_else(|| {
                wrong(format!(
                    "sequence {sequence}, position {position}: {number} is not a token id, a whole number from 0"
                ))
            })?);
        }
    }
    let begun =
        lists.iter().take(sequences).filter(|list| list.first().and_then(Number::as_u64) == head.map(u64::from));
    if let (Some(head), begun @ 1..) = (head, begun.count()) {
        tracing::warn!(
            "{name}: {begun} of {sequences} sequences begin with the BOS token (id {head}) already, and --bos always adds \
             one more"
        );
    }
    let batch = TokenBatch { tokens, sequences, seq_len };
    let begins = |bos| (0..sequences).all(|index| batch.sequence(index).first() == Some(&bos));
    let bos = bos.is_some_and(begins);
    let sha256 = hex::encode(Sha256::digest(&bytes));
    Ok(Data { batch, source: name, sha256, bos, special_tokens: 0, chat: None })
}
