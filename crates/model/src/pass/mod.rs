//! The streamed pass: layer-major over all sequences.
//!
//! A group of sequences that fits in memory is pushed through one block after the other. A block's weights are decoded,
//! used for the whole group and dropped, so a model larger than memory can be examined, and each weight is decoded once
//! a group. Nothing is kept for later: taps see each event once.

mod blocks;
mod continuations;
mod head;
mod observers;
mod schedule;
mod scratch;

use std::ops::Range;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use sinkscope_kernels::rope::RopeTable;
use sinkscope_kernels::simd::{add, scale};

pub use continuations::{Continuations, Step};
pub use observers::ErasedTap;

use self::observers::Observers;
use self::schedule::{Tile, groups, tiles};
use self::scratch::ScratchPool;
use crate::architecture::{Layer, ResidualLayout};
use crate::blocks::{Projection, RopeTables};
use crate::edit::{Edit, LinearBlock, LinearEdit};
use crate::error::ModelError;
use crate::linear::Linear;
use crate::model::Model;
use crate::tap::{BlockView, CHUNK_ROWS, Place, Point};
use sinkscope_sources::data::TokenBatch;

/// One run of a model over a batch.
pub struct Pass<'a> {
    model: &'a Model,
    memory: u64,
    edits: Vec<&'a dyn Edit>,
    progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
    /// The block after which it begins, and the residual there.
    start: Option<(usize, &'a [f32])>,
    /// The block after which it ends, the output head left out.
    end: Option<usize>,
    window: Option<Window>,
    linears: Option<&'a dyn LinearEdit>,
}

/// A cache of the last keys and the first ones (Xiao et al. 2023, arXiv 2309.17453), in every layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// A query sees itself and the `width - 1` positions before it, or fewer if the layer's own window is smaller.
    pub width: usize,
    /// And the first positions of the sequence.
    pub sinks: usize,
    /// Whether a query meets sinks outside the window at its own distance. Otherwise at the distance that they have in the
    /// cache: its position is then at most `width + sinks - 1`.
    pub original_positions: bool,
}

impl Window {
    /// The window of a layer that has one of its own, or none.
    fn width_in(&self, own: Option<usize>) -> usize {
        own.map_or(self.width, |own| own.min(self.width))
    }

    /// The last position at which queries meet far sinks, in a layer that has a window of its own, or none.
    fn last_position(&self, own: Option<usize>) -> usize {
        let of_cache = self.width_in(own).saturating_add(self.sinks) - 1;
        if self.original_positions { usize::MAX } else { of_cache }
    }
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq)]
pub struct PassReport {
    /// Wall-clock seconds, decoding of weights included.
    pub seconds: f64,
    /// Of these, decoding of weights.
    pub decode_seconds: f64,
    /// Tokens.
    pub tokens: usize,
    /// Groups of sequences; each decodes every weight once.
    pub groups: usize,
    /// Floating-point operations of products and attention.
    pub flops: f64,
}

/// The activations of a group.
struct State {
    residual: Vec<f32>,
    /// What the block just added, if a tap wants whole blocks.
    output: Vec<f32>,
    /// The residual before the layer, for parallel blocks.
    layer_input: Vec<f32>,
    queries: Vec<f32>,
    /// Queries as they meet far sinks, if they are rotated apart.
    sink_queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    /// What gates on the heads' outputs are the sigmoid of, if there are gates.
    gates: Vec<f32>,
    /// The scores of the entry of every softmax that stands for no key, if there is one.
    entry: Vec<f32>,
    /// The tokens' embedding, if gates depend on it.
    embedding: Vec<f32>,
    /// The hidden activations of a feed-forward block, if they are measured before they are multiplied.
    hidden: Vec<f32>,
}

/// The rows of one task, cut from the state.
struct Task<'s> {
    tile: &'s Tile,
    residual: &'s mut [f32],
    queries: &'s mut [f32],
    sink_queries: Option<&'s mut [f32]>,
    keys: &'s mut [f32],
    values: &'s mut [f32],
    gates: Option<&'s mut [f32]>,
    entry: Option<&'s mut [f32]>,
    embedding: &'s [f32],
}

impl<'a> Pass<'a> {
    /// A pass that keeps its activations and weights within `memory` bytes, as far as one tile of sequences allows.
    pub fn new(model: &'a Model, memory: u64) -> Self {
        Self { model, memory, edits: Vec::new(), progress: None, start: None, end: None, window: None, linears: None }
    }

