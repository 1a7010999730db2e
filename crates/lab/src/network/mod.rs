//! A model in training: all its weights, the forward of a batch with its trace, and the backward that fills a gradient.
//!
//! A batch is cut into tiles of whole sequences, some 256 rows each. Attention does not reach beyond a sequence, so a tile
//! goes through the whole model by itself, and threads take tiles. Backwards, a layer is done for all tiles, and beside it
//! the gradients of the matrices of the layer before, in tasks over blocks of their rows that add up the tiles in order.
//! Tiles and blocks depend on shapes alone, so no bit depends on the number of threads.

mod head;
mod init;

use std::ops::Range;

use rayon::prelude::*;
use sinkscope_kernels::matmul::Precision;
use sinkscope_kernels::simd::{add, scale};
use sinkscope_kernels::{Buffer, Float};
use sinkscope_model::Parameters;
use sinkscope_model::architecture::{Architecture, ResidualLayout};
use sinkscope_model::blocks::{
    AttentionGradients, AttentionTrace, FeedForwardGradients, FeedForwardTrace, Norm, RopeTables, TileContext,
};
use sinkscope_model::tap::Place;

use crate::data::Batch;
use crate::error::LabError;

pub use self::init::{Initialisation, initialise};

/// Rows of a tile, where sequences are shorter.
const TILE_ROWS: usize = 256;

/// A model in training.
#[derive(Debug, Clone)]
pub struct Network<F> {
    architecture: Architecture,
    /// The weights.
    pub parameters: Parameters<F>,
    precision: Precision,
}

/// The loss of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loss {
    /// Sum of the negative log-likelihoods of the counted targets, in nats.
    pub sum: f64,
    /// How many there are.
    pub count: usize,
}

impl Loss {
    /// Mean over the counted targets, in nats.
    pub fn mean(self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}

/// The buffers of a training step, kept from one step to the next, and the gradient.
#[derive(Debug)]
pub struct Workspace<F> {
    /// The gradient, shaped as the weights.
    pub gradient: Parameters<F>,
    shape: (usize, usize),
    ropes: RopeTables<F>,
    tiles: Vec<Tile<F>>,
    /// By tile.
    beside: Vec<Beside<F>>,
    /// By tile and layer.
    traces: Vec<Vec<(AttentionTrace<F>, FeedForwardTrace<F>)>>,
    /// By tile, of layers with an even number and of the others: while one layer goes backwards, the gradients of the other's
    /// matrices are added up.
    buffers: [Vec<LayerGradients<F>>; 2],
    head: head::Buffers<F>,
}

/// What a tile leaves for the gradients of a layer's weights.
type LayerGradients<F> = (AttentionGradients<F>, FeedForwardGradients<F>);

/// What a tile's rows have beside themselves.
#[derive(Debug)]
struct Beside<F> {
    /// Its sequences.
    places: Vec<Place>,
    /// The tokens' embedding without positions, if gates depend on it.
    embedding: Buffer<F>,
}

impl<F: Float> Beside<F> {
    fn context<'a>(&'a self, layer: usize, ropes: &'a RopeTables<F>) -> TileContext<'a, F> {
        TileContext { places: &self.places, rope: ropes.of(layer), embedding: &self.embedding }
    }
}

/// Whole sequences of a batch on their way.
#[derive(Debug)]
struct Tile<F> {
    rows: Range<usize>,
    residual: Buffer<F>,
    d_residual: Buffer<F>,
    /// Gradient of the tokens' embedding from gates.
    d_embedding: Buffer<F>,
    final_norm: Option<Norm<F>>,
}

impl<F: Float> Network<F> {
    /// A model of these weights.
    ///
    /// # Errors
    /// [`LabError::Request`] if the architecture has something that has no backward.
    pub fn new(architecture: Architecture, parameters: Parameters<F>) -> Result<Self, LabError> {
        check(&architecture)?;
        Ok(Self { architecture, parameters, precision: Precision::Highest })
    }

