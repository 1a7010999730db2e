//! The activations of a group, and how they are cut into tiles.

use super::schedule::Tile;
use crate::blocks::{AttentionBlock, Projected};

/// The activations of a group. A buffer that nothing needs is empty.
#[derive(Debug, Default)]
pub(super) struct State {
    pub residual: Vec<f32>,
    /// What the block just added, if a tap wants whole blocks.
    pub output: Vec<f32>,
    /// The residual before the layer, for parallel blocks.
    pub layer_input: Vec<f32>,
    /// The tokens' embedding, if gates depend on it.
    pub embedding: Vec<f32>,
    /// What a block's last linear layer reads, if it is measured before it is multiplied.
    pub kept: Vec<f32>,
    pub attention: AttentionRows,
}

/// What a layer's attention has of every row.
#[derive(Debug, Default)]
pub(super) struct AttentionRows {
    pub queries: Vec<f32>,
    /// Queries as they meet far sinks, if they are rotated apart.
    pub far: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    pub gates: Vec<f32>,
    pub entry: Vec<f32>,
    /// Widths of a row's keys and values.
    widths: (usize, usize),
}

impl AttentionRows {
    /// Makes room for a block.
    pub fn fit(&mut self, block: &AttentionBlock<f32>, rows: usize, with_far: bool) {
        let fit = |values: &mut Vec<f32>, width: usize| values.resize(rows * width, 0.0);
        self.widths = (block.key.outputs(), block.value.outputs());
        fit(&mut self.queries, block.query.outputs());
        fit(&mut self.far, if with_far { block.query.outputs() } else { 0 });
        fit(&mut self.keys, self.widths.0);
        fit(&mut self.values, self.widths.1);
        fit(&mut self.gates, block.gate_width());
        fit(&mut self.entry, if block.has_entry() { block.heads() } else { 0 });
    }

    /// The rows of each tile. `last`: the last position at which queries meet far sinks.
    pub fn cut<'s>(
        &'s mut self,
        tiles: &'s [Tile],
        block: &AttentionBlock<f32>,
        last: usize,
    ) -> impl Iterator<Item = Projected<'s, f32>> {
        let entries = if block.has_entry() { block.heads() } else { 0 };
        let far = cut_optional(tiles, &mut self.far, block.query.outputs());
        cut(tiles, &mut self.queries, block.query.outputs())
            .zip(cut(tiles, &mut self.keys, self.widths.0).zip(cut(tiles, &mut self.values, self.widths.1)))
            .zip(cut(tiles, &mut self.gates, block.gate_width()).zip(cut(tiles, &mut self.entry, entries)))
            .zip(far)
            .map(move |(((queries, (keys, values)), (gates, entry)), far)| Projected {
                queries,
                keys,
                values,
                gates,
                entry,
                far: far.map(|far| (far, last)),
                raw: None,
            })
    }

    /// Keys and values of a sequence, by its place in the group, from its first position on.
    pub fn of_sequence(&self, index: usize, seq_len: usize) -> (&[f32], &[f32]) {
        let row = index * seq_len;
        (&self.keys[row * self.widths.0..], &self.values[row * self.widths.1..])
    }
}

/// The rows of each tile.
pub(super) fn cut<'s>(tiles: &'s [Tile], values: &'s mut [f32], width: usize) -> impl Iterator<Item = &'s mut [f32]> {
    let mut rest = values;
    tiles.iter().map(move |tile| {
        let (rows, after) = std::mem::take(&mut rest).split_at_mut(tile.rows * width);
        rest = after;
        rows
    })
}

/// The rows of each tile of a buffer that may be absent, which is empty then.
pub(super) fn cut_optional<'s>(
    tiles: &'s [Tile],
    values: &'s mut [f32],
    width: usize,
) -> impl Iterator<Item = Option<&'s mut [f32]>> {
    let present = !values.is_empty();
    let width = if present { width } else { 0 };
    cut(tiles, values, width).map(move |rows| present.then_some(rows))
}
