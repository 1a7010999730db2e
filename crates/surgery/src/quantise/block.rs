//! The linear layers of one block, quantised: rows that are kept, and rows that share a scale.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use sinkscope_kernels::microscaling::{quantise_blocks, rotate};
use sinkscope_kernels::quantise::{largest_magnitude, quantise};
use sinkscope_model::Linear;
use sinkscope_model::blocks::{Product, Projection};
use sinkscope_model::edit::LinearBlock;
use sinkscope_model::tap::{CHUNK_ROWS, Place, Point};

use super::layers::QuantisedLayers;
use super::maxima::INPUTS;
use super::weights::{input_magnitudes, quantised, quantised_in, rotated};
use super::{Activations, Sharing, Weights};

/// One block's layers, for one group.
pub(super) struct QuantisedBlock<'e> {
    pub(super) edit: &'e QuantisedLayers,
    pub(super) block: usize,
    /// With quantised weights, where all sequences have the same.
    pub(super) quantised: BTreeMap<Projection, Linear<f32>>,
    /// Weights as they are, inputs x outputs, where each sequence has quantised ones of its own.
    plain: BTreeMap<Projection, Vec<f32>>,
    /// By input, the largest magnitude of each channel's weights, where inputs are smoothed.
    weight_magnitudes: BTreeMap<Point, Vec<f32>>,
    /// By input and sequence, the bits of the largest magnitude, where it is measured first.
    measured: Vec<Vec<AtomicU32>>,
}

/// What a layer reads.
pub(super) fn input_of(projection: Projection) -> Point {
    match projection {
        Projection::AttentionOutput => Point::Heads,
        Projection::Down => Point::Hidden,
        Projection::Query | Projection::Key | Projection::Value | Projection::Gate | Projection::Up => {
            Point::NormalisedInput
        }
    }
}

/// Gives the largest magnitude of a sequence's input, if it is known; with what each channel is divided by.
pub(super) type OfSequence<'f> = dyn Fn(usize, Option<&Vec<f32>>) -> Option<f32> + 'f;

/// What a row is to quantisation.
pub(super) struct Row {
    pub token: usize,
    pub sequence: usize,
    pub spikes: bool,
    pub kept: bool,
    /// The largest magnitude of its input.
    pub largest: f32,
}

impl<'e> QuantisedBlock<'e> {
    pub fn new(edit: &'e QuantisedLayers, block: usize, linears: &[(Projection, &Linear<f32>)]) -> Self {
        let chosen = linears.iter().filter(|(projection, _)| edit.chosen.contains_key(&(block, *projection)));
        let linears: Vec<(Projection, &Linear<f32>)> = chosen.copied().collect();
        let sequences = edit.spikes.len() / edit.seq_len;
        let measures = edit.seq_len > CHUNK_ROWS;
        let measured =
            INPUTS.iter().map(|_| (0..if measures { sequences } else { 0 }).map(|_| AtomicU32::new(0)).collect());
        let mut this = Self {
            edit,
            block,
            quantised: BTreeMap::new(),
            plain: BTreeMap::new(),
            weight_magnitudes: BTreeMap::new(),
            measured: measured.collect(),
        };
        if edit.scheme.smooth {
            for input in INPUTS {
                let readers: Vec<&Linear<f32>> =
                    linears.iter().filter(|(projection, _)| input_of(*projection) == input).map(|(_, l)| *l).collect();
                this.weight_magnitudes.insert(input, input_magnitudes(&readers));
            }
        }
        if edit.scheme.weights.is_some() && this.by_sequence() {
            let plain = linears.iter().map(|(projection, linear)| (*projection, linear.weight().to_vec()));
            this.plain = plain.collect();
        }
        if let Some(weights) = edit.scheme.weights
            && !this.by_sequence()
        {
            let quantise = |(projection, linear): &(Projection, &Linear<f32>)| {
                let factors = this.factors(input_of(*projection), 0);
                (*projection, quantised(linear, factors.as_deref(), edit.scheme.rotate, weights))
            };
            this.quantised = linears.iter().map(quantise).collect();
        } else if edit.scheme.rotate {
            this.quantised = linears.iter().map(|(projection, linear)| (*projection, rotated(linear))).collect();
        }
        this.look(&linears);
        this
    }

    /// Whether each sequence has weights of its own.
    pub(super) fn by_sequence(&self) -> bool {
        self.edit.maxima.as_ref().is_some_and(|maxima| self.edit.scheme.smooth && maxima.of_others())
    }