    /// The same, whose products, forward and backward, are of some precision.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        if precision != self.precision {
            self.precision = precision;
            self.parameters.set_precision(precision);
        }
        self
    }

    /// The shape and design choices.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Buffers for batches of this shape.
    pub fn workspace(&self, sequences: usize, seq_len: usize) -> Workspace<F> {
        let per_tile = (TILE_ROWS / seq_len.max(1)).max(1);
        let starts = (0..sequences).step_by(per_tile);
        let tile = |first: usize| Tile {
            rows: first * seq_len..(first + per_tile).min(sequences) * seq_len,
            residual: Buffer::default(),
            d_residual: Buffer::default(),
            d_embedding: Buffer::default(),
            final_norm: self.parameters.final_norm.as_ref().map(Norm::zeros_like),
        };
        let count = starts.len();
        let buffers = vec![LayerGradients::default(); count];
        Workspace {
            gradient: zeros_like(&self.parameters),
            shape: (sequences, seq_len),
            ropes: RopeTables::new(&self.architecture, seq_len),
            tiles: starts.clone().map(tile).collect(),
            beside: starts
                .map(|first| {
                    let place = |sequence| Place { block: 0, sequence, position: 0, rows: seq_len };
                    let places = (0..per_tile.min(sequences - first)).map(place).collect();
                    Beside { places, embedding: Buffer::default() }
                })
                .collect(),
            traces: vec![vec![Default::default(); self.architecture.layer_count()]; count],
            buffers: [buffers.clone(), buffers],
            head: head::Buffers::default(),
        }
    }

    /// Adds the gradient of `weight` times the summed loss of a batch to the workspace's gradient.
    ///
    /// # Errors
    /// [`LabError::Request`] if the batch has another shape than the workspace, or a token beyond the vocabulary.
    pub fn add_gradient(&self, batch: &Batch, weight: F, workspace: &mut Workspace<F>) -> Result<Loss, LabError> {
        self.check_batch(batch, workspace)?;
        self.forward(batch, workspace);
        let loss = self.head(batch, weight, workspace);
        self.backward(batch, workspace);
        Ok(loss)
    }

    /// The loss of a batch.
    ///
    /// # Errors
    /// As [`Network::add_gradient`].
    pub fn loss(&self, batch: &Batch, workspace: &mut Workspace<F>) -> Result<Loss, LabError> {
        self.check_batch(batch, workspace)?;
        self.forward(batch, workspace);
        // With a weight of 0 nothing is added to the gradient.
        Ok(self.head(batch, F::ZERO, workspace))
    }

    fn check_batch(&self, batch: &Batch, workspace: &Workspace<F>) -> Result<(), LabError> {
        if (batch.sequences, batch.seq_len) != workspace.shape || batch.inputs.len() != batch.sequences * batch.seq_len
        {
            return Err(LabError::Request("a batch has another shape than the one prepared for".into()));
        }
        if let Some(id) = batch.inputs.iter().find(|&&id| id as usize >= self.architecture.vocabulary) {
            let vocabulary = self.architecture.vocabulary;
            return Err(LabError::Request(format!("token id {id} lies beyond the vocabulary of {vocabulary}")));
        }
        Ok(())
    }

    /// Pushes every tile through all layers and the final norm.
    fn forward(&self, batch: &Batch, workspace: &mut Workspace<F>) {
        let d = self.architecture.d_model;
        let Workspace { tiles, beside, traces, buffers: [buffers, _], ropes, head, .. } = workspace;
        let rows_of_tiles = head.normed(batch.inputs.len() * d, tiles.first().map_or(1, |tile| tile.rows.len() * d));
        let tiles = tiles.par_iter_mut().zip(beside).zip(traces).zip(buffers).zip(rows_of_tiles);
        tiles.with_max_len(1).for_each(|((((tile, beside), traces), buffers), normed)| {
            self.embed(batch, tile, &mut beside.embedding);
            let residual = &mut tile.residual;
            for (layer, (trace, (attention, feed_forward))) in
                traces.iter_mut().zip(&self.parameters.layers).enumerate()
            {
                let context = beside.context(layer, ropes);
                attention.forward(&context, residual, &mut trace.0, &mut buffers.0);
                feed_forward.forward(residual, &mut trace.1, &mut buffers.1);
            }
            match &self.parameters.final_norm {
                Some(norm) => norm.forward(normed, residual),
                None => normed.copy_from_slice(residual),
            }
        });
    }

    fn embed(&self, batch: &Batch, tile: &mut Tile<F>, embedding: &mut Buffer<F>) {
        let a = &self.architecture;
        let d = a.d_model;
        let ids = &batch.inputs[tile.rows.clone()];
        for (row, &id) in tile.residual.fit(ids.len() * d).chunks_exact_mut(d).zip(ids) {
            row.copy_from_slice(&self.parameters.embedding[id as usize * d..][..d]);
        }
        if a.embedding_scale != 1.0 {
            scale(&mut tile.residual, F::from_f64(a.embedding_scale));
        }
        if a.gates_read_embedding() {
            embedding.fit(tile.residual.len()).copy_from_slice(&tile.residual);
            tile.d_embedding.fit(tile.residual.len()).fill(F::ZERO);
        }
        if let Some(positions) = &self.parameters.positions {
            for sequence in tile.residual.chunks_exact_mut(batch.seq_len * d) {
                add(sequence, &positions[..batch.seq_len * d]);
            }
        }
    }

    /// From the gradient of the normalised residual back to the embedding.
    fn backward(&self, batch: &Batch, workspace: &mut Workspace<F>) {
        let d = self.architecture.d_model;
        let Workspace { tiles, beside, traces, buffers: [even, odd], ropes, head, gradient, .. } = workspace;
        let rows = tiles.first().map_or(1, |tile| tile.rows.len() * d);
        tiles.par_iter_mut().zip(head.d_normed(rows)).with_max_len(1).for_each(|(tile, d_normed)| {
            let d_residual = tile.d_residual.fit(d_normed.len());
            match (&self.parameters.final_norm, &mut tile.final_norm) {
                (Some(norm), Some(gradient)) => {
                    *gradient = norm.zeros_like();
                    norm.backward(d_residual, gradient, d_normed, &tile.residual);
                }
                _ => d_residual.copy_from_slice(d_normed),
            }
        });
        for tile in tiles.iter() {
            if let (Some(sum), Some(of_tile)) = (&mut gradient.final_norm, &tile.final_norm) {
                sum.add(of_tile);
            }
        }
        let (beside, traces) = (&*beside, &*traces);
        let layers = self.parameters.layers.len();
        let Parameters { layers: of_layers, embedding: of_embedding, positions: of_positions, .. } = gradient;
        let mut add_up = |layer: usize, buffers: &[LayerGradients<F>]| {
            let Some((attention, feed_forward)) = of_layers.get_mut(layer) else { return };
            let of_attention: Vec<_> = (beside.iter().zip(traces).zip(buffers))
                .map(|((beside, traces), buffers)| (beside.context(layer, ropes), &traces[layer].0, &buffers.0))
                .collect();
            let of_feed_forward: Vec<_> =
                traces.iter().zip(buffers).map(|(traces, buffers)| (&traces[layer].1, &buffers.1)).collect();
            let mut tasks = feed_forward.gradient_tasks(&of_feed_forward);
            tasks.extend(attention.gradient_tasks(&of_attention));
            tasks.into_par_iter().with_max_len(1).for_each(sinkscope_model::blocks::GradientTask::run);
        };
        for layer in (0..layers).rev() {
            let (attention, feed_forward) = &self.parameters.layers[layer];
            let (own, later) = if layer.is_multiple_of(2) { (&mut *even, &*odd) } else { (&mut *odd, &*even) };
            let own = tiles.par_iter_mut().zip(beside).zip(traces).zip(own).with_max_len(1);
            let back = || {
                own.for_each(|(((tile, beside), traces), buffers)| {
                    let context = beside.context(layer, ropes);
                    let trace = &traces[layer];
                    buffers.0.begin(attention);
                    buffers.1.begin(feed_forward);
                    feed_forward.backward(&mut tile.d_residual, &trace.1, &mut buffers.1);
                    let (d_residual, d_embedding) = (&mut tile.d_residual, &mut tile.d_embedding);
                    attention.backward(&context, d_residual, d_embedding, &trace.0, &mut buffers.0);
                });
            };
            rayon::join(back, || add_up(layer + 1, later));
        }
        rayon::join(
            || add_up(0, even),
            || self.add_embedding_gradient(batch, tiles, of_embedding, of_positions.as_mut()),
        );
    }

    fn add_embedding_gradient(
        &self,
        batch: &Batch,
        tiles: &mut [Tile<F>],
        gradient: &mut [F],
        mut positions: Option<&mut Vec<F>>,
    ) {
        let d = self.architecture.d_model;
        for tile in tiles {
            if let Some(positions) = &mut positions {
                for sequence in tile.d_residual.chunks_exact(batch.seq_len * d) {
                    add(&mut positions[..batch.seq_len * d], sequence);
                }
            }
            if !tile.d_embedding.is_empty() {
                add(&mut tile.d_residual, &tile.d_embedding);
            }
            if self.architecture.embedding_scale != 1.0 {
                scale(&mut tile.d_residual, F::from_f64(self.architecture.embedding_scale));
            }
            for (row, d_row) in tile.rows.clone().zip(tile.d_residual.chunks_exact(d)) {
                let at = batch.inputs[row] as usize * d;
                add(&mut gradient[at..at + d], d_row);
            }
        }
    }
}

/// Something of the shape of these weights, all zero.
pub fn zeros_like<F: Float>(parameters: &Parameters<F>) -> Parameters<F> {
    let layers = &parameters.layers;
    Parameters {
        embedding: vec![F::ZERO; parameters.embedding.len()],
        positions: parameters.positions.as_ref().map(|positions| vec![F::ZERO; positions.len()]),
        layers: layers.iter().map(|(attention, mlp)| (attention.zeros_like(), mlp.zeros_like())).collect(),
        final_norm: parameters.final_norm.as_ref().map(Norm::zeros_like),
        head: parameters.head.as_ref().map(sinkscope_model::Linear::zeros_like),
    }
}

/// What has no backward.
fn check(a: &Architecture) -> Result<(), LabError> {
    a.validate().map_err(LabError::Request)?;
    if a.any(|layer| layer.residual == ResidualLayout::Parallel) {
        return Err(LabError::Request("parallel blocks have no backward; train sequential ones".into()));
    }
    if a.logit_soft_cap.is_some() {
        return Err(LabError::Request("a soft cap on logits has no backward; train without".into()));
    }
    Ok(())
}

#[cfg(test)]
mod parity;
#[cfg(test)]
mod tests;
