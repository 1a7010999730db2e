//! A key-value cache whose entries are quantised.

use sinkscope_kernels::quantise::{Grid, largest_magnitude, quantise};
use sinkscope_model::edit::Edit;
use sinkscope_model::tap::{Place, Point};

/// Quantises keys, after rotation, and values: one scale per token and head.
#[derive(Debug)]
pub struct CacheEdit {
    /// The points that entries go to.
    pub grid: Grid,
    /// By layer, how many heads keys and values have.
    pub kv_heads: Vec<usize>,
    /// Which attention blocks.
    pub blocks: Vec<usize>,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// By token of the batch, whether its entries stay as they are.
    pub kept: Vec<bool>,
}

impl CacheEdit {
    /// Of `kv_heads`, by layer, in these blocks, except for the tokens kept.
    pub fn new(grid: Grid, kv_heads: Vec<usize>, blocks: Vec<usize>, seq_len: usize, kept: Vec<bool>) -> Self {
        Self { grid, kv_heads, blocks, seq_len, kept }
    }

    /// Tokens whose entries stay as they are.
    pub fn kept_tokens(&self) -> usize {
        self.kept.iter().filter(|kept| **kept).count()
    }
}

impl Edit for CacheEdit {
    fn wants(&self, point: Point, block: usize) -> bool {
        matches!(point, Point::Key | Point::Value) && self.blocks.contains(&block)
    }

    fn apply(&self, _point: Point, place: &Place, values: &mut [f32]) {
        let width = values.len() / place.rows;
        let head_width = width / self.kv_heads[place.block / 2];
        for (row, values) in values.chunks_exact_mut(width).enumerate() {
            let position = place.position + row;
            if self.kept[place.sequence * self.seq_len + position] {
                continue;
            }
            for head in values.chunks_exact_mut(head_width) {
                // An entry that is not finite has no scale: it stays as it is, and so does not get lost.
                if let Some(largest) = largest_magnitude(head) {
                    quantise(head, self.grid.scale(largest), self.grid);
                }
            }
        }
    }
}
