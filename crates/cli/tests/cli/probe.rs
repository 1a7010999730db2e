//! `sinkscope probe`: the vocabulary at one position.

use std::fs;

use serde_json::Value;

use crate::tiny::Tiny;
use crate::{refused, run};

fn arguments(tiny: &Tiny, options: &[&str]) -> Vec<String> {
    let (model, out, tokens) = (tiny.model(), tiny.path("out"), tiny.tokens(8, 16));
    let paths = [
        "probe",
        model.to_str().expect("UTF-8"),
        "--force",
        "--out",
        out.to_str().expect("UTF-8"),
        "--tokens",
        &tokens,
    ];
    paths.iter().chain(options).map(|&argument| argument.to_owned()).collect()
}

fn probe(tiny: &Tiny, options: &[&str]) -> (String, Value) {
    let (status, stdout, stderr) = run(&arguments(tiny, options));
    assert_eq!((status, stderr.as_str()), (0, ""));
    let path = tiny.path("out/probe.json");
    (stdout, serde_json::from_slice(&fs::read(path).expect("written")).expect("JSON"))
}

fn refused_in(tiny: &Tiny, options: &[&str]) -> String {
    let message = refused(&arguments(tiny, options));
    assert!(!tiny.path("out").exists(), "{message}");
    message
}

/// A threshold so low that something spikes.
const LOW: [&str; 2] = ["--spike-ratio", "1.5"];

#[test]
fn the_file_is_what_was_promised() {
    let tiny = Tiny::new("qwen3");
    let (stdout, file) = probe(&tiny, &LOW);
    assert!(stdout.contains("vocabulary items") && stdout.contains("at position 0"), "{stdout}");
    let results = &file["results"];
    let (block, threshold) = (&results["block"], results["threshold"].as_f64().expect("a number"));
    assert!(block.as_u64().is_some_and(|block| block > 0));
    let typical = results["typical_token_largest"].as_f64().expect("a number");
    assert!((threshold - 1.5 * typical).abs() < 1e-9 * threshold);
    assert_eq!((&results["position"], &results["vocabulary"]), (&0.into(), &32.into()));
    let spiking = results["spiking"].as_u64().expect("a number");
    assert_eq!(results["share"].as_f64(), Some(spiking as f64 / 32.0));
    for (end, sign) in [("lowest", 1.0), ("highest", -1.0)] {
        let values: Vec<f64> = results[end]
            .as_array()
            .expect("a list")
            .iter()
            .map(|item| {
                assert!(item["id"].is_u64() && item["text"].is_string());
                sign * item["value"].as_f64().expect("a number")
            })
            .collect();
        assert!(values.len() >= 10 && values.is_sorted(), "{end}: {values:?}");
    }
    assert!(file["definitions"].as_object().is_some_and(|definitions| !definitions.is_empty()));
    assert!(
        file["timing"]["passes"].as_array().is_some_and(|passes| passes.iter().any(|pass| pass["name"] == "probe"))
    );
    let mut table = csv::Reader::from_path(tiny.path("out/probe.csv")).expect("written");
    let rows: Vec<csv::StringRecord> = table.records().map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), 32);
    assert_eq!(rows.iter().filter(|row| &row[4] == "true").count() as u64, spiking);
    assert!(tiny.path("out/probe.parquet").exists());
}

#[test]
fn behind_a_prefix_or_at_a_position() {
    let tiny = Tiny::new("qwen3");
    let behind = |options: &[&str]| probe(&tiny, &[&LOW[..], options].concat()).1["results"].clone();
    let prefix = behind(&["--prefix", "the ship sails"]);
    assert_eq!(prefix["position"], 3);
    assert_eq!(prefix, behind(&["--prefix", "the ship sails", "--position", "3"]));
    let position = behind(&["--position", "3"]);
    assert_eq!(position["position"], 3);
    // What stands before it there are the first tokens of the text.
    assert_ne!(position["lowest"], prefix["lowest"]);
    assert_eq!(behind(&["--position", "0"]), behind(&[]));
}

#[test]
fn wrong_positions_and_prefixes() {
    let tiny = Tiny::new("qwen3");
    let message = refused_in(&tiny, &["--position", "17"]);
    assert!(message.contains("--position 17 is beyond the text's first sequence of 16 tokens"), "{message}");
    let message = refused_in(&tiny, &["--prefix", "the ship", "--position", "1"]);
    assert!(message.contains("does not follow the prefix, which has 2 tokens"), "{message}");
    fs::remove_file(tiny.model().join("tokenizer.json")).expect("there");
    let message = refused_in(&tiny, &["--prefix", "the ship"]);
    assert!(message.contains("--prefix needs a tokeniser"), "{message}");
    assert!(!tiny.path("out").exists());
}

#[test]
fn nothing_to_probe_for() {
    for family in ["llama", "olmo2", "gpt2"] {
        let tiny = Tiny::new(family);
        let (stdout, file) = probe(&tiny, &[]);
        assert!(stdout.contains("no stage of spikes"), "{stdout}");
        let results = &file["results"];
        for key in ["block", "threshold", "spiking", "share"] {
            assert!(results[key].is_null(), "{key}");
        }
        assert_eq!(results["lowest"].as_array().map(Vec::len), Some(0));
    }
}

#[test]
fn an_examination_leaves_the_tables_of_a_probe_and_a_census_alone() {
    let home = tempfile::tempdir().expect("a directory");
    let out = home.path().display().to_string();
    for command in [&["probe"][..], &["census"]] {
        assert_eq!(run(&[command, &["--out", &out, "--quiet"]].concat()).0, 0);
    }
    let tables = ["probe.csv", "spectra.csv", "norms.parquet"];
    let read = || tables.map(|name| fs::read(home.path().join(name)).expect("written"));
    let before = read();
    assert_eq!(run(&["anatomy", "--only", "sinks", "--out", &out, "--quiet"]).0, 0);
    assert!(read() == before);
    assert!(home.path().join("heads.csv").exists());
}
