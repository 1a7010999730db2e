//! `sinkscope operate`: a model changed while it runs.

use std::fs;

use serde_json::Value;

use crate::tiny::Tiny;
use crate::{refused, run};

fn arguments(tiny: &Tiny, operations: &[&str], options: &[&str]) -> Vec<String> {
    let (model, out, tokens) = (tiny.model(), tiny.path("out"), tiny.tokens(4, 12));
    let model = model.to_str().expect("UTF-8");
    let out = out.to_str().expect("UTF-8");
    let line = [&["operate", model][..], operations, &["--out", out, "--tokens", &tokens], options].concat();
    line.into_iter().map(str::to_owned).collect()
}

fn operate(tiny: &Tiny, operations: &[&str], options: &[&str]) -> (String, Value) {
    let line = arguments(tiny, operations, options);
    let (status, stdout, stderr) = run(&line);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let path = tiny.path("out/operate.json");
    (stdout, serde_json::from_slice(&fs::read(path).expect("written")).expect("JSON"))
}

fn refused_in(tiny: &Tiny, operations: &[&str], options: &[&str]) -> String {
    let line = arguments(tiny, operations, options);
    let message = refused(&line);
    assert!(!tiny.path("out").exists(), "{message}");
    message
}

#[test]
fn the_file_is_what_was_promised() {
    let tiny = Tiny::new("llama");
    let operations = ["zero-spikes@block=2@position=0@channels=3", "drop-first", "random-tokens"];
    let (stdout, file) = operate(&tiny, &operations, &["--seed", "3"]);
    assert!(stdout.contains("Untouched: perplexity") && stdout.contains(operations[0]), "{stdout}");
    let results = &file["results"];
    for key in ["perplexity", "nll", "tokens", "sink_ratio", "largest"] {
        assert!(results["baseline"][key].is_number(), "{key}");
    }
    assert_eq!(results["baseline"]["tokens"], 4 * 11);
    assert!(results["spike"].is_null());
    let variants = results["variants"].as_array().expect("variants");
    assert_eq!(variants.iter().map(|variant| variant["name"].as_str()).collect::<Vec<_>>(), operations.map(Some));
    for key in ["perplexity", "nll", "delta_nll", "delta_ci95", "sink_ratio", "largest"] {
        assert!(!variants[0][key].is_null(), "{key}");
    }
    assert_eq!(variants[1]["tokens"], 4 * 10);
    assert!(variants[2]["perplexity"].is_null() && variants[2]["sink_ratio"].is_number());
    for name in ["delta_nll", "place", "sink_ratio.paper", "perplexity"] {
        assert!(file["definitions"][name].is_string(), "{name}");
    }
    let passes: Vec<&str> =
        file["timing"]["passes"].as_array().expect("passes").iter().filter_map(|pass| pass["name"].as_str()).collect();
    assert_eq!(passes, [&["untouched", "prefix"][..], &operations].concat());
    let rows = csv::Reader::from_path(tiny.path("out/variants.csv")).expect("written").into_records().count();
    assert_eq!(rows, 4);
    assert!(tiny.path("out/variants.parquet").exists());
}

#[test]
fn a_calibration_text() {
    let tiny = Tiny::new("llama");
    let ids = tiny.write("other.json", "{\"tokens\": [[1, 2, 3, 4], [5, 6, 7, 8]]}");
    let operation = "mean-spikes@block=2@position=0@channels=3";
    let nll = |options: &[&str]| operate(&tiny, &[operation], options).1["results"]["variants"][0]["nll"].clone();
    assert_ne!(nll(&[]), nll(&["--calibration", &ids]));
    let text = tiny.write("other.txt", "the ship sails at dawn and returns . ".repeat(20));
    assert_ne!(nll(&["--calibration", &text]), nll(&["--calibration", &ids]));
    fs::remove_dir_all(tiny.path("out")).expect("there");
    let message = refused_in(&tiny, &[operation], &["--calibration", "absent.txt"]);
    assert!(message.contains("absent.txt"), "{message}");
}

#[test]
fn what_cannot_be_done() {
    let tiny = Tiny::new("llama");
    let messages: Vec<String> = [
        &[][..],
        &["zero-spike"],
        &["zero-spikes"],
        &["skip-block=7@position=all"],
        &["zero-spikes@block=2@position=12@channels=1"],
        &["sink-value=zero@block=4@position=0"],
        &["bos=off"],
    ]
    .into_iter()
    .map(|operations| refused_in(&tiny, operations, &[]))
    .collect();
    insta::assert_snapshot!(messages.concat());
    assert!(refused_in(&tiny, &["drop-first"], &["--epsilon", "2"]).contains("--epsilon 2 is"));
    // Where the model is left out too.
    for (typed, part) in
        [("quantize=w2", "w2"), ("zero-spike", "did you mean zero-spikes?"), ("self-only", "needs a token")]
    {
        let message = refused(&["operate", typed, "drop-first"]);
        assert!(message.contains(typed) && message.contains(part), "{message}");
    }
}

#[test]
fn quantised_layers_and_advice() {
    let tiny = Tiny::new("llama");
    let operations = ["quantize=w8a8-tensor", "quantize=w8a8-tensor@position=0+keep-spikes", "cache=int4"];
    let (stdout, file) = operate(&tiny, &operations, &[]);
    assert!(stdout.contains("Layers under quantize=w8a8-tensor") && stdout.contains("Advice"), "{stdout}");
    let results = &file["results"];
    let layers = results["variants"][0]["linear_layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 2 * 7);
    for key in ["block", "projection", "largest_elsewhere", "error", "breaks"] {
        assert!(!layers[0][key].is_null(), "{key}");
    }
    assert_eq!(results["variants"][1]["kept_tokens"], 4);
    let advice = results["advice"].as_array().expect("lines");
    assert!(advice.iter().all(|line| line["text"].is_string() && line["figure"].is_number()));
    assert!(advice.iter().any(|line| line["about"] == "tokens" && line["operation"] == operations[1]));
    for name in ["quantize", "quantize.smooth-w8a8", "keep-spikes", "cache", "linear_layers.error", "advice"] {
        assert!(file["definitions"][name].is_string(), "{name}");
    }
    let rows = |name| csv::Reader::from_path(tiny.path(name)).expect("written").into_records().count();
    assert_eq!((rows("out/linear_layers.csv"), rows("out/advice.csv")), (2 * 2 * 7, advice.len()));
    fs::remove_dir_all(tiny.path("out")).expect("there");
    for (operation, part) in [
        ("quantize=w4-g0", "a group of 0 inputs"),
        ("quantize=w4-g3", "do not divide"),
        ("quantize=w8+keep-spikes", "no spikes were found"),
        ("quantise=w8", "did you mean quantize=SCHEME?"),
    ] {
        let message = refused_in(&tiny, &[operation], &[]);
        assert!(message.contains(part), "{message}");
    }
}
