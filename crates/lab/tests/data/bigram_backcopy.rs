//! Bigram-Backcopy: the rule, the table, and the loss of the ideal predictor.

use std::collections::BTreeSet;

use sinkscope_anatomy::wide::dot_f64;
use sinkscope_lab::data::bigram_backcopy::{BigramBackcopy, BigramBackcopyTask};
use sinkscope_lab::data::{Batch, Packing, Source, SourceKind, SourceRequest};

use crate::on_threads;

fn task() -> BigramBackcopy {
    BigramBackcopy::new(&BigramBackcopyTask::default()).expect("in range")
}

/// Sequences with their last target.
fn sequences(batch: &Batch) -> Vec<Vec<u32>> {
    let rows = batch.inputs.chunks(batch.seq_len).zip(batch.targets.chunks(batch.seq_len));
    rows.map(|(inputs, targets)| {
        assert_eq!(inputs[1..], targets[..batch.seq_len - 1]);
        [inputs, &targets[batch.seq_len - 1..]].concat()
    })
    .collect()
}

#[test]
fn sequences_obey_the_rule() {
    let task = task();
    assert_eq!((task.vocabulary(), task.bos()), (65, 64));
    assert_eq!((0..65).filter(|&token| task.is_trigger(token)).count(), 16);
    let (mut copies, mut draws) = (0, 0);
    for sequence in sequences(&task.training(7, 3, 256, 64).expect("drawn")) {
        assert_eq!(sequence[0], 64);
        assert!(sequence[1..].iter().all(|&token| token < 64));
        for place in 1..sequence.len() {
            let last = sequence[place - 1];
            if task.is_trigger(last) {
                assert_eq!(sequence[place], sequence[place - 2]);
                assert!(place > 1 && !task.is_trigger(sequence[place]), "two triggers never stand side by side");
                copies += 1;
            } else {
                assert!(task.row(last)[sequence[place] as usize] > 0.0);
                draws += 1;
            }
        }
    }
    println!("{copies} copies, {draws} draws");
    assert!(copies > 1000 && draws > 5000, "{copies} copies, {draws} draws");
}

#[test]
fn draws_have_the_frequencies_of_the_table() {
    let task = task();
    let mut counts = vec![0_u32; 64];
    let drawn = sequences(&task.training(0, 0, 20_000, 2).expect("drawn"));
    for sequence in &drawn {
        counts[sequence[1] as usize] += 1;
    }
    for (token, &count) in counts.iter().enumerate() {
        let (probability, total) = (task.row(64)[token], drawn.len() as f64);
        let deviation = (probability * (1.0 - probability) / total).sqrt();
        let frequency = f64::from(count) / total;
        assert!((frequency - probability).abs() < 4.5 * deviation + 1e-9, "{token}: {frequency}, {probability}");
    }
}

#[test]
fn rows_are_distributions_with_few_heavy_entries() {
    let task = task();
    for token in 0..65 {
        let row = task.row(token);
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12 && row.iter().all(|&share| share >= 0.0));
    }
    // The mean of the sum of squares under Dirichlet(a) of n outcomes is (a + 1) / (n a + 1).
    let squares: f64 =
        (0..65).map(|token| task.row(token).iter().map(|share| share * share).sum::<f64>()).sum::<f64>() / 65.0;
    let expected = 1.05 / (64.0 * 0.05 + 1.0);
    assert!((squares - expected).abs() < 0.06, "{squares}, {expected}");
}

#[test]
fn batches_are_functions_of_seed_and_step() {
    let kind = SourceKind::BigramBackcopy(BigramBackcopyTask::default());
    let request = SourceRequest { kind, packing: Packing::Stream, bos: true, seed: 4 };
    let source = Source::open(&request).expect("in range");
    let batches: Vec<Batch> = (0..6).map(|step| source.training(step, 32, 64).expect("drawn")).collect();
    let again = Source::open(&request).expect("in range");
    for step in (0..6).rev() {
        for threads in [1, 2, 5] {
            let batch = on_threads(threads, || again.training(step, 32, 64)).expect("drawn");
            assert_eq!(batch, batches[step as usize]);
        }
    }
    let halves: Vec<u32> = (4..6).flat_map(|step| source.training(step, 16, 64).expect("drawn").inputs).collect();
    assert_eq!(halves, batches[2].inputs);

    let other = Source::open(&SourceRequest { seed: 5, ..request }).expect("in range");
    assert_eq!(other.held_out(64, 64).expect("drawn"), source.held_out(64, 64).expect("drawn"));
    assert_ne!(other.training(0, 32, 64).expect("drawn"), batches[0]);
    assert_eq!(other.identity(), source.identity(), "the seed of the training is not the data's");
    assert!(source.training(u64::MAX, 2, 8).is_err());
}

