//! A key-value cache whose entries are quantised.

use sinkscope_kernels::quantise::{Grid, largest_magnitude, quantise};
use sinkscope_model::edit::Edit;
use sinkscope_model::tap::{Place, Point};

/// Quantises keys, after rotation, and values: one scale per token and head.
#[derive(Debug)]
pub struct CacheEdit {
    /// The points that entries go to.
    pub grid: Grid,
    /// Width of a head.
    pub head_dim: usize,
    /// Which attention blocks.
    pub blocks: Vec<usize>,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// By token of the batch, whether its entries stay as they are.
    pub kept: Vec<bool>,
}

impl CacheEdit {
    /// Of heads of width `head_dim` in these blocks, except for the tokens kept.
    pub fn new(grid: Grid, head_dim: usize, blocks: Vec<usize>, seq_len: usize, kept: Vec<bool>) -> Self {
        Self { grid, head_dim, blocks, seq_len, kept }
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
        for (row, values) in values.chunks_exact_mut(width).enumerate() {
            let position = place.position + row;
            if self.kept[place.sequence * self.seq_len + position] {
                continue;
            }
            for head in values.chunks_exact_mut(self.head_dim) {
                // An entry that is not finite has no scale: it stays as it is, and so does not get lost.
                if let Some(largest) = largest_magnitude(head) {
                    quantise(head, self.grid.scale(largest), self.grid);
                }
            }
        }
    }
}
