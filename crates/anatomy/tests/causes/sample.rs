//! The shape of the sample.

use std::fs;

use sinkscope_anatomy::sample::{LEAST_TOKENS, MOST_TOKENS, SHARE, Sample};
use sinkscope_model::Model;

use crate::recorded::{batch, fixture, model, stage};

#[test]
fn has_at_most_its_share_and_is_the_start_of_sequences() {
    let model = model("llama");
    for (sequences, seq_len) in [(64, 64), (4, 1024), (1, 2048), (1, 32_768), (200, 10), (1, 2), (3, 700), (4096, 64)] {
        let batch = batch(sequences, seq_len);
        let sample = Sample::new(&model, &batch);
        let tokens = sample.batch.tokens.len();
        assert_eq!(tokens, sample.batch.sequences * sample.batch.seq_len);
        let budget = ((SHARE * batch.tokens.len() as f64) as usize).clamp(LEAST_TOKENS, MOST_TOKENS);
        assert!(tokens <= budget && tokens * 2 >= budget.min(batch.tokens.len()), "{sequences} x {seq_len}: {tokens}");
        assert!(sample.sequences.windows(2).all(|pair| pair[0] < pair[1]));
        for (row, &sequence) in sample.batch.tokens.chunks_exact(sample.batch.seq_len).zip(&sample.sequences) {
            assert_eq!(row, &batch.tokens[sequence * seq_len..][..sample.batch.seq_len]);
        }
    }
}

/// Where the first positions of a long sequence are not those of a short one.
#[test]
fn sequences_stay_whole_where_length_changes_the_encoding() {
    let home = tempfile::tempdir().expect("a directory");
    let source = fixture("phi3-longrope");
    let config = fs::read_to_string(source.join("config.json")).expect("a fixture");
    let original = "\"original_max_position_embeddings\": 8";
    assert!(config.contains(original));
    let config = config.replace(original, "\"original_max_position_embeddings\": 1500");
    fs::write(home.path().join("config.json"), config).expect("written");
    fs::copy(source.join("model.safetensors"), home.path().join("model.safetensors")).expect("a fixture");
    let model = Model::open(home.path().to_str().expect("UTF-8")).expect("a model");
    let shape = |sequences, seq_len| {
        let sample = Sample::new(&model, &batch(sequences, seq_len));
        (sample.batch.sequences, sample.batch.seq_len)
    };
    assert_eq!(shape(1, 4000), (1, 4000));
    assert_eq!(shape(8, 1600), (2, 1600));
    // All positions are encoded for a short context, or all for a long one.
    assert_eq!(shape(1, 1400).1, 512);
    assert_eq!(shape(1, 8000).1, 2000);
}

#[test]
fn spike_tokens_are_found_again() {
    let batch = batch(400, 20);
    let sample = Sample::new(&model("llama"), &batch);
    assert!(sample.sequences.len() < 400);
    let mut stage = stage();
    stage.tokens.iter_mut().for_each(|token| token.sequence = sample.sequences[token.sequence + 1]);
    // One that is not in the sample.
    let missing = (0..400).find(|sequence| !sample.sequences.contains(sequence)).expect("some");
    stage.tokens[3].sequence = missing;
    let marked = |of: &[bool], mark| -> Vec<usize> { (0..of.len()).filter(|&token| of[token] == mark).collect() };
    let seq_len = sample.batch.seq_len;
    let of_stage = [seq_len, 2 * seq_len, 2 * seq_len + 5];
    // The tokens of a weaker stage are not among the others.
    let mut weaker = stage.clone();
    weaker.tokens[0].position = 7;
    let stages = [stage, weaker];
    let kinds = sample.kinds(Some(&stages[0]), &stages);
    assert_eq!(marked(&kinds.spike, true), of_stage);
    assert_eq!(marked(&kinds.other, false), [seq_len, seq_len + 7, 2 * seq_len, 2 * seq_len + 5]);
    let none = sample.kinds(None, &[]);
    assert!(none.spike.iter().all(|spike| !spike) && none.other.iter().all(|other| *other));
}
