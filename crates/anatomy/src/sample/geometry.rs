//! The geometry of heads (Fig. 6, eq. 26): in how many dimensions spike keys live, how long the keys and values of sink
//! tokens are, and whether queries stand closer to the sink key than to the others.
//!
//! Means over pairs of queries and keys are computed from running sums over keys, so they cost no more than the keys
//! themselves.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_kernels::activation::soft_cap;
use sinkscope_model::architecture::{Architecture, Weighting};
use sinkscope_model::tap::{BlockView, Event, EventData, Place, Point, Tap};

use super::Kinds;
use super::dimension::{Dimension, dimension};
use crate::received::Received;
use crate::wide::{dot_f64, mean, norm_f64};

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

/// What queries and keys of one head show in one sequence, in sums.
#[derive(Debug, Default)]
struct Sums {
    queries: f64,
    gap: f64,
    gap_squared: f64,
    to_sink: f64,
    to_others: f64,
    mass: f64,
    distance: f64,
    beside: f64,
    beside_distance: f64,
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
            layer: Layer { received: Received::new(architecture.heads, sequences * seq_len), ..Layer::default() },
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

    fn head(&self, layer: usize, head: usize, keys: &[(KeyDimensions, KeyDimensions)]) -> HeadGeometry {
        let a = &self.architecture;
        let kv_head = head / a.queries_per_key();
        let sinks = &self.known.sink_keys;
        let is_sink: Vec<bool> =
            (0..self.tokens()).map(|token| sinks[token / self.seq_len] == token % self.seq_len).collect();
        let sums: Vec<Sums> =
            sinks.iter().enumerate().map(|(sequence, &sink)| self.sequence(layer, head, sequence, sink)).collect();
        let total = |of: fn(&Sums) -> f64| sums.iter().map(of).sum::<f64>();
        let queries = total(|sums| sums.queries);
        let over_queries = |of: fn(&Sums) -> f64| (queries > 0.0).then(|| total(of) / queries);
        let gap = over_queries(|sums| sums.gap);
        let deviation =
            gap.zip(over_queries(|sums| sums.gap_squared)).map(|(mean, square)| (square - mean * mean).max(0.0).sqrt());
        let norm = |vectors: &[f32], sink: bool| {
            let tokens = (0..self.tokens()).filter(|&token| is_sink[token] == sink);
            mean(tokens.map(|token| norm_f64(row(vectors, a.key_width(), a.head_dim, token, kv_head)))).unwrap_or(0.0)
        };
        let spiking = (0..self.tokens()).filter(|&token| is_sink[token] && self.known.kinds.spike[token]).count();
        let (spike, other) = keys[kv_head];
        let (mass, beside) = (total(|sums| sums.mass), total(|sums| sums.beside));
        HeadGeometry {
            layer,
            head,
            sink: self.known.sinks.get(layer).and_then(|heads| heads.get(head)).copied().unwrap_or(false),
            sink_is_spike: spiking as f64 / self.sequences as f64,
            key_rank95_spike: spike.uncentred.map(|dimension| dimension.rank95),
            key_rank95_other: other.uncentred.map(|dimension| dimension.rank95),
            key_dimension_spike: spike,
            key_dimension_other: other,
            logit_gap: gap,
            logit_gap_deviation: deviation,
            query_to_sink_key: over_queries(|sums| sums.to_sink),
            query_to_other_keys: over_queries(|sums| sums.to_others),
            key_norm_sink: norm(&self.layer.keys, true),
            key_norm_other: norm(&self.layer.keys, false),
            value_norm_sink: norm(&self.layer.values, true),
            value_norm_other: norm(&self.layer.values, false),
            distance: total(|sums| sums.distance) / mass.max(f64::MIN_POSITIVE),
            distance_beside_sink: (beside > 0.0).then(|| total(|sums| sums.beside_distance) / beside),
        }
    }

