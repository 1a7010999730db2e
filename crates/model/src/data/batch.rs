//! The tokens of a pass.

use crate::architecture::Architecture;

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
    /// With the model's registers before every sequence.
    #[must_use]
    pub fn with_registers(self, architecture: &Architecture) -> Self {
        let registers = architecture.registers;
        if registers == 0 {
            return self;
        }
        let ids = (architecture.vocabulary - registers) as u32..architecture.vocabulary as u32;
        let sequences = self.tokens.chunks(self.seq_len);
        let tokens = sequences.flat_map(|sequence| ids.clone().chain(sequence.iter().copied())).collect();
        Self { tokens, sequences: self.sequences, seq_len: self.seq_len + registers }
    }

    /// Without them.
    #[must_use]
    pub fn without_registers(&self, architecture: &Architecture) -> Self {
        let registers = architecture.registers;
        let sequences = self.tokens.chunks(self.seq_len);
        let tokens = sequences.flat_map(|sequence| &sequence[registers..]).copied().collect();
        Self { tokens, sequences: self.sequences, seq_len: self.seq_len - registers }
    }

    /// The ids of one sequence.
    pub fn sequence(&self, index: usize) -> &[u32] {
        &self.tokens[index * self.seq_len..(index + 1) * self.seq_len]
    }
}