    /// What each channel of an input is divided by, and its weights multiplied with; `None` if it is not smoothed.
    fn factors(&self, input: Point, sequence: usize) -> Option<Vec<f32>> {
        let weights = self.weight_magnitudes.get(&input)?;
        let maxima = self.edit.maxima.as_ref()?.maxima(self.block, input, sequence);
        let factor = |(channel, &weight): (usize, &f32)| {
            let input = maxima.get(channel).copied().unwrap_or(0.0);
            let factor = input.sqrt() / weight.sqrt();
            if input > 0.0 && weight > 0.0 && factor > 0.0 && factor.is_finite() { factor } else { 1.0 }
        };
        Some(weights.iter().enumerate().map(factor).collect())
    }

    pub(super) fn kept(&self, token: usize) -> bool {
        self.edit.keeps_spikes && self.edit.spikes[token]
    }

    /// The rows of some places. One that is not finite has no scale: it stays as it is, so that what is made of it is not
    /// finite either.
    pub(super) fn rows(&self, places: &[Place], x: &[f32]) -> Vec<Row> {
        let count: usize = places.iter().map(|place| place.rows).sum();
        let row = |(sequence, position, values): (usize, usize, &[f32])| {
            let token = sequence * self.edit.seq_len + position;
            let largest = largest_magnitude(values);
            let spikes = self.edit.spikes[token];
            let kept = self.kept(token) || largest.is_none();
            Row { token, sequence, spikes, kept, largest: largest.unwrap_or(f32::INFINITY) }
        };
        places
            .iter()
            .flat_map(|place| (0..place.rows).map(|row| (place.sequence, place.position + row)))
            .zip(x.chunks_exact(x.len() / count))
            .map(|((sequence, position), values)| row((sequence, position, values)))
            .collect()
    }

    /// Smooths or rotates inputs; `None` of `factors` where they are not smoothed.
    fn transform(&self, factors: Option<&Vec<f32>>, values: &mut [f32]) {
        if let Some(factors) = factors {
            values.iter_mut().zip(factors).for_each(|(value, factor)| *value /= *factor);
        }
        if self.edit.scheme.rotate {
            rotate(values);
        }
    }

    /// The largest magnitude of a sequence's input, where it is known beforehand or was measured.
    pub(super) fn known(&self, input: Point, sequence: usize, factors: Option<&Vec<f32>>) -> Option<f32> {
        if self.edit.scheme.fixed {
            let maxima = self.edit.maxima.as_ref()?.maxima(self.block, input, sequence);
            let factor = |channel| factors.map_or(1.0, |factors| factors[channel]);
            return Some(maxima.iter().enumerate().fold(0.0, |most: f32, (at, own)| most.max(own / factor(at))));
        }
        let index = INPUTS.iter().position(|other| *other == input);
        let measured = index.and_then(|index| self.measured[index].get(sequence))?;
        Some(f32::from_bits(measured.load(Ordering::Relaxed)))
    }

    /// Quantises the rows that are not kept; `of_sequence` gives the largest magnitude of a sequence's input if it is known
    /// and inputs are not transformed. What is not known is that of the rows here.
    pub(super) fn quantise_inputs(
        &self,
        input: Point,
        how: Activations,
        (rows, x): (&[Row], &mut [f32]),
        of_sequence: &OfSequence<'_>,
    ) {
        let width = x.len() / rows.len().max(1);
        let transforms = self.edit.scheme.transforms();
        let mut sequences: BTreeMap<usize, (f32, Option<Vec<f32>>)> = BTreeMap::new();
        let mut largest: Vec<f32> = rows.iter().map(|row| row.largest).collect();
        for ((row, values), largest) in rows.iter().zip(x.chunks_exact_mut(width)).zip(&mut largest) {
            if row.kept {
                continue;
            }
            let (of_rows, factors) =
                sequences.entry(row.sequence).or_insert_with(|| (0.0, self.factors(input, row.sequence)));
            if transforms {
                self.transform(factors.as_ref(), values);
                // Factors are finite and not 0; a quotient can still be too large, and is the largest number then.
                *largest = largest_magnitude(values).unwrap_or(f32::MAX);
            }
            *of_rows = of_rows.max(*largest);
        }
        if how.of_sequence() {
            for (sequence, (shared, factors)) in &mut sequences {
                *shared = of_sequence(*sequence, factors.as_ref()).unwrap_or(*shared);
            }
        }
        for ((row, values), largest) in rows.iter().zip(x.chunks_exact_mut(width)).zip(largest) {
            let Some((shared, _)) = sequences.get(&row.sequence).filter(|_| !row.kept) else { continue };
            match how {
                Activations::Scaled { grid, sharing: Sharing::Token } => quantise(values, grid.scale(largest), grid),
                Activations::Scaled { grid, .. } => quantise(values, grid.scale(*shared), grid),
                Activations::Blocks(blocks) => quantise_blocks(values, blocks, *shared),
            }
        }
    }

