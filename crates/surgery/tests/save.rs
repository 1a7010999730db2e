//! Models written with the weights that an operation changes: read back, they predict what the operation predicted.

mod fixture;

use std::fs;
use std::path::Path;

use sinkscope_anatomy::nll::NllTap;
use sinkscope_model::Model;
use sinkscope_model::pass::Pass;
use sinkscope_sources::data::TokenBatch;
use sinkscope_surgery::SurgeryError;
use sinkscope_surgery::compare::Request;
use sinkscope_surgery::plan::Planner;
use sinkscope_surgery::save::ChangedWeights;

use crate::fixture::{PLENTY, model, run};

fn batch() -> TokenBatch {
    fixture::batch(4, 9)
}

fn request(operations: &[&str]) -> Request {
    Request { bos: None, trials: false, ..fixture::request(operations) }
}

fn nll(model: &Model) -> f64 {
    let mut nll = NllTap::new(model.architecture().layer_count(), 0, 4).with_predictions();
    Pass::new(model, u64::MAX).run(&batch(), &mut [&mut nll]).expect("a pass");
    nll.predictions().iter().map(|&nll| f64::from(nll)).sum::<f64>() / nll.predictions().len() as f64
}

fn save(model: &Model, operations: &[&str], to: &Path) -> Result<(), SurgeryError> {
    let request = request(operations);
    ChangedWeights::new(&Planner::new(model, &batch(), &request), &request.operations, to)?.write()
}

#[test]
fn a_saved_model_predicts_what_the_operation_did() {
    let folder = tempfile::tempdir().expect("room");
    for family in ["llama", "gpt2", "gpt-neox", "phi3", "gemma2", "qwen2", "smollm3"] {
        let model = model(family);
        for operation in ["quantize=w3-g8", "quantize=w8+only=layer=1", "quantize=w-fp8-e4m3", "skip-head=1.2"] {
            let to = folder.path().join(format!("{family} {operation}"));
            save(&model, &[operation], &to).expect(operation);
            let found = run(&model, &batch(), &request(&[operation]), PLENTY).expect(operation);
            let saved = Model::open(to.to_str().expect("UTF-8")).expect("what was written");
            let (ours, theirs) = (nll(&saved), found.variants[0].nll.expect("targets"));
            assert!((ours - theirs).abs() < 1e-9, "{family} {operation}: {ours} {theirs}");
            assert!((ours - found.baseline.nll).abs() > 1e-7, "{family} {operation}: what changes nothing is no test");
        }
    }
    let (model, to) = (model("llama"), folder.path().join("skipped"));
    save(&model, &["skip-block=2-3@position=all"], &to).expect("no biases");
    let operation = request(&["skip-block=2-3@position=all"]);
    let found = run(&model, &batch(), &operation, PLENTY).expect("a comparison");
    let saved = Model::open(to.to_str().expect("UTF-8")).expect("what was written");
    assert!((nll(&saved) - found.variants[0].nll.expect("targets")).abs() < 1e-9);
    // Nothing half-written is left.
    assert!(fs::read_dir(folder.path()).expect("there").all(|entry| {
        let name = entry.expect("an entry").file_name();
        !name.to_string_lossy().starts_with('.')
    }));
}

#[test]
fn what_no_weights_can_say_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("room");
    let to = folder.path().join("new");
    let llama = model("llama");
    for (operations, part) in [
        (&["quantize=w8a8-token"][..], "the scheme quantises inputs too"),
        (&["quantize=hadamard-w8"], "rotated weights need rotated inputs"),
        (&["quantize=w8@position=0+keep-spikes"], "tokens that are kept meet weights as they are"),
        (&["quantize=w8+keep=0..3"], "a sweep is several models"),
        (&["cache=int4"], "it changes no weights; quantize=w8"),
        (&["zero-spikes"], "it changes no weights"),
        (&["skip-head=0.1@position=3"], "done to some tokens alone"),
        (&["skip-block=2"], "done to some tokens alone"),
        (&["quantize=w8", "drop-first"], "--save writes the weights of one operation, and 2 were named"),
    ] {
        let message = save(&llama, operations, &to).expect_err(operations[0]).to_string();
        assert!(message.contains(part) && !to.exists(), "{message}");
    }
    let message = save(&model("gpt2"), &["skip-block=2@position=all"], &to).expect_err("biases").to_string();
    assert!(message.contains("down of block 2 has a bias behind it"), "{message}");
    fs::create_dir(&to).expect("new");
    fs::write(to.join("kept"), "kept").expect("room");
    let error = save(&llama, &["quantize=w8"], &to).expect_err("taken");
    assert!(matches!(&error, SurgeryError::Save { path, .. } if *path == to), "{error}");
    fs::remove_file(to.join("kept")).expect("there");
    save(&llama, &["quantize=w8"], &to).expect("an empty directory is free");
}
