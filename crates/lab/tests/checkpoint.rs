//! Checkpoints of a run: what is written, what is read back, and what becomes of damage.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use sinkscope_lab::LabError;
use sinkscope_lab::checkpoint::{Checkpoints, Loaded, Resume, Snapshot};
use sinkscope_model::parameters::StoredTensor;
use tempfile::TempDir;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    tokens: u64,
    best: Option<f64>,
    rate: f32,
}

fn state(step: u64) -> State {
    State { tokens: step * 4096, best: Some(1.0 / (step as f64 + 3.0)), rate: 0.1 }
}

fn model(step: u64) -> Vec<StoredTensor<'static>> {
    let values = |count: usize| (0..count).map(|i| (i as f32 + 0.1) * step as f32).collect::<Vec<_>>();
    // Longer than a piece, empty, without dimensions.
    vec![
        StoredTensor::new("wide", [3, 7001], values(21_003)),
        StoredTensor::new("empty", [0, 4], values(0)),
        StoredTensor::new("alone", [], values(1)),
    ]
}

fn save(checkpoints: &mut Checkpoints, step: u64, best: bool) -> Result<(), LabError> {
    let files: [(&str, &[u8]); 2] = [("tokenizer.json", b"[]"), ("config.json", b"{\"model_type\": \"llama\"}")];
    let optimizer = [StoredTensor::new("wide.m", [2], vec![step as f32, f32::MIN_POSITIVE / 2.0])];
    let snapshot = Snapshot { step, model: &model(step), optimizer: &optimizer, state: &state(step), files: &files };
    checkpoints.save(&snapshot, best)
}

fn load(checkpoints: &Checkpoints) -> Option<Loaded<State>> {
    checkpoints.load().expect("a whole checkpoint or none")
}

fn begun() -> (TempDir, PathBuf, Checkpoints) {
    let directory = tempfile::tempdir().expect("a directory");
    let run = directory.path().join("run");
    let checkpoints = Checkpoints::open(&run, Resume::No).expect("a new run");
    (directory, run, checkpoints)
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_saved_is_loaded() {
    let (_directory, run, mut checkpoints) = begun();
    assert!(load(&checkpoints).is_none());
    save(&mut checkpoints, 5, true).expect("saved");
    save(&mut checkpoints, 9, false).expect("saved");
    let loaded = load(&checkpoints).expect("a checkpoint");
    let mut expected = model(9);
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(loaded.model, expected);
    assert_eq!(loaded.optimizer[0].values[1].to_bits(), (f32::MIN_POSITIVE / 2.0).to_bits());
    assert_eq!((loaded.step, &loaded.state), (9, &state(9)));
    assert_eq!(
        loaded.files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["config.json", "tokenizer.json"]
    );
    assert!(loaded.damaged.is_empty());

    let whole = ["config.json", "model.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json"];
    assert_eq!(names(&run.join("last")), whole);
    assert_eq!(
        names(&run.join("best")),
        whole.into_iter().filter(|name| !name.starts_with("optim")).collect::<Vec<_>>()
    );
    assert_eq!(names(&run.join("checkpoints")), ["best-00000005", "step-00000009"]);
    assert_eq!(names(&run), [".lock", "best", "checkpoints", "last"]);
    assert!(fs::read_link(run.join("last")).expect("a link").is_relative());
}

/// Read by the crate of the format's authors, not by ours.
#[test]
fn weights_are_ordinary_safetensors() {
    let (_directory, run, mut checkpoints) = begun();
    save(&mut checkpoints, 2, true).expect("saved");
    let bytes = fs::read(run.join("best/model.safetensors")).expect("a file");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    assert_eq!(tensors.names().len(), 3);
    let wide = tensors.tensor("wide").expect("a tensor");
    assert_eq!((wide.shape(), wide.dtype()), (&[3, 7001][..], safetensors::Dtype::F32));
    let values: Vec<f32> =
        wide.data().chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().expect("four bytes"))).collect();
    assert_eq!(values, model(2)[0].values.as_ref());
}

