//! Which tokens sink: those that do in many heads (definition: [`crate::definitions`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definitions::SINK_TOKEN_SHARE;

/// The tokens that sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SinkTokens {
    /// Share of the model's heads in which a token sinks at least, to be one.
    pub least_share: f64,
    /// How many there are.
    pub tokens: usize,
    /// Share of sequences whose token at position 0 is one.
    pub share_at_position_0: f64,
    /// Share of the tokens at other positions that are.
    pub rate_elsewhere: f64,
    /// In how many heads each token of the first half of a sequence sinks.
    #[serde(skip)]
    heads: HeadCounts,
}

/// sequences x keys that can sink.
#[derive(Debug, Clone, Default, PartialEq)]
struct HeadCounts {
    counts: Vec<u32>,
    keys: usize,
    seq_len: usize,
    of: usize,
}

impl SinkTokens {
    /// `counts`: for each sequence, in how many of `of` heads each of its first `keys` tokens sinks.
    pub(crate) fn new(counts: Vec<u32>, keys: usize, seq_len: usize, of: usize) -> Self {
        let sequences = counts.len().checked_div(keys).unwrap_or(0);
        let mut found = Self {
            least_share: SINK_TOKEN_SHARE,
            tokens: 0,
            share_at_position_0: 0.0,
            rate_elsewhere: 0.0,
            heads: HeadCounts { counts, keys, seq_len, of },
        };
        let marked = found.marked();
        let at_first = marked.iter().step_by(seq_len.max(1)).filter(|sinks| **sinks).count();
        found.tokens = marked.iter().filter(|sinks| **sinks).count();
        found.share_at_position_0 = at_first as f64 / sequences.max(1) as f64;
        let elsewhere = sequences * seq_len.saturating_sub(1);
        found.rate_elsewhere = (found.tokens - at_first) as f64 / elsewhere.max(1) as f64;
        found
    }

    /// Whether each token of the batch is one; empty if results were read from a file.
    pub fn marked(&self) -> Vec<bool> {
        let HeadCounts { counts, keys, seq_len, of } = &self.heads;
        let least = self.least_share * *of as f64;
        let sinks = |count: u32| count > 0 && f64::from(count) >= least;
        let sequence = |counts: &[u32]| -> Vec<bool> {
            (0..*seq_len).map(|position| counts.get(position).is_some_and(|&count| sinks(count))).collect()
        };
        counts.chunks_exact((*keys).max(1)).flat_map(sequence).collect()
    }

    /// The position below `positions` whose token sinks in most heads of a sequence, of equals the first.
    pub fn most(&self, sequence: usize, positions: usize) -> usize {
        let HeadCounts { counts, keys, .. } = &self.heads;
        let counts = counts.get(sequence * keys..(sequence + 1) * keys).unwrap_or_default();
        let candidates = counts.iter().take(positions).enumerate();
        candidates.fold((0, 0), |best, (at, &count)| if count > best.1 { (at, count) } else { best }).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_sinks_that_does_in_the_share_of_heads_and_in_one_at_least() {
        // Two sequences of five tokens, of which the first two can sink, in 40 heads.
        let found = SinkTokens::new(vec![40, 1, 2, 39], 2, 5, 40);
        let share = (found.least_share * 40.0).ceil() as u32;
        assert_eq!(share, 2, "the threshold that the numbers above are made for");
        let expected = [true, false, false, false, false, true, true, false, false, false];
        assert_eq!(found.marked(), expected);
        assert_eq!((found.tokens, found.share_at_position_0, found.rate_elsewhere), (3, 1.0, 0.125));
        assert_eq!([found.most(0, 2), found.most(1, 2), found.most(1, 1)], [0, 1, 0]);
        let few = SinkTokens::new(vec![0, 1], 2, 4, 3);
        assert_eq!(few.marked(), [false, true, false, false]);
        assert_eq!(SinkTokens::new(vec![0, 0], 2, 4, 3).most(0, 2), 0);
    }
}
