//! A second look at a sample: what can only be measured once it is known which tokens spike.
//!
//! Spike tokens are known only when the step-up block has been passed, and the quantities here (the amplifier at work,
//! what normalisation makes of spikes, the geometry of heads) compare them with other tokens at every block. Keeping a
//! few candidate tokens through the first pass would do for the spike tokens, but not for the others, nor for the keys
//! and queries of whole sequences. So the model is run once more, on a sample: as many sequences as possible, cut to
//! their first positions, which changes nothing about what stands there (attention is causal).
//!
//! The sample has at most a quarter of the batch's tokens ([`SHARE`]), between [`LEAST_TOKENS`] and [`MOST_TOKENS`], so
//! this costs about a third of the first pass on all but small batches, and it is always one group.

pub mod amplifier;
pub mod dimension;
pub mod embedding;
pub mod geometry;
pub mod normalisation;

use sinkscope_model::Model;
use sinkscope_sources::data::TokenBatch;

use crate::results::Stage;

/// Share of the batch's tokens that the sample has.
pub const SHARE: f64 = 0.25;
/// Tokens of the sample of a small batch.
pub const LEAST_TOKENS: usize = 512;
/// Tokens of the sample of a large batch.
pub const MOST_TOKENS: usize = 4096;
/// Positions kept of each sequence before sequences are left out.
const LEAST_POSITIONS: usize = 64;

/// The sample of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its tokens.
    pub batch: TokenBatch,
    /// Which sequences of the batch they are, ascending.
    pub sequences: Vec<usize>,
}

impl Sample {
    /// The sample of a batch for a model; the same for equal shapes.
    pub fn new(model: &Model, batch: &TokenBatch) -> Self {
        let total = batch.tokens.len();
        let budget = ((SHARE * total as f64) as usize).clamp(LEAST_TOKENS, MOST_TOKENS);
        let wanted = (budget / batch.seq_len.min(LEAST_POSITIONS)).clamp(1, batch.sequences);
        let cut = batch.seq_len.min(budget / wanted);
        // Where the positions of a short sequence are encoded in another way, sequences stay whole.
        let whole = model.architecture().encodes_differently(cut, batch.seq_len);
        let seq_len = if whole { batch.seq_len } else { cut };
        let count = if whole { (budget / seq_len).clamp(1, batch.sequences) } else { wanted };
        let sequences: Vec<usize> = (0..count).map(|index| index * batch.sequences / count).collect();
        let kept = |sequence: &usize| &batch.tokens[sequence * batch.seq_len..][..seq_len];
        let tokens = sequences.iter().flat_map(kept).copied().collect();
        Self { batch: TokenBatch { tokens, sequences: count, seq_len }, sequences }
    }

    /// What each token of the sample is beside the tokens of `stage`, one of all `stages`.
    pub fn kinds(&self, stage: Option<&Stage>, stages: &[Stage]) -> Kinds {
        let of_any = self.tokens_of(stages);
        Kinds { spike: self.tokens_of(stage), other: of_any.into_iter().map(|spikes| !spikes).collect() }
    }

    /// Whether each token of the sample is one of a stage of these.
    fn tokens_of<'s>(&self, stages: impl IntoIterator<Item = &'s Stage>) -> Vec<bool> {
        let mut spikes = vec![false; self.batch.tokens.len()];
        for token in stages.into_iter().flat_map(|stage| &stage.tokens) {
            if let Ok(sequence) = self.sequences.binary_search(&token.sequence)
                && token.position < self.batch.seq_len
            {
                spikes[sequence * self.batch.seq_len + token.position] = true;
            }
        }
        spikes
    }
}

/// What each token of a sample is to a comparison of a stage's tokens with others. The tokens of another stage are neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds {
    /// Whether it is one of the stage's.
    pub spike: Vec<bool>,
    /// Whether it is one of no stage.
    pub other: Vec<bool>,
}

impl Kinds {
    /// Of a sample with one stage: whether each token is one of its.
    pub fn of_one_stage(spike: Vec<bool>) -> Self {
        Self { other: spike.iter().map(|spikes| !spikes).collect(), spike }
    }

    /// The tokens of the stage, or those of none.
    pub fn of(&self, spike: bool) -> &[bool] {
        if spike { &self.spike } else { &self.other }
    }
}

/// Tokens of a kind, ascending: all, or `most` of them taken evenly.
pub fn chosen(of_kind: &[bool], most: usize) -> Vec<usize> {
    let all: Vec<usize> = (0..of_kind.len()).filter(|&token| of_kind[token]).collect();
    let count = all.len().min(most);
    (0..count).map(|index| all[index * all.len() / count]).collect()
}

#[cfg(test)]
mod tests {
    use super::{Kinds, chosen};

    #[test]
    fn tokens_are_chosen_evenly() {
        let spikes: Vec<bool> = (0..2000).map(|token| token % 500 == 0).collect();
        let kinds = Kinds::of_one_stage(spikes.clone());
        assert_eq!(chosen(&kinds.spike, 256), [0, 500, 1000, 1500]);
        assert_eq!(chosen(&kinds.spike, 2), [0, 1000]);
        let other = chosen(&kinds.other, 256);
        assert!(other.len() == 256 && other.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(other.iter().all(|&token| !spikes[token]));
        assert!(chosen(&[], 256).is_empty());
    }
}
