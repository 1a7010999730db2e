//! What a trainer gets.

/// A target where there is none: no token follows, or what follows does not count.
pub const IGNORED: u32 = u32::MAX;

/// Sequences to train on, or to be measured on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens per sequence, T.
    pub seq_len: usize,
    /// Token ids, sequences x seq_len, row-major.
    pub inputs: Vec<u32>,
    /// The id of the token after each, or [`IGNORED`]; sequences x seq_len.
    pub targets: Vec<u32>,
}

impl Batch {
    /// Number of targets that count.
    pub fn predicted(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORED).count()
    }
}
