//! The outline of a stage: what the largest magnitude of every token tells, before any value is looked up.

use std::collections::BTreeMap;

use crate::definitions::MIN_STAGE_BLOCKS;
use crate::magnitude::RowMaxima;
use crate::spikes::is_spike;

/// Where and when a stage takes place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageOutline {
    /// Its channel.
    pub channel: usize,
    /// First block of its run.
    pub first_block: usize,
    /// Last block of its run.
    pub last_block: usize,
    /// Last block of its window.
    pub window_end: usize,
    /// Its tokens (sequence * seq_len + position), ascending.
    pub tokens: Vec<usize>,
}

impl StageOutline {
    /// Whether its run is long enough for a stage. The run of a spike born in the last block is not.
    pub fn is_stage(&self) -> bool {
        self.last_block - self.first_block + 1 >= MIN_STAGE_BLOCKS
    }
}

/// All stages and the runs of the last block alone, by channel and then by first block.
///
/// `maxima` and `typical` (`M_b`) have one entry per block, from 0, the embedding, which belongs to no run.
pub fn outlines(maxima: &[RowMaxima], typical: &[f64], spike_ratio: f64) -> Vec<StageOutline> {
    let mut stages = Vec::new();
    for (channel, blocks) in spike_tokens_by_channel(maxima, typical, spike_ratio) {
        let first_of_channel = stages.len();
        for (block, tokens) in blocks {
            match stages[first_of_channel..].last_mut() {
                Some(StageOutline { last_block, tokens: union, .. }) if *last_block + 1 == block => {
                    *last_block = block;
                    union.extend(tokens);
                }
                _ => {
                    stages.push(StageOutline { channel, first_block: block, last_block: block, window_end: 0, tokens });
                }
            }
        }
        let last_block = maxima.len() - 1;
        let mut kept = stages.split_off(first_of_channel);
        kept.retain(|run| run.is_stage() || run.first_block == last_block);
        let mut window_end = last_block;
        for run in kept.iter_mut().rev() {
            run.tokens.sort_unstable();
            run.tokens.dedup();
            run.window_end = window_end;
            // Only a stage ends the window of the one before it.
            if run.is_stage() {
                window_end = run.first_block - 1;
            }
        }
        stages.extend(kept);
    }
    stages
}

/// For each channel that is the largest of a spike token: the blocks at which it is, with those tokens.
fn spike_tokens_by_channel(
    maxima: &[RowMaxima],
    typical: &[f64],
    spike_ratio: f64,
) -> BTreeMap<usize, BTreeMap<usize, Vec<usize>>> {
    let mut channels: BTreeMap<usize, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
    for (block, (maxima, &typical)) in maxima.iter().zip(typical).enumerate().skip(1) {
        for (token, (&largest, &channel)) in maxima.largest.iter().zip(&maxima.channel).enumerate() {
            if is_spike(largest, typical, spike_ratio) {
                channels.entry(channel as usize).or_default().entry(block).or_default().push(token);
            }
        }
    }
    channels
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four tokens at 1; the spikes given as (block, token, magnitude, channel).
    fn maxima(blocks: usize, spikes: &[(usize, usize, f32, u32)]) -> Vec<RowMaxima> {
        let mut maxima = vec![RowMaxima { largest: vec![1.0; 4], channel: vec![0; 4] }; blocks + 1];
        for &(block, token, magnitude, channel) in spikes {
            maxima[block].largest[token] = magnitude;
            maxima[block].channel[token] = channel;
        }
        maxima
    }

    fn stage(
        channel: usize,
        first_block: usize,
        last_block: usize,
        window_end: usize,
        tokens: &[usize],
    ) -> StageOutline {
        StageOutline { channel, first_block, last_block, window_end, tokens: tokens.to_vec() }
    }

    #[test]
    fn a_run_of_one_block_is_no_stage_and_does_not_end_a_window() {
        let spikes = [(1, 0, 9.0, 7), (2, 0, 9.0, 7), (4, 1, 9.0, 7), (6, 2, 9.0, 7), (7, 3, 9.0, 7)];
        let found = outlines(&maxima(8, &spikes), &[1.0; 9], 5.0);
        assert_eq!(found, [stage(7, 1, 2, 5, &[0]), stage(7, 6, 7, 8, &[2, 3])]);
    }

    #[test]
    fn a_run_of_the_last_block_alone_is_kept_as_no_stage_and_ends_no_window() {
        let spikes = [(2, 0, 9.0, 7), (3, 0, 9.0, 7), (6, 1, 9.0, 7), (6, 2, 9.0, 3), (5, 3, 9.0, 2)];
        let found = outlines(&maxima(6, &spikes), &[1.0; 7], 5.0);
        assert_eq!(found, [stage(3, 6, 6, 6, &[2]), stage(7, 2, 3, 6, &[0]), stage(7, 6, 6, 6, &[1])]);
        assert_eq!(found.iter().map(StageOutline::is_stage).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn the_embedding_belongs_to_no_run() {
        let found = outlines(&maxima(4, &[(0, 0, 9.0, 7), (1, 0, 9.0, 7)]), &[1.0; 5], 5.0);
        assert_eq!(found, []);
    }

    #[test]
    fn the_threshold_itself_spikes_and_a_zero_token_never_does() {
        let spikes = [(1, 0, 5.0, 7), (2, 0, 5.0, 7), (1, 1, 4.999_999_5, 3), (2, 1, 4.999_999_5, 3)];
        assert_eq!(outlines(&maxima(2, &spikes), &[1.0; 3], 5.0), [stage(7, 1, 2, 2, &[0])]);
        let zero = vec![RowMaxima { largest: vec![0.0; 4], channel: vec![0; 4] }; 4];
        assert_eq!(outlines(&zero, &[0.0; 4], 5.0), []);
    }

    #[test]
    fn stages_of_different_channels_overlap_freely() {
        let spikes = [(1, 0, 9.0, 7), (2, 0, 9.0, 7), (2, 1, 8.0, 2), (3, 1, 8.0, 2), (3, 0, 9.0, 7)];
        let found = outlines(&maxima(3, &spikes), &[1.0; 4], 5.0);
        assert_eq!(found, [stage(2, 2, 3, 3, &[1]), stage(7, 1, 3, 3, &[0])]);
    }
}
