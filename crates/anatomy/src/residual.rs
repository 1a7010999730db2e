//! The tap on the residual and on what each block adds to it: everything that the life cycle and the spikes need.
//!
//! Per chunk, in parallel: the largest magnitude of every token and its channel, the channels that reach furthest, the
//! histogram of all magnitudes. Per block: what [`crate::spikes::record`] holds on to.
//!
//! # Memory
//!
//! 8 bytes per token and block, a histogram of the occurring magnitudes per block (some 100 KiB), the record.

use std::ops::Range;

use sinkscope_model::tap::{BlockView, Event, EventData, Place, Point, Tap};

use crate::magnitude::{RowMaxima, TopChannels, largest_magnitude, scan_rows};
use crate::median::{MagnitudeCounts, MagnitudeHistogram, median};
use crate::not_finite::Found;
use crate::spikes::look::StageLook;
use crate::spikes::outline::{StageOutline, outlines};
use crate::spikes::record::Recorder;
use crate::spikes::stage::StageValues;
use crate::spikes::{is_massive, is_spike};
use crate::wide::mean;

/// Follows residual and output over all blocks.
#[derive(Debug)]
pub struct ResidualTap {
    seq_len: usize,
    spike_ratio: f64,
    /// By block, from 0.
    maxima: Vec<RowMaxima>,
    magnitudes: Vec<MagnitudeHistogram>,
    residual_top: Vec<TopChannels>,
    output_top: Vec<TopChannels>,
    /// Magnitudes of the block under way.
    counts: MagnitudeCounts,
    recorder: Recorder,
}

/// What a chunk of residual or output shows.
#[derive(Debug)]
pub struct ChunkScan {
    maxima: RowMaxima,
    top: TopChannels,
}

/// Where the search for stages stands after a pass.
#[derive(Debug)]
pub enum StageSearch {
    /// Everything was recorded.
    Found(Vec<(StageOutline, StageValues)>),
    /// The outlines are known, some values are not: run the pass once more with this tap and call
    /// [`StageLook::finish`].
    SecondLook(StageLook),
}

impl ResidualTap {
    /// For a model of `layers` layers and a batch of `sequences` sequences of `seq_len` tokens.
    pub fn new(layers: usize, sequences: usize, seq_len: usize, spike_ratio: f64) -> Self {
        let tokens = sequences * seq_len;
        let blocks = 2 * layers + 1;
        let unseen = RowMaxima { largest: vec![0.0; tokens], channel: vec![0; tokens] };
        Self {
            seq_len,
            spike_ratio,
            maxima: vec![unseen; blocks],
            magnitudes: vec![MagnitudeHistogram::default(); blocks],
            residual_top: vec![TopChannels::default(); blocks],
            output_top: vec![TopChannels::default(); blocks],
            counts: MagnitudeCounts::new(),
            recorder: Recorder::new(2 * layers, sequences, seq_len, spike_ratio),
        }
    }

    /// The blocks measured, the embedding included.
    pub fn blocks(&self) -> Range<usize> {
        0..self.maxima.len()
    }

    /// R.
    pub fn spike_ratio(&self) -> f64 {
        self.spike_ratio
    }

    /// Largest magnitude of every token after `block`, and its channel.
    pub fn maxima(&self, block: usize) -> &RowMaxima {
        &self.maxima[block]
    }

    /// The channels whose residual reaches furthest.
    pub fn residual_top(&self, block: usize) -> &TopChannels {
        &self.residual_top[block]
    }

    /// The channels whose output reaches furthest.
    pub fn output_top(&self, block: usize) -> &TopChannels {
        &self.output_top[block]
    }

    /// `M_b`.
    pub fn typical_token_largest(&self, block: usize) -> f64 {
        median(&self.maxima[block].largest)
    }

    /// `m_b`.
    pub fn median_abs(&self, block: usize) -> f64 {
        self.magnitudes[block].median()
    }

    /// Mean over sequences of the largest magnitude.
    pub fn largest_mean(&self, block: usize) -> f64 {
        mean(self.maxima[block].largest.chunks_exact(self.seq_len).map(largest_magnitude)).unwrap_or(0.0)
    }

    /// The first value that is not finite.
    pub fn not_finite(&self) -> Option<Found> {
        let block = self.magnitudes.iter().position(|magnitudes| magnitudes.non_finite() > 0)?;
        let RowMaxima { largest, channel } = &self.maxima[block];
        let token = largest.iter().position(|largest| !largest.is_finite())?;
        let (sequence, position) = (token / self.seq_len, token % self.seq_len);
        Some(Found { block, sequence, position, channel: Some(channel[token] as usize), nan: largest[token].is_nan() })
    }

    /// The spike tokens at a block, ascending (sequence * seq_len + position).
    pub fn spike_tokens(&self, block: usize) -> Vec<usize> {
        let typical = self.typical_token_largest(block);
        let largest = self.maxima[block].largest.iter().enumerate();
        largest.filter(|(_, largest)| is_spike(**largest, typical, self.spike_ratio)).map(|(token, _)| token).collect()
    }

    /// The spike tokens at a block that are also massive.
    pub fn massive_tokens(&self, block: usize) -> Vec<usize> {
        let median_abs = self.median_abs(block);
        let largest = &self.maxima[block].largest;
        self.spike_tokens(block).into_iter().filter(|&token| is_massive(largest[token], median_abs)).collect()
    }

    /// The stages, by channel and first block.
    pub fn stages(&self) -> StageSearch {
        let typical: Vec<f64> = self.blocks().map(|block| self.typical_token_largest(block)).collect();
        let outlines = outlines(&self.maxima, &typical, self.spike_ratio);
        let recorded: Option<Vec<_>> = outlines.iter().map(|outline| self.recorder.values(outline, &typical)).collect();
        match recorded {
            Some(values) => StageSearch::Found(outlines.into_iter().zip(values).collect()),
            None => StageSearch::SecondLook(StageLook::new(outlines, typical, self.spike_ratio)),
        }
    }
}

impl Tap for ResidualTap {
    type Partial = Option<ChunkScan>;

    fn wants(&self, point: Point, block: usize) -> bool {
        match point {
            Point::Residual | Point::BlockDone => block < self.maxima.len(),
            Point::Output => (1..self.maxima.len()).contains(&block),
            _ => false,
        }
    }

    fn observe(&self, event: &Event<'_>) -> Option<ChunkScan> {
        let EventData::Rows(values) = event.data else { return None };
        let width = values.len().checked_div(event.place.rows).filter(|width| *width > 0)?;
        if event.point == Point::Residual {
            self.counts.shard().count(values);
        }
        let (maxima, top) = scan_rows(values, width);
        Some(ChunkScan { maxima, top })
    }

    fn merge(&mut self, point: Point, place: &Place, partial: Option<ChunkScan>) {
        let Some(ChunkScan { maxima, top }) = partial else { return };
        let first = place.sequence * self.seq_len + place.position;
        if point == Point::Output {
            self.output_top[place.block].merge(&top, first);
            return;
        }
        self.residual_top[place.block].merge(&top, first);
        let rows = first..first + maxima.largest.len();
        self.maxima[place.block].largest[rows.clone()].copy_from_slice(&maxima.largest);
        self.maxima[place.block].channel[rows].copy_from_slice(&maxima.channel);
    }

    fn block_done(&mut self, view: &BlockView<'_>) {
        self.counts.drain_into(&mut self.magnitudes[view.block]);
        self.recorder.block_done(view, &self.maxima[view.block]);
    }
}