    /// Computes a layer with weights that each sequence has for itself; `runs`: sequences, each with its rows.
    pub(super) fn multiply_by_sequence(
        &self,
        input: Point,
        runs: impl Iterator<Item = (usize, usize)>,
        x: &[f32],
        product: &mut Product<'_, f32>,
    ) {
        let Some(Weights::Scaled { grid, .. }) = self.edit.scheme.weights else { return };
        let (inputs, outputs) = (product.linear.inputs(), product.linear.outputs());
        let Some(plain) = self.plain.get(&product.projection) else { return };
        let mut buffer = self.edit.buffers.take();
        let mut row = 0;
        for (sequence, count) in runs {
            if let Some(factors) = self.factors(input, sequence) {
                let linear = quantised_in(&mut buffer, product.linear, plain, &factors, grid);
                let rows = row..row + count;
                linear.forward(
                    &mut product.out[rows.start * outputs..rows.end * outputs],
                    &x[rows.start * inputs..rows.end * inputs],
                );
            }
            row += count;
        }
        self.edit.buffers.give(buffer);
    }
}

/// Some rows of the input through the layer as it is.
fn plain(linear: &Linear<f32>, rows: &[usize], x: &[f32]) -> Vec<f32> {
    if rows.is_empty() {
        return Vec::new();
    }
    let input: Vec<f32> =
        rows.iter().flat_map(|&row| &x[row * linear.inputs()..][..linear.inputs()]).copied().collect();
    let mut out = vec![0.0; rows.len() * linear.outputs()];
    linear.forward(&mut out, &input);
    out
}

impl LinearBlock for QuantisedBlock<'_> {
    fn measure(&self, input: Point, place: &Place, x: &[f32]) {
        let Some(index) = INPUTS.iter().position(|other| *other == input) else { return };
        let mut rows = self.rows(std::slice::from_ref(place), x);
        if self.edit.scheme.transforms() {
            let factors = self.factors(input, place.sequence);
            let mut values = x.to_vec();
            for (row, values) in rows.iter_mut().zip(values.chunks_exact_mut(x.len() / place.rows)) {
                if !row.kept {
                    self.transform(factors.as_ref(), values);
                    row.largest = largest_magnitude(values).unwrap_or(f32::MAX);
                }
            }
        }
        let largest = rows.iter().filter(|row| !row.kept).fold(0.0_f32, |largest, row| largest.max(row.largest));
        // Magnitudes are ordered as their bits are.
        if let Some(measured) = self.measured[index].get(place.sequence) {
            measured.fetch_max(largest.to_bits(), Ordering::Relaxed);
        }
    }

    fn multiply(&self, input: Point, places: &[Place], x: &[f32], products: &mut [Product<'_, f32>]) {
        let rows = self.rows(places, x);
        let mut buffer = self.edit.buffers.take();
        let given = match self.edit.scheme.activations {
            None if self.edit.scheme.rotate => {
                buffer.clear();
                buffer.extend_from_slice(x);
                buffer.chunks_exact_mut(x.len() / rows.len()).for_each(rotate);
                &buffer
            }
            None => x,
            Some(how) => {
                buffer.clear();
                buffer.extend_from_slice(x);
                let of_sequence = |sequence, factors: Option<&Vec<f32>>| self.known(input, sequence, factors);
                self.quantise_inputs(input, how, (&rows, &mut buffer), &of_sequence);
                &buffer
            }
        };
        let kept: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].kept).collect();
        for product in products {
            let outputs = product.linear.outputs();
            if !self.edit.chosen.contains_key(&(self.block, product.projection)) {
                product.linear.forward(product.out, x);
                continue;
            }
            if self.by_sequence() {
                let runs = places.iter().map(|place| (place.sequence, place.rows));
                self.multiply_by_sequence(input, runs, given, product);
            } else {
                self.quantised.get(&product.projection).unwrap_or(product.linear).forward(product.out, given);
            }
            if self.edit.scheme.weights.is_some() || self.edit.scheme.rotate {
                let plain = plain(product.linear, &kept, x);
                for (&row, plain) in kept.iter().zip(plain.chunks_exact(outputs)) {
                    product.out[row * outputs..][..outputs].copy_from_slice(plain);
                }
            }
        }
        self.edit.buffers.give(buffer);
    }
}
