//! One more token after a shared prefix, for many tokens: what a model makes of each.
//!
//! All sequences share everything but their last token, so the prefix is computed once, and of every candidate only its
//! own row. Without a prefix a candidate stands at position 0 and sees only itself: its attention weight is 1, so that
//! attention is the static map of eq. 22 and needs neither queries nor keys.

use std::ops::Range;

use rayon::prelude::*;
use sinkscope_kernels::rope::RopeTable;

use super::scratch::{ScratchPool, hidden};
use super::{embed, embed_tokens};
use crate::architecture::ResidualLayout;
use crate::blocks::{AttentionBlock, AttentionRows, FeedForwardBlock, RopeTables, TileContext, Unseen, read};
use crate::error::ModelError;
use crate::model::Model;
use crate::tap::Place;

/// Rows that a task computes at once.
const TILE_ROWS: usize = 256;

/// A prefix, and the candidates for the token after it.
pub struct Continuations<'a> {
    model: &'a Model,
    prefix: &'a [u32],
    memory: u64,
    progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
}

/// The candidates after one block.
#[derive(Debug, Clone)]
pub struct Step<'a> {
    /// Block, 0 for the embedding.
    pub block: usize,
    /// Which of the candidates these are.
    pub candidates: Range<usize>,
    /// Their residual after the block: candidates x d_model.
    pub residual: &'a [f32],
}

/// The rows of the prefix on their way through the model.
#[derive(Default)]
struct Prefix {
    residual: Vec<f32>,
    /// The tokens' embedding, if gates depend on it.
    embedding: Vec<f32>,
    rows: AttentionRows<f32>,
}

impl<'a> Continuations<'a> {
    /// Candidates stand at position `prefix.len()`; their residuals are kept within `memory` bytes, as far as one tile
    /// of candidates allows.
    pub fn new(model: &'a Model, prefix: &'a [u32], memory: u64) -> Self {
        Self { model, prefix, memory, progress: None }
    }

