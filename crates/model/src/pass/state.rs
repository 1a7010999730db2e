//! The activations of a group, and how they are cut into tiles.

use super::schedule::Tile;
use crate::blocks::{AttentionBlock, AttentionRows, Projected};

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
    /// What the layer's attention has of every row.
    pub attention: AttentionRows<f32>,
}

/// The rows of each tile, to be filled. `last`: the last position at which queries meet far sinks.
pub(super) fn cut_rows<'s>(
    rows: &'s mut AttentionRows<f32>,
    tiles: &'s [Tile],
    block: &AttentionBlock<f32>,
    last: usize,
) -> impl Iterator<Item = Projected<'s, f32>> {
    let (query, key, value) = (block.query.outputs(), block.key.outputs(), block.value.outputs());
    cut(tiles, &mut rows.queries, query)
        .zip(cut_optional(tiles, &mut rows.far, query))
        .zip(cut(tiles, &mut rows.keys, key).zip(cut(tiles, &mut rows.values, value)))
        .zip(cut(tiles, &mut rows.gates, block.gate_width()).zip(cut(tiles, &mut rows.entry, block.entries())))
        .map(move |(((queries, far), (keys, values)), (gates, entry))| {
            let far = far.map(|far| (far, last));
            Projected { queries, keys, values, gates, entry, far, raw: None }
        })
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
