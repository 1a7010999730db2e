//! Cutting a stream of tokens into sequences of equal length.

use super::batch::TokenBatch;
use super::{DEFAULT_SEQUENCES, SourceError};

/// Sequences on their way to being full.
pub(super) struct Sequences {
    head: Option<u32>,
    /// Whether a text that brings the head itself is given no other.
    once: bool,
    seq_len: usize,
    /// How many were asked for.
    asked: Option<usize>,
    tokens: Vec<u32>,
    /// Tokens of text seen so far, not counting heads.
    seen: usize,
}

impl Sequences {
    /// For sequences of `seq_len` tokens (at least 2), `head` included where there is one.
    pub(super) fn new(head: Option<u32>, once: bool, seq_len: usize, asked: Option<usize>) -> Self {
        Self { head, once, seq_len, asked, tokens: Vec::new(), seen: 0 }
    }

    /// Whether no more tokens are needed.
    pub(super) fn is_full(&self) -> bool {
        self.tokens.len() / self.seq_len >= self.limit()
    }

    /// Adds the tokens that follow, as far as they are needed.
    pub(super) fn extend(&mut self, ids: &[u32]) {
        self.seen += ids.len();
        for &id in ids {
            if self.is_full() {
                break;
            }
            if self.tokens.len().is_multiple_of(self.seq_len) {
                self.tokens.extend(self.head.filter(|&head| !self.once || head != id));
            }
            self.tokens.push(id);
        }
    }

    /// The full sequences; what is left over at the end is dropped.
    pub(super) fn finish(mut self, source: &str) -> Result<TokenBatch, SourceError> {
        let sequences = self.tokens.len() / self.seq_len;
        let (seen, seq_len) = (self.seen, self.seq_len);
        let head = if self.head.is_some() { ", one of them the BOS token" } else { "" };
        let reason = match self.asked {
            _ if seen == 0 => "there is no text in it".to_owned(),
            _ if sequences == 0 => {
                format!(
                    "the text is {seen} tokens long, shorter than one sequence of {seq_len} tokens{head}; \
                         give more text or a lesser --seq-len"
                )
            }
            Some(asked) if sequences < asked => format!(
                "{asked} sequences were asked for, but the text gives {sequences} of {seq_len} tokens{head} ({seen} \
                 tokens of text)"
            ),
            _ => {
                self.tokens.truncate(sequences * seq_len);
                return Ok(TokenBatch { tokens: self.tokens, sequences, seq_len });
            }
        };
        Err(SourceError::data(source, reason))
    }

    fn limit(&self) -> usize {
        self.asked.unwrap_or(DEFAULT_SEQUENCES)
    }
}
