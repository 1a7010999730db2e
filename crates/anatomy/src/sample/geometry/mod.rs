//! The geometry of heads (Fig. 6, eq. 26): in how many dimensions spike keys live, how long the keys and values of sink
//! tokens are, and whether queries stand closer to the sink key than to the others.
//!
//! Means over pairs of queries and keys are computed from running sums over keys, so they cost no more than the keys
//! themselves.

mod head;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_model::architecture::Architecture;
use sinkscope_model::tap::{BlockView, Event, EventData, Place, Point, Tap};

use super::Kinds;
use super::dimension::Dimension;
use crate::received::Received;
use crate::wide::mean;

/// Every head, by layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Geometry {
    /// Layer by layer.
    pub heads: Vec<HeadGeometry>,
}

impl Geometry {
    /// Mean logit gap of the heads that are sinks, or of those that are not; `None` if none of them has one.
    pub fn mean_logit_gap(&self, sink: bool) -> Option<f64> {
        mean(self.heads.iter().filter(|head| head.sink == sink).filter_map(|head| head.logit_gap))
    }
}

/// One head. The sink key of a sequence is the key of one and the same token in all heads, that which sinks in most of
/// them; means over queries leave out the sink token and what comes before it. Cosines and lengths are of queries and keys as they meet, rotated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeadGeometry {
    /// Layer.
    pub layer: usize,
    /// Head.
    pub head: usize,
    /// Whether it is a sink in at least half of the batch's sequences.
    pub sink: bool,
    /// Share of the sample's sequences in which the sink token is a spike token.
    pub sink_is_spike: f64,
    /// 95 % rank of the keys of spike tokens, not centred; `None` if there are none.
    pub key_rank95_spike: Option<usize>,
    /// 95 % rank of the keys of tokens of no stage, not centred.
    pub key_rank95_other: Option<usize>,
    /// The same in detail.
    pub key_dimension_spike: KeyDimensions,
    /// Likewise.
    pub key_dimension_other: KeyDimensions,
    /// Mean over queries of the logit of the sink key less the mean logit of the other keys that the query sees, before
    /// any soft cap and the distances of ALiBi; `None` if no query sees both.
    pub logit_gap: Option<f64>,
    /// Its standard deviation over queries.
    pub logit_gap_deviation: Option<f64>,
    /// Mean cosine of queries to the sink key.
    pub query_to_sink_key: Option<f64>,
    /// Mean over queries of the mean cosine to the other keys that the query sees.
    pub query_to_other_keys: Option<f64>,
    /// Mean length of the sink tokens' keys.
    pub key_norm_sink: f64,
    /// Of all other keys.
    pub key_norm_other: f64,
    /// Mean length of the sink tokens' values.
    pub value_norm_sink: f64,
    /// Of all other values.
    pub value_norm_other: f64,
    /// Mean distance attended to, in tokens: of pairs of a query and a key, weighted by attention.
    pub distance: f64,
    /// The same of the attention that does not go to the sink token; `None` if there is none.
    pub distance_beside_sink: Option<f64>,
}

/// The dimension of keys, as they are (uncentred) and about their mean (centred), after and before rotary embedding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyDimensions {
    /// Rotated.
    pub uncentred: Option<Dimension>,
    /// Rotated, about the mean.
    pub centred: Option<Dimension>,
    /// Before rotation.
    pub unrotated_uncentred: Option<Dimension>,
    /// Before rotation, about the mean.
    pub unrotated_centred: Option<Dimension>,
}

/// A query or a key of a head, for a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadVectors {
    /// Layer.
    pub layer: usize,
    /// Head.
    pub head: usize,
    /// tokens x head_dim, rotated.
    pub queries: Vec<f32>,
    /// tokens x head_dim, rotated.
    pub keys: Vec<f32>,
    /// Width of a vector.
    pub head_dim: usize,
}

/// Looks at queries, keys, values and attention, layer by layer, in a pass of one group.
#[derive(Debug)]
pub struct GeometryTap {
    architecture: Architecture,
    sequences: usize,
    seq_len: usize,
    known: Known,
    /// Layers and heads whose vectors are kept.
    kept: Vec<(usize, usize)>,
    layer: Layer,
    heads: Vec<HeadGeometry>,
    to_self: Vec<Vec<f64>>,
    vectors: Vec<HeadVectors>,
}

/// What is known of a sample before its second look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What each token is beside those of the strongest stage.
    pub kinds: Kinds,
    /// By layer and head: whether it is a sink.
    pub sinks: Vec<Vec<bool>>,
    /// By sequence: the position of the sink key.
    pub sink_keys: Vec<usize>,
}

/// The layer under way.
#[derive(Debug, Default)]
struct Layer {
    /// tokens x (heads * head_dim).
    queries: Vec<f32>,
    /// tokens x (kv_heads * head_dim), rotated and not.
    keys: Vec<f32>,
    unrotated: Vec<f32>,
    values: Vec<f32>,
    /// heads x tokens.
    received: Received,
    /// heads x tokens.
    log_sum_exp: Vec<f32>,
    /// heads x tokens.
    mass: Vec<f32>,
    /// By token, mean over heads.
    to_self: Vec<f64>,
}

