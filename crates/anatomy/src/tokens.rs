//! From the running number of a token back to its sequence, position, id and text.

use sinkscope_sources::data::TokenBatch;

/// The tokens of a batch and how to show them.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    batch: &'a TokenBatch,
    text: &'a dyn Fn(u32) -> String,
}

impl<'a> Tokens<'a> {
    /// `text` gives the text of an id, empty if there is no tokeniser.
    pub fn new(batch: &'a TokenBatch, text: &'a dyn Fn(u32) -> String) -> Self {
        Self { batch, text }
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.batch.sequences
    }

    /// Tokens per sequence.
    pub fn seq_len(&self) -> usize {
        self.batch.seq_len
    }

    /// Sequence and position.
    pub fn place(&self, token: usize) -> (usize, usize) {
        (token / self.batch.seq_len, token % self.batch.seq_len)
    }

    /// Id.
    pub fn id(&self, token: usize) -> u32 {
        self.batch.tokens[token]
    }

    /// Text.
    pub fn text(&self, token: usize) -> String {
        (self.text)(self.id(token))
    }
}
