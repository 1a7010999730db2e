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
mod state;

use std::ops::Range;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use sinkscope_kernels::simd::{add, scale};

pub use continuations::{Continuations, Step};
pub use observers::ErasedTap;

use self::blocks::InGroup;
use self::observers::Observers;
use self::schedule::{TILE_ROWS, Tile, groups, tiles};
use self::scratch::ScratchPool;
use self::state::{State, cut};
use crate::architecture::{Layer, ResidualLayout};
use crate::blocks::{Projection, RopeTables};
use crate::edit::{Edit, LinearBlock, LinearEdit};
use crate::error::ModelError;
use crate::linear::Linear;
use crate::model::Model;
use crate::tap::{BlockView, CHUNK_ROWS, Point};
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
        let queries = 1 + usize::from(self.window.is_some());
        let of_layer = a.most(|layer| {
            let attention = layer.mixer.attention();
            let keys = attention.key_width() + attention.value_width();
            queries * attention.query_width() + keys + attention.gate_width() + attention.heads
        });
        let read_last =
            |layer: &Layer| layer.feed_forward.down_inputs(a.d_model).max(layer.mixer.attention().output_width());
        let kept = if self.measures(batch.seq_len) { a.most(read_last) } else { 0 };
        let row = 4 * (copies * a.d_model + of_layer + kept);
        // Of every thread, the buffers of one tile.
        let of_tile = 2 * a.d_model + 2 * a.most(read_last);
        let scratch = 4 * TILE_ROWS * of_tile * rayon::current_num_threads();
        let room = usize::try_from(self.memory).unwrap_or(usize::MAX).saturating_sub(weights + scratch);
        room / (row * batch.seq_len)
    }

    /// Whether inputs of linear layers are measured before they are multiplied.
    fn measures(&self, seq_len: usize) -> bool {
        seq_len > CHUNK_ROWS && self.linears.is_some_and(LinearEdit::measures)
    }

    /// Another way to compute a block's linear layers, if there is one.
    fn begin(&self, block: usize, linears: &[(Projection, &Linear<f32>)]) -> Option<Box<dyn LinearBlock + 'a>> {
        let wanted = |edit: &&dyn LinearEdit| !linears.is_empty() && edit.wants(block);
        self.linears.filter(wanted).map(|edit| edit.begin(block, linears))
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
            embedding: if a.gates_read_embedding() {
                embed_tokens(self.pass.model, &self.batch.tokens[tokens])?
            } else {
                Vec::new()
            },
            ..State::default()
        };
        let first = 2 * layers.start;
        let measures = self.pass.measures(self.batch.seq_len);
        let tasks = cut(&tiles, &mut state.residual, a.d_model).zip(&tiles).collect();
        observers.in_waves(tasks, |(residual, tile): (&mut [f32], &Tile), observer| {
            observer.edit_and_show(Point::Residual, &tile.places(first), residual);
        });
        self.done(first, &sequences, &state, observers);
        for layer in layers {
            let kind = a.layer(layer);
            state.layer_input.clear();
            if kind.residual == ResidualLayout::Parallel {
                state.layer_input.extend_from_slice(&state.residual);
            }
            let mut block = self.decode(|model| model.attention_block(layer))?;
            if let Some(window) = &self.pass.window {
                block.group.window = Some(window.width_in(block.group.window));
            }
            state.attention.fit(&block, rows);
            let moved = self.pass.window.filter(|window| !window.original_positions);
            if moved.is_some_and(|window| window.sinks > 0 || block.key_value_bias.is_some()) {
                state.attention.far.fit(rows * block.query.outputs());
            }
            state.kept.resize(if measures { rows * block.output.inputs() } else { 0 }, 0.0);
            self.in_group(2 * layer + 1, &tiles, &block.linears(), |run, group| {
                run.attention(layer, &block, group, &mut state, observers);
            });
            drop(block);
            self.done(2 * layer + 1, &sequences, &state, observers);
            self.step();
            let block = self.decode(|model| model.feed_forward_block(layer))?;
            state.kept.resize(if measures { rows * block.hidden() } else { 0 }, 0.0);
            self.in_group(2 * layer + 2, &tiles, &block.linears(), |run, group| {
                run.feed_forward(&block, group, &mut state, observers);
            });
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

    /// Runs a block of a group, its linear layers computed in another way if there is one.
    fn in_group(
        &self,
        number: usize,
        tiles: &[Tile],
        linears: &[(Projection, &Linear<f32>)],
        run: impl FnOnce(&Self, &InGroup<'_>),
    ) {
        let linears = self.pass.begin(number, linears);
        run(self, &InGroup { number, tiles, linears: linears.as_deref() });
        if let Some(linears) = linears {
            linears.finish();
        }
    }

    /// The last position at which queries of a layer meet far sinks and what stands at no position.
    fn last_far_position(&self, layer: usize) -> usize {
        let own = self.pass.model.architecture().attention(layer).window;
        self.pass.window.map_or(usize::MAX, |window| window.last_position(own))
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
    let mut rows = model.embeddings(ids)?;
    if a.embedding_scale != 1.0 {
        rows.par_chunks_mut(a.d_model).for_each(|row| scale(row, a.embedding_scale as f32));
    }
    Ok(rows)
}
