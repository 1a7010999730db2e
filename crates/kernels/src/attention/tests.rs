//! The tiles against attention written out in full.

use super::*;
use crate::differences::{convert, values};
use crate::in_use::precisions;

/// The optional operands, owned: positions x queries_per_key scores of an entry, and its value.
#[derive(Debug, Default, Clone)]
pub(super) struct Owned {
    pub slopes: Vec<f64>,
    pub entry: Option<(Vec<f64>, Option<Vec<f64>>)>,
    /// First keys that stay in sight of windows.
    pub sinks: usize,
    /// Where queries meet them at the latest.
    pub last_position: Option<usize>,
}

struct Naive {
    out: Vec<f64>,
    weights: Vec<Vec<Vec<f64>>>,
    log_sum_exp: Vec<Vec<f64>>,
    entropy: Vec<Vec<f64>>,
}

/// Every score of every pair, in f64.
fn naive(
    group: &HeadGroup<f64>,
    (q, sink_q): (&[f64], &[f64]),
    (k, v): (&[f64], &[f64]),
    mask: Mask<'_>,
    owned: &Owned,
) -> Naive {
    let (heads, d) = (group.queries_per_key, group.head_dim);
    let (positions, sinks) = (k.len() / d, owned.sinks);
    let mut result = Naive {
        out: vec![0.0; positions * heads * d],
        weights: vec![Vec::new(); heads],
        log_sum_exp: vec![Vec::new(); heads],
        entropy: vec![Vec::new(); heads],
    };
    for head in 0..heads {
        for t in 0..positions {
            let scores: Vec<f64> = (0..positions)
                .map(|s| {
                    let inside = group.window.is_none_or(|w| s + w > t);
                    let q = if inside { q } else { sink_q };
                    let dot: f64 = (0..d).map(|i| q[(t * heads + head) * d + i] * k[s * d + i]).sum();
                    let score = dot * group.scale;
                    let score = group.soft_cap.map_or(score, |cap| cap * (score / cap).tanh());
                    let slope = owned.slopes.get(head).copied().unwrap_or(0.0);
                    let met_at = owned.last_position.filter(|_| !inside).map_or(t, |last| last.min(t));
                    let score = score - slope * (met_at as f64 - s as f64);
                    let seen = s <= t && (inside || s < sinks);
                    let apart = s != t && (mask.hidden.get(s) == Some(&true) || mask.alone.get(t) == Some(&true));
                    if seen && !apart { score } else { f64::NEG_INFINITY }
                })
                .collect();
            let exponential = |score: f64| match group.weighting {
                Weighting::Softmax => score.exp(),
                Weighting::Sigmoid { bias } => 1.0 / (1.0 + (-score - bias).exp()),
            };
            let entry = owned.entry.as_ref().map_or(0.0, |(scores, _)| exponential(scores[t * heads + head]));
            let sum = scores.iter().map(|&score| exponential(score)).sum::<f64>() + entry;
            let norm = if group.weighting == Weighting::Softmax { sum } else { 1.0 };
            let weights: Vec<f64> = scores.iter().map(|&score| exponential(score) / norm).collect();
            let value = owned.entry.as_ref().and_then(|(_, value)| value.as_ref());
            for i in 0..d {
                let from_entry = value.map_or(0.0, |value| value[i]) * entry / norm;
                result.out[(t * heads + head) * d + i] =
                    (0..positions).map(|s| weights[s] * v[s * d + i]).sum::<f64>() + from_entry;
            }
            let shares = weights.iter().map(|weight| weight * norm / sum).chain([entry / sum]);
            result.entropy[head].push(-shares.filter(|&w| w > 0.0).map(|w| w * w.ln()).sum::<f64>());
            result.weights[head].push(weights);
            result.log_sum_exp[head].push(sum.ln());
        }
    }
    result
}

/// The same group in another precision.
pub(super) fn narrow<F: Float>(group: &HeadGroup<f64>) -> HeadGroup<F> {
    HeadGroup {
        queries_per_key: group.queries_per_key,
        head_dim: group.head_dim,
        scale: F::from_f64(group.scale),
        soft_cap: group.soft_cap.map(F::from_f64),
        window: group.window,
        weighting: match group.weighting {
            Weighting::Softmax => Weighting::Softmax,
            Weighting::Sigmoid { bias } => Weighting::Sigmoid { bias: F::from_f64(bias) },
        },
        precision: group.precision,
    }
}

fn check<F: Float>(group: &HeadGroup<f64>, positions: usize, chunk: usize, tolerance: f64) {
    check_all::<F>(group, (positions, chunk), Mask::default(), &Owned::default(), tolerance);
}

