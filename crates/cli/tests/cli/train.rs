//! `sinkscope train`: runs as a user makes, interrupts and resumes them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{refused, run};

/// A run of a second or two.
const RECIPE: &str = r#"
seed = 7
[model]
layers = 2
d_model = 16
heads = 2
d_ffn = 24
MODEL
[data]
source = "bigram-backcopy"
tokens = 12
triggers = 3
[training]
steps = 60
sequences = 8
seq_len = 16
TRAINING
[optimizer]
learning_rate = 0.01
warmup = 10
[watch]
every = 20
sequences = 8
seq_len = 16
checkpoint_every = 20
"#;

struct Lab {
    directory: tempfile::TempDir,
}

impl Lab {
    fn new(model: &str, training: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let recipe = RECIPE.replace("MODEL", model).replace("TRAINING", training);
        fs::write(directory.path().join("recipe.toml"), recipe).expect("written");
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn train(&self, out: &str, options: &[&str]) -> (i32, String, String) {
        let (recipe, out) = (self.path("recipe.toml"), self.path(out));
        run(&[&["train", &recipe, "--out", &out, "--quiet"][..], options].concat())
    }

    fn refused(&self, out: &str, options: &[&str]) -> String {
        let (recipe, out) = (self.path("recipe.toml"), self.path(out));
        refused(&[&["train", &recipe, "--out", &out, "--quiet"][..], options].concat())
    }

    fn weights(&self, out: &str) -> Vec<u8> {
        fs::read(self.path(out) + "/last/model.safetensors").expect("weights")
    }

    /// The records without their timing.
    fn records(&self, out: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(out) + "/metrics.jsonl").expect("records");
        let parse = |line: &str| {
            let mut record: Value = serde_json::from_str(line).expect("JSON");
            record.as_object_mut().expect("an object").remove("timing").expect("timing");
            record
        };
        text.lines().map(parse).collect()
    }
}

#[test]
fn a_run_leaves_what_was_promised() {
    let lab = Lab::new("", "");
    let (status, stdout, stderr) = lab.train("run", &[]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.contains("after 60 steps perplexity") && stdout.contains("tokens/s"), "{stdout}");
    let records = lab.records("run");
    assert_eq!(records.iter().map(|record| record["step"].as_u64()).collect::<Vec<_>>(), [0, 20, 40, 60].map(Some));
    for key in ["nll", "perplexity", "spike", "sink_ratio", "sink_ratio_gu", "mean_max_alpha", "tokens"] {
        assert!(records[3][key].is_number(), "{key}");
    }
    assert!(records[0]["loss"].is_null() && records[1]["loss"].is_number() && records[1]["gradient_norm"].is_number());
    assert!(records[3]["nll"].as_f64() < records[0]["nll"].as_f64(), "it learns: {records:?}");
    assert_eq!(records[3]["largest_by_block"].as_array().map(Vec::len), Some(5));
    assert_eq!(records[3]["frobenius"].as_array().map(Vec::len), Some(2));
    let file: Value = serde_json::from_slice(&fs::read(lab.path("run/train.json")).expect("written")).expect("JSON");
    assert_eq!(file["results"]["looks"].as_array().map(Vec::len), Some(4));
    assert_eq!(file["results"]["cost"]["parameters"], file["model"]["parameters"]);
    assert_eq!(file["model"]["architecture"]["family"], "llama");
    assert!(Path::new(&lab.path("run/best/model.safetensors")).exists());
    assert!(fs::read_dir(lab.path("run/tensorboard")).expect("event files").count() > 0);
}

#[test]
fn any_number_of_threads_trains_the_same_weights() {
    let lab = Lab::new("placement = \"sandwich\"", "accumulation = 2");
    for threads in ["1", "2", "3"] {
        assert_eq!(lab.train(threads, &["--threads", threads]).0, 0);
    }
    assert!(lab.weights("1") == lab.weights("2") && lab.weights("2") == lab.weights("3"));
    assert_eq!(lab.records("1"), lab.records("3"));
}

