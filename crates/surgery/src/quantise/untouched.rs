//! What the untouched model feeds its linear layers: the largest magnitude of every token's input, and the inputs themselves
//! of a sample of tokens, on which the damage of every quantisation is measured.
//!
//! A quantised model feeds its later layers what its earlier ones have damaged. The inputs of the untouched model say what
//! each layer does by itself.

use std::collections::BTreeMap;

use sinkscope_anatomy::sample::chosen;
use sinkscope_kernels::quantise::largest_magnitude;
use sinkscope_model::Model;
use sinkscope_model::pass::Pass;
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};
use sinkscope_sources::data::TokenBatch;

use super::maxima::INPUTS;
use crate::definitions::{SAMPLED_POSITIONS, SAMPLED_SEQUENCES, SAMPLED_SPIKES, SAMPLED_TOKENS};
use crate::error::SurgeryError;

/// By block and input.
type ByInput<T> = BTreeMap<(usize, Point), T>;

/// Keeps the largest magnitude of every token's inputs.
#[derive(Debug, Default)]
pub struct MagnitudeTap {
    /// By token of the batch; infinite where an input is not finite.
    largest: ByInput<Vec<f32>>,
}

impl Tap for MagnitudeTap {
    type Partial = Vec<f32>;

    fn wants(&self, point: Point, block: usize) -> bool {
        INPUTS.contains(&point) && block > 0
    }

    fn observe(&self, event: &Event<'_>) -> Vec<f32> {
        let EventData::Rows(rows) = event.data else { return Vec::new() };
        let largest = |row| largest_magnitude(row).unwrap_or(f32::INFINITY);
        rows.chunks_exact(rows.len() / event.place.rows).map(largest).collect()
    }

    fn merge(&mut self, point: Point, place: &Place, partial: Vec<f32>) {
        // Chunks come in order.
        self.largest.entry((place.block, point)).or_default().extend(partial);
    }
}

/// Keeps the inputs of some tokens.
struct InputsTap {
    seq_len: usize,
    /// By token.
    wanted: Vec<bool>,
    rows: ByInput<Vec<f32>>,
}

impl Tap for InputsTap {
    type Partial = Vec<f32>;

    fn wants(&self, point: Point, block: usize) -> bool {
        INPUTS.contains(&point) && block > 0
    }

    fn observe(&self, event: &Event<'_>) -> Vec<f32> {
        let EventData::Rows(rows) = event.data else { return Vec::new() };
        let wanted = &self.wanted[event.place.sequence * self.seq_len + event.place.position..];
        let rows = rows.chunks_exact(rows.len() / event.place.rows).zip(wanted);
        rows.filter(|(_, wanted)| **wanted).flat_map(|(row, _)| row).copied().collect()
    }

    fn merge(&mut self, point: Point, place: &Place, partial: Vec<f32>) {
        self.rows.entry((place.block, point)).or_default().extend(partial);
    }
}

/// The inputs of linear layers in the untouched model.
#[derive(Debug, Default)]
pub struct UntouchedInputs {
    seq_len: usize,
    largest: ByInput<Vec<f32>>,
    /// Tokens of the sample, ascending.
    tokens: Vec<usize>,
    /// Their inputs, one after the other.
    rows: ByInput<Vec<f32>>,
}

impl UntouchedInputs {
    /// Runs the model on a sample of a batch whose magnitudes were seen; `spikes`: by token, whether it is one that spikes.
    ///
    /// # Errors
    /// If the model cannot be run.
    pub fn of_sample(
        model: &Model,
        batch: &TokenBatch,
        magnitudes: MagnitudeTap,
        spikes: &[bool],
    ) -> Result<Self, SurgeryError> {
        let count = batch.sequences.min(SAMPLED_SEQUENCES);
        let cut = batch.seq_len.min(SAMPLED_POSITIONS);
        // Where the positions of a short sequence are encoded in another way, sequences stay whole.
        let whole = model.architecture().encodes_differently(cut, batch.seq_len);
        let seq_len = if whole { batch.seq_len } else { cut };
        let sequences = (0..count).map(|index| index * batch.sequences / count);
        // Attention is causal: what stands at first positions does not depend on later ones.
        let tokens: Vec<usize> =
            sequences.flat_map(|sequence| (0..seq_len).map(move |at| sequence * batch.seq_len + at)).collect();
        let spikes = |spiking: bool| tokens.iter().map(|&token| spikes[token] == spiking).collect::<Vec<_>>();
        let mut wanted = vec![false; tokens.len()];
        for (kind, most) in [(spikes(true), SAMPLED_SPIKES), (spikes(false), SAMPLED_TOKENS)] {
            for token in chosen(&kind, most) {
                wanted[token] = true;
            }
        }
        let sample =
            TokenBatch { tokens: tokens.iter().map(|&token| batch.tokens[token]).collect(), sequences: count, seq_len };
        let mut tap = InputsTap { seq_len, wanted, rows: BTreeMap::new() };
        // One group, so that rows come in the order of tokens.
        Pass::new(model, u64::MAX).ending_after(model.architecture().blocks()).run(&sample, &mut [&mut tap])?;
        let tokens = tokens.into_iter().zip(&tap.wanted).filter(|(_, wanted)| **wanted).map(|(token, _)| token);
        let tokens = tokens.collect();
        Ok(Self { seq_len: batch.seq_len, largest: magnitudes.largest, tokens, rows: tap.rows })
    }

    /// By token of the batch, the largest magnitude of its input.
    pub(super) fn magnitudes(&self, block: usize, input: Point) -> &[f32] {
        self.largest.get(&(block, input)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The magnitudes of a sequence, by position.
    pub(super) fn of_sequence(&self, block: usize, input: Point, sequence: usize) -> &[f32] {
        self.magnitudes(block, input).get(sequence * self.seq_len..(sequence + 1) * self.seq_len).unwrap_or_default()
    }

    /// The sampled tokens with their inputs.
    pub(super) fn sampled(&self, block: usize, input: Point) -> impl Iterator<Item = (usize, &[f32])> {
        let rows = self.rows.get(&(block, input)).map(Vec::as_slice).unwrap_or_default();
        let width = (rows.len() / self.tokens.len().max(1)).max(1);
        self.tokens.iter().copied().zip(rows.chunks_exact(width))
    }
}