/// In f32 with products of every precision.
fn check_all<F: Float>(
    group: &HeadGroup<f64>,
    (positions, chunk): (usize, usize),
    mask: Mask<'_>,
    owned: &Owned,
    tolerance: f64,
) {
    let (heads, d) = (group.queries_per_key, group.head_dim);
    let (q, k, v) = (values(positions * heads * d, 1), values(positions * d, 2), values(positions * d, 3));
    let sink_q = values(q.len(), 7);
    let expected = naive(group, (&q, &sink_q), (&k, &v), mask, owned);
    let (q, k, v, sink_q) = (convert::<F>(&q), convert::<F>(&k), convert::<F>(&v), convert::<F>(&sink_q));
    let slopes = convert::<F>(&owned.slopes);
    let entry = owned.entry.as_ref().map(|(scores, value)| (convert::<F>(scores), value.as_deref().map(convert::<F>)));
    for &precision in precisions::<F>() {
        let group = HeadGroup { precision, ..narrow::<F>(group) };
        let tolerance = match precision {
            Precision::Highest => tolerance,
            Precision::High => 5.0 * tolerance,
            Precision::Medium => 0.1,
        };
        let close = |a: F, b: f64| {
            assert!((a.to_f64() - b).abs() < tolerance * (1.0 + b.abs()), "{a:?} {b}, {:?}", group.precision);
        };
        let mut received = vec![vec![0.0; positions]; heads];
        for first in (0..positions).step_by(chunk) {
            let rows = chunk.min(positions - first);
            let mut out = vec![F::ZERO; rows * heads * d];
            let scan = attend(
                &group,
                &Operands {
                    rows,
                    first_position: first,
                    queries: Strided { data: &q[first * heads * d..], row_stride: heads * d },
                    keys: Strided { data: &k, row_stride: d },
                    values: Strided { data: &v, row_stride: d },
                },
                StridedMut { data: &mut out, row_stride: heads * d },
                &Extras {
                    mask,
                    sinks: (owned.sinks > 0).then(|| Sinks {
                        count: owned.sinks,
                        queries: Strided { data: &sink_q[first * heads * d..], row_stride: heads * d },
                        last_position: owned.last_position.unwrap_or(usize::MAX),
                    }),
                    slopes: &slopes,
                    entry: entry.as_ref().map(|(scores, value)| Entry {
                        scores: Strided { data: &scores[first * heads..], row_stride: heads },
                        value: value.as_deref(),
                    }),
                },
                Look::Scan,
            )
            .expect("a scan was asked for");
            for (i, &o) in out.iter().enumerate() {
                close(o, expected.out[first * heads * d + i]);
            }
            for head in 0..heads {
                for key in 0..first + rows {
                    received[head][key] += scan.received[head * (first + rows) + key].to_f64();
                }
                for row in 0..rows {
                    let (at, t) = (head * rows + row, first + row);
                    let weights = &expected.weights[head][t];
                    close(scan.log_sum_exp[at], expected.log_sum_exp[head][t]);
                    close(scan.mass[at], weights.iter().sum());
                    close(scan.to_self[at], weights[t]);
                    close(scan.to_first[at], weights[0]);
                    close(scan.entropy[at], expected.entropy[head][t]);
                }
            }
        }
        for head in 0..heads {
            for key in 0..positions {
                let exact: f64 = expected.weights[head].iter().map(|row| row[key]).sum();
                close(F::from_f64(received[head][key]), exact);
            }
        }
    }
}

pub(super) fn group(queries_per_key: usize, head_dim: usize) -> HeadGroup<f64> {
    HeadGroup {
        queries_per_key,
        head_dim,
        scale: 0.9,
        soft_cap: None,
        window: None,
        weighting: Weighting::Softmax,
        precision: Precision::Highest,
    }
}

#[test]
fn attention_and_scan_agree_with_naive_in_both_precisions() {
    for (positions, chunk) in [(1, 1), (2, 256), (67, 256), (150, 64), (300, 256)] {
        for shape in [
            group(1, 5),
            group(3, 8),
            HeadGroup { soft_cap: Some(2.0), ..group(2, 7) },
            HeadGroup { window: Some(1), ..group(2, 4) },
            HeadGroup { window: Some(20), ..group(2, 4) },
            HeadGroup { window: Some(65), soft_cap: Some(1.0), ..group(1, 16) },
            HeadGroup { window: Some(1000), ..group(1, 3) },
        ] {
            check::<f64>(&shape, positions, chunk, 1e-12);
            check::<f32>(&shape, positions, chunk, 3e-5);
        }
    }
}