#[test]
fn every_sequence_is_fresh_and_held_out_ones_are_in_no_batch() {
    // With flat rows and few triggers, chance does not make two sequences alike.
    let task = BigramBackcopyTask { triggers: 2, concentration: 5.0, ..BigramBackcopyTask::default() };
    let task = BigramBackcopy::new(&task).expect("in range");
    let mut rows: Vec<Vec<u32>> = sequences(&task.held_out(64, 64));
    for (seed, step) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (u64::MAX, 0)] {
        rows.extend(sequences(&task.training(seed, step, 64, 64).expect("drawn")));
    }
    let count = rows.len();
    assert_eq!(rows.into_iter().collect::<BTreeSet<_>>().len(), count);
}

#[test]
fn the_seed_of_the_data_makes_the_task() {
    let other =
        BigramBackcopy::new(&BigramBackcopyTask { seed: 1, ..BigramBackcopyTask::default() }).expect("in range");
    assert_ne!(other.identity().sha256, task().identity().sha256);
    assert_ne!(other.row(0), task().row(0));
    assert_eq!(task().identity(), task().identity());
}

/// The expected loss of the ideal predictor, which knows table and triggers, in nats a predicted token of sequences of
/// `seq_len` tokens: zero for a copy, the entropy of the row elsewhere, weighted by how often each token stands at
/// each position (exactly, from the chain of pairs of tokens).
fn entropy_floor(task: &BigramBackcopy, seq_len: usize) -> f64 {
    let tokens = task.vocabulary() - 1;
    let entropies: Vec<f64> = (0..=tokens as u32).map(|token| entropy(task.row(token))).collect();
    // What comes after <s>, and what comes after that, is always a draw: no trigger stands there.
    let first = task.row(task.bos()).to_vec();
    let mut sum = entropies[tokens];
    if seq_len > 1 {
        sum += dot_f64(&first, &entropies);
    }
    // Probability that the last token but one is `before` and the last `last`.
    let mut pairs = vec![0.0; tokens * tokens];
    for before in 0..tokens {
        for (last, probability) in task.row(before as u32).iter().enumerate() {
            pairs[before * tokens + last] = first[before] * probability;
        }
    }
    for _ in 2..seq_len {
        let mut next = vec![0.0; tokens * tokens];
        let mut drawn_from = vec![0.0; tokens];
        for before in 0..tokens {
            for last in 0..tokens {
                let probability = pairs[before * tokens + last];
                if task.is_trigger(last as u32) {
                    next[last * tokens + before] += probability;
                } else {
                    drawn_from[last] += probability;
                }
            }
        }
        for (last, &probability) in drawn_from.iter().enumerate() {
            sum += probability * entropies[last];
            for (token, follows) in task.row(last as u32).iter().enumerate() {
                next[last * tokens + token] += probability * follows;
            }
        }
        pairs = next;
    }
    sum / seq_len.max(1) as f64
}

/// In nats.
fn entropy(probabilities: &[f64]) -> f64 {
    probabilities
        .iter()
        .filter(|&&probability| probability > 0.0)
        .map(|probability| -probability * probability.ln())
        .sum()
}

#[test]
fn the_floor_is_the_loss_of_the_ideal_predictor() {
    let task = task();
    for seq_len in [2, 3, 5, 64] {
        let (mut sum, mut squares, drawn) =
            (0.0, 0.0, sequences(&task.training(1, 0, 20_000, seq_len).expect("drawn")));
        for sequence in &drawn {
            let loss = (1..sequence.len()).map(|place| {
                let last = sequence[place - 1];
                let copied = place > 2 && task.is_trigger(last);
                if copied { 0.0 } else { -task.row(last)[sequence[place] as usize].ln() }
            });
            let loss = loss.sum::<f64>() / seq_len as f64;
            (sum, squares) = (sum + loss, squares + loss * loss);
        }
        let count = drawn.len() as f64;
        let mean = sum / count;
        let error = ((squares / count - mean * mean) / count).sqrt();
        let floor = entropy_floor(&task, seq_len);
        println!("T {seq_len}: floor {floor:.4}, mean {mean:.4} +- {error:.4}");
        assert!((mean - floor).abs() < 4.5 * error, "{seq_len}: {mean} +- {error}, floor {floor}");
        assert!(floor > 0.5 && floor < (64_f64).ln());
    }
}

#[test]
fn tasks_out_of_range_are_refused() {
    let base = BigramBackcopyTask::default();
    for (task, expected) in [
        (BigramBackcopyTask { tokens: 1, triggers: 0, ..base.clone() }, "tokens = 1 is not"),
        (BigramBackcopyTask { triggers: 64, ..base.clone() }, "triggers = 64 is too many"),
        (BigramBackcopyTask { concentration: 0.0, ..base.clone() }, "concentration = 0 is not"),
        (BigramBackcopyTask { concentration: f64::NAN, ..base.clone() }, "concentration = NaN is not"),
    ] {
        let message = BigramBackcopy::new(&task).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
}
