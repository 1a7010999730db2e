//! An examination that succeeds: what is printed, and what is in the files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use crate::tiny::{Tiny, fixtures};
use crate::{run, run_in, sinkscope};

const TABLES: [&str; 20] = [
    "alpha_by_position",
    "amplifier",
    "amplifier_points",
    "blocks",
    "elsewhere",
    "geometry",
    "heads",
    "normalisation",
    "norms",
    "probe",
    "regularities",
    "self_sinking",
    "spectra",
    "spike_channels",
    "spike_tokens",
    "stages",
    "tokens",
    "triggers",
    "tsne",
    "units",
];

/// Examines two sequences of twelve tokens and reads `anatomy.json`.
fn examine(tiny: &Tiny, options: &[&str]) -> Value {
    let tokens = tiny.tokens(2, 12);
    let (status, stdout, stderr) = run_in(tiny, &[&["--tokens", &tokens][..], options].concat());
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(!stdout.is_empty());
    read(tiny)
}

fn read(tiny: &Tiny) -> Value {
    serde_json::from_slice(&fs::read(tiny.path("out/anatomy.json")).expect("written")).expect("JSON")
}

/// The number of rows of each table, the same in both of its files.
fn rows(out: &Path) -> BTreeMap<&'static str, usize> {
    let count = |table: &&'static str| {
        let path = |extension| out.join(format!("{table}.{extension}"));
        let parquet = SerializedFileReader::new(File::open(path("parquet")).expect("written")).expect("Parquet");
        let rows = parquet.metadata().file_metadata().num_rows() as usize;
        let mut csv = csv::Reader::from_path(path("csv")).expect("written");
        let columns = csv.headers().expect("a header").len();
        assert_eq!(parquet.metadata().file_metadata().schema_descr().num_columns(), columns, "{table}");
        assert_eq!(csv.records().flatten().count(), rows, "{table}");
        (*table, rows)
    };
    TABLES.iter().map(count).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn count(value: &Value) -> usize {
    value.as_array().expect("an array").len()
}

