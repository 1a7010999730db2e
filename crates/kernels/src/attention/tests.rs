//! The tiles against attention written out in full.

use super::*;

struct Naive {
    out: Vec<f64>,
    weights: Vec<Vec<Vec<f64>>>,
    log_sum_exp: Vec<Vec<f64>>,
}

/// Every score of every pair, in f64.
fn naive(
    group: &HeadGroup<f64>,
    positions: usize,
    (q, sink_q, sinks): (&[f64], &[f64], usize),
    k: &[f64],
    v: &[f64],
    mask: Mask<'_>,
) -> Naive {
    let (heads, d) = (group.queries_per_key, group.head_dim);
    let mut result = Naive {
        out: vec![0.0; positions * heads * d],
        weights: vec![Vec::new(); heads],
        log_sum_exp: vec![Vec::new(); heads],
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
                    let seen = s <= t && (inside || s < sinks);
                    let apart = s != t && (mask.hidden.get(s) == Some(&true) || mask.alone.get(t) == Some(&true));
                    if seen && !apart { score } else { f64::NEG_INFINITY }
                })
                .collect();
            let sum: f64 = scores.iter().map(|s| s.exp()).sum();
            let weights: Vec<f64> = scores.iter().map(|s| s.exp() / sum).collect();
            for i in 0..d {
                result.out[(t * heads + head) * d + i] = (0..positions).map(|s| weights[s] * v[s * d + i]).sum();
            }
            result.weights[head].push(weights);
            result.log_sum_exp[head].push(sum.ln());
        }
    }
    result
}

fn values(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64 * 4.0 - 2.0
        })
        .collect()
}

fn check<F: Float>(group: &HeadGroup<f64>, positions: usize, chunk: usize, tolerance: f64) {
    check_all::<F>(group, positions, chunk, Mask::default(), 0, tolerance);
}

fn check_all<F: Float>(
    group: &HeadGroup<f64>,
    positions: usize,
    chunk: usize,
    mask: Mask<'_>,
    sinks: usize,
    tolerance: f64,
) {
    let (heads, d) = (group.queries_per_key, group.head_dim);
    let (q, k, v) = (values(positions * heads * d, 1), values(positions * d, 2), values(positions * d, 3));
    let sink_q = values(q.len(), 7);
    let expected = naive(group, positions, (&q, &sink_q, sinks), &k, &v, mask);
    let convert = |x: &[f64]| x.iter().map(|&v| F::from_f64(v)).collect::<Vec<F>>();
    let (q, k, v, sink_q) = (convert(&q), convert(&k), convert(&v), convert(&sink_q));
    let group = HeadGroup {
        queries_per_key: heads,
        head_dim: d,
        scale: F::from_f64(group.scale),
        soft_cap: group.soft_cap.map(F::from_f64),
        window: group.window,
    };
    let close = |a: F, b: f64| assert!((a.to_f64() - b).abs() < tolerance * (1.0 + b.abs()), "{a:?} {b}");
    let mut received = vec![vec![0.0; positions]; heads];
    for first in (0..positions).step_by(chunk) {
        let rows = chunk.min(positions - first);
        let mut out = vec![F::ZERO; rows * heads * d];
        let scan = attend(
            &group,
            rows,
            first,
            Strided { data: &q[first * heads * d..], row_stride: heads * d },
            Strided { data: &k, row_stride: d },
            Strided { data: &v, row_stride: d },
            (&mut out, heads * d),
            mask,
            (sinks > 0).then(|| Sinks {
                count: sinks,
                queries: Strided { data: &sink_q[first * heads * d..], row_stride: heads * d },
            }),
            true,
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
                close(scan.to_self[at], weights[t]);
                close(scan.to_first[at], weights[0]);
                close(scan.entropy[at], -weights.iter().filter(|&&w| w > 0.0).map(|w| w * w.ln()).sum::<f64>());
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

fn group(queries_per_key: usize, head_dim: usize) -> HeadGroup<f64> {
    HeadGroup { queries_per_key, head_dim, scale: 0.9, soft_cap: None, window: None }
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
                check_all::<f64>(&shape, positions, chunk, mask, 0, 1e-12);
                check_all::<f32>(&shape, positions, chunk, mask, 2, 3e-5);
            }
        }
    }
}

#[test]
fn sinks_stay_in_sight_of_windows() {
    for (positions, chunk) in [(1, 1), (9, 4), (67, 256), (150, 64), (300, 256)] {
        for (window, sinks) in [(1, 1), (5, 3), (20, 4), (4, 30), (65, 2), (400, 4)] {
            for shape in [group(3, 8), HeadGroup { soft_cap: Some(2.0), ..group(1, 5) }] {
                let shape = HeadGroup { window: Some(window), ..shape };
                check_all::<f64>(&shape, positions, chunk, Mask::default(), sinks, 1e-12);
                check_all::<f32>(&shape, positions, chunk, Mask::default(), sinks, 3e-5);
            }
        }
        check_all::<f64>(&group(2, 4), positions, chunk, Mask::default(), 4, 1e-12);
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
fn without_a_scan_the_output_is_the_same() {
    let (q, k) = (values(40 * 8, 4), values(40 * 8, 5));
    let run = |scan| {
        let mut out = vec![0.0; 40 * 8];
        let strided = |data| Strided { data, row_stride: 8 };
        let scan = attend(
            &group(1, 8),
            40,
            0,
            strided(&q),
            strided(&k),
            strided(&k),
            (&mut out, 8),
            Mask::default(),
            None,
            scan,
        );
        (out, scan.is_some())
    };
    let (with, without) = (run(true), run(false));
    assert_eq!(with.0, without.0);
    assert!(with.1 && !without.1);
}
