//! The geometry of heads, attention in full.

use faer::{Mat, Side};
use sinkscope_anatomy::sample::Kinds;
use sinkscope_anatomy::sample::dimension::Dimension;
use sinkscope_anatomy::sample::geometry::{GeometryTap, HeadGeometry, Known};
use sinkscope_model::tap::Point;

use crate::recorded::{Recorded, SEQ_LEN, SEQUENCES, kinds};
use crate::{close, close_within, dot, mean, norm};

/// One head of one sequence: logits before the soft cap and attention, T x T.
pub struct Full {
    logits: Vec<Vec<f64>>,
    pub weights: Vec<Vec<f64>>,
    queries: Vec<Vec<f64>>,
    keys: Vec<Vec<f64>>,
    values: Vec<Vec<f64>>,
    window: usize,
}

impl Full {
    pub fn new(recorded: &Recorded, layer: usize, head: usize, sequence: usize) -> Self {
        let a = recorded.model.architecture();
        let seq_len = recorded.batch.seq_len;
        let rows = |point, head| -> Vec<Vec<f64>> {
            (0..seq_len).map(|t| recorded.head_row(point, layer, head, sequence * seq_len + t)).collect()
        };
        let kv_head = head / a.attention(0).queries_per_key();
        let (queries, keys) = (rows(Point::Query, head), rows(Point::Key, kv_head));
        let window = a.attention(layer).window.unwrap_or(seq_len);
        let logit = |t: usize, k: usize| a.attention(layer).scale * dot(&queries[t], &keys[k]);
        let logits: Vec<Vec<f64>> = (0..seq_len).map(|t| (0..seq_len).map(|k| logit(t, k)).collect()).collect();
        let row = |t: usize| -> Vec<f64> {
            let capped = |logit: f64| a.attention(layer).soft_cap.map_or(logit, |cap| cap * (logit / cap).tanh());
            let seen = |k: usize| k <= t && t - k < window;
            let weights: Vec<f64> =
                (0..seq_len).map(|k| if seen(k) { capped(logits[t][k]).exp() } else { 0.0 }).collect();
            let sum: f64 = weights.iter().sum();
            weights.into_iter().map(|weight| weight / sum).collect()
        };
        let weights = (0..seq_len).map(row).collect();
        Self { weights, values: rows(Point::Value, kv_head), logits, queries, keys, window }
    }

    /// Of every query after the sink that sees it and another key: gap, cosine to the sink key, mean cosine to the others.
    fn queries_after(&self, sink: usize) -> Vec<[f64; 3]> {
        let cosine =
            |t: usize, k: usize| dot(&self.queries[t], &self.keys[k]) / (norm(&self.queries[t]) * norm(&self.keys[k]));
        (sink + 1..self.weights.len())
            .filter(|t| t - sink < self.window)
            .map(|t| {
                let others: Vec<usize> = (0..=t).filter(|&k| t - k < self.window && k != sink).collect();
                let logits: Vec<f64> = others.iter().map(|&k| self.logits[t][k]).collect();
                let cosines: Vec<f64> = others.iter().map(|&k| cosine(t, k)).collect();
                [self.logits[t][sink] - mean(&logits), cosine(t, sink), mean(&cosines)]
            })
            .collect()
    }
}

/// Another position in every sequence.
fn sink_keys() -> Vec<usize> {
    (0..SEQUENCES).collect()
}

/// Through the d x d matrix.
fn naive_dimension(vectors: &[Vec<f64>], centred: bool) -> Dimension {
    let d = vectors[0].len();
    let centre: Vec<f64> =
        (0..d).map(|at| if centred { mean(&vectors.iter().map(|v| v[at]).collect::<Vec<_>>()) } else { 0.0 }).collect();
    let entry = |i: usize, j: usize| vectors.iter().map(|v| (v[i] - centre[i]) * (v[j] - centre[j])).sum::<f64>();
    let mut values = Mat::from_fn(d, d, entry).self_adjoint_eigenvalues(Side::Lower).expect("eigenvalues");
    values.sort_by(|a, b| b.total_cmp(a));
    let sum: f64 = values.iter().sum();
    let rank95 = (1..=d).find(|&r| values[..r].iter().sum::<f64>() >= 0.95 * sum).expect("all make the sum");
    Dimension { participation_ratio: sum * sum / values.iter().map(|v| v * v).sum::<f64>(), rank95 }
}

fn check_dimension(what: &str, ours: Option<Dimension>, expected: Dimension) {
    let ours = ours.expect("tokens of both kinds");
    assert_eq!(ours.rank95, expected.rank95, "{what}");
    close(what, ours.participation_ratio, expected.participation_ratio);
}

fn check_keys(what: &str, recorded: &Recorded, head: &HeadGeometry, kinds: &Kinds) {
    let kv_head = head.head / recorded.model.architecture().attention(0).queries_per_key();
    for (spike, ours) in [(true, head.key_dimension_spike), (false, head.key_dimension_other)] {
        let vectors = |point| -> Vec<Vec<f64>> {
            let tokens = (0..recorded.tokens()).filter(|&token| kinds.of(spike)[token]);
            tokens.map(|token| recorded.head_row(point, head.layer, kv_head, token)).collect()
        };
        let (keys, unrotated) = (vectors(Point::Key), vectors(Point::UnrotatedKey));
        check_dimension(what, ours.uncentred, naive_dimension(&keys, false));
        check_dimension(what, ours.centred, naive_dimension(&keys, true));
        check_dimension(what, ours.unrotated_uncentred, naive_dimension(&unrotated, false));
        check_dimension(what, ours.unrotated_centred, naive_dimension(&unrotated, true));
    }
    assert_eq!(head.key_rank95_spike, head.key_dimension_spike.uncentred.map(|dimension| dimension.rank95));
    assert_eq!(head.key_rank95_other, head.key_dimension_other.uncentred.map(|dimension| dimension.rank95));
}