#[test]
fn precision_is_part_of_the_recipe() {
    let last = |lab: &Lab| lab.records("1")[3]["nll"].as_f64().expect("a number");
    let usual = Lab::new("", "precision = \"highest\"");
    assert_eq!(usual.train("1", &[]).0, 0);
    for (precision, tolerance) in [("high", 1e-3), ("medium", 1e-2)] {
        let lab = Lab::new("", &format!("precision = \"{precision}\""));
        assert_eq!(lab.train("1", &["--threads", "1"]).0, 0);
        assert_eq!(lab.train("2", &["--threads", "2"]).0, 0);
        assert!(lab.weights("1") == lab.weights("2"), "{precision}");
        assert!((last(&lab) / last(&usual) - 1.0).abs() < tolerance, "{precision} {} {}", last(&lab), last(&usual));
    }

    let message = Lab::new("", "precision = \"low\"").refused("run", &[]);
    assert!(message.contains("training.precision cannot be low: known are highest, high, medium"), "{message}");
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_been() {
    let lab = Lab::new("", "");
    assert_eq!(lab.train("whole", &[]).0, 0);
    let (recipe, out) = (lab.path("recipe.toml"), lab.path("killed"));
    for milliseconds in [5, 40, 90, 150, 220] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sinkscope"));
        command.args(["train", &recipe, "--out", &out, "--quiet", "--resume"]).stdout(Stdio::null());
        let mut process = command.spawn().expect("it starts");
        sleep(Duration::from_millis(milliseconds));
        process.kill().expect("a process to kill");
        process.wait().expect("it ends");
    }
    assert_eq!(lab.train("killed", &["--resume"]).0, 0);
    assert!(lab.weights("whole") == lab.weights("killed"));
    assert_eq!(lab.records("whole"), lab.records("killed"));
    // Resumed once more it has nothing to do.
    assert_eq!(lab.train("killed", &["--resume"]).0, 0);
    assert_eq!(lab.records("whole"), lab.records("killed"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_saves_and_says_so() {
    for (signal, status, name) in [("INT", 130, "SIGINT"), ("TERM", 143, "SIGTERM")] {
        let lab = Lab::new("", "");
        let long =
            fs::read_to_string(lab.path("recipe.toml")).expect("a recipe").replace("steps = 60", "steps = 100000");
        fs::write(lab.path("recipe.toml"), long).expect("written");
        let (recipe, out) = (lab.path("recipe.toml"), lab.path("run"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_sinkscope"));
        command.args(["train", &recipe, "--out", &out, "--quiet"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let process = command.spawn().expect("it starts");
        let start = Instant::now();
        while !Path::new(&lab.path("run/metrics.jsonl")).exists() && start.elapsed() < Duration::from_secs(60) {
            sleep(Duration::from_millis(10));
        }
        let id = process.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().expect("kill runs").success());
        let output = process.wait_with_output().expect("it ends");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{message}");
        assert!(message.contains(&format!("stopped by {name} after")) && message.contains("--resume"), "{message}");
        assert!(Path::new(&lab.path("run/last/model.safetensors")).exists());
    }
}

#[test]
fn every_command_takes_what_was_trained() {
    for model in [
        "",
        "placement = \"sandwich-qk-input\"\nnorm = \"dynamic-tanh\"",
        "feed_forward = \"attention\"\ngate = { signal = \"embedding\", granularity = \"channel\" }",
        "position = \"alibi\"\nweighting = \"sink-logit\"\nfeed_forward = \"gelu\"\nplacement = \"post\"",
        "position = \"none\"\nkey_value_bias = true\nfeed_forward = \"linear\"",
        "weighting = \"sigmoid\"\ngate = { signal = \"position\", granularity = \"head\" }",
        "registers = 3\nsoft_cap = 20.0",
    ] {
        let lab = Lab::new(model, "");
        let mut short =
            fs::read_to_string(lab.path("recipe.toml")).expect("a recipe").replace("steps = 60", "steps = 5");
        if model.contains("feed_forward") {
            // Some of these have no hidden units.
            short = short.replace("d_ffn = 24\n", "");
        }
        fs::write(lab.path("recipe.toml"), short).expect("written");
        let (status, _, stderr) = lab.train("run", &[]);
        assert_eq!((status, stderr.as_str()), (0, ""), "{model}");
        let ids: Vec<Vec<u32>> = (0..4).map(|row| (0..16).map(|at| (row * 5 + at * at) % 13).collect()).collect();
        fs::write(lab.path("ids.json"), serde_json::json!({ "tokens": ids }).to_string()).expect("written");
        let (last, ids) = (lab.path("run/last"), lab.path("ids.json"));
        for command in [
            &["anatomy", &last, "--tokens", &ids][..],
            &["census", &last],
            &[
                "operate",
                &last,
                "zero-spikes@block=2@position=0@channels=3",
                "forbid-sink@position=0",
                "--tokens",
                &ids,
            ],
            &["probe", &last, "--tokens", &ids],
        ] {
            let (status, _, stderr) = run(command);
            let no_spikes = command[0] == "probe" && status == 2 && stderr.contains("spike");
            assert!(status == 0 || no_spikes, "{model}: {command:?}: {stderr}");
        }
    }
}

#[test]
fn what_was_trained_says_of_bos_what_training_did() {
    for bos in [true, false] {
        let lab = Lab::new("", "");
        let recipe = fs::read_to_string(lab.path("recipe.toml")).expect("a recipe");
        let (before, rest) = recipe.split_once("[data]").expect("its data");
        let (_, after) = rest.split_once("[training]").expect("its training");
        let data = format!("[data]\nsource = \"built-in\"\nvocabulary = 300\nbos = {bos}\n");
        let recipe = format!("{before}{data}[training]{}", after.replace("steps = 60", "steps = 2"));
        fs::write(lab.path("recipe.toml"), recipe).expect("written");
        let (status, _, stderr) = lab.train("run", &[]);
        assert_eq!((status, stderr.as_str()), (0, ""));
        let json =
            |name: &str| -> Value { serde_json::from_slice(&fs::read(lab.path(name)).expect("there")).expect("JSON") };
        let config = json("run/last/config.json");
        assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&0.into(), &0.into()));
        assert_eq!(json("run/last/tokenizer_config.json")["add_bos_token"], bos);
        let template = &json("run/last/tokenizer.json")["post_processor"];
        assert_eq!(template.is_object(), bos);
        let (last, out) = (lab.path("run/last"), lab.path("out"));
        let (status, _, stderr) = run(&["anatomy", &last, "--only", "nll", "--seq-len", "16", "--out", &out]);
        assert_eq!((status, stderr.as_str()), (0, ""));
        assert_eq!(json("out/anatomy.json")["data"]["bos"], bos);
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    for (model, training, part) in [
        ("head_dims = 8", "", "model.head_dims is no key of a recipe: did you mean model.head_dim?"),
        ("placement = \"sandwhich\"", "", "sandwich"),
        ("heads = 3", "", "recipe.toml"),
        ("kv_heads = 3", "", "2 heads cannot share 3 key-value heads evenly"),
        ("key_value_bias = true\nweighting = \"sink-logit\"", "", "choose one"),
        (
            "position = \"none\"\nrope_theta = 1e4",
            "",
            "line 9: model.rope_theta has no effect here: it is the base of rotary",
        ),
        ("feed_forward = \"linear\"", "", "line 7: model.d_ffn has no effect here"),
        ("", "accumulation = 3", "do not divide into accumulation = 3 parts"),
        ("", "loss_from = 9\nloss_to = 4", "loss_from = 9 to loss_to = 4"),
        ("", "loss_to = 40", "no positions of sequences of 16"),
    ] {
        let lab = Lab::new(model, training);
        let message = lab.refused("run", &[]);
        assert!(message.contains(part), "{message}");
        assert!(!Path::new(&lab.path("run")).exists(), "{message}");
    }
    let lab = Lab::new("", "");
    fs::create_dir(lab.path("full")).expect("a directory");
    fs::write(lab.path("full/notes.txt"), "mine").expect("written");
    assert!(lab.refused("full", &[]).contains("full"));
    assert!(lab.refused("full", &["--resume"]).contains("full"));
    assert_eq!(fs::read_to_string(lab.path("full/notes.txt")).expect("still there"), "mine");
    assert_eq!(lab.train("run", &[]).0, 0);
    assert!(lab.refused("run", &[]).contains("is not empty: resume the run"), "{}", lab.refused("run", &[]));
    let other = fs::read_to_string(lab.path("recipe.toml")).expect("a recipe").replace("seed = 7", "seed = 8");
    fs::write(lab.path("recipe.toml"), other).expect("written");
    assert!(lab.refused("run", &["--resume"]).contains("seed was 7 and is 8; resume with the recipe"));
    assert!(refused(&["train", "nowhere.toml", "--out", "run"]).contains("nowhere.toml"));
    assert!(lab.refused("recipe.toml/below", &[]).contains("cannot be used as the output directory"));
    for (usual, unusual, part) in [
        ("sequences = 8", "sequences = 9223372036854775807", "GiB of memory"),
        ("layers = 2", "layers = 1000000000", "the number of layers is 1000000000"),
        ("heads = 2", "heads = 2\nregisters = 9223372036854775807", "the vocabulary size is"),
    ] {
        let lab = Lab::new("", "");
        let recipe = fs::read_to_string(lab.path("recipe.toml")).expect("a recipe");
        fs::write(lab.path("recipe.toml"), recipe.replace(usual, unusual)).expect("written");
        let message = lab.refused("run", &[]);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_run_that_diverges_says_so() {
    let lab = Lab::new("", "");
    let wild = fs::read_to_string(lab.path("recipe.toml")).expect("a recipe");
    fs::write(lab.path("recipe.toml"), wild.replace("learning_rate = 0.01", "learning_rate = 1e30")).expect("written");
    let (status, _, stderr) = lab.train("run", &[]);
    assert_eq!(status, 1, "{stderr}");
    assert!(stderr.contains("step 1: ") && stderr.contains(": the run diverged"), "{stderr}");
    assert!(!Path::new(&lab.path("run/last")).exists(), "nothing of it is worth keeping");
}

#[test]
fn what_was_saved_before_a_run_diverged_stays() {
    let lab = Lab::new("", "");
    let recipe = fs::read_to_string(lab.path("recipe.toml")).expect("a recipe");
    // Decay turns every matrix round and makes it three times as large, step after step.
    let growing = recipe.replace("warmup = 10", "warmup = 1\nschedule = \"constant\"\nweight_decay = 400");
    fs::write(lab.path("recipe.toml"), growing.replace("_every = 20", "_every = 5")).expect("written");
    let (status, _, stderr) = lab.train("run", &[]);
    assert!(status == 1 && stderr.contains("the run diverged"), "{stderr}");
    let kept = lab.weights("run");
    assert_eq!(lab.train("run", &["--resume"]), (1, String::new(), stderr));
    assert!(kept == lab.weights("run"));
    let (last, ids) = (lab.path("run/last"), lab.path("ids.json"));
    fs::write(&ids, r#"{"tokens": [[1, 2, 3, 4, 5, 6, 7, 8]]}"#).expect("written");
    let (status, _, stderr) = run(&["anatomy", &last, "--tokens", &ids, "--only", "nll", "--quiet"]);
    assert_eq!(status, 0, "{stderr}");
}

#[test]
fn a_run_goes_on_elsewhere_longer_and_watched_otherwise() {
    let lab = Lab::new("", "");
    let recipe = fs::read_to_string(lab.path("recipe.toml")).expect("a recipe");
    let constant = recipe.replace("warmup = 10", "warmup = 10\nschedule = \"constant\"");
    let write = |recipe: &str| fs::write(lab.path("recipe.toml"), recipe).expect("written");
    let longer = |recipe: &str| recipe.replace("steps = 60", "steps = 80").replace("every = 20", "every = 25");
    write(&longer(&constant));
    assert_eq!(lab.train("whole", &[]).0, 0);
    write(&constant);
    assert_eq!(lab.train("run", &[]).0, 0);
    fs::rename(lab.path("run"), lab.path("moved")).expect("moved");
    write(&longer(&constant));
    assert_eq!(lab.train("moved", &["--resume", "--threads", "1"]).0, 0);
    assert!(lab.weights("whole") == lab.weights("moved"));
    let steps = |run: &str| lab.records(run).iter().filter_map(|record| record["step"].as_u64()).collect::<Vec<_>>();
    assert_eq!((steps("whole"), steps("moved")), (vec![0, 25, 50, 75, 80], vec![0, 20, 40, 60, 75, 80]));

    write(&recipe);
    assert_eq!(lab.train("falling", &[]).0, 0);
    write(&longer(&recipe));
    let message = lab.refused("falling", &["--resume"]);
    assert!(message.contains("training.steps was 60 and is 80: the cosine"), "{message}");
    write(&recipe.replace("steps = 60", "steps = 50"));
    let message = lab.refused("falling", &["--resume"]);
    assert!(message.contains("training.steps is 50, and 60 steps are done already"), "{message}");
}

#[test]
fn registers_stand_before_what_every_command_reads() {
    let lab = Lab::new("registers = 3", "");
    assert_eq!(lab.train("run", &[]).0, 0);
    let looked = lab.records("run").pop().expect("a look");
    let plain = Lab::new("", "");
    assert_eq!(plain.train("run", &[]).0, 0);
    // Registers predict nothing, so neither reads much worse than the other.
    let of_plain = plain.records("run").pop().expect("a look");
    let nll = |look: &Value| look["nll"].as_f64().expect("a number");
    assert!((nll(&looked) - nll(&of_plain)).abs() < 0.5, "{} {}", nll(&looked), nll(&of_plain));
    let ids: Vec<Vec<u32>> = (0..4).map(|row| (0..16).map(|at| (row * 5 + at * at) % 13).collect()).collect();
    fs::write(lab.path("ids.json"), serde_json::json!({ "tokens": ids }).to_string()).expect("written");
    let (last, ids, out) = (lab.path("run/last"), lab.path("ids.json"), lab.path("out"));
    let results = |command: &[&str], file: &str| -> Value {
        let (status, _, stderr) = run(&[command, &["--tokens", &ids, "--out", &out, "--quiet"]].concat());
        assert_eq!(status, 0, "{stderr}");
        serde_json::from_slice(&fs::read(format!("{out}/{file}")).expect("written")).expect("JSON")
    };
    let anatomy = results(&["anatomy", &last, "--only", "sinks,nll"], "anatomy.json");
    assert_eq!(anatomy["data"]["seq_len"], 19);
    assert_eq!(anatomy["results"]["predicted_tokens"], 4 * 15);
    let operate = results(&["operate", &last, "window=64", "drop-first", "forbid-sink@position=0"], "operate.json");
    let baseline = &operate["results"]["baseline"];
    assert_eq!(baseline["tokens"], 4 * 15);
    let close = |a: &Value, b: &Value| (a.as_f64().expect("a number") - b.as_f64().expect("a number")).abs() < 1e-6;
    assert!(close(&baseline["nll"], &anatomy["results"]["nll"]), "{baseline}");
    assert_eq!(operate["results"]["variants"][0]["delta_nll"], 0.0);
    assert_eq!(operate["results"]["variants"][1]["tokens"], 4 * 14);
}
