//! The linear layers of a pass, quantised, and what was seen of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sinkscope_model::Linear;
use sinkscope_model::blocks::Projection;
use sinkscope_model::edit::{LinearBlock, LinearEdit};

use super::block::QuantisedBlock;
use super::damage::SeenLayer;
use super::{Activations, MaximaTap, Scheme, UntouchedInputs};
use crate::definitions::BREAKS;
use crate::locked;
use crate::results::LinearLayer;

/// The linear layers that are quantised, by block and projection, each with the name of its tensor.
pub type Chosen = BTreeMap<(usize, Projection), String>;

/// Computes linear layers with quantised weights and inputs.
#[derive(Debug)]
pub struct QuantisedLayers {
    /// How.
    pub scheme: Scheme,
    /// Which of them; the others are computed as they are.
    pub chosen: Chosen,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// By token of the batch, whether it is one that spikes.
    pub spikes: Vec<bool>,
    /// Whether those stay as they are, meet weights as they are, and have no part in any scale.
    pub keeps_spikes: bool,
    /// What smoothing is calibrated with.
    pub maxima: Option<MaximaTap>,
    /// What the untouched model gives the layers; without it no damage is measured.
    pub untouched: Option<Arc<UntouchedInputs>>,
    pub(super) seen: Mutex<BTreeMap<(usize, Projection), SeenLayer>>,
    pub(super) buffers: Buffers,
}

impl QuantisedLayers {
    /// Of these layers, with these tokens that spike.
    pub fn new(scheme: Scheme, chosen: Chosen, seq_len: usize, spikes: Vec<bool>, keeps_spikes: bool) -> Self {
        Self {
            scheme,
            chosen,
            seq_len,
            spikes,
            keeps_spikes,
            maxima: None,
            untouched: None,
            seen: Mutex::default(),
            buffers: Buffers::default(),
        }
    }

    /// The blocks that have such layers, ascending.
    pub fn blocks(&self) -> Vec<usize> {
        let mut blocks: Vec<usize> = self.chosen.keys().map(|(block, _)| *block).collect();
        blocks.dedup();
        blocks
    }

    /// Tokens that stay as they are.
    pub fn kept_tokens(&self) -> usize {
        if self.keeps_spikes { self.spikes.iter().filter(|spikes| **spikes).count() } else { 0 }
    }

    /// What became of every layer, after a pass; none without the untouched model's inputs.
    pub fn layers(&self) -> Vec<LinearLayer> {
        let with_spikes = self.spikes.contains(&true);
        let layer = |(&(block, projection), seen): (&(usize, Projection), &SeenLayer)| {
            let error = seen.elsewhere.error();
            let error_at_spikes = if self.keeps_spikes { Some(0.0) } else { seen.at_spikes.error() };
            LinearLayer {
                block,
                projection: name(projection).to_owned(),
                tensor: self.chosen.get(&(block, projection)).cloned().unwrap_or_default(),
                weights: seen.weights,
                largest_at_spikes: with_spikes.then_some(seen.largest_at_spikes),
                largest_elsewhere: seen.largest_elsewhere,
                error,
                error_at_spikes: error_at_spikes.filter(|_| with_spikes),
                breaks: error.is_some_and(|error| error > BREAKS),
            }
        };
        locked(&self.seen).iter().map(layer).collect()
    }
}

impl LinearEdit for QuantisedLayers {
    fn wants(&self, block: usize) -> bool {
        self.chosen.keys().any(|(chosen, _)| *chosen == block)
    }

    fn measures(&self) -> bool {
        !self.scheme.fixed && self.scheme.activations.is_some_and(Activations::of_sequence)
    }

    fn begin<'e>(&'e self, block: usize, linears: &[(Projection, &Linear<f32>)]) -> Box<dyn LinearBlock + 'e> {
        Box::new(QuantisedBlock::new(self, block, linears))
    }
}

/// Buffers that no task is using: fresh pages for every tile would cost more than quantising it.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<f32>>>);

impl Buffers {
    pub fn take(&self) -> Vec<f32> {
        locked(&self.0).pop().unwrap_or_default()
    }

    pub fn give(&self, buffer: Vec<f32>) {
        locked(&self.0).push(buffer);
    }
}

/// As results name a layer.
pub(crate) fn name(projection: Projection) -> &'static str {
    match projection {
        Projection::Query => "query",
        Projection::Key => "key",
        Projection::Value => "value",
        Projection::AttentionOutput => "attention-output",
        Projection::Gate => "gate",
        Projection::Up => "up",
        Projection::Down => "down",
    }
}
