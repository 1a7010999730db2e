//! What SmolLM2 needs of its spikes, on the built-in text.

use std::path::Path;

use sinkscope_anatomy::examination::Surroundings;
use sinkscope_model::Model;
use sinkscope_sources::data::{self, TextRequest};
use sinkscope_sources::tokenizer::Tokenizer;
use sinkscope_surgery::compare::{Request, compare};
use sinkscope_surgery::results::Comparison;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/SmolLM2-135M-Instruct.Q4_1.gguf");

/// The built-in text in sequences of `seq_len` tokens, and what becomes of it.
fn compare_on_text(typed: &[&str], seq_len: Option<usize>) -> Comparison {
    assert!(Path::new(MODEL).exists(), "{MODEL} is missing; scripts/fetch-model.sh fetches it");
    let model = Model::open(MODEL).expect("the model");
    let checkpoint = model.checkpoint();
    let tokenizer = Tokenizer::from_metadata(checkpoint.metadata(), checkpoint.path()).expect("readable");
    let request = TextRequest { seq_len, ..TextRequest::default() };
    let text = data::load(&request, tokenizer.as_ref(), model.architecture().vocabulary).expect("text");
    let request = Request {
        operations: typed.iter().map(|typed| typed.parse().expect("an operation")).collect(),
        spike_ratio: 5.0,
        epsilon: 0.3,
        seed: 0,
        bos: None,
        calibration: None,
        trials: true,
    };
    let around = Surroundings { memory: 4 << 30, text: &|_| String::new(), progress: &|_| {} };
    compare(&model, &text.batch, &request, around).expect("a comparison").comparison
}

#[test]
#[ignore = "needs models/SmolLM2-135M-Instruct.Q4_1.gguf: scripts/fetch-model.sh"]
fn spikes_must_be_there_and_need_not_vary() {
    let typed = [
        "zero-spikes",
        "mean-spikes",
        "zero-spikes@position=17",
        "mean-spikes@position=17",
        "zero-spikes@channels=3,99,200",
        "mean-spikes@channels=3,99,200",
    ];
    let found = compare_on_text(&typed, None);
    let place = found.spike.expect("spikes");
    assert_eq!((place.block, place.channels[0]), (24, 507));
    let before = found.baseline.perplexity.expect("a number");
    let after: Vec<f64> = found.variants.iter().map(|variant| variant.perplexity.expect("targets")).collect();
    assert!(after[0] > 100_000.0, "zeroed: {}", after[0]);
    assert!((after[1] / before - 1.0).abs() < 0.01, "mean: {before} {}", after[1]);
    for (name, after) in typed.iter().zip(&after).skip(2) {
        assert!((after / before - 1.0).abs() < 0.1, "{name}: {before} {after}");
    }
    assert!(found.variants.iter().all(|variant| variant.computed_after == 24));
}

#[test]
#[ignore = "needs models/SmolLM2-135M-Instruct.Q4_1.gguf: scripts/fetch-model.sh"]
fn a_window_needs_its_sinks() {
    let found = compare_on_text(&["window=256", "window=256+sinks=4"], Some(2048));
    let late = |index: usize| {
        let after = found.variants[index].perplexity_after.expect("a long text");
        assert_eq!(after.position, 1024);
        after.value / after.untouched
    };
    assert!(late(0) > 2.0, "without sinks {}", late(0));
    assert!(late(1) < 1.15, "with four {}", late(1));
}

#[test]
#[ignore = "needs models/SmolLM2-135M-Instruct.Q4_1.gguf: scripts/fetch-model.sh"]
fn spikes_are_what_a_shared_scale_cannot_bear() {
    let typed = ["quantize=a8-tensor", "quantize=a8-tensor+keep-spikes"];
    let found = compare_on_text(&typed, None);
    let before = found.baseline.perplexity.expect("a number");
    let after: Vec<f64> = found.variants.iter().map(|variant| variant.perplexity.expect("targets")).collect();
    let loss: Vec<f64> = found.variants.iter().map(|variant| variant.delta_nll.expect("targets")).collect();
    assert!(after[0] > 1.5 * before, "all tokens share scales: {before} {}", after[0]);
    assert!(loss[1] < 0.25 * loss[0], "spikes kept: {loss:?}");
    assert_eq!(found.variants[1].kept_tokens, found.spike.map(|spike| spike.tokens));
    // The block that makes the spike reads what no scale of the others can hold.
    let down =
        found.variants[0].linear_layers.iter().find(|layer| (layer.block, layer.projection.as_str()) == (24, "down"));
    let down = down.expect("a layer");
    assert!(down.breaks && down.largest_at_spikes > Some(20.0 * down.largest_elsewhere), "{down:?}");
    let breaking = |index: usize| found.variants[index].linear_layers.iter().filter(|layer| layer.breaks).count();
    assert_eq!((breaking(0), breaking(1)), (2, 0));
}
