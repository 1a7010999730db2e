//! What quantised layers lose: their outputs beside those of the untouched layers, on inputs of the untouched model.

use rayon::prelude::*;
use sinkscope_kernels::microscaling::rotate;
use sinkscope_model::Linear;
use sinkscope_model::blocks::{Product, Projection};
use sinkscope_model::tap::Place;

use super::block::{QuantisedBlock, Row, input_of};
use super::maxima::INPUTS;
use crate::definitions::SMOOTHED_SEQUENCES;
use crate::locked;

/// What a layer's output lost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lost {
    difference: f64,
    whole: f64,
}

impl Lost {
    fn add(&mut self, quantised: &[f32], plain: &[f32]) {
        for (quantised, plain) in quantised.iter().zip(plain) {
            self.difference += (f64::from(*quantised) - f64::from(*plain)).powi(2);
            self.whole += f64::from(*plain).powi(2);
        }
    }

    fn merge(&mut self, other: Self) {
        self.difference += other.difference;
        self.whole += other.whole;
    }

    /// The length of the difference over that of the output; `None` if there is none.
    pub fn error(self) -> Option<f64> {
        (self.whole > 0.0).then(|| (self.difference / self.whole).sqrt())
    }
}

/// What was seen of a layer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SeenLayer {
    pub weights: usize,
    pub largest_at_spikes: f32,
    pub largest_elsewhere: f32,
    pub at_spikes: Lost,
    pub elsewhere: Lost,
}

impl SeenLayer {
    fn of(linear: &Linear<f32>) -> Self {
        Self { weights: linear.inputs() * linear.outputs(), ..Self::default() }
    }
}

impl QuantisedBlock<'_> {
    /// What each layer loses of its output on the inputs that the untouched model gives it, at a sample of tokens. Seen once:
    /// every group brings the same layers.
    pub(super) fn look(&self, linears: &[(Projection, &Linear<f32>)]) {
        let Some(untouched) = &self.edit.untouched else { return };
        if locked(&self.edit.seen).keys().any(|(block, _)| *block == self.block) {
            return;
        }
        for input in INPUTS {
            let readers: Vec<_> = linears.iter().filter(|(projection, _)| input_of(*projection) == input).collect();
            let sampled: Vec<(usize, &[f32])> = untouched.sampled(self.block, input).collect();
            let Some(width) = readers.first().map(|(_, linear)| linear.inputs()) else { continue };
            let mut rows = Vec::with_capacity(sampled.len());
            let mut plain = Vec::with_capacity(sampled.len() * width);
            for (token, values) in sampled {
                let (sequence, position) = (token / self.edit.seq_len, token % self.edit.seq_len);
                let place = Place { block: self.block, sequence, position, rows: 1 };
                rows.extend(self.rows(&[place], values).into_iter().filter(|row| !row.kept));
                if rows.last().is_some_and(|row| row.token == token) {
                    plain.extend_from_slice(values);
                }
            }
            let mut given = plain.clone();
            if self.edit.scheme.rotate && self.edit.scheme.activations.is_none() {
                given.chunks_exact_mut(width).for_each(rotate);
            }
            if let Some(how) = self.edit.scheme.activations {
                let of_sequence = |sequence: usize, factors: Option<&Vec<f32>>| {
                    if self.edit.scheme.fixed {
                        return self.known(input, sequence, factors);
                    }
                    let magnitudes = untouched.of_sequence(self.block, input, sequence).iter().enumerate();
                    let counted = magnitudes
                        .filter(|(at, largest)| largest.is_finite() && !self.kept(sequence * self.edit.seq_len + at));
                    let largest = counted.fold(0.0, |largest: f32, (_, own)| largest.max(*own));
                    (!self.edit.scheme.transforms()).then_some(largest)
                };
                self.quantise_inputs(input, how, (&rows, &mut given), &of_sequence);
            }
            let (mut at_spikes, mut elsewhere) = (0.0_f32, 0.0_f32);
            for (&largest, &spikes) in untouched.magnitudes(self.block, input).iter().zip(&self.edit.spikes) {
                let kind = if spikes { &mut at_spikes } else { &mut elsewhere };
                *kind = kind.max(largest);
            }
            // The rows of each sequence for themselves: tasks of a fixed size.
            let mut start = 0;
            let runs = rows.chunk_by(|a, b| a.sequence == b.sequence).map(|run| {
                start += run.len();
                (start - run.len(), run)
            });
            // Weights that are quantised anew for each sequence cost as much as a product.
            let most = if self.by_sequence() { SMOOTHED_SEQUENCES } else { usize::MAX };
            let runs: Vec<(usize, &[Row])> = runs.take(most).collect();
            let seen = |(projection, linear): &&(Projection, &Linear<f32>)| {
                let outputs = linear.outputs();
                let of_run = |&(start, run): &(usize, &[Row])| {
                    let inputs = start * width..(start + run.len()) * width;
                    let mut expected = vec![0.0; run.len() * outputs];
                    let mut found = expected.clone();
                    linear.forward(&mut expected, &plain[inputs.clone()]);
                    if self.by_sequence() {
                        let whole = std::iter::once((run[0].sequence, run.len()));
                        let mut product = Product::new(*projection, linear, &mut found);
                        self.multiply_by_sequence(input, whole, &given[inputs], &mut product);
                    } else {
                        self.quantised.get(projection).unwrap_or(linear).forward(&mut found, &given[inputs]);
                    }
                    let (mut at_spikes, mut elsewhere) = (Lost::default(), Lost::default());
                    for (row, (found, expected)) in
                        run.iter().zip(found.chunks_exact(outputs).zip(expected.chunks_exact(outputs)))
                    {
                        let lost = if row.spikes { &mut at_spikes } else { &mut elsewhere };
                        lost.add(found, expected);
                    }
                    (at_spikes, elsewhere)
                };
                let mut layer =
                    SeenLayer { largest_at_spikes: at_spikes, largest_elsewhere: elsewhere, ..SeenLayer::of(linear) };
                let lost: Vec<(Lost, Lost)> = runs.par_iter().map(of_run).collect();
                for (at_spikes, elsewhere) in lost {
                    layer.at_spikes.merge(at_spikes);
                    layer.elsewhere.merge(elsewhere);
                }
                (*projection, layer)
            };
            let layers: Vec<(Projection, SeenLayer)> = readers.par_iter().map(seen).collect();
            let layers = layers.into_iter().map(|(projection, layer)| ((self.block, projection), layer));
            locked(&self.edit.seen).extend(layers);
        }
    }
}
