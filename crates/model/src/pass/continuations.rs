//! One more token after a shared prefix, for many tokens: what a model makes of each.
//!
//! All sequences share everything but their last token, so the prefix is computed once, and of every candidate only its
//! own row. Without a prefix a candidate stands at position 0 and sees only itself: its attention weight is 1, so that
//! attention is the static map of eq. 22 and needs neither queries nor keys.

use std::ops::Range;

use rayon::prelude::*;
use sinkscope_kernels::rope::RopeTable;
use sinkscope_kernels::simd::add;

use super::scratch::ScratchPool;
use super::{embed, embed_tokens};
use crate::architecture::{Architecture, ResidualLayout};
use crate::blocks::{AttendOptions, AttentionBlock, FeedForwardBlock, Norm, RopeTables, multiply};
use crate::error::ModelError;
use crate::model::Model;

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
struct Prefix {
    residual: Vec<f32>,
    /// The tokens' embedding, if gates depend on it.
    embedding: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
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
            keys: Vec::new(),
            values: Vec::new(),
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
                feed_forward_all(&feed_forward, prefix_input.as_deref(), a, &scratch, &mut prefix.residual);
                feed_forward_all(&feed_forward, input.as_deref(), a, &scratch, &mut residual);
            } else {
                let parallel = a.layer(layer).residual == ResidualLayout::Parallel;
                inputs = parallel.then(|| (prefix.residual.clone(), residual.clone()));
                let attention: AttentionBlock<f32> = self.model.attention_block(layer)?;
                let rope = ropes.of(layer);
                prefix.attend(&attention, rope, &scratch);
                attend_all(&attention, rope, &prefix, &embedding, &scratch, &mut residual);
            }
            show(block, &residual);
        }
        Ok(())
    }
}

impl Prefix {
    /// Attention among the prefix's own rows; leaves its keys and values.
    fn attend(&mut self, block: &AttentionBlock<f32>, rope: Option<&RopeTable<f32>>, scratch: &ScratchPool) {
        let rows = self.residual.len() / block.output.outputs();
        self.keys.resize(rows * block.key.outputs(), 0.0);
        self.values.resize(rows * block.value.outputs(), 0.0);
        if rows == 0 {
            return;
        }
        scratch.with(|scratch| {
            let mut queries = vec![0.0; rows * block.query.outputs()];
            let input = scratch.normalised(block.input_norm.as_ref(), &self.residual);
            block.project(input, &self.residual, &mut queries, &mut self.keys, &mut self.values);
            if let Some(table) = rope {
                block.rotate(table, &mut queries, &mut self.keys, 0);
            }
            let entry = block.entry_scores(&queries);
            let gates = block.gate.as_ref().map(|gate| {
                let mut gates = vec![0.0; rows * gate.weight.outputs()];
                gate.project(&mut gates, input, &self.embedding, 0);
                (gate, gates)
            });
            let (heads, out) = scratch.heads_and_output(rows * block.output.inputs(), self.residual.len());
            let entries = entry.len() / rows;
            for first in (0..rows).step_by(TILE_ROWS) {
                let count = TILE_ROWS.min(rows - first);
                let own = |width: usize| first * width..(first + count) * width;
                let (queries, heads) = (&queries[own(block.query.outputs())], &mut heads[own(block.output.inputs())]);
                let entry = &entry[own(entries)];
                let options = AttendOptions { entry, ..AttendOptions::default() };
                block.attend(count, first, queries, &self.keys, &self.values, heads, &options);
            }
            if let Some((gate, gates)) = gates {
                gate.apply_in_place(heads, &gates, block.group.head_dim);
            }
            block.project_output(heads, out);
            finish(&mut self.residual, out, block.residual_norm());
        });
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
    let (d, query_width, key_width) = (block.output.outputs(), block.query.outputs(), block.key.outputs());
    let position = prefix.keys.len() / key_width;
    residual.par_chunks_mut(TILE_ROWS * d).enumerate().for_each(|(tile, residual)| {
        let rows = residual.len() / d;
        let first = tile * TILE_ROWS * d;
        let embedding = embedding.get(first..first + residual.len()).unwrap_or_default();
        scratch.with(|scratch| {
            let input = scratch.normalised(block.input_norm.as_ref(), residual).to_vec();
            let (heads, out) = scratch.heads_and_output(rows * query_width, residual.len());
            if position == 0 {
                block.attend_first(&input, residual, embedding, rope, heads);
                block.project_output(heads, out);
                finish(residual, out, block.residual_norm());
                return;
            }
            let mut values = vec![0.0; rows * key_width];
            let (mut queries, mut keys) = (vec![0.0; rows * query_width], vec![0.0; rows * key_width]);
            block.project(&input, residual, &mut queries, &mut keys, &mut values);
            // The prefix, and behind it the candidate of the moment.
            let mut all_keys = [&prefix.keys[..], &vec![0.0; key_width]].concat();
            let mut all_values = [&prefix.values[..], &vec![0.0; key_width]].concat();
            for row in 0..rows {
                let query = &mut queries[row * query_width..(row + 1) * query_width];
                let own = row * key_width..(row + 1) * key_width;
                if let Some(table) = rope {
                    block.rotate(table, query, &mut keys[own.clone()], position);
                }
                let entry = block.entry_scores(query);
                all_keys[position * key_width..].copy_from_slice(&keys[own.clone()]);
                all_values[position * key_width..].copy_from_slice(&values[own]);
                let heads = &mut heads[row * query_width..(row + 1) * query_width];
                let options = AttendOptions { entry: &entry, ..AttendOptions::default() };
                block.attend(1, position, query, &all_keys, &all_values, heads, &options);
            }
            if let Some(gate) = &block.gate {
                let mut gates = vec![0.0; rows * gate.weight.outputs()];
                gate.project_at(&mut gates, &input, embedding, position);
                gate.apply_in_place(heads, &gates, block.group.head_dim);
            }
            block.project_output(heads, out);
            finish(residual, out, block.residual_norm());
        });
    });
}

/// Adds what a block computed to the residual.
fn finish(residual: &mut [f32], out: &[f32], norm: Option<&Norm<f32>>) {
    add(residual, out);
    if let Some(norm) = norm {
        norm.forward_in_place(residual);
    }
}

/// The feed-forward block, on `input` if that is another residual.
fn feed_forward_all(
    block: &FeedForwardBlock<f32>,
    input: Option<&[f32]>,
    a: &Architecture,
    scratch: &ScratchPool,
    residual: &mut [f32],
) {
    let width = TILE_ROWS * a.d_model;
    residual.par_chunks_mut(width).enumerate().for_each(|(tile, residual)| {
        let source = input.map(|input| &input[tile * width..tile * width + residual.len()]);
        scratch.with(|scratch| {
            scratch.normalised(block.input_norm.as_ref(), source.unwrap_or(residual));
            let rows = residual.len() / a.d_model;
            let (input, gate, up) = scratch.feed_forward(rows * block.hidden(), block.up.is_some());
            block.project(input, gate, up);
            block.activate(gate, up);
            let (hidden, out) = scratch.hidden_and_output(residual.len());
            block.project_hidden_by(hidden, out, multiply);
            finish(residual, out, block.residual_norm());
        });
    });
}
