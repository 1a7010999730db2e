//! `sinkscope report` and `sinkscope schema`: what other commands leave, read back.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::study::{Lab, STUDY};
use crate::tiny::Tiny;
use crate::{refused, run, run_in};

/// Runs a command that must do well.
fn done(arguments: &[&str]) -> String {
    let (status, stdout, stderr) = run(arguments);
    assert_eq!(status, 0, "{arguments:?}: {stderr}");
    stdout
}

/// A tiny model, examined and operated on.
fn examined(family: &str) -> Tiny {
    let tiny = Tiny::new(family);
    let tokens = tiny.tokens(3, 24);
    assert_eq!(run_in(&tiny, &["--tokens", &tokens]).0, 0);
    let (model, out) = (tiny.model().display().to_string(), tiny.path("out").display().to_string());
    done(&["operate", &model, "drop-first", "quantize=w8a8-token", "--tokens", &tokens, "--out", &out]);
    tiny
}

#[test]
fn a_page_of_everything_in_a_directory() {
    let tiny = examined("llama");
    let out = tiny.path("out");
    let page = |place: &Path| fs::read_to_string(place.join("report.html")).expect("written");
    let first = page(&out);
    assert!(first.contains("id=\"life-cycle\"") && first.contains("id=\"tokens\""), "of the examination");
    assert!(!first.contains("id=\"operations\""), "that came later");
    let name = out.display().to_string();
    assert_eq!(done(&["report", &name]), format!("{name}/report.html\n"));
    let second = page(&out);
    for id in ["life-cycle", "heads", "operations", "quantisation", "loss-by-position"] {
        assert!(second.contains(&format!("id=\"{id}\"")), "{id}");
    }
    // The same again, elsewhere, and every figure on paper.
    let elsewhere = tiny.path("elsewhere");
    let place = elsewhere.display().to_string();
    let wanted = ["report", &name, "--out", &place, "--figures"];
    if !cfg!(feature = "figures") {
        assert!(refused(&wanted).contains("cargo build --release --features figures"));
        assert!(!elsewhere.exists(), "refused before any work");
        return;
    }
    let said = done(&wanted);
    assert!(said.contains("figures as SVG and PDF"), "{said}");
    assert_eq!(page(&elsewhere), second);
    for ending in ["svg", "pdf"] {
        let file = fs::read(elsewhere.join(format!("figures/life-cycle.{ending}"))).expect("written");
        assert!(file.starts_with(if ending == "svg" { b"<svg" } else { b"%PDF" }), "{ending}");
    }
}

#[test]
fn a_model_that_was_broken_can_be_read_back() {
    let tiny = Tiny::new("llama");
    let (model, out) = (tiny.model().display().to_string(), tiny.path("out").display().to_string());
    let tokens = tiny.tokens(3, 24);
    let broken = "scale-spikes=1e38@block=2@position=0@channels=1";
    done(&["operate", &model, broken, broken, "drop-first", "--tokens", &tokens, "--out", &out]);
    hold(&tiny.path("out/operate.json"), "operate.json");
    done(&["report", &out]);
    let page = fs::read_to_string(tiny.path("out/report.html")).expect("written");
    assert!(page.contains("id=\"operations\"") && !page.contains("NaN nats"));
}

#[test]
fn pages_of_every_family() {
    for family in ["gemma2", "gpt2", "gpt-neox", "olmo2", "qwen3"] {
        let tiny = examined(family);
        let out = tiny.path("out").display().to_string();
        done(&["report", &out]);
        let page = fs::read_to_string(tiny.path("out/report.html")).expect("written");
        assert!(page.contains("id=\"sinks-by-layer\"") && page.contains("id=\"operations\""), "{family}");
    }
}

#[test]
fn pages_of_runs_and_studies() {
    let lab = Lab::new(STUDY);
    assert_eq!(lab.study(&[]).0, 0);
    let (out, run) = (lab.path("out"), lab.run_of("sandwich-1").expect("a run").display().to_string());
    done(&["report", &run, &out, "--out", &lab.path("page")]);
    let page = fs::read_to_string(lab.path("page/report.html")).expect("written");
    assert!(page.contains("id=\"m1-emergence\"") && page.contains("id=\"s1-rows\""), "a run that left no train.json");
    assert!(page.contains("A sandwich has a spike"));
}

#[test]
fn what_is_no_output_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let name = home.path().display().to_string();
    assert!(refused(&["report", &name]).contains("holds no output"));
    assert!(refused(&["report", &format!("{name}/absent")]).contains("absent: cannot read"));
    fs::write(home.path().join("anatomy.json"), "{}").expect("written");
    assert!(refused(&["report", &name]).contains("anatomy.json: is no output of this version"));
    assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 1, "nothing is left");
    assert!(refused(&["schema", "nothing.json"]).contains("name one of anatomy.json, census.json"));
}

/// Holds a file to the schema of its name.
fn hold(file: &Path, name: &str) {
    let schema: Value = serde_json::from_str(&done(&["schema", name])).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let text = fs::read_to_string(file).expect("written");
    let lines: Vec<&str> = if name.ends_with('l') { text.lines().collect() } else { vec![&text] };
    for line in lines {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let faults: Vec<String> = validator
            .iter_errors(&value)
            .map(|fault| {
                format!("{}: {}", fault.instance_path(), fault.to_string().chars().take(200).collect::<String>())
            })
            .collect();
        assert!(faults.is_empty(), "{name}: {faults:#?}");
    }
}

#[test]
fn outputs_keep_to_their_schemas() {
    let tiny = examined("llama");
    let (model, out) = (tiny.model().display().to_string(), tiny.path("out").display().to_string());
    let tokens = tiny.tokens(3, 24);
    done(&["census", &model, "--out", &out]);
    done(&["probe", &model, "--tokens", &tokens, "--out", &out]);
    for name in ["anatomy.json", "operate.json", "census.json", "probe.json"] {
        hold(&tiny.path("out").join(name), name);
    }
    let lab = Lab::new(STUDY);
    assert_eq!(lab.study(&[]).0, 0);
    hold(Path::new(&lab.path("out/study.json")), "study.json");
    hold(&lab.run_of("sandwich-1").expect("a run").join("metrics.jsonl"), "metrics.jsonl");
    let summary = fs::read_dir(lab.path("results/tiny")).expect("a directory").next().expect("one").expect("readable");
    hold(&summary.path(), "summary.json");
    done(&["train", &lab.path("out/recipes/sandwich-1.toml"), "--out", &lab.path("alone"), "--quiet"]);
    hold(Path::new(&lab.path("alone/train.json")), "train.json");
    let documents: Vec<String> = (0..200).map(|day| format!("on day {day} the ship sails and returns.")).collect();
    let text = tiny.write("text.txt", documents.join("\n\n"));
    done(&[
        "data",
        "prepare",
        &text,
        "--vocab-size",
        "300",
        "--document-separator",
        "blank-line",
        "--out",
        &lab.path("data"),
        "--quiet",
    ]);
    hold(Path::new(&lab.path("data/data.json")), "data.json");
}

#[test]
fn one_schema_has_them_all() {
    let all: Value = serde_json::from_str(&done(&["schema"])).expect("JSON");
    let names: Vec<&String> = all["properties"].as_object().expect("an object").keys().collect();
    assert_eq!(names.len(), 12, "{names:?}");
    assert!(jsonschema::validator_for(&all).is_ok());
    // Fields say what they are.
    let stage = &all["$defs"]["Stage"]["properties"]["peak"]["description"];
    assert!(stage.as_str().is_some_and(|text| text.contains("sign kept")), "{stage}");
}