    /// Calls `progress(done, total)` after each block.
    #[must_use]
    pub fn with_progress(mut self, progress: &'a (dyn Fn(u64, u64) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Begins with the residual after a block, as another pass over the same batch showed it, instead of the embedding.
    /// Edits and taps see it as that block's residual. Only between layers: `block` is even.
    ///
    /// # Shapes
    /// `residual`: tokens of the batch x d_model.
    #[must_use]
    pub fn starting_after(mut self, block: usize, residual: &'a [f32]) -> Self {
        self.start = Some((block, residual));
        self
    }

    /// Ends after a block; there are no logits then. Only between layers: `block` is even.
    #[must_use]
    pub fn ending_after(mut self, block: usize) -> Self {
        self.end = Some(block);
        self
    }

    /// Narrows attention in every layer. Edits and taps of [`Point::Query`] have no part in what a query is to far sinks.
    #[must_use]
    pub fn with_window(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }

    /// Applies an edit; edits apply in the order they were added.
    #[must_use]
    pub fn with_edit(mut self, edit: &'a dyn Edit) -> Self {
        self.edits.push(edit);
        self
    }

    /// Computes the linear layers of blocks in another way.
    #[must_use]
    pub fn with_linears(mut self, linears: &'a dyn LinearEdit) -> Self {
        self.linears = Some(linears);
        self
    }

    /// Runs the batch past the taps.
    ///
    /// # Errors
    /// If a token id lies beyond the vocabulary, a sequence is longer than learned positions reach, the blocks to begin or
    /// end after are not those of whole layers, a window is 0 wide, a tap wants predictions of a model without an output
    /// head, or a weight is not finite.
    pub fn run(&self, batch: &TokenBatch, taps: &mut [&mut dyn ErasedTap]) -> Result<PassReport, ModelError> {
        let start = Instant::now();
        let a = self.model.architecture();
        self.check(batch)?;
        let mut observers = Observers { taps, edits: &self.edits };
        let keeps_output = (1..=a.blocks()).any(|block| observers.any_wants(Point::BlockDone, block));
        let groups = groups(batch.sequences, batch.seq_len, self.fitting(batch, keeps_output));
        let layers = self.layers(batch)?;
        let with_head = self.end.is_none() && head::wanted(&observers, a.blocks() + 1);
        if with_head {
            self.model.require_head("a prediction")?;
        }
        let mut run = Run {
            pass: self,
            batch,
            ropes: RopeTables::new(a, batch.seq_len),
            scratch: ScratchPool::default(),
            decoding: Duration::ZERO,
            steps: (0, (groups.len() * (2 * layers.len() + usize::from(with_head))) as u64),
        };
        for group in &groups {
            run.group(group.clone(), layers.clone(), keeps_output, with_head, &mut observers)?;
        }
        let tokens = batch.tokens.len();
        let body = a.flops_per_token(batch.seq_len, false);
        let head = if with_head { a.flops_per_token(batch.seq_len, true) - body } else { 0.0 };
        let per_token = body * layers.len() as f64 / a.layer_count() as f64 + head;
        Ok(PassReport {
            seconds: start.elapsed().as_secs_f64(),
            decode_seconds: run.decoding.as_secs_f64(),
            tokens,
            groups: groups.len(),
            flops: per_token * tokens as f64,
        })
    }

    fn check(&self, batch: &TokenBatch) -> Result<(), ModelError> {
        let a = self.model.architecture();
        if batch.seq_len == 0 || batch.sequences == 0 || batch.tokens.len() != batch.sequences * batch.seq_len {
            return Err(ModelError::Request("a batch needs at least one sequence of at least one token".into()));
        }
        self.model.check_length(batch.seq_len)?;
        match batch.tokens.iter().position(|&id| id as usize >= a.vocabulary) {
            None => Ok(()),
            Some(at) => Err(ModelError::Request(format!(
                "token id {} (sequence {}, position {}) lies beyond the vocabulary of {}",
                batch.tokens[at],
                at / batch.seq_len,
                at % batch.seq_len,
                a.vocabulary
            ))),
        }
    }

    /// The layers to run.
    fn layers(&self, batch: &TokenBatch) -> Result<Range<usize>, ModelError> {
        let a = self.model.architecture();
        let wrong = |reason: String| Err(ModelError::Request(reason));
        let start = self.start.map_or(0, |(block, _)| block);
        let end = self.end.unwrap_or(a.blocks());
        for block in [start, end] {
            if block > a.blocks() || !block.is_multiple_of(2) {
                return wrong(format!(
                    "a pass cannot begin or end after block {block}: give an even one up to {}",
                    a.blocks()
                ));
            }
        }
        if self.window.is_some_and(|window| window.width == 0) {
            return wrong("a window of 0 shows a query nothing; the least is 1, the query itself".to_owned());
        }
        if start > end {
            return wrong(format!("a pass cannot begin after block {start} and end after block {end}"));
        }
        match self.start {
            Some((_, residual)) if residual.len() != batch.tokens.len() * a.d_model => wrong(format!(
                "the residual to begin with has {} values; {} tokens of width {} have {}",
                residual.len(),
                batch.tokens.len(),
                a.d_model,
                batch.tokens.len() * a.d_model
            )),
            _ => Ok(start / 2..end / 2),
        }
    }

    /// How many sequences fit in memory beside the largest block's weights.
    fn fitting(&self, batch: &TokenBatch, keeps_output: bool) -> usize {
        let a = self.model.architecture();
        let weights = a.most(|layer| {
            let (attention, dense) = (layer.mixer.attention(), layer.feed_forward.dense());
            let hidden = dense.map_or(0, |dense| if dense.gated { 3 * dense.hidden } else { 2 * dense.hidden });
            let queries = attention.query_width() + attention.output_width();
            hidden.max(queries + attention.key_width() + attention.value_width())
        });
        let weights = weights * a.d_model * 4;
        // Layers that are computed in another way have weights of their own.
        let weights = weights * (1 + usize::from(self.linears.is_some()));
        let parallel = a.any(|layer| layer.residual == ResidualLayout::Parallel);
        let copies = 1 + usize::from(keeps_output) + usize::from(parallel) + usize::from(a.gates_read_embedding());
        let queries = 1 + usize::from(self.rotates_for_sinks());
        let of_layer = a.most(|layer| {
            let attention = layer.mixer.attention();
            let keys = attention.key_width() + attention.value_width();
            let entry = if attention.has_entry() { attention.heads } else { 0 };
            queries * attention.query_width() + keys + attention.gate_width() + entry
        });
        let hidden =
            if self.measures(batch.seq_len) { a.most(|layer| layer.feed_forward.down_inputs(a.d_model)) } else { 0 };
        let row = 4 * (copies * a.d_model + of_layer + hidden);
        let room = usize::try_from(self.memory).unwrap_or(usize::MAX).saturating_sub(weights);
        room / (row * batch.seq_len)
    }

    /// Whether queries are rotated apart, as if none stood beyond the end of the cache, to meet far sinks or what stands at no
    /// position.
    fn rotates_for_sinks(&self) -> bool {
        let a = self.model.architecture();
        let Some(window) = self.window.filter(|window| !window.original_positions) else { return false };
        a.any(|layer| {
            let attention = layer.mixer.attention();
            attention.rope().is_some() && (window.sinks > 0 || attention.key_value_bias)
        })
    }

    /// Whether inputs of linear layers are measured before they are multiplied.
    fn measures(&self, seq_len: usize) -> bool {
        seq_len > CHUNK_ROWS && self.linears.is_some_and(LinearEdit::measures)
    }

    /// Makes room for what a layer's attention and feed-forward block leave of every row.
    fn fit(&self, state: &mut State, layer: &Layer, rows: usize, seq_len: usize) {
        let attention = layer.mixer.attention();
        let fit = |values: &mut Vec<f32>, width: usize| values.resize(rows * width, 0.0);
        fit(&mut state.queries, attention.query_width());
        fit(&mut state.sink_queries, if self.rotates_for_sinks() { attention.query_width() } else { 0 });
        fit(&mut state.keys, attention.key_width());
        fit(&mut state.values, attention.value_width());
        fit(&mut state.gates, attention.gate_width());
        fit(&mut state.entry, if attention.has_entry() { attention.heads } else { 0 });
        let d_model = self.model.architecture().d_model;
        fit(&mut state.hidden, if self.measures(seq_len) { layer.feed_forward.down_inputs(d_model) } else { 0 });
    }

    /// Another way to compute a block's linear layers, if there is one.
    fn begin(&self, block: usize, linears: &[(Projection, &Linear<f32>)]) -> Option<Box<dyn LinearBlock + 'a>> {
        self.linears.filter(|edit| edit.wants(block)).map(|edit| edit.begin(block, linears))
    }
}