    /// Calls `progress(done, total)` after each block.
    #[must_use]
    pub fn with_progress(mut self, progress: &'a (dyn Fn(u64, u64) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Pushes the candidates through blocks 1 to `last`, group by group, and shows their residual after every block and
    /// before the first.
    ///
    /// # Errors
    /// If a token id lies beyond the vocabulary, the position is one that learned positions do not reach, `last` is not
    /// a block, or a weight is not finite.
    pub fn run(&self, candidates: &[u32], last: usize, visit: &mut dyn FnMut(&Step<'_>)) -> Result<(), ModelError> {
        let a = self.model.architecture();
        self.model.check_length(self.prefix.len() + 1)?;
        if last > a.blocks() {
            return Err(ModelError::Request(format!("block {last} does not exist: there are {}", a.blocks())));
        }
        if let Some(id) = self.prefix.iter().chain(candidates).find(|&&id| id as usize >= a.vocabulary) {
            let reason = format!("token id {id} lies beyond the vocabulary of {}", a.vocabulary);
            return Err(ModelError::Request(reason));
        }
        let ropes = RopeTables::new(a, self.prefix.len() + 1);
        let group = self.group_size();
        let total = candidates.len().div_ceil(group) * last;
        for (index, ids) in candidates.chunks(group).enumerate() {
            let first = index * group;
            let mut show = |block: usize, residual: &[f32]| {
                visit(&Step { block, candidates: first..first + ids.len(), residual });
                if let Some(progress) = self.progress {
                    progress((index * last + block) as u64, total as u64);
                }
            };
            self.group(ids, last, &ropes, &mut show)?;
        }
        Ok(())
    }

    /// How many candidates fit in memory.
    fn group_size(&self) -> usize {
        let a = self.model.architecture();
        let copies = 1 + usize::from(a.any(|layer| layer.residual == ResidualLayout::Parallel));
        let room = usize::try_from(self.memory).unwrap_or(usize::MAX) / (4 * copies * a.d_model);
        (room / TILE_ROWS).max(1) * TILE_ROWS
    }

    fn group(
        &self,
        ids: &[u32],
        last: usize,
        ropes: &RopeTables<f32>,
        show: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), ModelError> {
        let a = self.model.architecture();
        let length = self.prefix.len();
        let scratch = ScratchPool::default();
        let keeps_embedding = a.gates_read_embedding();
        let kept = |ids| if keeps_embedding { embed_tokens(self.model, ids) } else { Ok(Vec::new()) };
        let mut prefix = Prefix {
            embedding: kept(self.prefix)?,
            residual: embed(self.model, self.prefix, 0..length.max(1))?,
            ..Prefix::default()
        };
        let mut residual = embed(self.model, ids, length..length + 1)?;
        let embedding = kept(ids)?;
        show(0, &residual);
        // Of prefix and candidates before the layer, where both of its blocks read that.
        let mut inputs = None;
        for block in 1..=last {
            let layer = (block - 1) / 2;
            if block.is_multiple_of(2) {
                let feed_forward = self.model.feed_forward_block(layer)?;
                let (prefix_input, input): (Option<Vec<f32>>, Option<Vec<f32>>) = inputs.take().unzip();
                feed_forward_all(&feed_forward, prefix_input.as_deref(), a.d_model, &scratch, &mut prefix.residual);
                feed_forward_all(&feed_forward, input.as_deref(), a.d_model, &scratch, &mut residual);
            } else {
                let parallel = a.layer(layer).residual == ResidualLayout::Parallel;
                inputs = parallel.then(|| (prefix.residual.clone(), residual.clone()));
                let attention: AttentionBlock<f32> = self.model.attention_block(layer)?;
                let rope = ropes.of(layer);
                prefix.attend(&attention, rope);
                attend_all(&attention, rope, &prefix, &embedding, &scratch, &mut residual);
            }
            show(block, &residual);
        }
        Ok(())
    }
}

impl Prefix {
    /// Attention among the prefix's own rows; leaves its keys and values.
    fn attend(&mut self, block: &AttentionBlock<f32>, rope: Option<&RopeTable<f32>>) {
        let rows = self.residual.len() / block.output.outputs();
        if rows == 0 {
            return;
        }
        let places: Vec<Place> = (0..rows)
            .step_by(TILE_ROWS)
            .map(|position| Place { block: 0, sequence: 0, position, rows: TILE_ROWS.min(rows - position) })
            .collect();
        let context = TileContext { places: &places, rope, embedding: &self.embedding };
        let mut input = vec![0.0; self.residual.len()];
        read(block.input_norm.as_ref(), &self.residual, &mut input, &mut Unseen);
        self.rows.fit(block, rows);
        block.project(&context, &input, &self.residual, self.rows.projected(), &mut Unseen);
        let width = rows * block.output.inputs();
        let (mut heads, mut gated) = (vec![0.0; width], vec![0.0; width]);
        let sequence = |_: &Place| (&self.rows.keys[..], &self.rows.values[..]);
        let attending = self.rows.attending(block, 0..rows);
        let outputs = block.attend(&places, attending, sequence, (&mut heads, &mut gated), &mut Unseen);
        block.output(outputs, &mut input, &mut self.residual, None, &mut Unseen);
    }
}

/// Attention of every candidate to the prefix and itself.
fn attend_all(
    block: &AttentionBlock<f32>,
    rope: Option<&RopeTable<f32>>,
    prefix: &Prefix,
    embedding: &[f32],
    scratch: &ScratchPool,
    residual: &mut [f32],
) {
    let width = TILE_ROWS * block.output.outputs();
    residual.par_chunks_mut(width).enumerate().for_each(|(tile, residual)| {
        let first = tile * width;
        let embedding = embedding.get(first..first + residual.len()).unwrap_or_default();
        scratch.with(|scratch| {
            let input = scratch.input.fit(residual.len());
            read(block.input_norm.as_ref(), residual, input, &mut Unseen);
            let heads =
                block.attend_after((&prefix.rows.keys, &prefix.rows.values), (rope, embedding), input, residual);
            block.output(&heads, scratch.out.fit(residual.len()), residual, None, &mut Unseen);
        });
    });
}

/// The feed-forward block, on `input` if that is another residual.
fn feed_forward_all(
    block: &FeedForwardBlock<f32>,
    input: Option<&[f32]>,
    d_model: usize,
    scratch: &ScratchPool,
    residual: &mut [f32],
) {
    let width = TILE_ROWS * d_model;
    residual.par_chunks_mut(width).enumerate().for_each(|(tile, residual)| {
        let source = input.map(|input| &input[tile * width..tile * width + residual.len()]);
        let width = residual.len() / d_model * block.hidden();
        scratch.with(|scratch| {
            let gate = scratch.wide.fit(width);
            let buffers = (&mut scratch.input, &mut scratch.up);
            let hidden = hidden(block, source.unwrap_or(residual), gate, buffers, &mut Unseen);
            block.output(hidden, scratch.out.fit(residual.len()), residual, None, &mut Unseen);
        });
    });
}
