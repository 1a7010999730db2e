//! The tokens of a pass.

use std::ops::Range;

/// Sequences of equal length, as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    /// sequences x seq_len, row-major.
    pub tokens: Vec<u32>,
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens per sequence, T.
    pub seq_len: usize,
}

impl TokenBatch {
    /// With the same tokens before every sequence.
    #[must_use]
    pub fn with_first(self, ids: Range<u32>) -> Self {
        if ids.is_empty() {
            return self;
        }
        let sequences = self.tokens.chunks(self.seq_len);
        let tokens = sequences.flat_map(|sequence| ids.clone().chain(sequence.iter().copied())).collect();
        Self { tokens, sequences: self.sequences, seq_len: self.seq_len + ids.len() }
    }

    /// Without the first `count` tokens of every sequence.
    #[must_use]
    pub fn without_first(&self, count: usize) -> Self {
        let sequences = self.tokens.chunks(self.seq_len);
        let tokens = sequences.flat_map(|sequence| &sequence[count..]).copied().collect();
        Self { tokens, sequences: self.sequences, seq_len: self.seq_len - count }
    }

    /// The ids of one sequence.
    pub fn sequence(&self, index: usize) -> &[u32] {
        &self.tokens[index * self.seq_len..(index + 1) * self.seq_len]
    }
}