/// The state of a running pass.
struct Run<'a> {
    pass: &'a Pass<'a>,
    batch: &'a TokenBatch,
    ropes: RopeTables<f32>,
    scratch: ScratchPool,
    decoding: Duration,
    steps: (u64, u64),
}

impl Run<'_> {
    fn step(&mut self) {
        self.steps.0 += 1;
        if let Some(progress) = self.pass.progress {
            progress(self.steps.0, self.steps.1);
        }
    }

    fn decode<T>(&mut self, f: impl FnOnce(&Model) -> Result<T, ModelError>) -> Result<T, ModelError> {
        let start = Instant::now();
        let decoded = f(self.pass.model);
        self.decoding += start.elapsed();
        decoded
    }

    /// Pushes one group through the whole model.
    fn group(
        &mut self,
        sequences: Range<usize>,
        layers: Range<usize>,
        keeps_output: bool,
        with_head: bool,
        observers: &mut Observers<'_, '_>,
    ) -> Result<(), ModelError> {
        let a = self.pass.model.architecture();
        let tiles = tiles(sequences.clone(), self.batch.seq_len);
        let tokens = sequences.start * self.batch.seq_len..sequences.end * self.batch.seq_len;
        let rows = tokens.len();
        let mut state = State {
            residual: match self.pass.start {
                Some((_, residual)) => residual[tokens.start * a.d_model..tokens.end * a.d_model].to_vec(),
                None => embed(self.pass.model, &self.batch.tokens[tokens.clone()], 0..self.batch.seq_len)?,
            },
            output: vec![0.0; if keeps_output { rows * a.d_model } else { 0 }],
            layer_input: Vec::new(),
            queries: Vec::new(),
            sink_queries: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            gates: Vec::new(),
            entry: Vec::new(),
            embedding: if a.gates_read_embedding() {
                embed_tokens(self.pass.model, &self.batch.tokens[tokens])?
            } else {
                Vec::new()
            },
            hidden: Vec::new(),
        };
        let first = 2 * layers.start;
        let tasks = cut(&tiles, &mut state.residual, a.d_model).zip(&tiles).collect();
        observers.in_waves(tasks, |(residual, tile): (&mut [f32], &Tile), observer| {
            observer.edit_and_show(Point::Residual, &places(tile, first), residual);
        });
        self.done(first, &sequences, &state, observers);
        for layer in layers {
            let kind = a.layer(layer);
            if kind.residual == ResidualLayout::Parallel {
                state.layer_input.clone_from(&state.residual);
            } else {
                state.layer_input.clear();
            }
            self.pass.fit(&mut state, kind, rows, self.batch.seq_len);
            let mut block = self.decode(|model| model.attention_block(layer))?;
            if let Some(window) = &self.pass.window {
                block.group.window = Some(window.width_in(block.group.window));
            }
            let linears = self.pass.begin(2 * layer + 1, &block.linears());
            self.attention(layer, &block, linears.as_deref(), &tiles, &mut state, observers);
            if let Some(linears) = linears {
                linears.finish();
            }
            drop(block);
            self.done(2 * layer + 1, &sequences, &state, observers);
            self.step();
            let block = self.decode(|model| model.feed_forward_block(layer))?;
            let linears = self.pass.begin(2 * layer + 2, &block.linears());
            self.feed_forward(layer, &block, linears.as_deref(), &tiles, &mut state, observers);
            if let Some(linears) = linears {
                linears.finish();
            }
            drop(block);
            self.done(2 * layer + 2, &sequences, &state, observers);
            self.step();
        }
        if with_head {
            self.head(&tiles, state.residual, observers)?;
            self.step();
        }
        Ok(())
    }

    /// Rotates rows of one sequence, the first at `position`, as if none stood beyond the end of the cache.
    fn rotate_for_sinks(&self, layer: usize, table: &RopeTable<f32>, queries: &mut [f32], position: usize) {
        let a = self.pass.model.architecture().attention(layer);
        let Some(window) = self.pass.window else { return };
        let last = window.last_position(a.window);
        for (row, query) in queries.chunks_exact_mut(a.query_width()).enumerate() {
            table.rotate(query, a.heads, a.head_dim, (position + row).min(last));
        }
    }

    /// Shows whole blocks to the taps that want them.
    fn done(&self, block: usize, sequences: &Range<usize>, state: &State, observers: &mut Observers<'_, '_>) {
        observers.block_done(&BlockView {
            block,
            sequences: sequences.clone(),
            seq_len: self.batch.seq_len,
            d_model: self.pass.model.architecture().d_model,
            residual: &state.residual,
            // Nothing has been added yet where the pass begins.
            output: (block > self.pass.start.map_or(0, |(block, _)| block) && !state.output.is_empty())
                .then_some(&state.output),
        });
    }
}