#[test]
fn the_file_is_what_was_promised() {
    let tiny = Tiny::new("llama");
    let file = examine(&tiny, &["--seed", "7"]);
    assert_eq!(
        keys(&file),
        ["sinkscope", "command", "model", "data", "definitions", "timing", "seed", "results"],
        "the envelope"
    );
    assert_eq!(file["sinkscope"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&file["command"][0], &file["command"][1]), (&"sinkscope".into(), &"anatomy".into()));
    assert_eq!(file["seed"], 7);
    let model = &file["model"];
    assert_eq!(keys(model), ["name", "architecture", "sha256", "parameters"]);
    assert_eq!(model["sha256"].as_str().map(str::len), Some(64));
    let attention = &model["architecture"]["kinds"][0]["mixer"]["attention"];
    let (layers, heads) = (count(&model["architecture"]["order"]), attention["heads"].as_u64());
    let data = &file["data"];
    assert_eq!(keys(data), ["source", "sha256", "sequences", "seq_len", "bos"]);
    assert_eq!((&data["sequences"], &data["seq_len"], &data["bos"]), (&2.into(), &12.into(), &false.into()));
    for measure in ["spike_token", "sink_ratio.paper", "perplexity"] {
        let text = file["definitions"][measure].as_str();
        assert!(text.is_some_and(|text| text.len() > 20), "{measure} of {:?}", keys(&file["definitions"]));
    }
    for key in ["seconds", "passes", "tokens_per_second", "fraction_of_bound", "peak_rss_bytes"] {
        assert!(!file["timing"][key].is_null(), "{key}");
    }

    let results = &file["results"];
    let blocks = results["lifecycle"]["blocks"].as_array().expect("blocks");
    assert_eq!(blocks.len(), 2 * layers + 1);
    for (index, block) in blocks.iter().enumerate() {
        assert_eq!(block["block"], index);
        assert_eq!(
            block["kind"],
            ["embedding", "feed-forward", "attention"][if index == 0 { 0 } else { 1 + index % 2 }]
        );
        let residual = &block["residual"];
        assert_eq!(count(&residual["top"]), 3);
        for key in ["channel", "value", "sequence", "position", "token"] {
            assert!(!residual["top"][0][key].is_null(), "{key}");
        }
        for key in ["largest_mean", "typical_token_largest", "median_abs"] {
            assert!(residual[key].as_f64().is_some_and(|value| value > 0.0), "{key}");
        }
        assert_eq!(block["output"].is_null(), index == 0);
    }
    for key in ["step_up", "step_down"] {
        assert!(results["lifecycle"][key].is_array(), "{key}");
    }
    for key in ["ratio", "largest", "massive", "stages", "channels"] {
        assert!(!results["spikes"][key].is_null(), "{key}");
    }
    let sinks = &results["sinks"];
    for key in ["definition", "epsilon", "ratio", "ratio_ci95", "mean_max_alpha", "by_layer"] {
        assert!(!sinks[key].is_null(), "{key}");
    }
    for grid in ["heads", "position_0"] {
        assert_eq!(count(&sinks[grid]), layers, "{grid}");
        assert_eq!(Some(count(&sinks[grid][0]) as u64), heads, "{grid}");
    }
    for definition in ["gu", "gu-max"] {
        assert!(sinks["other_definitions"][definition]["ratio"].is_number(), "{definition}");
    }
    let by_position = &sinks["by_position"];
    assert_eq!((count(&by_position["first"]), count(&by_position["layers"])), (12, layers));
    let page = &results["tokens"];
    assert_eq!(keys(page), ["sequences", "positions", "layers", "heads", "tokens", "received", "scale"]);
    assert_eq!(keys(&page["tokens"][0]), ["sequence", "position", "id", "text", "largest", "block", "channel"]);
    assert_eq!((&page["sequences"], &page["positions"], count(&page["tokens"])), (&2.into(), &12.into(), 24));
    let bytes = 24 * layers * heads.map_or(0, |heads| heads as usize);
    assert_eq!(page["received"].as_str().map(str::len), Some(bytes.div_ceil(3) * 4));
    let (nll, perplexity) =
        (results["nll"].as_f64().expect("nll"), results["perplexity"].as_f64().expect("perplexity"));
    assert!((nll.exp() - perplexity).abs() <= 1e-9 * perplexity);

    let rows = rows(&tiny.path("out"));
    assert_eq!(rows["blocks"], 3 * (4 * layers + 1));
    assert_eq!(Some(rows["heads"] as u64), heads.map(|heads| heads * layers as u64));
    assert_eq!((rows["alpha_by_position"], rows["tokens"]), (12 * layers, 24));
    let stages = results["spikes"]["stages"].as_array().expect("stages");
    assert_eq!(rows["stages"], stages.len());
    assert_eq!(rows["spike_tokens"], stages.iter().map(|stage| count(&stage["tokens"])).sum::<usize>());
    assert_eq!(rows["spike_channels"], stages.iter().map(|stage| count(&stage["channels"])).sum::<usize>());
}

#[test]
fn every_family_and_format() {
    for family in fs::read_dir(fixtures().join("families")).expect("fixtures") {
        let model = family.expect("a directory").path();
        let tiny = Tiny::new("llama");
        let tokens = tiny.tokens(1, 12);
        let (status, stdout, stderr) = run(&["anatomy", model.to_str().expect("UTF-8"), "--tokens", &tokens]);
        assert_eq!((status, stderr.as_str()), (0, ""), "{}", model.display());
        assert!(stdout.contains("Perplexity"), "{stdout}");
    }
    for name in ["llama", "gemma2"] {
        let model = fixtures().join("gguf").join(name).with_extension("gguf");
        let tiny = Tiny::new("llama");
        let tokens = tiny.tokens(1, 12);
        let (status, _, stderr) = run(&["anatomy", model.to_str().expect("UTF-8"), "--tokens", &tokens, "-q"]);
        assert_eq!((status, stderr.as_str()), (0, ""), "{name}");
    }
}

