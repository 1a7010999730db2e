//! The model inside the program: what every command takes when none is named.

use std::fs;

use serde_json::Value;

use crate::run;

fn results(command: &[&str], file: &str) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    let (status, _, stderr) = run(&[command, &["--quiet", "--out", out.to_str().expect("UTF-8")]].concat());
    assert_eq!(status, 0, "{stderr}");
    serde_json::from_slice(&fs::read(out.join(file)).expect("written")).expect("JSON")
}

#[test]
fn an_examination_without_a_model_shows_spikes_their_block_and_sinks() {
    let anatomy = results(&["anatomy", "--only", "lifecycle,spikes,sinks,nll"], "anatomy.json");
    assert_eq!(anatomy["model"]["name"], "demo");
    assert_eq!(anatomy["data"]["bos"], true);
    let stage = &anatomy["results"]["spikes"]["stages"][0];
    assert!(!stage["step_up"].as_array().expect("blocks").is_empty(), "{stage}");
    assert!(stage["share_at_position_0"].as_f64().expect("a share") > 0.5, "{stage}");
    assert!(anatomy["results"]["sinks"]["ratio"].as_f64().expect("a ratio") > 0.02);
    let named = results(&["anatomy", "demo", "--only", "lifecycle,spikes,sinks,nll"], "anatomy.json");
    assert_eq!(named["results"], anatomy["results"]);
}

#[test]
fn the_other_commands_take_it_too() {
    let operate = results(&["operate", "zero-spikes", "--sequences", "8"], "operate.json");
    assert_eq!(operate["model"]["name"], "demo");
    assert_eq!(operate["results"]["variants"][0]["name"], "zero-spikes");
    // Its tokeniser begins texts with a token, whose spike the weights foretell.
    let census = results(&["census"], "census.json");
    assert_eq!(census["model"]["name"], "demo");
    let anatomy = results(&["anatomy", "--only", "spikes"], "anatomy.json");
    let (told, stage) = (&census["results"]["prediction"], &anatomy["results"]["spikes"]["stages"][0]);
    assert_eq!(told["peak"]["channel"], stage["channel"], "{told}");
    assert!(stage["step_up"].as_array().expect("blocks").contains(&told["peak"]["block"]), "{told}");
    let probe = results(&["probe"], "probe.json");
    assert_eq!(probe["model"]["name"], "demo");
}