fn check(family: &str, recorded: &Recorded, head: &HeadGeometry, spikes: &[bool]) {
    let what = &format!("{family}, head {}.{}", head.layer, head.head);
    let full: Vec<Full> = (0..SEQUENCES).map(|sequence| Full::new(recorded, head.layer, head.head, sequence)).collect();
    let sinks = sink_keys();
    let spiking = sinks.iter().enumerate().filter(|(sequence, sink)| spikes[sequence * SEQ_LEN + *sink]).count();
    close(what, head.sink_is_spike, spiking as f64 / SEQUENCES as f64);

    let queries: Vec<[f64; 3]> = full.iter().zip(&sinks).flat_map(|(full, &sink)| full.queries_after(sink)).collect();
    let column = |at: usize| queries.iter().map(|query| query[at]).collect::<Vec<_>>();
    let gaps = column(0);
    let scale = gaps.iter().map(|gap| gap.abs()).fold(0.0, f64::max);
    close_within(what, head.logit_gap.expect("queries"), mean(&gaps), scale);
    let deviation = mean(&gaps.iter().map(|gap| (gap - mean(&gaps)).powi(2)).collect::<Vec<_>>()).sqrt();
    close_within(what, head.logit_gap_deviation.expect("queries"), deviation, scale);
    close_within(what, head.query_to_sink_key.expect("queries"), mean(&column(1)), 1.0);
    close_within(what, head.query_to_other_keys.expect("queries"), mean(&column(2)), 1.0);

    let lengths = |of: fn(&Full) -> &Vec<Vec<f64>>, sink: bool| {
        let all = full.iter().zip(&sinks).flat_map(|(full, &at)| {
            of(full).iter().enumerate().filter(move |(t, _)| (*t == at) == sink).map(|(_, row)| norm(row))
        });
        mean(&all.collect::<Vec<_>>())
    };
    close(what, head.key_norm_sink, lengths(|full| &full.keys, true));
    close(what, head.key_norm_other, lengths(|full| &full.keys, false));
    close(what, head.value_norm_sink, lengths(|full| &full.values, true));
    close(what, head.value_norm_other, lengths(|full| &full.values, false));

    let (mut distance, mut beside, mut weight) = (0.0, 0.0, 0.0);
    for (full, &sink) in full.iter().zip(&sinks) {
        for t in 0..SEQ_LEN {
            for k in 0..=t {
                let part = full.weights[t][k];
                distance += part * (t - k) as f64;
                if k != sink {
                    beside += part * (t - k) as f64;
                    weight += part;
                }
            }
        }
    }
    close_within(what, head.distance, distance / spikes.len() as f64, SEQ_LEN as f64);
    close_within(what, head.distance_beside_sink.expect("some"), beside / weight, SEQ_LEN as f64);
}

#[test]
fn is_that_of_full_attention() {
    for family in
        ["llama", "mistral", "qwen2", "qwen2-window", "qwen3", "gemma2", "gemma3", "olmo2", "gpt2", "gpt-neox", "phi3"]
    {
        let recorded = Recorded::new(family);
        let a = recorded.model.architecture();
        let kinds = kinds();
        let sink = |layer: usize, head: usize| (layer + head).is_multiple_of(2);
        let sinks: Vec<Vec<bool>> =
            (0..a.layer_count()).map(|layer| (0..a.most_heads()).map(|head| sink(layer, head)).collect()).collect();
        let known = Known { kinds: kinds.clone(), sinks, sink_keys: sink_keys() };
        let mut tap = GeometryTap::new(a, (SEQUENCES, SEQ_LEN), known, vec![(1, 2)]);
        recorded.run(&mut tap);
        let (geometry, to_self, kept) = tap.finish();
        assert_eq!(geometry.heads.len(), a.layer_count() * a.most_heads());
        for (index, head) in geometry.heads.iter().enumerate() {
            assert_eq!((head.layer, head.head), (index / a.most_heads(), index % a.most_heads()));
            assert_eq!(head.sink, sink(head.layer, head.head));
            check(family, &recorded, head, &kinds.spike);
            check_keys(family, &recorded, head, &kinds);
        }
        for (layer, to_self) in to_self.iter().enumerate() {
            for (token, &ours) in to_self.iter().enumerate() {
                let (sequence, t) = (token / SEQ_LEN, token % SEQ_LEN);
                let weight = |head| Full::new(&recorded, layer, head, sequence).weights[t][t];
                close(family, ours, mean(&(0..a.most_heads()).map(weight).collect::<Vec<_>>()));
            }
        }
        let [vectors] = &kept[..] else { panic!("one head was to be kept") };
        assert_eq!((vectors.layer, vectors.head, vectors.head_dim), (1, 2, a.attention(0).head_dim));
        for token in 0..recorded.tokens() {
            let wide = |rows: &[f32]| -> Vec<f64> {
                rows[token * a.attention(0).head_dim..][..a.attention(0).head_dim]
                    .iter()
                    .map(|&value| f64::from(value))
                    .collect()
            };
            assert_eq!(wide(&vectors.queries), recorded.head_row(Point::Query, 1, 2, token));
            assert_eq!(
                wide(&vectors.keys),
                recorded.head_row(Point::Key, 1, 2 / a.attention(0).queries_per_key(), token)
            );
        }
    }
}
