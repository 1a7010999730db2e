//! A pass without a model: residuals, outputs and attention matrices made up in memory and shown to taps in the way the
//! streamed pass shows them.

#![allow(dead_code, reason = "each test binary uses a part")]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sinkscope_anatomy::examination::{AnatomyRequest, AnatomyTaps, Finished, ModelSize};
use sinkscope_anatomy::results::Anatomy;
use sinkscope_model::tap::{AttentionScan, BlockView, CHUNK_ROWS, Event, EventData, Place, Point, Tap};
use sinkscope_sources::data::TokenBatch;

/// Everything of a made-up pass at once.
pub struct FakePass {
    pub layers: usize,
    pub heads: usize,
    pub d_model: usize,
    pub batch: TokenBatch,
    /// By block from 0: tokens x d_model.
    pub residual: Vec<Vec<f32>>,
    /// By block from 0 (where it is empty): tokens x d_model.
    pub output: Vec<Vec<f32>>,
    /// By layer: sequences x heads x T x T.
    pub attention: Vec<Vec<f32>>,
    /// sequences x (T - 1).
    pub nll: Vec<f32>,
}

/// Something a block adds to some tokens.
pub struct Plant {
    pub block: usize,
    pub tokens: Vec<usize>,
    pub channel: usize,
    pub value: f32,
}

pub fn plant(block: usize, tokens: &[usize], channel: usize, value: f32) -> Plant {
    Plant { block, tokens: tokens.to_vec(), channel, value }
}

/// How a pass is divided.
#[derive(Clone, Copy, Debug)]
pub struct Division {
    pub sequences_per_group: usize,
    pub chunk_rows: usize,
}

impl Division {
    pub const WHOLE: Self = Self { sequences_per_group: usize::MAX, chunk_rows: CHUNK_ROWS };
}

impl FakePass {
    /// Noise of magnitude about 1, growing a little from block to block, and the plants.
    pub fn new(seed: u64, layers: usize, sequences: usize, seq_len: usize, d_model: usize, plants: &[Plant]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let tokens = sequences * seq_len;
        let mut noise =
            |scale: f32| -> Vec<f32> { (0..tokens * d_model).map(|_| rng.random_range(-scale..scale)).collect() };
        let (mut residual, mut output) = (vec![noise(1.0)], vec![Vec::new()]);
        for block in 1..=2 * layers {
            let mut added = noise(0.1);
            for plant in plants.iter().filter(|plant| plant.block == block) {
                for token in &plant.tokens {
                    added[token * d_model + plant.channel] += plant.value;
                }
            }
            residual.push(residual[block - 1].iter().zip(&added).map(|(before, added)| before + added).collect());
            output.push(added);
        }
        let ids = (0..tokens).map(|_| rng.random_range(0..12)).collect();
        let nll = (0..sequences * (seq_len - 1)).map(|_| rng.random_range(0.0..12.0)).collect();
        let batch = TokenBatch { tokens: ids, sequences, seq_len };
        Self { layers, heads: 1, d_model, batch, residual, output, attention: Vec::new(), nll }
    }

    /// Adds causal attention: random weights, with a preference for one key in some heads.
    pub fn with_attention(mut self, seed: u64, heads: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let seq_len = self.batch.seq_len;
        self.heads = heads;
        for _ in 0..self.layers {
            let mut layer = vec![0.0; self.batch.sequences * heads * seq_len * seq_len];
            for matrix in layer.chunks_exact_mut(seq_len * seq_len) {
                let sink = rng.random_range(0..seq_len);
                let strength = rng.random_range(0.0_f32..2.0) * seq_len as f32;
                for (query, row) in matrix.chunks_exact_mut(seq_len).enumerate() {
                    row[..=query].fill_with(|| rng.random_range(0.0..1.0));
                    if sink <= query {
                        row[sink] += strength;
                    }
                    let sum: f32 = row.iter().sum();
                    for weight in row.iter_mut() {
                        *weight /= sum;
                    }
                }
            }
            self.attention.push(layer);
        }
        self
    }

    pub fn row(&self, block: usize, token: usize) -> &[f32] {
        &self.residual[block][token * self.d_model..][..self.d_model]
    }

    pub fn output_at(&self, block: usize, token: usize, channel: usize) -> f32 {
        self.output[block][token * self.d_model + channel]
    }

    pub fn blocks(&self) -> usize {
        2 * self.layers
    }

    pub fn tokens(&self) -> usize {
        self.batch.tokens.len()
    }

    /// Shows the pass to a tap.
    pub fn show<T: Tap>(&self, tap: &mut T, division: Division) {
        let mut start = 0;
        while start < self.batch.sequences {
            let end = start.saturating_add(division.sequences_per_group).min(self.batch.sequences);
            for block in 0..=self.blocks() + 1 {
                self.show_block(tap, block, start..end, division.chunk_rows);
            }
            start = end;
        }
    }