/// The residual before the first block, of tokens whose positions run through `positions` again and again.
fn embed(model: &Model, ids: &[u32], positions: Range<usize>) -> Result<Vec<f32>, ModelError> {
    let d = model.architecture().d_model;
    let mut residual = embed_tokens(model, ids)?;
    let learned: Option<Vec<f32>> = model.positions(positions.end)?;
    if let Some(learned) = learned {
        residual.par_chunks_mut(d).enumerate().for_each(|(row, out)| {
            let at = (positions.start + row % positions.len()) * d;
            add(out, &learned[at..at + d]);
        });
    }
    Ok(residual)
}

/// The embedding of tokens, times its scale, without their positions: tokens x d_model.
///
/// # Errors
/// If a value is not finite.
pub fn embed_tokens(model: &Model, ids: &[u32]) -> Result<Vec<f32>, ModelError> {
    let a = model.architecture();
    let mut rows = vec![0.0; ids.len() * a.d_model];
    rows.par_chunks_mut(a.d_model).zip(ids).try_for_each(|(out, &id)| {
        out.copy_from_slice(&model.embedding::<f32>(id)?);
        if a.embedding_scale != 1.0 {
            scale(out, a.embedding_scale as f32);
        }
        Ok::<_, ModelError>(())
    })?;
    Ok(rows)
}

