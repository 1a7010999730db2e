//! `sinkscope study`: as a user runs it, stops it and looks at what it leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{refused, run};

const BASE: &str = r#"
[model]
layers = 2
d_model = 16
heads = 2
d_ffn = 24
[data]
source = "bigram-backcopy"
tokens = 12
triggers = 3
[training]
steps = 30
sequences = 4
seq_len = 12
[optimizer]
learning_rate = 0.01
warmup = 5
[watch]
every = 10
sequences = 4
seq_len = 12
"#;

pub const STUDY: &str = r#"
title = "Tiny"
table = "Table 5"
base = "../base.toml"
seeds = [0, 1]
[[row]]
name = "pre-norm"
baseline = true
paper = { perplexity = 10.1, sink_percent = 46.0, spike = 3818 }
[[row]]
name = "sandwich"
change.model.placement = "sandwich"
[[claim]]
text = "A sandwich has a spike"
conditions = [{ row = "sandwich", measure = "spike", above = 0 }]
"#;

pub struct Lab(tempfile::TempDir);

impl Lab {
    pub fn new(study: &str) -> Self {
        let lab = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir(lab.path("studies")).expect("made");
        fs::write(lab.path("base.toml"), BASE).expect("written");
        fs::write(lab.path("studies/tiny.toml"), study).expect("written");
        lab
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// The directory of a run in `out`, if it was begun.
    pub fn run_of(&self, name: &str) -> Option<PathBuf> {
        let listing = fs::read_dir(self.path("out/runs")).ok()?;
        let mut runs = listing.map(|entry| entry.expect("readable").path());
        runs.find(|run| run.file_name().is_some_and(|found| found.to_string_lossy().starts_with(&format!("{name}-"))))
    }

    pub fn study(&self, options: &[&str]) -> (i32, String, String) {
        let (study, out, results) = (self.path("studies/tiny.toml"), self.path("out"), self.path("results"));
        let results = if options.contains(&"--results") { vec![] } else { vec!["--results", results.as_str()] };
        run(&[&["study", &study, "--out", &out, "--quiet"][..], &results, options].concat())
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).expect("written")).expect("JSON")
    }

    fn summaries(&self) -> usize {
        fs::read_dir(self.path("results/tiny")).map_or(0, Iterator::count)
    }
}

