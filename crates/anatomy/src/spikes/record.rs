//! Values recorded on suspicion, so that stages can be measured in the pass that finds them.
//!
//! When a block is done, its whole residual and output are in memory for a moment. M being the median of the group's
//! largest magnitudes per token, everything of magnitude at least 0.8 R M ([`CANDIDATE_SHARE`]) is suspect:
//!
//! * a token that reaches it is a *candidate*, and its largest channel is a *leading* channel from then on: of leading
//!   channels, residual and output are recorded at this and every later block, because a stage's window outlasts its run;
//! * a channel in which some token reaches it is *active*: its residual is recorded at this block, because it may turn
//!   out to be a spike channel of a stage that peaks here.
//!
//! Columns are recorded for all tokens of the group, because a token may join a stage late, and cut down to the
//! candidates when the group is through. With one group, M is `M_b` itself and nothing needed is ever missing.
//!
//! # Memory
//!
//! 8 bytes per token, block and leading channel, 4 per active channel, for one group; afterwards only the candidates'.
//! The number of channels at a block is limited to [`MAX_CHANNELS`], fewer on long batches so that a group stays below
//! [`MAX_BYTES`] (but at least [`MIN_CHANNELS`]). Models have a handful; what exceeds the limit counts as missing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rayon::prelude::*;
use sinkscope_model::tap::BlockView;

use crate::magnitude::RowMaxima;
use crate::median::median;
use crate::spikes::outline::StageOutline;
use crate::spikes::stage::{ChannelSums, StageValues, peak, spike_channels};
use crate::wide::mean;

/// Share of the spike threshold, taken from the group, from which values are recorded.
pub const CANDIDATE_SHARE: f64 = 0.8;
/// Most channels recorded at a block.
pub const MAX_CHANNELS: usize = 64;
/// Channels recorded at a block however long the batch.
pub const MIN_CHANNELS: usize = 8;
/// Size that the record of a batch may reach.
pub const MAX_BYTES: usize = 256 << 20;

/// The record of all groups.
#[derive(Debug, Clone)]
pub struct Recorder {
    spike_ratio: f64,
    blocks: usize,
    seq_len: usize,
    channel_limit: usize,
    leading: BTreeSet<usize>,
    groups: Vec<GroupRecord>,
}

#[derive(Debug, Clone)]
struct GroupRecord {
    sequences: Range<usize>,
    /// Whether each token of the group is a candidate.
    candidate: Vec<bool>,
    /// The candidates, as tokens of the batch, once the group is through.
    kept: Vec<usize>,
    /// One per block, from 0.
    blocks: Vec<BlockRecord>,
}

/// Columns by channel, one value per token.
#[derive(Debug, Clone, Default)]
struct BlockRecord {
    residual: BTreeMap<usize, Vec<f32>>,
    output: BTreeMap<usize, Vec<f32>>,
    /// Every magnitude in a channel without a residual column is below this.
    bound: f64,
}

/// The tokens of a stage that lie in one group: where their values are in its columns.
struct Part<'a> {
    group: &'a GroupRecord,
    rows: Vec<usize>,
}

impl Recorder {
    /// For a model of `blocks` blocks and a batch of `sequences` sequences of `seq_len` tokens.
    pub fn new(blocks: usize, sequences: usize, seq_len: usize, spike_ratio: f64) -> Self {
        let bytes_per_channel = 2 * size_of::<f32>() * blocks * sequences * seq_len;
        Self {
            spike_ratio,
            blocks,
            seq_len,
            channel_limit: (MAX_BYTES / bytes_per_channel.max(1)).clamp(MIN_CHANNELS, MAX_CHANNELS),
            leading: BTreeSet::new(),
            groups: Vec::new(),
        }
    }

    /// Records what is suspect at a block; `maxima` are those of the whole batch.
    pub fn block_done(&mut self, view: &BlockView<'_>, maxima: &RowMaxima) {
        if self.groups.last().is_none_or(|group| group.sequences != view.sequences) {
            self.groups.push(GroupRecord::new(view.sequences.clone(), self.seq_len));
        }
        let Some(group) = self.groups.last_mut() else { return };
        let record = match view.output {
            Some(output) => {
                let tokens = view.sequences.start * view.seq_len..view.sequences.end * view.seq_len;
                let (largest, channel) = (&maxima.largest[tokens.clone()], &maxima.channel[tokens]);
                let bound = CANDIDATE_SHARE * self.spike_ratio * median(largest);
                let suspect = |magnitude: f32| magnitude > 0.0 && f64::from(magnitude) >= bound;
                let mut active: BTreeMap<usize, f32> = BTreeMap::new();
                for (token, _) in largest.iter().enumerate().filter(|(_, largest)| suspect(**largest)) {
                    group.candidate[token] = true;
                    self.leading.insert(channel[token] as usize);
                    let row = &view.residual[token * view.d_model..][..view.d_model];
                    for (channel, value) in row.iter().enumerate().filter(|(_, value)| suspect(value.abs())) {
                        let reached = active.entry(channel).or_default();
                        *reached = reached.max(value.abs());
                    }
                }
                let (chosen, all) = choose(&self.leading, &active, self.channel_limit);
                let of_leading: Vec<usize> = chosen.iter().copied().filter(|k| self.leading.contains(k)).collect();
                BlockRecord {
                    residual: columns(view.residual, view.d_model, &chosen),
                    output: columns(output, view.d_model, &of_leading),
                    bound: if all { bound } else { f64::INFINITY },
                }
            }
            // The embedding belongs to no run.
            None => BlockRecord { bound: f64::INFINITY, ..BlockRecord::default() },
        };
        group.blocks.push(record);
        if view.block == self.blocks {
            group.keep_candidates(self.seq_len);
        }
    }

