//! The text itself, token by token: how far each one's residual reaches, and how much attention it receives from every
//! head. It is for a page that a reader looks at, so it holds the first sequences only, as many as fit.
//!
//! # Memory
//!
//! 8 bytes per token shown, layer and head: at most 8 MiB, but for models of more than a million heads.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};

use crate::magnitude::{largest_of_row, magnitude_bits};
use crate::received::Received;
use crate::tokens::Tokens;

/// Most tokens shown.
pub const MOST_TOKENS: usize = 1024;
/// Most values of alpha: tokens shown x layers x heads.
pub const MOST_VALUES: usize = 1 << 20;
/// How a byte of `received` is read.
pub const SCALE: &str = "alpha = (q / 255)^2";

/// The first sequences of the text: whole ones, or the first positions of the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenPage {
    /// How many sequences are shown.
    pub sequences: usize,
    /// How many positions of each: all of them, unless the first sequence alone is too long.
    pub positions: usize,
    /// Layers of the model.
    pub layers: usize,
    /// Query heads per layer.
    pub heads: usize,
    /// sequences x positions, in this order.
    pub tokens: Vec<ShownToken>,
    /// sequences x positions x layers x heads, the head fastest: the `alpha_k = (1/T) sum_t A[t, k]` of eq. 27, with T and
    /// all queries of the whole sequence. One unsigned byte q a value, `255 sqrt(alpha)` rounded to the nearest, so that
    /// `alpha = (q / 255)^2`; the bytes in base64, standard alphabet, padded.
    pub received: String,
    /// How a byte q of `received` is read: [`SCALE`].
    pub scale: String,
}

/// A token, and the entry of its residual that has the largest magnitude over all blocks from 1 on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShownToken {
    /// Sequence.
    pub sequence: usize,
    /// Position.
    pub position: usize,
    /// Token id.
    pub id: u32,
    /// Token text (empty if no tokeniser is at hand).
    pub text: String,
    /// That entry, sign kept.
    pub largest: f32,
    /// The block after which it stands there; of equals the first.
    pub block: usize,
    /// Its channel; of equals the lowest.
    pub channel: usize,
}

/// Watches the first sequences of a batch.
#[derive(Debug)]
pub struct TokenPageTap {
    layers: usize,
    heads: usize,
    seq_len: usize,
    sequences: usize,
    positions: usize,
    /// By token shown.
    largest: Vec<Entry>,
    /// (layers x heads) x tokens shown.
    received: Received,
}

/// An entry of the residual.
#[derive(Debug, Clone, Copy)]
struct Entry {
    value: f32,
    block: usize,
    channel: usize,
}

/// What a chunk shows of the tokens on the page.
#[derive(Debug)]
pub enum ShownChunk {
    /// Each row's entry of largest magnitude, and its channel.
    Largest(Vec<(f32, usize)>),
    /// heads x keys.
    Received(Received<f32>),
}

impl TokenPageTap {
    /// For a model of `layers` layers with `heads` query heads each, and a batch of `sequences` sequences of `seq_len`
    /// tokens.
    pub fn new(layers: usize, heads: usize, sequences: usize, seq_len: usize) -> Self {
        let fitting = (MOST_VALUES / (layers * heads).max(1)).clamp(1, MOST_TOKENS);
        let positions = seq_len.min(fitting);
        let sequences = (fitting / positions.max(1)).clamp(1, sequences.max(1));
        let tokens = sequences * positions;
        Self {
            layers,
            heads,
            seq_len,
            sequences,
            positions,
            largest: vec![Entry { value: 0.0, block: 1, channel: 0 }; tokens],
            received: Received::new(layers * heads, tokens),
        }
    }

    /// The page.
    pub fn finish(self, tokens: Tokens<'_>) -> TokenPage {
        let shown = self.largest.iter().enumerate().map(|(index, largest)| {
            let (sequence, position) = (index / self.positions, index % self.positions);
            let token = sequence * self.seq_len + position;
            ShownToken {
                sequence,
                position,
                id: tokens.id(token),
                text: tokens.text(token),
                largest: largest.value,
                block: largest.block,
                channel: largest.channel,
            }
        });
        let of_token = |token: usize| self.received.rows().map(move |row| coded(row[token] / self.seq_len as f64));
        let bytes: Vec<u8> = (0..self.largest.len()).flat_map(of_token).collect();
        TokenPage {
            sequences: self.sequences,
            positions: self.positions,
            layers: self.layers,
            heads: self.heads,
            tokens: shown.collect(),
            received: STANDARD.encode(bytes),
            scale: SCALE.to_owned(),
        }
    }
}

/// q, with `alpha = (q / 255)^2`.
fn coded(alpha: f64) -> u8 {
    (255.0 * alpha.sqrt()).round() as u8
}

impl Tap for TokenPageTap {
    type Partial = Option<ShownChunk>;

    fn wants(&self, point: Point, block: usize) -> bool {
        let inside = (1..=2 * self.layers).contains(&block);
        inside && (point == Point::Residual || point == Point::Attention && block % 2 == 1)
    }

    fn observe(&self, event: &Event<'_>) -> Option<ShownChunk> {
        let Place { sequence, position, rows, .. } = event.place;
        if sequence >= self.sequences {
            return None;
        }
        match event.data {
            EventData::Rows(values) if position < self.positions => {
                let rows = values.chunks_exact(values.len() / rows).take(self.positions - position);
                Some(ShownChunk::Largest(rows.map(largest_of_row).collect()))
            }
            EventData::Attention(scan) => Some(ShownChunk::Received(Received::by_head(&scan, self.positions))),
            _ => None,
        }
    }

    fn merge(&mut self, _point: Point, place: &Place, partial: Option<ShownChunk>) {
        let first = place.sequence * self.positions;
        match partial {
            Some(ShownChunk::Largest(rows)) => {
                for (largest, (value, channel)) in self.largest[first + place.position..].iter_mut().zip(rows) {
                    if magnitude_bits(value) > magnitude_bits(largest.value) {
                        *largest = Entry { value, block: place.block, channel };
                    }
                }
            }
            Some(ShownChunk::Received(chunk)) => self.received.add((place.block - 1) / 2 * self.heads, first, &chunk),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_sequences_as_fit_and_at_least_some_of_the_first() {
        let shape = |layers, heads, sequences, seq_len| {
            let tap = TokenPageTap::new(layers, heads, sequences, seq_len);
            (tap.sequences, tap.positions)
        };
        assert_eq!(shape(30, 9, 64, 64), (16, 64));
        assert_eq!(shape(30, 9, 3, 64), (3, 64));
        assert_eq!(shape(30, 9, 64, 600), (1, 600));
        assert_eq!(shape(2, 4, 3, 4096), (1, 1024));
        // 32 layers of 64 heads leave 512 tokens.
        assert_eq!(shape(32, 64, 10, 200), (2, 200));
        assert_eq!(shape(32, 64, 10, 513), (1, 512));
        assert_eq!(shape(2048, 1024, 10, 513), (1, 1));
    }

    #[test]
    fn bytes_are_the_nearest_root() {
        assert_eq!([0.0, 1.0, 1.1, 0.25].map(coded), [0, 255, 255, 128]);
        for q in 0..=255_u8 {
            let root = f64::from(q) / 255.0;
            assert_eq!(coded(root * root), q);
            assert_eq!(coded((root + 0.4 / 255.0).powi(2)), q);
        }
    }
}
