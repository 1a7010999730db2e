//! Where attention goes: alpha (eq. 27) over the positions of keys, layer by layer.
//!
//! Alpha is a sum over queries, so every chunk of them adds its part to the means; nothing is kept of a sequence.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_model::tap::AttentionScan;

use crate::received::Received;

/// Positions below this one are bins of their own.
pub const SINGLE_POSITIONS: usize = 64;

/// Attention received over positions. Every position below [`SINGLE_POSITIONS`] is a bin; above, bins double in width
/// (64 to 127, 128 to 255 and so on), and the last is cut at T.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlphaByPosition {
    /// First position of every bin, ascending from 0; a bin reaches to the next, the last to T.
    pub first: Vec<usize>,
    /// layers x bins: mean over sequences, heads and positions of the bin of `alpha_k = (1/T) sum_t A[t, k]` (eq. 27).
    pub layers: Vec<Vec<f64>>,
}

/// The running sums of all layers.
#[derive(Debug, Clone)]
pub(crate) struct PositionSums {
    first: Vec<usize>,
    seq_len: usize,
    /// layers x bins, over sequences, heads and the positions of a bin.
    received: Received,
}

impl PositionSums {
    pub(crate) fn new(layers: usize, seq_len: usize) -> Self {
        let wide = std::iter::successors(Some(SINGLE_POSITIONS), |first| first.checked_mul(2));
        let first: Vec<usize> =
            (0..seq_len.min(SINGLE_POSITIONS)).chain(wide.take_while(|&first| first < seq_len)).collect();
        Self { received: Received::new(layers, first.len()), first, seq_len }
    }

    /// What a chunk of queries gives every bin that it sees.
    pub(crate) fn of_chunk(&self, scan: &AttentionScan<'_>) -> Received {
        let bins = self.first.partition_point(|&first| first < scan.keys);
        Received::over_heads(scan, bins, |head, bin| {
            head[self.first[bin]..self.end(bin).min(scan.keys)].iter().copied().map(f64::from).sum()
        })
    }

    pub(crate) fn add(&mut self, layer: usize, chunk: &Received) {
        self.received.add(layer, 0, chunk);
    }

    pub(crate) fn adopt_layers(&mut self, other: &Self, layers: Range<usize>) {
        self.received.adopt(&other.received, layers);
    }

    /// `rows`: sequences times heads.
    pub(crate) fn finish(&self, rows: usize) -> AlphaByPosition {
        let mean = |(bin, sum): (usize, &f64)| {
            let positions = self.end(bin) - self.first[bin];
            sum / (rows * positions * self.seq_len).max(1) as f64
        };
        let layers = self.received.rows().map(|bins| bins.iter().enumerate().map(mean).collect()).collect();
        AlphaByPosition { first: self.first.clone(), layers }
    }

    fn end(&self, bin: usize) -> usize {
        self.first.get(bin + 1).copied().unwrap_or(self.seq_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_every_position_once_and_double_in_width() {
        for seq_len in [1, 2, 63, 64, 65, 127, 128, 129, 600, 4096] {
            let sums = PositionSums::new(1, seq_len);
            assert!(sums.first.windows(2).all(|pair| pair[0] < pair[1]) && sums.first[0] == 0, "{seq_len}");
            assert_eq!(sums.end(sums.first.len() - 1), seq_len);
        }
        assert_eq!(PositionSums::new(1, 64).first.len(), 64);
        assert_eq!(PositionSums::new(1, 65).first[63..], [63, 64]);
        assert_eq!(PositionSums::new(1, 600).first[63..], [63, 64, 128, 256, 512]);
        assert_eq!(PositionSums::new(1, 128).first[63..], [63, 64]);
    }
}