#[test]
fn a_study_leaves_tables_and_a_row_is_what_train_makes_of_its_recipe() {
    let lab = Lab::new(STUDY);
    let (status, stdout, stderr) = lab.study(&["--jobs", "2"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    for part in ["Tiny (Table 5)", "pre-norm *", "10.1 / 46.0 / 3,818", "A sandwich has a spike", "Verdicts"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let markdown = fs::read_to_string(lab.path("out/study.md")).expect("written");
    assert!(markdown.starts_with("**Tiny (Table 5)**") && markdown.contains("| **pre-norm** |"), "{markdown}");
    for name in ["study", "looks", "conditions"] {
        for ending in ["csv", "parquet"] {
            assert!(Path::new(&lab.path(&format!("out/{name}.{ending}"))).exists(), "{name}.{ending}");
        }
    }
    let file = lab.json("out/study.json");
    for key in ["sinkscope", "command", "model", "data", "definitions", "timing", "seed", "results"] {
        assert!(file.get(key).is_some(), "{key}");
    }
    let row = &file["results"]["rows"][1];
    assert_eq!(row["runs"].as_array().map(Vec::len), Some(2));
    assert_eq!(lab.summaries(), 4);

    let (recipe, alone) = (lab.path("out/recipes/sandwich-1.toml"), lab.path("alone"));
    assert_eq!(run(&["train", &recipe, "--out", &alone, "--quiet"]).0, 0);
    let looks = lab.json("alone/train.json")["results"]["looks"].clone();
    let mut last = looks.as_array().and_then(|looks| looks.last()).cloned().expect("looks");
    for key in ["step", "timing"] {
        last.as_object_mut().expect("an object").remove(key);
    }
    assert_eq!(row["runs"][1]["summary"]["last"], last);
    assert_eq!(row["runs"][1]["spike"], last["spike"]);

    // Nothing is run again, and nothing needs to be there but the summaries.
    fs::remove_dir_all(lab.path("out")).expect("removed");
    let (status, again, _) =
        run(&["study", &lab.path("studies/tiny.toml"), "--tables", "--results", &lab.path("results")]);
    assert_eq!((status, &again), (0, &stdout));
    assert_eq!(lab.study(&[]).1, stdout);
    assert!(!Path::new(&lab.path("out/runs")).exists());
    assert_eq!(fs::read_to_string(lab.path("out/study.md")).expect("written"), markdown);
}

#[test]
fn slices_can_be_run_and_kept_elsewhere() {
    let lab = Lab::new(STUDY);
    let kept = lab.path("kept");
    let slice = ["--row", "sandwich", "--seed", "1", "--results", &kept];
    let (status, stdout, _) = lab.study(&slice);
    assert_eq!(status, 0);
    assert!(stdout.contains("1 of 2") && stdout.contains("0 of 2") && stdout.contains("undecided"), "{stdout}");
    assert_eq!(fs::read_dir(lab.path("kept/tiny")).expect("summaries").count(), 1);
    assert_eq!(lab.summaries(), 0);
}

#[test]
fn a_failed_run_is_reported_when_the_others_are_done() {
    let lab = Lab::new(&STUDY.replace("model.placement = \"sandwich\"", "model.kv_heads = 3"));
    let (status, stdout, stderr) = lab.study(&[]);
    assert_eq!(status, 1, "{stderr}");
    assert!(
        stderr.starts_with("error: 2 runs failed: \"sandwich\" (seed 0): ") && stderr.contains("key-value"),
        "{stderr}"
    );
    assert!(stdout.contains("0 of 2"), "{stdout}");
    assert_eq!(lab.summaries(), 2);
    assert!(Path::new(&lab.path("out/study.json")).exists());
}

#[test]
fn a_run_that_diverges_is_a_result_and_not_trained_for_ever() {
    let lab = Lab::new(&STUDY.replace("model.placement = \"sandwich\"", "optimizer.learning_rate = 1e30"));
    let (status, stdout, stderr) = lab.study(&[]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let words = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("2 of 2 diverged") && words.contains("without 2 that diverged"), "{stdout}");
    assert_eq!(lab.summaries(), 4);
    let row = lab.json("out/study.json")["results"]["rows"][1].clone();
    assert_eq!((&row["figures"], &row["diverged"][0]["step"]), (&Value::Null, &Value::from(1)));
    assert_eq!(row["diverged"][0]["summary"]["diverged"]["what"], "the loss is NaN");
    fs::remove_dir_all(lab.path("out/runs")).expect("removed");
    assert_eq!(lab.study(&[]).1, stdout);
    assert!(!Path::new(&lab.path("out/runs")).exists());
}

#[cfg(unix)]
#[test]
fn an_interrupted_study_saves_its_runs_and_says_so() {
    for (signal, status, name) in [("INT", 130, "SIGINT"), ("TERM", 143, "SIGTERM")] {
        let lab = Lab::new(&STUDY.replace("seeds", "change.training.steps = 1000000\nseeds"));
        let (study, out) = (lab.path("studies/tiny.toml"), lab.path("out"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_sinkscope"));
        command.args(["study", &study, "--out", &out, "--results", &lab.path("results"), "--quiet", "--jobs", "2"]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let start = Instant::now();
        let begun = |run: &str| lab.run_of(run).is_some_and(|run| run.join("metrics.jsonl").exists());
        while !(begun("pre-norm-0") && begun("sandwich-0")) && start.elapsed() < Duration::from_secs(60) {
            sleep(Duration::from_millis(10));
        }
        let id = process.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().expect("kill runs").success());
        let output = process.wait_with_output().expect("it ends");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{message}");
        assert!(message.contains(&format!("stopped by {name} with 0 of 4 runs finished, and saved")), "{message}");
        for run in ["pre-norm-0", "sandwich-0"] {
            assert!(lab.run_of(run).expect("a run").join("last/model.safetensors").exists(), "{run}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let lab = Lab::new(STUDY);
    let (study, out) = (lab.path("studies/tiny.toml"), lab.path("out"));
    let refusal = |options: &[&str]| refused(&[&["study", &study, "--out", &out], options].concat());
    assert_eq!(refusal(&["--row", "sandwhich"]), "there is no row \"sandwhich\": did you mean sandwich?\n");
    assert_eq!(refusal(&["--jobs", "0"]), "--jobs 0 is not from 1 to 1024\n");
    assert!(refused(&["study", "nowhere.toml", "--out", &out]).contains("nowhere.toml: is no study that can be read"));
    assert!(!Path::new(&out).exists());
    assert_eq!(run(&["study", &study]).0, 2);
}

/// A cluster that runs every job at once: `sbatch --parsable SCRIPT` with a number for an answer.
#[cfg(unix)]
fn cluster(place: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(place).expect("made");
    let sbatch = place.join("sbatch");
    fs::write(&sbatch, "#!/bin/sh\ncd /\nsh \"$2\" >\"$2.out\" 2>&1 || exit 1\necho '17;somewhere'\n")
        .expect("written");
    fs::set_permissions(&sbatch, fs::Permissions::from_mode(0o755)).expect("made to run");
    format!("{}:{}", place.display(), std::env::var("PATH").unwrap_or_default())
}

#[cfg(unix)]
#[test]
fn a_cluster_runs_what_is_missing() {
    let lab = Lab::new(
        &STUDY
            .replace("name = \"sandwich\"", "name = \"it's a sandwich\"")
            .replace("row = \"sandwich\"", "row = \"it's a sandwich\""),
    );
    let first = lab.study(&["--row", "pre-norm", "--seed", "0"]);
    assert_eq!(first.0, 0, "{}", first.2);
    let (study, out, results) = (lab.path("studies/tiny.toml"), lab.path("out"), lab.path("results"));
    let submit = |path: &str| {
        let places = ["study", &study, "--out", &out, "--results", &results];
        let mut command = crate::sinkscope(&[&places[..], &["--launcher", "slurm", "--threads", "1"]].concat());
        let output = command.env("PATH", path).output().expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (status, _, stderr) = submit("/nowhere");
    assert!(
        status == Some(2) && stderr.contains("sbatch --parsable") && stderr.contains("--launcher local"),
        "{stderr}"
    );
    let path = cluster(Path::new(&lab.path("bin")));
    let (status, stdout, stderr) = submit(&path);
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.starts_with("3 jobs submitted, 1 of 4 runs were finished before\n  17  "), "{stdout}");
    assert_eq!(lab.summaries(), 4);
    let script = fs::read_to_string(lab.path("out/slurm/it-s-a-sandwich-1.sh")).expect("written");
    assert!(
        script.contains("#SBATCH --cpus-per-task=1\n") && script.contains("--row 'it'\\''s a sandwich' --seed 1"),
        "{script}"
    );
    // Nothing is submitted twice.
    assert!(submit(&path).1.starts_with("0 jobs submitted, 4 of 4"));
}

#[test]
fn templates_are_a_study_that_can_be_run_and_have_every_key() {
    let home = tempfile::tempdir().expect("a directory");
    let place = |name: &str| home.path().join(name).to_str().expect("UTF-8").to_owned();
    let template = |command: &str| {
        let (status, text, stderr) = run(&[command, "--template"]);
        assert_eq!(status, 0, "{stderr}");
        text
    };
    let (recipe, study) = (template("train"), template("study"));
    fs::write(place("recipe.toml"), &recipe).expect("written");
    fs::write(place("study.toml"), &study).expect("written");
    let arguments = ["study", &place("study.toml"), "--tables", "--results", &place("results"), "--out", &place("out")];
    let (status, stdout, stderr) = run(&arguments);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("sandwich") && stdout.contains("Claims"), "{stdout}");
    let few = ["train", &place("recipe.toml"), "--steps", "2", "--out", &place("run"), "--quiet"];
    let (status, _, stderr) = run(&few);
    assert_eq!(status, 0, "{stderr}");
    let (_, schema, _) = run(&["schema", "recipe.toml"]);
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let mut keys = 0;
    for table in schema["$defs"].as_object().expect("types").values().chain([&schema]) {
        for (key, _) in table["properties"].as_object().into_iter().flatten() {
            assert!(recipe.contains(&format!("{key} =")) || recipe.contains(&format!("[{key}]")), "{key}");
            keys += 1;
        }
    }
    assert!(keys > 40, "{keys}");
}

#[test]
fn tables_of_another_study_are_replaced_only_when_forced() {
    let lab = Lab::new(STUDY);
    let tables = |file: &str, options: &[&str]| {
        let (file, out, results) = (lab.path(file), lab.path("out"), lab.path("results"));
        run(&[&["study", &file, "--tables", "--results", &results, "--out", &out][..], options].concat())
    };
    fs::copy(lab.path("studies/tiny.toml"), lab.path("studies/other.toml")).expect("copied");
    assert_eq!(tables("studies/tiny.toml", &[]).0, 0);
    assert_eq!(tables("studies/tiny.toml", &[]).0, 0);
    let (status, _, stderr) = tables("studies/other.toml", &[]);
    assert_eq!(status, 2, "{stderr}");
    assert!(stderr.contains("holds the tables of the study tiny") && stderr.contains("--force"), "{stderr}");
    assert_eq!(tables("studies/other.toml", &["--force"]).0, 0);
}
