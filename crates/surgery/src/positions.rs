//! How well runs predict the token at a position, in bins of positions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::results::PositionNll;

/// Most bins.
const MOST_BINS: usize = 256;

/// Mean negative log-likelihood by bins of equally many positions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ByPosition {
    /// How many positions a bin has; the last may have fewer.
    pub width: usize,
    /// The untouched model under an empty name, then every variant.
    pub runs: Vec<RunByPosition>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunByPosition {
    /// The operation as typed; empty for the untouched model.
    pub name: String,
    /// By bin of the target's position in the original tokens, mean over its positions and sequences in nats; `None`
    /// where the run predicts no target.
    pub nll: Vec<Option<f64>>,
}

impl ByPosition {
    /// Of runs on sequences of `seq_len` tokens. Every position counts alike: all have a target in every sequence or in
    /// none.
    pub fn of(positions: &[PositionNll], seq_len: usize) -> Self {
        let width = seq_len.div_ceil(MOST_BINS).max(1);
        let bins = seq_len.div_ceil(width);
        let mut runs: Vec<(String, Vec<(f64, u32)>)> = Vec::new();
        let mut last_position = 0;
        for PositionNll { name, position, nll } in positions {
            // A run begins anew where positions do: an operation may be there twice.
            let before = runs.last().is_some_and(|(last, _)| last == name) && *position > last_position;
            last_position = *position;
            if !before {
                runs.push((name.clone(), vec![(0.0, 0); bins]));
            }
            if let Some((sum, count)) = runs.last_mut().and_then(|(_, bins)| bins.get_mut(position / width)) {
                *sum += nll;
                *count += 1;
            }
        }
        let mean = |(sum, count): (f64, u32)| (count > 0).then(|| sum / f64::from(count));
        let run =
            |(name, bins): (String, Vec<(f64, u32)>)| RunByPosition { name, nll: bins.into_iter().map(mean).collect() };
        Self { width, runs: runs.into_iter().map(run).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_means_of_their_positions() {
        let at = |name: &str, position: usize, nll: f64| PositionNll { name: name.to_owned(), position, nll };
        // 300 positions in bins of two.
        let positions = [at("", 1, 2.0), at("", 2, 3.0), at("", 3, 5.0), at("x", 299, 1.0)];
        let binned = ByPosition::of(&positions, 300);
        assert_eq!((binned.width, binned.runs.len(), binned.runs[0].nll.len()), (2, 2, 150));
        assert_eq!(binned.runs[0].nll[..3], [Some(2.0), Some(4.0), None]);
        assert_eq!((binned.runs[1].name.as_str(), binned.runs[1].nll[149]), ("x", Some(1.0)));
        let twice = [at("x", 1, 2.0), at("x", 2, 3.0), at("x", 1, 4.0), at("x", 2, 5.0)];
        assert_eq!(ByPosition::of(&twice, 64).runs[1].nll[1..3], [Some(4.0), Some(5.0)]);
        assert_eq!(ByPosition::of(&positions[..2], 64).runs[0].nll[1..3], [Some(2.0), Some(3.0)]);
    }
}