#[test]
fn only_what_is_asked_for() {
    let tiny = Tiny::new("llama");
    let whole = examine(&tiny, &[]);
    let part = examine(&tiny, &["--only", "sinks,nll"]);
    for key in ["lifecycle", "spikes"] {
        assert!(!whole["results"][key].is_null() && part["results"][key].is_null(), "{key}");
    }
    for key in ["sinks", "nll", "perplexity"] {
        assert_eq!(whole["results"][key], part["results"][key], "{key}");
    }
    let page = examine(&tiny, &["--only", "tokens"]);
    assert_eq!(keys(&page["results"]), ["tokens"]);
    assert_eq!(page["results"]["tokens"], whole["results"]["tokens"]);
    examine(&tiny, &["--only", "sinks,nll"]);
    // A second run replaces the first's tables, those of parts it did not measure too.
    let rows = rows(&tiny.path("out"));
    assert_eq!((rows["blocks"], rows["stages"]), (0, 0));
    assert!(rows["heads"] > 0);
    // Two files a table, anatomy.json and report.html.
    let expected = TABLES.len() * 2 + 2;
    assert_eq!(fs::read_dir(tiny.path("out")).expect("a directory").count(), expected, "nothing temporary is left");
}

#[test]
fn what_explains_it() {
    let tiny = Tiny::new("qwen3");
    let file = examine(&tiny, &["--spike-ratio", "1.5", "--only", "silu,normalisation,geometry,census,probe"]);
    let results = &file["results"];
    for key in ["lifecycle", "spikes", "sinks", "nll"] {
        assert!(results[key].is_null(), "{key} was not asked for");
    }
    let layers = count(&file["model"]["architecture"]["order"]);
    let normalised = &results["normalisation"]["blocks"];
    assert_eq!(count(normalised), 2 * layers + 1);
    for key in ["top3_energy", "cosine_mean", "cosine_min"] {
        assert!(normalised[1]["other"][key].is_number(), "{key}");
        assert!(normalised[1]["other"]["with_gamma"][key].is_number(), "{key}");
    }
    assert_eq!(normalised[0]["bound"], 4.0);
    let head = &results["geometry"]["heads"][0];
    for key in ["layer", "head", "sink", "key_rank95_other", "logit_gap", "query_to_sink_key", "query_to_other_keys"] {
        assert!(!head[key].is_null(), "{key}");
    }
    for key in ["spike", "delimiter", "other"] {
        assert!(results["self_sinking"].as_object().is_some_and(|found| found.contains_key(key)), "{key}");
    }
    // Named, the census is of all blocks.
    assert_eq!(count(&results["census"]["blocks"]), layers);
    assert!(results["census"]["prediction"]["step_up"].is_array());
    assert_eq!(results["probe"]["vocabulary"], 32);
    assert!(results["silu"]["blocks"].is_array() && results["sample"]["seq_len"].is_number());
    let named = ["geometry", "bilinear_error", "normalisation", "self_sinking", "sample"];
    let definitions = keys(&file["definitions"]);
    assert!(named.iter().all(|name| definitions.iter().any(|key| key == name)), "{definitions:?}");
    let rows = rows(&tiny.path("out"));
    assert_eq!((rows["probe"], rows["geometry"]), (32, layers * 4));
    assert!(rows["normalisation"] > 0 && rows["norms"] > 0 && rows["self_sinking"] > 0);
    assert_eq!((rows["blocks"], rows["heads"], rows["alpha_by_position"], rows["tokens"]), (0, 0, 0, 0));
    let amplifiers = results["silu"]["blocks"].as_array().expect("a list");
    assert!(!amplifiers.is_empty() && amplifiers.iter().all(|block| count(&block["points"]) == 24));
    assert_eq!(rows["amplifier_points"], 24 * amplifiers.len());
}

#[test]
fn pictures() {
    let tiny = Tiny::new("llama");
    let file = examine(&tiny, &["--tsne", "1.2,0.0"]);
    let rows = rows(&tiny.path("out"));
    // Queries and keys of 24 tokens in two heads.
    assert_eq!(rows["tsne"], 2 * 2 * 24);
    assert!(file["timing"]["passes"].as_array().is_some_and(|all| all.iter().any(|pass| pass["name"] == "pictures")));
    let drawn = |file: &Value| -> Vec<(Value, Value, usize)> {
        let all = file["results"]["tsne"].as_array().expect("a list");
        all.iter().map(|one| (one["layer"].clone(), one["head"].clone(), count(&one["points"]))).collect()
    };
    assert_eq!(drawn(&file), [(0.into(), 0.into(), 48), (1.into(), 2.into(), 48)]);
    // Without names, two heads of one layer.
    let usual = drawn(&examine(&tiny, &[]));
    assert!(usual.len() == 2 && usual[0].0 == usual[1].0 && usual[0].1 != usual[1].1, "{usual:?}");
    assert!(examine(&tiny, &["--only", "sinks"])["results"].get("tsne").is_none());
    let message = crate::refused_without_trace(&Tiny::new("llama"), &["--tsne", "2.0", "--sequences", "2"]);
    assert_eq!(message, "head 2.0 does not exist: there are 2 layers of 4 heads, from 0\n");
}

