//! A shared prefix gives what whole sequences give.

use super::{PLENTY, family, record, row_difference};
use crate::error::ModelError;
use crate::pass::{Continuations, Step};
use sinkscope_sources::data::TokenBatch;

const FAMILIES: [&str; 9] =
    ["llama3", "mistral", "qwen3", "gemma2", "gemma3", "olmo2", "phi3-longrope", "gpt2", "gpt-neox"];

#[test]
fn candidates_are_the_last_tokens_of_whole_sequences() {
    for name in FAMILIES {
        let (model, _) = family(name);
        let a = model.architecture();
        let vocabulary = a.vocabulary as u32;
        // With and without a prefix; the longer one exceeds the windows.
        for length in [0, 1, 13] {
            let prefix: Vec<u32> = (0..length).map(|i| (5 * i + 3) % vocabulary).collect();
            let candidates: Vec<u32> = (0..vocabulary).rev().collect();
            let tokens = candidates.iter().flat_map(|&id| prefix.iter().copied().chain([id])).collect();
            let batch = TokenBatch { tokens, sequences: candidates.len(), seq_len: prefix.len() + 1 };
            let whole = record(&model, &batch);
            let mut blocks = 0;
            let mut compare = |step: &Step<'_>| {
                assert_eq!((step.block, step.candidates.clone()), (blocks, 0..candidates.len()));
                blocks += 1;
                let rows = whole.residual[step.block].chunks_exact(a.d_model);
                let last: Vec<f32> = rows.skip(prefix.len()).step_by(batch.seq_len).flatten().copied().collect();
                let difference = row_difference(step.residual, &last, a.d_model);
                assert!(difference < 1e-5, "{name}, {length} before, block {}: {difference:e}", step.block);
            };
            Continuations::new(&model, &prefix, PLENTY).run(&candidates, a.blocks(), &mut compare).expect("a run");
            assert_eq!(blocks, a.blocks() + 1);
        }
    }
}

#[test]
fn groups_and_threads_change_no_bit() {
    let (model, _) = family("llama");
    let blocks = model.architecture().blocks();
    let candidates: Vec<u32> = (0..700).map(|i| (i * i) % model.architecture().vocabulary as u32).collect();
    let run = |threads, memory| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let (mut last, mut groups) = (Vec::new(), 0);
        let mut keep = |step: &Step<'_>| {
            if step.block == blocks {
                groups += 1;
                last.extend(step.residual.iter().map(|value| value.to_bits()));
            }
        };
        pool.install(|| Continuations::new(&model, &[4, 2], memory).run(&candidates, blocks, &mut keep))
            .expect("a run");
        (groups, last)
    };
    let (groups, one) = run(1, PLENTY);
    assert_eq!((groups, one.len()), (1, 700 * model.architecture().d_model));
    let (groups, several) = run(2, 1);
    assert!(groups > 1 && several == one, "{groups} groups");
}

#[test]
fn what_cannot_be_run_is_said() {
    let (model, _) = family("gpt2");
    let refused = |prefix: &[u32], id, block| {
        let run = Continuations::new(&model, prefix, PLENTY).run(&[id], block, &mut |_| {});
        match run {
            Err(ModelError::Request(reason)) => reason,
            other => format!("{other:?}"),
        }
    };
    let a = model.architecture();
    assert!(refused(&[], a.vocabulary as u32, 1).contains("beyond the vocabulary"));
    assert!(refused(&[a.vocabulary as u32], 0, 1).contains("beyond the vocabulary"));
    assert!(refused(&[], 0, a.blocks() + 1).contains("does not exist"));
    assert!(refused(&vec![0; a.max_positions], 0, 1).contains("learned positions"));
}