    fn show_block<T: Tap>(&self, tap: &mut T, block: usize, sequences: std::ops::Range<usize>, chunk_rows: usize) {
        let seq_len = self.batch.seq_len;
        let chunk = |sequence: usize, position: usize| Place {
            block,
            sequence,
            position,
            rows: chunk_rows.min(seq_len - position),
        };
        let places: Vec<Place> = sequences
            .clone()
            .flat_map(|sequence| (0..seq_len).step_by(chunk_rows).map(move |position| chunk(sequence, position)))
            .collect();
        let points = [Point::Attention, Point::Output, Point::Residual, Point::Prediction];
        for point in points {
            if !tap.wants(point, block) {
                continue;
            }
            let observe = |place: &Place| self.observe(&*tap, point, *place);
            let partials: Vec<T::Partial> = places.par_iter().map(observe).collect();
            for (place, partial) in places.iter().zip(partials) {
                tap.merge(point, place, partial);
            }
        }
        if tap.wants(Point::BlockDone, block) {
            let values = sequences.start * seq_len * self.d_model..sequences.end * seq_len * self.d_model;
            tap.block_done(&BlockView {
                block,
                sequences,
                seq_len,
                d_model: self.d_model,
                residual: &self.residual[block][values.clone()],
                output: (block > 0).then(|| &self.output[block][values]),
            });
        }
    }

    fn observe<T: Tap>(&self, tap: &T, point: Point, place: Place) -> T::Partial {
        let first = place.sequence * self.batch.seq_len + place.position;
        let values = first * self.d_model..(first + place.rows) * self.d_model;
        match point {
            Point::Residual => {
                tap.observe(&Event { point, place, data: EventData::Rows(&self.residual[place.block][values]) })
            }
            Point::Output => {
                tap.observe(&Event { point, place, data: EventData::Rows(&self.output[place.block][values]) })
            }
            Point::Prediction => {
                let predicted = self.batch.seq_len - 1;
                let start = place.sequence * predicted + place.position;
                let rows = place.rows.min(predicted - place.position);
                tap.observe(&Event { point, place, data: EventData::Nll(&self.nll[start..start + rows]) })
            }
            _ => self.observe_attention(tap, place),
        }
    }

    fn observe_attention<T: Tap>(&self, tap: &T, place: Place) -> T::Partial {
        let keys = place.position + place.rows;
        let (mut received, mut to_self, mut to_first, mut entropy) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for head in 0..self.heads {
            let rows = || (place.position..keys).map(|query| self.weights(place, head, query));
            received.extend((0..keys).map(|key| rows().map(|row| row[key]).sum::<f32>()));
            to_self.extend((place.position..keys).zip(rows()).map(|(query, row)| row[query]));
            to_first.extend(rows().map(|row| row[0]));
            entropy.extend(rows().map(entropy_of));
        }
        let (log_sum_exp, mass) = (vec![0.0; self.heads * place.rows], vec![1.0; self.heads * place.rows]);
        let scan = AttentionScan {
            heads: self.heads,
            keys,
            received: &received,
            log_sum_exp: &log_sum_exp,
            mass: &mass,
            to_self: &to_self,
            to_first: &to_first,
            entropy: &entropy,
        };
        tap.observe(&Event { point: Point::Attention, place, data: EventData::Attention(scan) })
    }

    fn weights(&self, place: Place, head: usize, query: usize) -> &[f32] {
        let seq_len = self.batch.seq_len;
        let row = (place.sequence * self.heads + head) * seq_len + query;
        &self.attention[(place.block - 1) / 2][row * seq_len..][..seq_len]
    }

    /// The whole examination, with the second look if it is asked for; and whether it was.
    pub fn examine(&self, request: &AnatomyRequest, division: Division) -> (Anatomy, bool) {
        let text = |id: u32| format!("<{id}>");
        let mut taps = AnatomyTaps::new(
            request,
            ModelSize { layers: self.layers, heads: self.heads, d_model: self.d_model, registers: 0 },
            &self.batch,
        );
        if let Some(tap) = &mut taps.residual {
            self.show(tap, division);
        }
        if let Some(tap) = &mut taps.sinks {
            self.show(tap, division);
        }
        if let Some(tap) = &mut taps.nll {
            self.show(tap, division);
        }
        if let Some(tap) = &mut taps.page {
            self.show(tap, division);
        }
        match taps.finish(&self.batch, &text).expect("finite residuals") {
            Finished::Complete(anatomy) => (*anatomy, false),
            Finished::SecondLook(mut look) => {
                self.show(&mut look.tap, division);
                (look.finish(&self.batch, &text), true)
            }
        }
    }
}

/// Life cycle and spikes alone.
pub fn residual_request() -> AnatomyRequest {
    AnatomyRequest { sinks: false, nll: false, tokens: false, ..AnatomyRequest::default() }
}

fn entropy_of(row: &[f32]) -> f32 {
    row.iter().filter(|weight| **weight > 0.0).map(|weight| -weight * weight.ln()).sum()
}