#[test]
fn nothing_is_found_in_random_weights() {
    for family in ["llama", "olmo2"] {
        let tiny = Tiny::new(family);
        let tokens = tiny.tokens(8, 16);
        let (status, stdout, stderr) = run_in(&tiny, &["--tokens", &tokens]);
        assert_eq!((status, stderr.as_str()), (0, ""));
        assert!(stdout.contains("No spikes found"), "{stdout}");
        let (_, rest) = stdout.split_once("No spikes found").expect("there");
        for absent in ["Amplifier", "Regularities", "Steering", "Rankings", "NaN", "inf"] {
            assert!(!rest.contains(absent), "{absent}: {stdout}");
        }
        let results = &read(&tiny)["results"];
        assert!(results["silu"]["blocks"].as_array().is_some_and(Vec::is_empty));
        let regularities = results["regularities"].as_array().expect("a list");
        assert_eq!(regularities.iter().filter(|verdict| verdict["holds"] == false).count(), 5);
    }
}

#[test]
fn thresholds_are_kept_beside_what_they_decide() {
    let tiny = Tiny::new("llama");
    let file = examine(&tiny, &["--epsilon", "0.05", "--spike-ratio", "1.01"]);
    assert_eq!(file["results"]["sinks"]["epsilon"], 0.05);
    assert_eq!(file["results"]["spikes"]["ratio"], 1.01);
    assert!(file["definitions"].to_string().contains("1.01"));
    let usual = examine(&tiny, &[]);
    let ratio = |file: &Value| file["results"]["sinks"]["ratio"].as_f64().expect("a number");
    assert!(ratio(&file) > ratio(&usual), "{} {}", ratio(&file), ratio(&usual));
}

#[test]
fn threads_and_memory_change_nothing() {
    let tiny = Tiny::new("gemma3");
    let results = |options: &[&str]| {
        let file = examine(&tiny, options);
        (file["results"].clone(), file["data"].clone(), file["model"].clone())
    };
    let one = results(&["--threads", "1"]);
    assert_eq!(one, results(&["--threads", "2"]));
    assert_eq!(one, results(&["--threads", "4", "--memory", "1K"]));
}

#[test]
fn other_precisions_measure_the_same_on_any_threads() {
    let tiny = Tiny::new("llama");
    let results = |options: &[&str]| examine(&tiny, options)["results"].clone();
    let usual = results(&[]);
    for (precision, tolerance) in [("highest", 0.0), ("high", 1e-4), ("medium", 3e-2)] {
        let rounded = results(&["--precision", precision, "--threads", "1"]);
        assert_eq!(rounded, results(&["--precision", precision, "--threads", "3"]));
        for pointer in ["/nll", "/lifecycle/blocks/4/residual/largest_mean", "/sinks/heads/0/0"] {
            let [usual, rounded] = [&usual, &rounded].map(|results| results.pointer(pointer).and_then(Value::as_f64));
            let (usual, rounded) = (usual.expect("a number"), rounded.expect("a number"));
            assert!((rounded / usual - 1.0).abs() <= tolerance, "{precision} {pointer}: {usual} {rounded}");
        }
    }
}

#[test]
fn without_out_nothing_is_written() {
    let tiny = Tiny::new("llama");
    let tokens = tiny.tokens(2, 12);
    let before = fs::read_dir(tiny.path("")).expect("a directory").count();
    let model = tiny.model();
    let output = sinkscope(&["anatomy", model.to_str().expect("UTF-8"), "--tokens", &tokens])
        .current_dir(tiny.path(""))
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(fs::read_dir(tiny.path("")).expect("a directory").count(), before);
}

#[test]
fn a_pipe_that_nobody_reads() {
    let tiny = Tiny::new("llama");
    let tokens = tiny.tokens(2, 12);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_sinkscope"))
        .args(tiny.anatomy(&["--tokens", &tokens]))
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("it starts");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    assert_eq!(read(&tiny)["results"]["sinks"]["definition"], "paper");
}
