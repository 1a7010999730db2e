//! A tap that keeps everything: only for models and batches as small as these.

use crate::architecture::Architecture;
use crate::tap::{Event, EventData, Place, Point, Tap};
use sinkscope_sources::data::TokenBatch;

/// What a pass showed, in the layout of the fixtures.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    seq_len: usize,
    heads: usize,
    vocabulary: usize,
    /// By block, from 0: N x T x d_model.
    pub residual: Vec<Vec<f32>>,
    /// N x T x vocabulary.
    pub logits: Vec<f32>,
    /// By layer: N x heads x T, attention received by each key divided by T.
    pub alpha: Vec<Vec<f32>>,
    /// By layer: N x heads x T, of each query.
    pub entropy: Vec<Vec<f32>>,
    /// As `entropy`.
    pub to_self: Vec<Vec<f32>>,
    /// As `entropy`.
    pub to_first: Vec<Vec<f32>>,
    /// N x (T - 1).
    pub nll: Vec<f32>,
}

/// The content of an event.
#[derive(Debug)]
pub enum Seen {
    Rows(Vec<f32>),
    Attention { keys: usize, received: Vec<f32>, entropy: Vec<f32>, to_self: Vec<f32>, to_first: Vec<f32> },
    Logits { start: usize, end: usize, values: Vec<f32> },
}

impl Recording {
    pub fn new(a: &Architecture, batch: &TokenBatch) -> Self {
        let rows = batch.tokens.len();
        let per_layer = || vec![vec![0.0; a.most_heads() * rows]; a.layer_count()];
        Self {
            seq_len: batch.seq_len,
            heads: a.most_heads(),
            vocabulary: a.vocabulary,
            residual: vec![vec![0.0; rows * a.d_model]; a.blocks() + 1],
            logits: vec![0.0; rows * a.vocabulary],
            alpha: per_layer(),
            entropy: per_layer(),
            to_self: per_layer(),
            to_first: per_layer(),
            nll: Vec::new(),
        }
    }
}

impl Tap for Recording {
    type Partial = Seen;

    fn wants(&self, point: Point, _block: usize) -> bool {
        matches!(point, Point::Residual | Point::Attention | Point::Logits | Point::Prediction)
    }

    fn observe(&self, event: &Event<'_>) -> Seen {
        match event.data {
            EventData::Rows(values) | EventData::Nll(values) => Seen::Rows(values.to_vec()),
            EventData::Attention(scan) => Seen::Attention {
                keys: scan.keys,
                received: scan.received.to_vec(),
                entropy: scan.entropy.to_vec(),
                to_self: scan.to_self.to_vec(),
                to_first: scan.to_first.to_vec(),
            },
            EventData::Gated { up, .. } => Seen::Rows(up.to_vec()),
            EventData::Logits { start, end, values } => Seen::Logits { start, end, values: values.to_vec() },
        }
    }

    fn merge(&mut self, point: Point, place: &Place, seen: Seen) {
        let first = place.sequence * self.seq_len + place.position;
        match seen {
            Seen::Rows(values) if point == Point::Prediction => self.nll.extend(values),
            Seen::Rows(values) => {
                let at = first * (values.len() / place.rows);
                self.residual[place.block][at..at + values.len()].copy_from_slice(&values);
            }
            Seen::Attention { keys, received, entropy, to_self, to_first } => {
                let layer = (place.block - 1) / 2;
                for head in 0..self.heads {
                    let at = (place.sequence * self.heads + head) * self.seq_len;
                    for key in 0..keys {
                        self.alpha[layer][at + key] += received[head * keys + key] / self.seq_len as f32;
                    }
                    for row in 0..place.rows {
                        let (from, to) = (head * place.rows + row, at + place.position + row);
                        self.entropy[layer][to] = entropy[from];
                        self.to_self[layer][to] = to_self[from];
                        self.to_first[layer][to] = to_first[from];
                    }
                }
            }
            Seen::Logits { start, end, values } => {
                for (row, values) in values.chunks_exact(end - start).enumerate() {
                    let at = (first + row) * self.vocabulary;
                    self.logits[at + start..at + end].copy_from_slice(values);
                }
            }
        }
    }
}