#[test]
fn equal_weights_make_equal_files_wherever_and_whenever() {
    let mut files = Vec::new();
    for reversed in [false, true] {
        let (_directory, run, mut checkpoints) = begun();
        let mut tensors = model(3);
        if reversed {
            tensors.reverse();
        }
        let snapshot =
            Snapshot { step: 3 + u64::from(reversed), model: &tensors, optimizer: &[], state: &(), files: &[] };
        checkpoints.save(&snapshot, false).expect("saved");
        files.push(fs::read(run.join("last/model.safetensors")).expect("a file"));
    }
    assert!(files[0] == files[1]);
    let header = String::from_utf8_lossy(&files[0][8..320]);
    assert!(
        header
            .starts_with(r#"{"__metadata__":{"format":"pt"},"alone":{"dtype":"F32","shape":[],"data_offsets":[0,4]}"#),
        "{header}"
    );
}

#[test]
fn a_run_is_begun_resumed_or_refused() {
    let (directory, run, mut checkpoints) = begun();
    let second = Checkpoints::open(&run, Resume::Yes).expect_err("two trainers").to_string();
    assert!(second.contains("another process is training in"), "{second}");
    save(&mut checkpoints, 1, false).expect("saved");
    drop(checkpoints);
    let again = Checkpoints::open(&run, Resume::No).expect_err("a run is there").to_string();
    assert!(again.contains("is not empty: resume"), "{again}");
    assert_eq!(load(&Checkpoints::open(&run, Resume::Yes).expect("resumed")).expect("a checkpoint").step, 1);

    // Resuming what is absent or empty begins anew.
    for name in ["absent/below", "empty"] {
        let other = directory.path().join(name);
        if name == "empty" {
            fs::create_dir(&other).expect("a directory");
        }
        assert!(load(&Checkpoints::open(&other, Resume::Yes).expect("begun")).is_none());
        // What a process killed at once leaves is as good as empty.
        assert!(load(&Checkpoints::open(&other, Resume::No).expect("begun")).is_none());
    }
    let foreign = directory.path().join("home");
    fs::create_dir(&foreign).expect("a directory");
    fs::write(foreign.join("letter.txt"), "Dear").expect("written");
    for resume in [Resume::No, Resume::Yes] {
        Checkpoints::open(&foreign, resume).expect_err("not a run");
    }
    assert_eq!(names(&foreign), ["letter.txt"]);
}

/// The state after a kill between any two steps of a save, made by hand.
#[test]
fn leftovers_are_cleared_and_the_newest_whole_checkpoint_counts() {
    let (_directory, run, mut checkpoints) = begun();
    save(&mut checkpoints, 4, true).expect("saved");
    let old = run.join("kept-aside");
    fs::rename(run.join("checkpoints/step-00000004"), &old).expect("moved");
    save(&mut checkpoints, 8, false).expect("saved");
    drop(checkpoints);
    // Killed after the new directory had its name and before the switch, while a link and another save lay about.
    fs::rename(&old, run.join("checkpoints/step-00000004")).expect("moved");
    fs::remove_file(run.join("last")).expect("removed");
    std::os::unix::fs::symlink("checkpoints/step-00000004", run.join("last")).expect("a link");
    std::os::unix::fs::symlink("checkpoints/step-00000008", run.join(".last.new")).expect("a link");
    fs::create_dir(run.join("checkpoints/.writing")).expect("a directory");
    fs::write(run.join("checkpoints/.writing/model.safetensors"), "half").expect("written");
    fs::remove_file(run.join("best")).expect("removed");

    let mut checkpoints = Checkpoints::open(&run, Resume::Yes).expect("resumed");
    assert_eq!(load(&checkpoints).expect("a checkpoint").step, 8);
    assert_eq!(fs::read_link(run.join("last")).expect("a link"), Path::new("checkpoints/step-00000008"));
    assert!(run.join("best/model.safetensors").exists());
    assert_eq!(names(&run.join("checkpoints")), ["best-00000004", "step-00000004", "step-00000008"]);
    // A save of the same step, as of one that was asked to end right after a save.
    save(&mut checkpoints, 8, true).expect("saved");
    assert_eq!(names(&run.join("checkpoints")), ["best-00000008", "step-00000008.1"]);
    assert_eq!(load(&checkpoints).expect("a checkpoint").step, 8);
}

/// Some copying programs make directories of links.
#[test]
fn a_copy_with_directories_for_links_goes_on() {
    let (directory, run, mut checkpoints) = begun();
    save(&mut checkpoints, 6, true).expect("saved");
    let copy = directory.path().join("copy");
    for link in ["last", "best"] {
        fs::create_dir_all(copy.join(link)).expect("a directory");
        for name in names(&run.join(link)) {
            fs::copy(run.join(link).join(&name), copy.join(link).join(&name)).expect("copied");
        }
    }
    let mut checkpoints = Checkpoints::open(&copy, Resume::Yes).expect("resumed");
    assert_eq!(load(&checkpoints).expect("a checkpoint").step, 6);
    save(&mut checkpoints, 7, true).expect("saved");
    assert_eq!(load(&checkpoints).expect("a checkpoint").step, 7);
    assert_eq!(names(&copy.join("checkpoints")), ["best-00000007", "step-00000007"]);
    assert_eq!(names(&copy), [".lock", "best", "checkpoints", "last"]);
}

#[test]
fn any_damage_is_found_and_an_older_checkpoint_taken() {
    for name in ["config.json", "model.safetensors", "optimizer.safetensors", "state.json"] {
        for damage in ["flipped", "cut", "grown", "gone"] {
            let (_directory, run, mut checkpoints) = begun();
            save(&mut checkpoints, 4, false).expect("saved");
            let old = run.join("kept-aside");
            fs::rename(run.join("checkpoints/step-00000004"), &old).expect("moved");
            save(&mut checkpoints, 8, false).expect("saved");
            let file = run.join("last").join(name);
            let mut content = fs::read(&file).expect("a file");
            match damage {
                "flipped" => {
                    // In the state, where a digit stays a digit.
                    let place = match name {
                        "state.json" => String::from_utf8_lossy(&content).find("32768").expect("tokens"),
                        _ => content.len() / 2,
                    };
                    content[place] ^= 1;
                }
                "cut" => content.truncate(content.len() / 2),
                "grown" => content.push(b'x'),
                _ => {}
            }
            fs::remove_file(&file).expect("removed");
            if damage != "gone" {
                fs::write(&file, &content).expect("written");
            }
            let error = checkpoints.load::<State>().expect_err("nothing whole").to_string();
            let place = format!("checkpoints/step-00000008/{name}");
            assert!(error.contains(&place) && error.contains("no checkpoint in"), "{damage} {name}: {error}");

            fs::rename(&old, run.join("checkpoints/step-00000004")).expect("moved");
            let loaded = load(&checkpoints).expect("the older one");
            assert_eq!((loaded.step, loaded.damaged.len()), (4, 1), "{damage} {name}");
            assert!(run.join("last").canonicalize().expect("a path").ends_with("step-00000004"));
        }
    }
}

#[test]
fn a_lost_checkpoint_is_not_taken_for_a_new_run() {
    let (_directory, run, mut checkpoints) = begun();
    save(&mut checkpoints, 4, false).expect("saved");
    fs::remove_dir_all(run.join("checkpoints")).expect("removed");
    let error = checkpoints.load::<State>().expect_err("nothing there").to_string();
    assert!(error.contains("last: the checkpoint that it points to is gone"), "{error}");
}

#[test]
fn another_kind_of_state_is_named() {
    #[derive(Debug, Deserialize)]
    struct Other {
        #[allow(dead_code)]
        tokens: String,
    }
    let (_directory, _run, mut checkpoints) = begun();
    save(&mut checkpoints, 4, false).expect("saved");
    let error = checkpoints.load::<Other>().expect_err("another kind").to_string();
    assert!(error.contains("state.json") && error.contains("tokens: invalid type"), "{error}");
}

#[test]
fn what_cannot_be_kept_is_refused_before_anything_changes() {
    let (_directory, run, mut checkpoints) = begun();
    save(&mut checkpoints, 1, false).expect("saved");
    let fine = state(2);
    let infinite = State { rate: f32::INFINITY, ..state(2) };
    let lost = State { best: Some(f64::NAN), ..state(2) };
    let square = [StoredTensor::new("a", [2, 2], vec![0.0; 3])];
    let twice = [StoredTensor::new("a", [1], vec![0.0]), StoredTensor::new("a", [1], vec![0.0])];
    let cases: [(&State, &[StoredTensor<'_>], &str, &str); 7] = [
        (&infinite, &[], "config.json", "the state of the run cannot be kept as JSON: rate"),
        (&lost, &[], "config.json", ""),
        (&fine, &square, "config.json", "tensor a has shape [2, 2] and 3 values"),
        (&fine, &twice, "config.json", "the name a"),
        (&fine, &[], "../config.json", "../config.json cannot be"),
        (&fine, &[], "state.json", "state.json cannot be"),
        (&fine, &[], "", "cannot be"),
    ];
    for (state, model, name, expected) in cases {
        let snapshot = Snapshot { step: 2, model, optimizer: &[], state, files: &[(name, b"{}")] };
        match checkpoints.save(&snapshot, true) {
            Err(LabError::Request(reason)) => assert!(reason.contains(expected), "{reason}"),
            // NaN in an `Option` reads back as `None`, which is written alike.
            Ok(()) => assert!(expected.is_empty()),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(names(&run.join("checkpoints")), ["best-00000002", "step-00000002"]);
}

proptest! {
    // Every case syncs files.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in a file of tensors, reading it neither panics nor allocates without bounds.
    #[test]
    fn damaged_tensors_never_panic(place in 0usize..400, value: u8, cut in 0usize..400) {
        let (_directory, run, mut checkpoints) = begun();
        let tensors = [StoredTensor::new("a", [5], vec![1.0; 5]), StoredTensor::new("b", [2, 3], vec![2.0; 6])];
        let snapshot = Snapshot { step: 1, model: &tensors, optimizer: &[], state: &(), files: &[] };
        checkpoints.save(&snapshot, false).expect("saved");
        let file = run.join("last/model.safetensors");
        let mut content = fs::read(&file).expect("a file");
        let whole = content.clone();
        let place = place % content.len();
        content[place] = value;
        if cut < content.len() / 2 {
            content.truncate(content.len() - cut);
        }
        fs::write(&file, &content).expect("written");
        let loaded = checkpoints.load::<()>();
        prop_assert_eq!(loaded.is_ok(), content == whole);
    }
}
