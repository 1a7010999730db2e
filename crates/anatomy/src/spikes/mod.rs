//! Spike tokens, and the stages in which channels carry them from step-up to step-down (definitions:
//! [`crate::definitions`]).
//!
//! The difficulty is to measure in one pass what is known only at its end: which tokens and channels matter. The largest
//! magnitude of every token and its channel are kept for every block, so the *outline* of each stage (channel, run,
//! tokens, window) is always exact: [`outline`]. The values of those tokens in the channels that matter are recorded on
//! suspicion while the pass runs: [`record`]. With one group of sequences the record always suffices (short of its
//! limit); with several, a later group may reveal that a value of an earlier one was needed. That is noticed, never
//! guessed, and answered by a second pass that knows what to look for: [`look`]. Both ways add the same values in the
//! same order and agree bit for bit.

pub mod look;
pub mod outline;
pub mod record;
pub mod stage;

use std::collections::{BTreeMap, BTreeSet};

use crate::definitions::{MASSIVE_ABS, MASSIVE_RATIO};
use crate::residual::ResidualTap;
use crate::results::{LargestAt, SpikeToken, Spikes, SpikingElsewhere, Stage, StageOutput};
use crate::tokens::Tokens;
use outline::StageOutline;
use stage::{StageValues, steps};

/// Whether a token whose largest magnitude is `largest` spikes where the typical token reaches `typical` (`M_b`).
pub fn is_spike(largest: f32, typical: f64, spike_ratio: f64) -> bool {
    largest > 0.0 && f64::from(largest) >= spike_ratio * typical
}

/// Whether a spike token is massive in the sense of Sun et al. (2024); `median_abs` is `m_b`.
pub fn is_massive(largest: f32, median_abs: f64) -> bool {
    f64::from(largest) > MASSIVE_ABS && f64::from(largest) >= MASSIVE_RATIO * median_abs
}

/// Puts the result together from what the pass, or the second look after it, measured.
pub fn spikes(tap: &ResidualTap, measured: &[(StageOutline, StageValues)], tokens: Tokens<'_>) -> Spikes {
    let strongest_first = |are_stages: bool| {
        let wanted = measured.iter().filter(|(outline, _)| outline.is_stage() == are_stages);
        let mut runs: Vec<Stage> = wanted.map(|(outline, values)| stage_result(outline, values, tokens)).collect();
        // Stable: of equal peaks, by channel and first block.
        runs.sort_by(|a, b| b.peak.abs().total_cmp(&a.peak.abs()));
        runs
    };
    let stages = strongest_first(true);
    let (largest, largest_at) = largest(tap, tokens);
    let massive: BTreeSet<usize> = tap.blocks().skip(1).flat_map(|block| tap.massive_tokens(block)).collect();
    Spikes {
        ratio: tap.spike_ratio(),
        largest,
        largest_at,
        massive: massive.len(),
        channels: stages.first().map_or_else(Vec::new, |stage| stage.channels.iter().map(|of| of.channel).collect()),
        last_block: strongest_first(false),
        stages,
    }
}

/// The largest magnitude after any block, of equals the first.
fn largest(tap: &ResidualTap, tokens: Tokens<'_>) -> (f64, Option<LargestAt>) {
    let mut largest = (0.0, None);
    for block in tap.blocks().skip(1) {
        if let Some(extreme) = tap.residual_top(block).extremes().first() {
            let magnitude = f64::from(extreme.value.abs());
            if magnitude > largest.0 {
                let (sequence, position) = tokens.place(extreme.token);
                largest = (magnitude, Some(LargestAt { block, channel: extreme.channel, sequence, position }));
            }
        }
    }
    largest
}

fn stage_result(outline: &StageOutline, values: &StageValues, tokens: Tokens<'_>) -> Stage {
    let (step_up, step_down) = steps(outline, values);
    let spike_token = |(&token, &value): (&usize, &f32)| {
        let (sequence, position) = tokens.place(token);
        SpikeToken { sequence, position, id: tokens.id(token), text: tokens.text(token), value }
    };
    let at_first = outline.tokens.iter().filter(|token| tokens.place(**token).1 == 0).count();
    let elsewhere = tokens.sequences() * tokens.seq_len().saturating_sub(1);
    Stage {
        channel: outline.channel,
        first_block: outline.first_block,
        last_block: outline.last_block,
        step_up,
        step_down,
        outputs: (outline.first_block..=outline.window_end)
            .zip(&values.outputs)
            .map(|(block, &mean)| StageOutput { block, mean })
            .collect(),
        peak_block: values.peak.block,
        peak: values.peak.mean,
        channels: values.channels.clone(),
        tokens: outline.tokens.iter().zip(&values.peak.values).map(spike_token).collect(),
        share_at_position_0: at_first as f64 / tokens.sequences().max(1) as f64,
        rate_elsewhere: (outline.tokens.len() - at_first) as f64 / elsewhere.max(1) as f64,
        elsewhere: spiking_elsewhere(&outline.tokens, tokens),
    }
}

/// The vocabulary items among `spiking` (ascending) that do not stand at position 0.
fn spiking_elsewhere(spiking: &[usize], tokens: Tokens<'_>) -> Vec<SpikingElsewhere> {
    let mut items: BTreeMap<u32, SpikingElsewhere> = BTreeMap::new();
    let mut last_sequence = None;
    for &token in spiking {
        let (sequence, position) = tokens.place(token);
        let first = last_sequence.replace(sequence) != Some(sequence);
        if position == 0 {
            continue;
        }
        let id = tokens.id(token);
        let item = items.entry(id).or_insert_with(|| SpikingElsewhere {
            id,
            text: tokens.text(token),
            occurrences: 0,
            spiking: 0,
            first: 0,
            first_occurrence: 0,
            least_position: position,
        });
        item.spiking += 1;
        item.first += usize::from(first);
        let repeated = (token - position..token).any(|earlier| tokens.id(earlier) == id);
        item.first_occurrence += usize::from(!repeated);
        item.least_position = item.least_position.min(position);
    }
    if !items.is_empty() {
        for token in 0..tokens.sequences() * tokens.seq_len() {
            if tokens.place(token).1 > 0
                && let Some(item) = items.get_mut(&tokens.id(token))
            {
                item.occurrences += 1;
            }
        }
    }
    let mut items: Vec<SpikingElsewhere> = items.into_values().collect();
    // Stable: of equals the lower id.
    items.sort_by_key(|item| std::cmp::Reverse(item.spiking));
    items
}
