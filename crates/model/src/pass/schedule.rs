//! How a batch is cut: groups of sequences that fit in memory, tiles of rows that a task computes, places of one sequence
//! that an event covers.
//!
//! Which rows share a tile decides how matrix products are blocked, hence the last bits of results. So tiles depend on
//! the length of the sequences alone: a group holds whole tiles, wherever it begins.

use std::ops::Range;

use crate::tap::{CHUNK_ROWS, Place};

/// Most rows in a tile: enough that packing the weights for a product is a small part of it, few enough that a tile's
/// activations stay in cache.
pub(super) const TILE_ROWS: usize = 256;

/// The rows of one task: chunks of sequences, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tile {
    /// Chunks of at most [`CHUNK_ROWS`] rows, of no block yet.
    places: Vec<Place>,
    pub rows: usize,
    /// First row within the group.
    pub first_row: usize,
    /// Index in the batch of the group's first sequence.
    pub first_sequence: usize,
    /// Rows of the group.
    of_rows: usize,
}

impl Tile {
    /// Where the chunks are in a block.
    pub fn places(&self, block: usize) -> Vec<Place> {
        self.places.iter().map(|place| Place { block, ..*place }).collect()
    }

    /// The tile's rows of values that the group has of every row; nothing of nothing.
    pub fn of<'v>(&self, values: &'v [f32]) -> &'v [f32] {
        let width = values.len() / self.of_rows;
        &values[self.first_row * width..(self.first_row + self.rows) * width]
    }
}

/// Sequences that share a tile, or 1 if each has tiles of its own.
fn sequences_per_tile(seq_len: usize) -> usize {
    (TILE_ROWS / seq_len.max(1)).max(1)
}

/// Cuts `sequences` into groups of at most `fitting` sequences (at least one tile).
pub(super) fn groups(sequences: usize, seq_len: usize, fitting: usize) -> Vec<Range<usize>> {
    let unit = sequences_per_tile(seq_len);
    let size = (fitting / unit).max(1) * unit;
    (0..sequences).step_by(size).map(|start| start..(start + size).min(sequences)).collect()
}

/// The tiles of a group, in row order.
pub(super) fn tiles(group: Range<usize>, seq_len: usize) -> Vec<Tile> {
    let per_tile = sequences_per_tile(seq_len);
    let (first_sequence, of_rows) = (group.start, group.len() * seq_len);
    let mut tiles: Vec<Tile> = Vec::new();
    let mut first_row = 0;
    for (sequence, position) in
        group.flat_map(|sequence| (0..seq_len).step_by(CHUNK_ROWS).map(move |at| (sequence, at)))
    {
        let place = Place { block: 0, sequence, position, rows: CHUNK_ROWS.min(seq_len - position) };
        match tiles.last_mut() {
            Some(tile) if per_tile > 1 && tile.places.len() < per_tile => {
                tile.rows += place.rows;
                tile.places.push(place);
            }
            _ => tiles.push(Tile { places: vec![place], rows: place.rows, first_row, first_sequence, of_rows }),
        }
        first_row += place.rows;
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_row_once_and_in_order() {
        for (sequences, seq_len) in [(1, 1), (7, 64), (3, 300), (5, 100), (2, 256), (1, 1000)] {
            let mut row = 0;
            for tile in tiles(0..sequences, seq_len) {
                assert_eq!(tile.first_row, row);
                assert!(tile.rows <= TILE_ROWS);
                for place in tile.places(3) {
                    assert_eq!((place.block, place.sequence, place.position), (3, row / seq_len, row % seq_len));
                    row += place.rows;
                }
            }
            assert_eq!(row, sequences * seq_len);
        }
    }

    #[test]
    fn a_sequence_is_tiled_alike_in_any_grouping() {
        let shape = |tiles: Vec<Tile>| -> Vec<Vec<(usize, usize, usize)>> {
            tiles.iter().map(|t| t.places.iter().map(|c| (c.sequence, c.position, c.rows)).collect()).collect()
        };
        for seq_len in [20, 64, 100, 256, 300] {
            let whole = shape(tiles(0..23, seq_len));
            for fitting in [1, 2, 5, 12, 13, 100] {
                let parts: Vec<_> =
                    groups(23, seq_len, fitting).into_iter().flat_map(|group| shape(tiles(group, seq_len))).collect();
                assert_eq!(parts, whole, "{seq_len} {fitting}");
            }
        }
    }
}