impl State {
    /// Cuts the state into one task a tile.
    fn tasks<'s>(&'s mut self, tiles: &'s [Tile], d_model: usize) -> Vec<Task<'s>> {
        let rows = self.residual.len() / d_model;
        let (query, key, value) = (self.queries.len() / rows, self.keys.len() / rows, self.values.len() / rows);
        let residual = cut(tiles, &mut self.residual, d_model);
        let queries = cut(tiles, &mut self.queries, query).zip(cut_optional(tiles, &mut self.sink_queries, query));
        let keys = cut(tiles, &mut self.keys, key);
        let values = cut(tiles, &mut self.values, value);
        let gates = self.gates.len() / rows;
        let entry = self.entry.len() / rows;
        let gates = cut_optional(tiles, &mut self.gates, gates).zip(cut_optional(tiles, &mut self.entry, entry));
        let embedding = &self.embedding;
        let rows = residual.zip(queries).zip(keys.zip(values)).zip(gates);
        tiles
            .iter()
            .zip(rows)
            .map(|(tile, (((residual, (queries, sink_queries)), (keys, values)), (gates, entry)))| Task {
                tile,
                residual,
                queries,
                sink_queries,
                keys,
                values,
                gates,
                entry,
                embedding: embedding
                    .get(tile.first_row() * d_model..(tile.first_row() + tile.rows) * d_model)
                    .unwrap_or_default(),
            })
            .collect()
    }
}

/// The rows of each tile.
fn cut<'s>(tiles: &'s [Tile], values: &'s mut [f32], width: usize) -> impl Iterator<Item = &'s mut [f32]> {
    let mut rest = values;
    tiles.iter().map(move |tile| {
        let (rows, after) = std::mem::take(&mut rest).split_at_mut(tile.rows * width);
        rest = after;
        rows
    })
}

/// The rows of each tile of a buffer that may be absent, which is empty then.
fn cut_optional<'s>(
    tiles: &'s [Tile],
    values: &'s mut [f32],
    width: usize,
) -> impl Iterator<Item = Option<&'s mut [f32]>> {
    let present = !values.is_empty();
    let width = if present { width } else { 0 };
    cut(tiles, values, width).map(move |rows| present.then_some(rows))
}

fn slice_rows<'s>(values: &'s mut [f32], rows: &Range<usize>, width: usize) -> &'s mut [f32] {
    &mut values[rows.start * width..rows.end * width]
}

/// Where a tile's chunks are.
fn places(tile: &Tile, block: usize) -> Vec<Place> {
    tile.chunks
        .iter()
        .map(|chunk| Place { block, sequence: chunk.sequence, position: chunk.position, rows: chunk.rows })
        .collect()
}