#[test]
fn masks_keep_apart_what_they_should() {
    for (positions, chunk) in [(1, 1), (67, 256), (150, 64), (300, 256)] {
        let every = |n: usize| -> Vec<bool> { (0..positions).map(|position| position % n == 0).collect() };
        let (hidden, alone, none) = (every(3), every(7), Vec::new());
        for (hidden, alone) in [(&hidden, &none), (&none, &alone), (&hidden, &alone), (&every(1), &none)] {
            let mask = Mask { hidden, alone };
            for shape in [group(3, 8), HeadGroup { window: Some(20), soft_cap: Some(2.0), ..group(2, 4) }] {
                check_all::<f64>(&shape, (positions, chunk), mask, &Owned::default(), 1e-12);
                check_all::<f32>(&shape, (positions, chunk), mask, &Owned { sinks: 2, ..Owned::default() }, 3e-5);
            }
        }
    }
}

#[test]
fn sinks_stay_in_sight_of_windows() {
    let with_sinks = |sinks| Owned { sinks, ..Owned::default() };
    for (positions, chunk) in [(1, 1), (9, 4), (67, 256), (150, 64), (300, 256)] {
        for (window, sinks) in [(1, 1), (5, 3), (20, 4), (4, 30), (65, 2), (400, 4)] {
            for shape in [group(3, 8), HeadGroup { soft_cap: Some(2.0), ..group(1, 5) }] {
                let (shape, owned) = (HeadGroup { window: Some(window), ..shape }, with_sinks(sinks));
                check_all::<f64>(&shape, (positions, chunk), Mask::default(), &owned, 1e-12);
                check_all::<f32>(&shape, (positions, chunk), Mask::default(), &owned, 3e-5);
            }
        }
        check_all::<f64>(&group(2, 4), (positions, chunk), Mask::default(), &with_sinks(4), 1e-12);
    }
}

#[test]
fn tiles_shrink_with_length_but_never_below_the_least() {
    let shape = group(4, 64);
    let rows: Vec<usize> = [0, 500, 2000, 100_000].iter().map(|&p| tile_rows(&shape, p)).collect();
    assert!(rows.windows(2).all(|w| w[0] >= w[1]), "{rows:?}");
    assert_eq!((rows[0], rows[3]), (TILE_ROWS, MIN_TILE_ROWS));
    assert_eq!(tile_rows(&HeadGroup { window: Some(64), ..shape }, 100_000), TILE_ROWS);
}

#[test]
fn alibi_entries_and_sigmoids_agree_with_naive() {
    for (positions, chunk) in [(1, 1), (67, 256), (150, 64)] {
        let marks: Vec<bool> = (0..positions).map(|position| position % 5 == 0).collect();
        for shape in [group(3, 7), HeadGroup { window: Some(20), soft_cap: Some(2.0), ..group(2, 4) }] {
            let heads = shape.queries_per_key;
            let scores = values(positions * heads, 11);
            for slopes in [Vec::new(), vec![0.3; heads]] {
                let value = values(shape.head_dim, 12);
                for entry in [None, Some((scores.clone(), None)), Some((scores.clone(), Some(value)))] {
                    let owned =
                        |sinks| Owned { slopes: slopes.clone(), entry: entry.clone(), sinks, last_position: Some(21) };
                    for weighting in [Weighting::Softmax, Weighting::Sigmoid { bias: -1.5 }] {
                        let shape = HeadGroup { weighting, ..shape };
                        for mask in [Mask::default(), Mask { hidden: &marks, alone: &marks }] {
                            for sinks in [0, 2] {
                                check_all::<f64>(&shape, (positions, chunk), mask, &owned(sinks), 1e-12);
                                check_all::<f32>(&shape, (positions, chunk), mask, &owned(sinks), 5e-5);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_look_changes_neither_output_nor_log_sum_exp() {
    let (q, k) = (values(40 * 8, 4), values(40 * 8, 5));
    let run = |look| {
        let mut out = vec![0.0; 40 * 8];
        let strided = |data| Strided { data, row_stride: 8 };
        let (q, k) = (strided(&q), strided(&k));
        let operands = Operands { rows: 40, first_position: 0, queries: q, keys: k, values: k };
        let into = StridedMut { data: &mut out, row_stride: 8 };
        let scan = attend(&group(1, 8), &operands, into, &Extras::default(), look);
        (out, scan)
    };
    let (out, scan) = run(Look::Scan);
    let (same, none) = run(Look::Nothing);
    let (also, sums) = run(Look::LogSumExp);
    assert!(same == out && also == out && none.is_none());
    let (scan, sums) = (scan.expect("asked for"), sums.expect("asked for"));
    assert_eq!(scan.log_sum_exp, sums.log_sum_exp);
    assert!(sums.received.is_empty() && sums.entropy.is_empty() && scan.entropy.len() == 40);
}