/// What a chunk shows.
#[derive(Debug)]
pub enum LayerChunk {
    /// rows x width.
    Rows(Vec<f32>),
    /// heads x keys, heads x rows three times.
    Attention {
        /// Attention received.
        received: Received<f32>,
        /// Log of the sum of exponentials.
        log_sum_exp: Vec<f32>,
        /// Sum of the weights.
        mass: Vec<f32>,
        /// Weight on itself.
        to_self: Vec<f32>,
    },
}

impl GeometryTap {
    /// `kept`: layers and heads whose vectors are wanted.
    pub fn new(
        architecture: &Architecture,
        (sequences, seq_len): (usize, usize),
        known: Known,
        kept: Vec<(usize, usize)>,
    ) -> Self {
        Self {
            architecture: architecture.clone(),
            sequences,
            seq_len,
            known,
            kept,
            layer: Layer {
                received: Received::new(architecture.most_heads(), sequences * seq_len),
                ..Layer::default()
            },
            heads: Vec::new(),
            to_self: Vec::new(),
            vectors: Vec::new(),
        }
    }

    /// The heads; by layer and token the mean weight of a query on itself; the vectors that were to be kept.
    pub fn finish(self) -> (Geometry, Vec<Vec<f64>>, Vec<HeadVectors>) {
        (Geometry { heads: self.heads }, self.to_self, self.vectors)
    }

    fn tokens(&self) -> usize {
        self.sequences * self.seq_len
    }

    fn keep_vectors(&mut self, layer: usize) {
        let a = self.architecture.attention(layer);
        for &(_, head) in self.kept.iter().filter(|(wanted, _)| *wanted == layer) {
            let gather = |vectors: &[f32], width: usize, head: usize| {
                (0..self.tokens()).flat_map(|token| row(vectors, width, a.head_dim, token, head)).copied().collect()
            };
            self.vectors.push(HeadVectors {
                layer,
                head,
                queries: gather(&self.layer.queries, a.query_width(), head),
                keys: gather(&self.layer.keys, a.key_width(), head / a.queries_per_key()),
                head_dim: a.head_dim,
            });
        }
    }
}

impl Tap for GeometryTap {
    type Partial = Option<LayerChunk>;

    fn wants(&self, point: Point, block: usize) -> bool {
        let points = [Point::UnrotatedKey, Point::Query, Point::Key, Point::Value, Point::Attention, Point::BlockDone];
        block % 2 == 1 && block < self.architecture.blocks() && points.contains(&point)
    }

    fn observe(&self, event: &Event<'_>) -> Option<LayerChunk> {
        match event.data {
            EventData::Rows(rows) => Some(LayerChunk::Rows(rows.to_vec())),
            EventData::Attention(scan) => Some(LayerChunk::Attention {
                received: Received::by_head(&scan, scan.keys),
                log_sum_exp: scan.log_sum_exp.to_vec(),
                mass: scan.mass.to_vec(),
                to_self: scan.to_self.to_vec(),
            }),
            _ => None,
        }
    }

    fn merge(&mut self, point: Point, place: &Place, partial: Option<LayerChunk>) {
        let tokens = self.tokens();
        let (heads, seq_len) = (self.architecture.most_heads(), self.seq_len);
        let first = place.sequence * seq_len + place.position;
        let layer = &mut self.layer;
        match partial {
            Some(LayerChunk::Rows(rows)) => {
                let kept = match point {
                    Point::UnrotatedKey => &mut layer.unrotated,
                    Point::Query => &mut layer.queries,
                    Point::Key => &mut layer.keys,
                    _ => &mut layer.values,
                };
                let width = rows.len() / place.rows;
                kept.resize(tokens * width, 0.0);
                kept[first * width..][..rows.len()].copy_from_slice(&rows);
            }
            Some(LayerChunk::Attention { received, log_sum_exp, mass, to_self }) => {
                layer.log_sum_exp.resize(heads * tokens, 0.0);
                layer.mass.resize(heads * tokens, 0.0);
                layer.to_self.resize(tokens, 0.0);
                layer.received.add(0, place.sequence * seq_len, &received);
                for head in 0..heads {
                    let rows = head * place.rows..(head + 1) * place.rows;
                    let own = head * tokens + first..head * tokens + first + place.rows;
                    layer.log_sum_exp[own.clone()].copy_from_slice(&log_sum_exp[rows.clone()]);
                    layer.mass[own].copy_from_slice(&mass[rows.clone()]);
                    for (mean, &weight) in layer.to_self[first..].iter_mut().zip(&to_self[rows]) {
                        *mean += f64::from(weight) / heads as f64;
                    }
                }
            }
            None => {}
        }
    }

    fn block_done(&mut self, view: &BlockView<'_>) {
        let layer = view.block / 2;
        let kv_heads: Vec<usize> = (0..self.architecture.attention(layer).kv_heads).collect();
        let keys: Vec<_> = kv_heads.par_iter().map(|&head| self.key_dimensions(layer, head)).collect();
        let heads: Vec<usize> = (0..self.architecture.attention(layer).heads).collect();
        let heads: Vec<HeadGeometry> = heads.par_iter().map(|&head| self.head(layer, head, &keys)).collect();
        self.heads.extend(heads);
        self.keep_vectors(layer);
        self.to_self.push(std::mem::take(&mut self.layer.to_self));
        self.layer.received.clear();
    }
}

/// A head's part of a token's row.
fn row(vectors: &[f32], width: usize, head_dim: usize, token: usize, head: usize) -> &[f32] {
    &vectors[token * width + head * head_dim..][..head_dim]
}
