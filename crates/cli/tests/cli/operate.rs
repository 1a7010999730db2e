//! `sinkscope operate`: a model changed while it runs.

use std::fs;

use serde_json::Value;

use crate::tiny::Tiny;
use crate::{refused, run};

fn arguments(tiny: &Tiny, operations: &[&str], options: &[&str]) -> Vec<String> {
    let (model, out, tokens) = (tiny.model(), tiny.path("out"), tiny.tokens(4, 12));
    let model = model.to_str().expect("UTF-8");
    let out = out.to_str().expect("UTF-8");
    let line = [&["operate", model][..], operations, &["--force", "--out", out, "--tokens", &tokens], options].concat();
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
    for key in ["block", "projection", "tensor", "weights", "largest_elsewhere", "error", "breaks"] {
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
    let runs = ["variants", "trials"].map(|key| results[key].as_array().expect("runs"));
    let layers =
        runs.iter().flat_map(|runs| runs.iter()).map(|run| run["linear_layers"].as_array().expect("layers").len());
    assert_eq!((rows("out/linear_layers.csv"), rows("out/advice.csv")), (layers.sum(), advice.len()));
    let trials = advice.iter().map(|line| line["trials"].as_u64().expect("a count")).sum::<u64>();
    assert_eq!(trials, runs[1].len() as u64);
    for key in ["kl", "kl_ci95", "top1_agreement"] {
        assert!(!runs[0][2][key].is_null(), "{key}");
    }
    let untried = operate(&tiny, &operations[..1], &["--no-trials"]).1;
    assert_eq!(untried["results"]["trials"], Value::Array(Vec::new()));
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

#[test]
fn a_sweep_answers_in_one_table() {
    let tiny = Tiny::new("llama");
    let (stdout, file) = operate(&tiny, &["cache=int2+keep=0..3", "drop-first"], &[]);
    assert!(stdout.contains("How many tokens must stay: cache=int2+keep=0..3"), "{stdout}");
    let results = &file["results"];
    let names: Vec<&str> =
        results["variants"].as_array().expect("runs").iter().filter_map(|run| run["name"].as_str()).collect();
    let steps = ["cache=int2", "cache=int2+keep=0", "cache=int2+keep=0-1", "cache=int2+keep=0-2", "drop-first"];
    assert_eq!(names, steps);
    assert_eq!(results["sweeps"][0]["steps"][3], serde_json::json!({ "kept": 3, "variant": 3 }));
    assert!(
        results["advice"].as_array().expect("lines").iter().any(|line| line["operation"] == "cache=int2+keep=0..3")
    );
    let rows = csv::Reader::from_path(tiny.path("out/sweeps.csv")).expect("written").into_records().count();
    assert_eq!(rows, 4);
    let (status, _, stderr) = run(&["report", tiny.path("out").to_str().expect("UTF-8")]);
    assert_eq!(status, 0, "{stderr}");
}

/// Multiplies tensors by a factor, up to the largest number.
fn enlarge(tiny: &Tiny, part: &str, factor: f32) {
    tiny.replace_weights(|name, data| {
        if name.contains(part) {
            for bytes in data.chunks_exact_mut(2) {
                // bf16: the upper half of an f32.
                let value = f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16);
                let larger = (value * factor).clamp(-3e38, 3e38).to_bits();
                bytes.copy_from_slice(&larger.to_le_bytes()[2..]);
            }
        }
        true
    });
}

#[test]
fn a_variant_that_breaks_says_where_and_the_others_keep_their_figures() {
    let tiny = Tiny::new("llama");
    enlarge(&tiny, "embed_tokens", 1e6);
    let broken = "scale-spikes=3e38@block=2@position=3@channels=5";
    let operations = ["zero-spikes@block=2@position=0@channels=3", broken, "drop-first"];
    let (stdout, file) = operate(&tiny, &operations, &[]);
    assert!(stdout.contains("not finite from block 2, channel 5, position 3"), "{stdout}");
    let variants = file["results"]["variants"].as_array().expect("variants");
    let found = &variants[1]["not_finite"];
    let place = ["block", "channel", "sequence", "position"].map(|key| found[key].as_u64().expect(key));
    assert_eq!((place, found["value"].as_str()), ([2, 5, 0, 3], Some("infinite")));
    for key in ["perplexity", "nll", "delta_nll", "delta_ci95", "sink_ratio", "largest", "received"] {
        assert!(variants[1][key].is_null(), "{key}");
        assert!(key == "received" || !variants[2][key].is_null(), "{key}");
    }
    assert!(variants[0]["not_finite"].is_null() && variants[0]["nll"].is_number());
    let rows = file["results"]["by_position"]["runs"].as_array().expect("runs");
    assert_eq!(rows.len(), 3, "the untouched model and two variants");
    let csv = fs::read_to_string(tiny.path("out/variants.csv")).expect("written");
    let row = csv.lines().find(|line| line.contains(broken)).expect("a row");
    assert!(row.ends_with(",2,5,0,3,,,,"), "{row}");
    let (status, _, stderr) = run(&["report", tiny.path("out").to_str().expect("UTF-8")]);
    assert_eq!(status, 0, "{stderr}");
}

#[test]
fn a_model_that_breaks_is_an_error_with_block_channel_and_token() {
    let tiny = Tiny::new("llama");
    for part in ["layers.1.mlp.up_proj", "layers.1.mlp.down_proj"] {
        enlarge(&tiny, part, 1e25);
    }
    for arguments in [arguments(&tiny, &["drop-first"], &[]), tiny.anatomy(&["--tokens", &tiny.tokens(4, 12)])] {
        let (status, _, stderr) = run(&arguments);
        assert_eq!(status, 1, "{stderr}");
        assert!(
            stderr.contains("the residual after block 4 is ") && stderr.contains("(sequence 0, position 0)"),
            "{stderr}"
        );
        assert!(stderr.contains(" in channel ") && stderr.contains("at token 0 \"<unk>\""), "{stderr}");
        assert!(!tiny.path("out/anatomy.json").exists() && !tiny.path("out/operate.json").exists());
    }
    // Parts of an examination that look at no residual do not compute around it either.
    for part in ["sinks", "nll", "tokens"] {
        let (status, _, stderr) = run(&tiny.anatomy(&["--tokens", &tiny.tokens(4, 12), "--only", part]));
        assert_eq!(status, 1, "{part}: {stderr}");
        assert!(stderr.contains("the residual after block 4 is "), "{part}: {stderr}");
    }
}

#[test]
fn logits_that_overflow_are_an_error_with_the_token() {
    let tiny = Tiny::new("llama");
    for _ in 0..2 {
        enlarge(&tiny, "lm_head", 1e30);
    }
    let (status, _, stderr) = run(&tiny.anatomy(&["--tokens", &tiny.tokens(4, 12), "--only", "nll"]));
    assert_eq!(status, 1, "{stderr}");
    assert!(stderr.contains("the log-likelihood that the output head gives is undefined (NaN), of token"), "{stderr}");
}