    /// The values of a stage, or `None` if one of them was not recorded. `typical` is `M_b` by block.
    pub fn values(&self, outline: &StageOutline, typical: &[f64]) -> Option<StageValues> {
        let parts = self.parts(outline)?;
        let run: Option<Vec<_>> = (outline.first_block..=outline.last_block)
            .map(|block| gather(&parts, |group| group.blocks.get(block)?.residual.get(&outline.channel)))
            .collect();
        let outputs: Option<Vec<_>> = (outline.first_block..=outline.window_end)
            .map(|block| gather(&parts, |group| group.blocks.get(block)?.output.get(&outline.channel)))
            .map(|column| column.map(|column| mean(column).unwrap_or(0.0)))
            .collect();
        let peak = peak(outline.first_block, run?);
        let threshold = self.spike_ratio * typical[peak.block];
        let sums = channel_sums(&parts, peak.block, &peak.values, threshold)?;
        Some(StageValues { channels: spike_channels(sums, threshold), outputs: outputs?, peak })
    }

    /// The stage's tokens by group, in order; `None` if one of them was not kept.
    fn parts(&self, outline: &StageOutline) -> Option<Vec<Part<'_>>> {
        let mut groups: Vec<&GroupRecord> = self.groups.iter().collect();
        groups.sort_by_key(|group| group.sequences.start);
        let mut parts: Vec<Part<'_>> = groups.into_iter().map(|group| Part { group, rows: Vec::new() }).collect();
        for token in &outline.tokens {
            let part = parts.iter_mut().find(|part| part.group.sequences.contains(&(token / self.seq_len)))?;
            part.rows.push(part.group.kept.binary_search(token).ok()?);
        }
        parts.retain(|part| !part.rows.is_empty());
        Some(parts)
    }
}

impl GroupRecord {
    fn new(sequences: Range<usize>, seq_len: usize) -> Self {
        let candidate = vec![false; sequences.len() * seq_len];
        Self { sequences, candidate, kept: Vec::new(), blocks: Vec::new() }
    }

    fn keep_candidates(&mut self, seq_len: usize) {
        let rows: Vec<usize> = (0..self.candidate.len()).filter(|&row| self.candidate[row]).collect();
        for block in &mut self.blocks {
            for column in block.residual.values_mut().chain(block.output.values_mut()) {
                *column = rows.iter().map(|&row| column[row]).collect();
            }
        }
        self.kept = rows.into_iter().map(|row| self.sequences.start * seq_len + row).collect();
    }
}

/// The channels to record, ascending, and whether that is all of them: if there are too many, the leading ones come
/// first, then those that reach furthest.
fn choose(leading: &BTreeSet<usize>, active: &BTreeMap<usize, f32>, limit: usize) -> (Vec<usize>, bool) {
    let mut chosen: Vec<usize> = leading.iter().copied().chain(active.keys().copied()).collect();
    chosen.sort_unstable();
    chosen.dedup();
    let all = chosen.len() <= limit;
    if !all {
        let reached = |channel: &usize| active.get(channel).copied().unwrap_or(0.0);
        chosen.sort_by(|a, b| {
            leading.contains(b).cmp(&leading.contains(a)).then(reached(b).total_cmp(&reached(a))).then(a.cmp(b))
        });
        chosen.truncate(limit);
        chosen.sort_unstable();
    }
    (chosen, all)
}

fn columns(values: &[f32], width: usize, channels: &[usize]) -> BTreeMap<usize, Vec<f32>> {
    let column = |&channel: &usize| (channel, values[channel..].iter().step_by(width).copied().collect());
    channels.par_iter().map(column).collect()
}

/// The values of the stage's tokens, in order; `None` if a group lacks the column.
fn gather<'a>(parts: &[Part<'a>], column: impl Fn(&'a GroupRecord) -> Option<&'a Vec<f32>>) -> Option<Vec<f32>> {
    let mut values = Vec::new();
    for part in parts {
        let column = column(part.group)?;
        values.extend(part.rows.iter().map(|&row| column[row]));
    }
    Some(values)
}

/// Sums of every channel that may reach `threshold` on average at `block`; `None` if that cannot be told.
fn channel_sums(
    parts: &[Part<'_>],
    block: usize,
    in_stage_channel: &[f32],
    threshold: f64,
) -> Option<Vec<(usize, ChannelSums)>> {
    let records: Vec<&BlockRecord> = parts.iter().map(|part| part.group.blocks.get(block)).collect::<Option<_>>()?;
    let channels: BTreeSet<usize> = records.iter().flat_map(|record| record.residual.keys().copied()).collect();
    let tokens = in_stage_channel.len() as f64;
    let at_most: f64 = parts.iter().zip(&records).map(|(part, record)| part.rows.len() as f64 * record.bound).sum();
    if at_most / tokens >= threshold {
        return None;
    }
    let mut all = Vec::new();
    for channel in channels {
        if let Some(values) = gather(parts, |group| group.blocks.get(block)?.residual.get(&channel)) {
            let mut sums = ChannelSums::default();
            values.iter().zip(in_stage_channel).for_each(|(value, reference)| sums.add(*value, *reference, threshold));
            all.push((channel, sums));
            continue;
        }
        let mut at_most = 0.0;
        for (part, record) in parts.iter().zip(&records) {
            at_most += match record.residual.get(&channel) {
                Some(column) => part.rows.iter().map(|&row| f64::from(column[row].abs())).sum(),
                None => part.rows.len() as f64 * record.bound,
            };
        }
        if at_most / tokens >= threshold {
            return None;
        }
    }
    Some(all)
}
