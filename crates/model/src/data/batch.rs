//! The tokens of a pass.

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
    /// The ids of one sequence.
    pub fn sequence(&self, index: usize) -> &[u32] {
        &self.tokens[index * self.seq_len..(index + 1) * self.seq_len]
    }
}