    fn sequence(&self, layer: usize, head: usize, sequence: usize, sink: usize) -> Sums {
        let a = &self.architecture;
        let kv_head = head / a.queries_per_key();
        let first = sequence * self.seq_len;
        let window = a.layers[layer].window.unwrap_or(self.seq_len);
        let slope = a.alibi_slopes().get(head).copied().unwrap_or(0.0);
        let key = |position: usize| row(&self.layer.keys, a.key_width(), a.head_dim, first + position, kv_head);
        let received = &self.layer.received.row(head)[first..first + self.seq_len];
        // Running sums over the keys in sight but the sink's: as they are, and of length 1.
        let (mut sum, mut unit) = (vec![0.0; a.head_dim], vec![0.0; a.head_dim]);
        let add = |position: usize, sign: f64, sum: &mut [f64], unit: &mut [f64]| {
            if position != sink {
                let length = norm_f64(key(position)).max(f64::MIN_POSITIVE);
                for ((sum, unit), &value) in sum.iter_mut().zip(unit).zip(key(position)) {
                    *sum += sign * f64::from(value);
                    *unit += sign * f64::from(value) / length;
                }
            }
        };
        let mut sums = Sums::default();
        let sink_key = key(sink);
        let sink_length = norm_f64(sink_key).max(f64::MIN_POSITIVE);
        for position in 0..self.seq_len {
            add(position, 1.0, &mut sum, &mut unit);
            if position >= window {
                add(position - window, -1.0, &mut sum, &mut unit);
            }
            let query = row(&self.layer.queries, a.query_width(), a.head_dim, first + position, head);
            let sees_sink = position >= sink && position - sink < window;
            let logit = a.attention_scale * dot_f64(query, sink_key);
            let to_sink = if sees_sink {
                let mut score = [logit];
                if let Some(cap) = a.attention_soft_cap {
                    soft_cap(&mut score, cap);
                }
                let score = score[0] - slope * (position - sink) as f64;
                match a.weighting {
                    Weighting::Sigmoid { bias } => 1.0 / (1.0 + (-score - bias).exp()),
                    Weighting::Softmax | Weighting::SoftmaxPlusOne | Weighting::SinkLogit => {
                        let log_sum_exp = self.layer.log_sum_exp[head * self.tokens() + first + position];
                        (score - f64::from(log_sum_exp)).exp().min(1.0)
                    }
                }
            } else {
                0.0
            };
            let mass = f64::from(self.layer.mass[head * self.tokens() + first + position]);
            sums.mass += mass;
            sums.beside += mass - to_sink;
            sums.distance += position as f64 * mass;
            sums.beside_distance += position as f64 * (mass - to_sink);
            let others = (position + 1).min(window) - usize::from(sees_sink);
            if sees_sink && position != sink && others > 0 {
                let length = norm_f64(query).max(f64::MIN_POSITIVE);
                let count = others as f64;
                let gap = logit - a.attention_scale * dot_f64(query, &sum) / count;
                sums.queries += 1.0;
                sums.gap += gap;
                sums.gap_squared += gap * gap;
                sums.to_sink += dot_f64(query, sink_key) / (length * sink_length);
                sums.to_others += dot_f64(query, &unit) / (length * count);
            }
        }
        // sum over t and k of A[t, k] (t - k).
        for (position, &received) in received.iter().enumerate() {
            sums.distance -= position as f64 * received;
            if position != sink {
                sums.beside_distance -= position as f64 * received;
            }
        }
        sums
    }

    /// Of a key-value head: the keys of spike tokens, and of tokens of no stage.
    fn key_dimensions(&self, kv_head: usize) -> (KeyDimensions, KeyDimensions) {
        let a = &self.architecture;
        let gather = |vectors: &[f32]| -> Vec<f32> {
            (0..self.tokens())
                .flat_map(|token| row(vectors, a.key_width(), a.head_dim, token, kv_head))
                .copied()
                .collect()
        };
        let (keys, unrotated) = (gather(&self.layer.keys), gather(&self.layer.unrotated));
        let of = |spike: bool| {
            let rows: Vec<usize> = (0..self.tokens()).filter(|&token| self.known.kinds.of(spike)[token]).collect();
            let dimension = |vectors: &[f32], centred| dimension(vectors, a.head_dim, &rows, centred);
            KeyDimensions {
                uncentred: dimension(&keys, false),
                centred: dimension(&keys, true),
                unrotated_uncentred: dimension(&unrotated, false),
                unrotated_centred: dimension(&unrotated, true),
            }
        };
        (of(true), of(false))
    }

    fn keep_vectors(&mut self, layer: usize) {
        let a = &self.architecture;
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
        let (heads, seq_len) = (self.architecture.heads, self.seq_len);
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
        let kv_heads: Vec<usize> = (0..self.architecture.kv_heads).collect();
        let keys: Vec<_> = kv_heads.par_iter().map(|&head| self.key_dimensions(head)).collect();
        let heads: Vec<usize> = (0..self.architecture.heads).collect();
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
