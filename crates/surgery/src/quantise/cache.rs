//! A key-value cache whose entries are quantised.

use sinkscope_kernels::quantise::{Grid, largest_magnitude, quantise, quantise_columns, raise_column_magnitudes};
use sinkscope_model::edit::Edit;
use sinkscope_model::tap::{Place, Point};

use crate::definitions::CHANNEL_TOKENS;

/// What becomes of keys, or of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheFormat {
    /// The points that they go to.
    pub grid: Grid,
    /// Whether the tokens of a run share a scale in each channel (Liu et al. 2024, arXiv 2402.02750). Otherwise the channels of
    /// a token share one in each head.
    pub by_channel: bool,
}

impl CacheFormat {
    /// The names, as messages show them.
    pub const NAMES: &str = "int8, int4, int3, int2, fp8-e4m3, fp8-e5m2, each also with -channel";

    /// The formats of keys and of values, which stay if they have none: `int4`, `k:int4-channel,v:int8`, `k:int2`.
    pub fn parse(typed: &str) -> Option<(Option<Self>, Option<Self>)> {
        let (mut keys, mut values) = (None, None);
        if !typed.contains(':') {
            let both = Self::one(typed)?;
            return Some((Some(both), Some(both)));
        }
        for part in typed.split(',') {
            let (of, format) = part.split_once(':')?;
            let side = match of {
                "k" => &mut keys,
                "v" => &mut values,
                _ => return None,
            };
            if side.replace(Self::one(format)?).is_some() {
                return None;
            }
        }
        Some((keys, values))
    }

    fn one(name: &str) -> Option<Self> {
        let (format, by_channel) = name.strip_suffix("-channel").map_or((name, false), |format| (format, true));
        let grid = match format {
            "int8" => Grid::Integer { bits: 8 },
            "int4" => Grid::Integer { bits: 4 },
            "int3" => Grid::Integer { bits: 3 },
            "int2" => Grid::Integer { bits: 2 },
            "fp8-e4m3" => Grid::E4m3,
            "fp8-e5m2" => Grid::E5m2,
            _ => return None,
        };
        Some(Self { grid, by_channel })
    }
}

/// Quantises keys, after rotation, and values.
#[derive(Debug)]
pub struct CacheEdit {
    /// Of keys; they stay if `None`.
    pub keys: Option<CacheFormat>,
    /// Of values.
    pub values: Option<CacheFormat>,
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
    /// Tokens whose entries stay as they are.
    pub fn kept_tokens(&self) -> usize {
        self.kept.iter().filter(|kept| **kept).count()
    }

    fn format(&self, point: Point) -> Option<CacheFormat> {
        match point {
            Point::Key => self.keys,
            Point::Value => self.values,
            _ => None,
        }
    }

    /// Whether a row stays as it is: it is kept, or is not finite and so has no scale, and does not get lost.
    fn stays(&self, place: &Place, row: usize, values: &[f32]) -> bool {
        self.kept[place.sequence * self.seq_len + place.position + row] || largest_magnitude(values).is_none()
    }
}

/// One scale for the channels of a head.
fn quantise_head(head: &mut [f32], grid: Grid) {
    // An entry that is not finite has no scale: it stays as it is, and so does not get lost.
    if let Some(largest) = largest_magnitude(head) {
        quantise(head, grid.scale(largest), grid);
    }
}

impl Edit for CacheEdit {
    fn wants(&self, point: Point, block: usize) -> bool {
        self.format(point).is_some() && self.blocks.contains(&block)
    }

    fn apply(&self, point: Point, place: &Place, values: &mut [f32]) {
        let Some(CacheFormat { grid, by_channel }) = self.format(point) else { return };
        let width = values.len() / place.rows;
        if by_channel {
            // Pieces of long sequences begin where runs do.
            for (run, values) in values.chunks_mut(CHANNEL_TOKENS * width).enumerate() {
                let first = run * CHANNEL_TOKENS;
                let mut largest = vec![0.0; width];
                for (row, values) in values.chunks_exact(width).enumerate() {
                    if !self.stays(place, first + row, values) {
                        raise_column_magnitudes(&mut largest, values);
                    }
                }
                let scales: Vec<f32> = largest.into_iter().map(|largest| grid.scale(largest)).collect();
                for (row, values) in values.chunks_exact_mut(width).enumerate() {
                    if !self.stays(place, first + row, values) {
                        quantise_columns(values, &scales, grid);
                    }
                }
            }
            return;
        }
        let head_width = width / self.kv_heads[place.block / 2];
        for (row, values) in values.chunks_exact_mut(width).enumerate() {
            if !self.kept[place.sequence * self.seq_len + place.position + row] {
                values.chunks_exact_mut(head_width).for_each(|head| quantise_head(head, grid));
            }
        }
    }
}
