//! Sink ratios against full attention matrices, and the NLL tap.

mod fake;

use fake::{Division, FakePass};
use sinkscope_anatomy::examination::AnatomyRequest;
use sinkscope_anatomy::results::{Anatomy, Sinks};
use sinkscope_anatomy::sinks::{SinkDefinition, SinkTap};

fn request() -> AnatomyRequest {
    AnatomyRequest { lifecycle: false, spikes: false, ..AnatomyRequest::default() }
}

fn sinks_of(pass: &FakePass, definition: SinkDefinition, epsilon: f64, division: Division) -> Sinks {
    let mut tap = SinkTap::new(pass.layers, pass.heads, pass.batch.sequences, pass.batch.seq_len);
    pass.show(&mut tap, division);
    tap.finish(definition, epsilon, 1)
}

/// max alpha by sequence, layer and head.
fn naive_alpha(pass: &FakePass, definition: SinkDefinition) -> Vec<f64> {
    let seq_len = pass.batch.seq_len;
    let mut all = Vec::new();
    for sequence in 0..pass.batch.sequences {
        for layer in &pass.attention {
            for head in 0..pass.heads {
                let matrix = &layer[(sequence * pass.heads + head) * seq_len * seq_len..][..seq_len * seq_len];
                let keys = if definition == SinkDefinition::Gu { 0..1 } else { 0..seq_len / 2 };
                let alpha = keys.map(|key| {
                    let received: f64 = (0..seq_len).map(|query| f64::from(matrix[query * seq_len + key])).sum();
                    received / (if definition == SinkDefinition::Paper { seq_len } else { seq_len - key }) as f64
                });
                all.push(alpha.fold(0.0, f64::max));
            }
        }
    }
    all
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn all_definitions_agree_with_full_matrices() {
    for (seed, (seq_len, heads)) in [(1, 1), (2, 3), (3, 2), (17, 5), (64, 4), (600, 2)].into_iter().enumerate() {
        let pass = FakePass::new(seed as u64, 3, 4, seq_len, 2, &[]).with_attention(seed as u64, heads);
        for definition in SinkDefinition::ALL {
            let sinks = sinks_of(&pass, definition, 0.3, Division::WHOLE);
            let alpha = naive_alpha(&pass, definition);
            let is_sink = |alpha: f64| f64::from(u8::from(alpha > 0.3));
            assert!((sinks.ratio - mean(alpha.iter().map(|alpha| is_sink(*alpha)))).abs() < 1e-12);
            assert!((sinks.mean_max_alpha - mean(alpha.iter().copied())).abs() < 1e-6);
            for layer in 0..3 {
                let of_layer = || alpha.chunks(heads).skip(layer).step_by(3);
                let ratio = mean(of_layer().flatten().map(|alpha| is_sink(*alpha)));
                assert!((sinks.by_layer[layer] - ratio).abs() < 1e-12);
                for head in 0..heads {
                    let of_head = || of_layer().map(|heads| heads[head]);
                    assert!((sinks.heads[layer][head] - mean(of_head())).abs() < 1e-6);
                    assert!((sinks.head_ratio[layer][head] - mean(of_head().map(is_sink))).abs() < 1e-12);
                }
            }
            assert_eq!(sinks.definition, definition.name());
            assert_eq!(sinks.other_definitions.len(), 2);
            assert!(!sinks.other_definitions.contains_key(definition.name()));
            for (name, other) in &sinks.other_definitions {
                let alone = sinks_of(&pass, name.parse().expect("a name"), 0.3, Division::WHOLE);
                assert_eq!((other.ratio, other.ratio_ci95), (alone.ratio, alone.ratio_ci95));
                assert_eq!((&other.heads, &other.by_layer), (&alone.heads, &alone.by_layer));
            }
        }
    }
}

/// layers x bins, and where the bins begin.
fn naive_by_position(pass: &FakePass) -> (Vec<usize>, Vec<Vec<f64>>) {
    let seq_len = pass.batch.seq_len;
    // The bin of a position: itself, or its highest power of two.
    let bin = |key: usize| if key < 64 { key } else { 1 << key.ilog2() };
    let mut first: Vec<usize> = (0..seq_len).map(bin).collect();
    first.dedup();
    let of_bin = |layer: &Vec<f32>, first: usize| {
        let matrices = || layer.chunks_exact(seq_len * seq_len);
        let keys = || (0..seq_len).filter(|&key| bin(key) == first);
        let alpha = |matrix: &[f32], key: usize| {
            (0..seq_len).map(|query| f64::from(matrix[query * seq_len + key])).sum::<f64>() / seq_len as f64
        };
        mean(matrices().flat_map(|matrix| keys().map(move |key| alpha(matrix, key))))
    };
    let layers = pass.attention.iter().map(|layer| first.iter().map(|&first| of_bin(layer, first)).collect()).collect();
    (first, layers)
}

#[test]
fn alpha_by_position_agrees_with_full_matrices() {
    for (seed, (seq_len, heads)) in
        [(1, 1), (2, 3), (17, 5), (64, 4), (65, 1), (129, 3), (600, 2)].into_iter().enumerate()
    {
        let pass = FakePass::new(seed as u64, 3, 4, seq_len, 2, &[]).with_attention(seed as u64, heads);
        let (first, layers) = naive_by_position(&pass);
        let found = sinks_of(&pass, SinkDefinition::Gu, 0.3, Division::WHOLE).by_position;
        assert_eq!(found.first, first, "{seq_len}");
        for (found, expected) in found.layers.iter().flatten().zip(layers.iter().flatten()) {
            assert!((found - expected).abs() < 1e-7, "{seq_len}: {found} is not {expected}");
        }
        // What all queries give is what all keys receive.
        let width = |bin: usize| first.get(bin + 1).copied().unwrap_or(seq_len) - first[bin];
        for layer in &found.layers {
            let sum: f64 = layer.iter().enumerate().map(|(bin, alpha)| alpha * width(bin) as f64).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{seq_len}: {sum}");
        }
    }
}

#[test]
fn adopted_layers_are_the_other_tap_s() {
    let pass = |seed| FakePass::new(seed, 3, 4, 100, 2, &[]).with_attention(seed, 2);
    let tap = |pass: &FakePass| {
        let mut tap = SinkTap::new(3, 2, 4, 100);
        pass.show(&mut tap, Division::WHOLE);
        tap
    };
    let finish = |tap: &SinkTap| tap.finish(SinkDefinition::Paper, 0.3, 0);
    let (one, mut other) = (tap(&pass(1)), tap(&pass(2)));
    let before = finish(&other);
    other.adopt_layers(&one, 0..2);
    let (adopted, one) = (finish(&other), finish(&one));
    assert_ne!(one.by_position, before.by_position);
    for layer in 0..3 {
        let from = if layer < 2 { &one } else { &before };
        assert_eq!(adopted.by_position.layers[layer], from.by_position.layers[layer]);
        assert_eq!(adopted.heads[layer], from.heads[layer]);
    }
}

#[test]
fn position_0_entropy_and_self_attention_are_means_over_queries() {
    let pass = FakePass::new(3, 2, 3, 30, 2, &[]).with_attention(4, 2);
    let sinks = sinks_of(&pass, SinkDefinition::Paper, 0.3, Division { sequences_per_group: 2, chunk_rows: 7 });
    for layer in 0..2 {
        for head in 0..2 {
            let rows = || {
                (0..3).flat_map(move |sequence| (0..30).map(move |query| (sequence, query))).map(
                    |(sequence, query): (usize, usize)| {
                        let start = ((sequence * 2 + head) * 30 + query) * 30;
                        (query, &pass.attention[layer][start..start + 30])
                    },
                )
            };
            let first = mean(rows().map(|(_, row)| f64::from(row[0])));
            let to_self = mean(rows().map(|(query, row)| f64::from(row[query])));
            let entropy = mean(rows().map(|(_, row)| {
                row.iter().map(|&p| f64::from(p)).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum::<f64>()
            }));
            assert!((sinks.position_0[layer][head] - first).abs() < 1e-6);
            assert!((sinks.to_self[layer][head] - to_self).abs() < 1e-6);
            assert!((sinks.entropy[layer][head] - entropy).abs() < 1e-5);
        }
    }
}

#[test]
fn groups_do_not_show_and_chunks_hardly() {
    let pass = FakePass::new(5, 2, 5, 600, 2, &[]).with_attention(6, 2);
    let whole = pass.examine(&request(), Division::WHOLE).0;
    for sequences_per_group in [1, 2, 3] {
        let division = Division { sequences_per_group, ..Division::WHOLE };
        assert_eq!(pass.examine(&request(), division).0, whole);
    }
    // Sums within a chunk are f32.
    let split = pass.examine(&request(), Division { sequences_per_group: 5, chunk_rows: 33 }).0;
    let (split, whole) = (split.sinks.expect("asked for"), whole.sinks.expect("asked for"));
    assert_eq!(split.ratio, whole.ratio);
    assert!((split.mean_max_alpha - whole.mean_max_alpha).abs() < 1e-6);
}

/// One head; every query puts `to_first` on key 0 and the rest on itself.
fn constant_attention(seq_len: usize, sequences: usize, to_first: impl Fn(usize) -> f32) -> FakePass {
    let mut pass = FakePass::new(7, 1, sequences, seq_len, 2, &[]);
    let mut layer = vec![0.0; sequences * seq_len * seq_len];
    for (sequence, matrix) in layer.chunks_exact_mut(seq_len * seq_len).enumerate() {
        for query in 0..seq_len {
            matrix[query * seq_len + query] += 1.0 - to_first(sequence);
            matrix[query * seq_len] += to_first(sequence);
        }
    }
    pass.attention = vec![layer];
    pass
}

#[test]
fn the_threshold_is_strict_and_applied_before_the_mean() {
    // alpha_0 = (1 + 3 * 0.5) / 4 = 0.625 in the first sequence, 0.25 in the others.
    let pass = constant_attention(4, 4, |sequence| if sequence == 0 { 0.5 } else { 0.0 });
    let ratio = |epsilon| sinks_of(&pass, SinkDefinition::Paper, epsilon, Division::WHOLE).ratio;
    assert_eq!(ratio(0.625), 0.0);
    assert_eq!(ratio(0.624), 0.25);
    assert_eq!(ratio(0.25), 0.25);
    assert_eq!(ratio(0.249), 1.0);
    let sinks = sinks_of(&pass, SinkDefinition::Paper, 0.5, Division::WHOLE);
    // Averaged first, alpha would be 0.34375, below the threshold in all of them.
    assert_eq!((sinks.ratio, sinks.mean_max_alpha), (0.25, 0.343_75));
}

#[test]
fn a_sequence_of_one_token_has_no_first_half() {
    let pass = constant_attention(1, 2, |_| 1.0);
    assert_eq!(sinks_of(&pass, SinkDefinition::Paper, 0.3, Division::WHOLE).ratio, 0.0);
    assert_eq!(sinks_of(&pass, SinkDefinition::GuMax, 0.3, Division::WHOLE).ratio, 0.0);
    assert_eq!(sinks_of(&pass, SinkDefinition::Gu, 0.3, Division::WHOLE).ratio, 1.0);
}

#[test]
fn intervals_need_two_sequences_hold_the_estimate_and_repeat() {
    let one = FakePass::new(1, 1, 1, 8, 2, &[]).with_attention(1, 2);
    let sinks = sinks_of(&one, SinkDefinition::Paper, 0.3, Division::WHOLE);
    assert_eq!((sinks.ratio_ci95, sinks.by_layer_ci95, sinks.heads_ci95), (None, None, None));

    let pass = FakePass::new(8, 3, 40, 16, 2, &[]).with_attention(9, 4);
    let sinks = sinks_of(&pass, SinkDefinition::GuMax, 0.3, Division::WHOLE);
    assert_eq!(sinks, sinks_of(&pass, SinkDefinition::GuMax, 0.3, Division::WHOLE));
    let holds = |interval: [f64; 2], value: f64| interval[0] < value && value < interval[1];
    assert!(sinks.ratio_ci95.is_some_and(|interval| holds(interval, sinks.ratio)));
    assert!(sinks.mean_max_alpha_ci95.is_some_and(|interval| holds(interval, sinks.mean_max_alpha)));
    let by_layer = sinks.by_layer_ci95.expect("forty sequences");
    assert!(by_layer.iter().zip(&sinks.by_layer).all(|(interval, ratio)| holds(*interval, *ratio)));
    let heads = sinks.heads_ci95.expect("forty sequences");
    assert!(heads.iter().flatten().zip(sinks.heads.iter().flatten()).all(|(interval, mean)| holds(*interval, *mean)));
}

#[test]
fn an_unknown_definition_is_named() {
    let error = "sinks".parse::<SinkDefinition>().expect_err("no such definition");
    assert!(error.to_string().contains("`sinks`"));
}

#[test]
fn perplexity_is_exp_of_the_mean_over_tokens_however_divided() {
    let pass = FakePass::new(9, 1, 3, 600, 2, &[]).with_attention(9, 1);
    let Anatomy { nll, perplexity, predicted_tokens, .. } =
        pass.examine(&request(), Division { sequences_per_group: 2, chunk_rows: 256 }).0;
    let expected = mean(pass.nll.iter().map(|nll| f64::from(*nll)));
    assert!(nll.is_some_and(|nll| (nll - expected).abs() < 1e-10));
    assert!(perplexity.is_some_and(|perplexity| (perplexity - expected.exp()).abs() < 1e-6));
    assert_eq!(predicted_tokens, Some(3 * 599));
}
