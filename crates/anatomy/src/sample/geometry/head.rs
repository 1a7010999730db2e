//! What the layer under way shows of one head.

use sinkscope_kernels::activation::soft_cap;
use sinkscope_model::architecture::Weighting;

use super::super::dimension::dimension;
use super::{GeometryTap, HeadGeometry, KeyDimensions, row};
use crate::wide::{dot_f64, mean, norm_f64};

/// What queries and keys of one head show in one sequence, in sums.
#[derive(Debug, Default)]
struct PairSums {
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
    pub(super) fn head(&self, layer: usize, head: usize, keys: &[(KeyDimensions, KeyDimensions)]) -> HeadGeometry {
        let a = self.architecture.attention(layer);
        let kv_head = head / a.queries_per_key();
        let sinks = &self.known.sink_keys;
        let is_sink: Vec<bool> =
            (0..self.tokens()).map(|token| sinks[token / self.seq_len] == token % self.seq_len).collect();
        let sums: Vec<PairSums> =
            sinks.iter().enumerate().map(|(sequence, &sink)| self.sequence(layer, head, sequence, sink)).collect();
        let total = |of: fn(&PairSums) -> f64| sums.iter().map(of).sum::<f64>();
        let queries = total(|sums| sums.queries);
        let over_queries = |of: fn(&PairSums) -> f64| (queries > 0.0).then(|| total(of) / queries);
        let gap = over_queries(|sums| sums.gap);
        let deviation =
            gap.zip(over_queries(|sums| sums.gap_squared)).map(|(mean, square)| (square - mean * mean).max(0.0).sqrt());
        let norm = |vectors: &[f32], head_dim: usize, sink: bool| {
            let tokens = (0..self.tokens()).filter(|&token| is_sink[token] == sink);
            let length = |token| norm_f64(row(vectors, a.kv_heads * head_dim, head_dim, token, kv_head));
            mean(tokens.map(length)).unwrap_or(0.0)
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
            key_norm_sink: norm(&self.layer.keys, a.head_dim, true),
            key_norm_other: norm(&self.layer.keys, a.head_dim, false),
            value_norm_sink: norm(&self.layer.values, a.value_dim, true),
            value_norm_other: norm(&self.layer.values, a.value_dim, false),
            distance: total(|sums| sums.distance) / mass.max(f64::MIN_POSITIVE),
            distance_beside_sink: (beside > 0.0).then(|| total(|sums| sums.beside_distance) / beside),
        }
    }

    fn sequence(&self, layer: usize, head: usize, sequence: usize, sink: usize) -> PairSums {
        let a = self.architecture.attention(layer);
        let kv_head = head / a.queries_per_key();
        let first = sequence * self.seq_len;
        let window = a.window.unwrap_or(self.seq_len);
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
        let mut sums = PairSums::default();
        let sink_key = key(sink);
        let sink_length = norm_f64(sink_key).max(f64::MIN_POSITIVE);
        for position in 0..self.seq_len {
            add(position, 1.0, &mut sum, &mut unit);
            if position >= window {
                add(position - window, -1.0, &mut sum, &mut unit);
            }
            let query = row(&self.layer.queries, a.query_width(), a.head_dim, first + position, head);
            let sees_sink = position >= sink && position - sink < window;
            let logit = a.scale * dot_f64(query, sink_key);
            let to_sink = if sees_sink {
                let mut score = [logit];
                if let Some(cap) = a.soft_cap {
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
                let gap = logit - a.scale * dot_f64(query, &sum) / count;
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
    pub(super) fn key_dimensions(&self, layer: usize, kv_head: usize) -> (KeyDimensions, KeyDimensions) {
        let a = self.architecture.attention(layer);
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
}
