//! Checkpoints of processes that are killed, and of disks that are full.
//!
//! The process to kill is this test program itself, told by a variable to save in a loop.

use std::borrow::Cow;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sinkscope_lab::LabError;
use sinkscope_lab::checkpoint::{Checkpoints, Loaded, Resume, Snapshot};
use sinkscope_model::parameters::StoredTensor;

/// Variable with the run to save to.
const RUN: &str = "SINKSCOPE_TEST_SAVE_IN_A_LOOP";
/// What the process says when it has saved once.
const SAVED: &str = "saved once";
/// Kills.
const KILLS: usize = 40;
/// Values of a tensor: few, so that names and links are changed for as much of the time as files are written.
const VALUES: usize = 4000;

#[derive(Debug, Serialize, Deserialize)]
struct State {
    step: u64,
    best: u64,
}

/// Every tensor, file and state tells the step.
fn save(checkpoints: &mut Checkpoints, step: u64) -> Result<(), LabError> {
    let tensors =
        |names: [&str; 3]| names.map(|name| StoredTensor::new(name, [VALUES], Cow::Owned(vec![step as f32; VALUES])));
    let best = step / 3 * 3;
    let config = format!("{{\"step\": {step}}}");
    let snapshot = Snapshot {
        step,
        model: &tensors(["a", "b", "c"]),
        optimizer: &tensors(["a.m", "b.m", "c.m"]),
        state: &State { step, best },
        files: &[("config.json", config.as_bytes())],
    };
    checkpoints.save(&snapshot, best == step)
}

fn check(loaded: &Loaded<State>) {
    let step = loaded.step;
    assert_eq!(loaded.state.step, step);
    assert_eq!(loaded.files[0].1, format!("{{\"step\": {step}}}").as_bytes());
    for tensor in loaded.model.iter().chain(&loaded.optimizer) {
        assert!(tensor.values.iter().all(|value| *value == step as f32), "step {step}: {} is of another", tensor.name);
    }
}

/// Not a test but the process to kill: resumes, and saves step after step.
#[test]
#[ignore = "the other tests of this file start it"]
fn save_in_a_loop() {
    let Ok(run) = std::env::var(RUN) else { return };
    let mut checkpoints = Checkpoints::open(Path::new(&run), Resume::Yes).expect("a run");
    let resumed = checkpoints.load::<State>().expect("a whole checkpoint or none");
    let mut told = false;
    for step in resumed.map_or(1, |loaded| loaded.step + 1).. {
        if let Err(error) = save(&mut checkpoints, step) {
            println!("\nstep {step}: {error}");
            std::process::exit(3);
        }
        if !told {
            println!("\n{SAVED}");
            told = true;
        }
    }
}

fn saver(run: &Path, shell: &str) -> Child {
    Command::new("bash")
        .args(["-c", &format!("{shell} exec \"$0\" --exact save_in_a_loop --ignored --nocapture")])
        .arg(std::env::current_exe().expect("this program"))
        .env(RUN, run)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process")
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_checkpoint() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = directory.path().join("run");
    let mut draws = ChaCha8Rng::seed_from_u64(7);
    let (mut reached, mut half_written) = (0, 0);
    for _ in 0..KILLS {
        let mut child = saver(&run, "");
        // However slow the machine, one checkpoint each time.
        let mut output = BufReader::new(child.stdout.take().expect("its output")).lines();
        assert!(output.any(|line| line.expect("a line") == SAVED), "nothing saved");
        sleep(Duration::from_micros(draws.random_range(0..60_000)));
        child.kill().expect("SIGKILL");
        child.wait().expect("an end");
        half_written += usize::from(run.join("checkpoints/.writing").exists());
        // At every moment others may take `last` for a model directory.
        assert!(run.join("last/model.safetensors").exists() && run.join("last/config.json").exists());

        let checkpoints = Checkpoints::open(&run, Resume::Yes).expect("resumed");
        let loaded = checkpoints.load::<State>().expect("a whole checkpoint").expect("one at all");
        check(&loaded);
        assert!(loaded.damaged.is_empty(), "{:?}", loaded.damaged);
        assert!(loaded.step > reached, "step {} after {reached}", loaded.step);
        reached = loaded.step;
        assert!(!run.join("checkpoints/.writing").exists());
        check_best(&run, &loaded);
    }
    println!("{reached} steps, killed {half_written} times of {KILLS} in the middle of writing");
    assert!(half_written > 0);
}

/// The best checkpoint is whole and of the last, or of the next, step that was best.
fn check_best(run: &Path, loaded: &Loaded<State>) {
    let best = run.join("best");
    if loaded.state.best == 0 && !best.exists() {
        return;
    }
    let config = fs::read_to_string(best.join("config.json")).expect("a file");
    let bytes = fs::read(best.join("model.safetensors")).expect("a file");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("whole");
    let first: [u8; 4] = tensors.tensor("c").expect("a tensor").data()[..4].try_into().expect("four bytes");
    let step = f32::from_le_bytes(first) as u64;
    assert_eq!(config, format!("{{\"step\": {step}}}"));
    assert!([loaded.state.best, loaded.step + 1].contains(&step), "best is of step {step}, last of {}", loaded.step);
}

/// A limit on the size of files stops a write in its middle, as a full disk does, and needs no rights.
#[test]
fn a_write_that_fails_leaves_the_old_checkpoint() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = directory.path().join("run");
    let mut checkpoints = Checkpoints::open(&run, Resume::No).expect("a run");
    save(&mut checkpoints, 6).expect("saved");
    drop(checkpoints);
    // In units of 1,024 bytes: at the first file, in the first tensor, in the last one.
    for limit in [0, 1, 46] {
        let child = saver(&run, &format!("trap '' XFSZ; ulimit -f {limit};"));
        let output = child.wait_with_output().expect("an end");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("step 7: cannot use") && said.contains("File too large"), "{said}");
        let left: Vec<_> = fs::read_dir(run.join("checkpoints"))
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .filter(|name| name != "step-00000006" && name != "best-00000006")
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let checkpoints = Checkpoints::open(&run, Resume::Yes).expect("resumed");
        let loaded = checkpoints.load::<State>().expect("a whole checkpoint").expect("one at all");
        assert_eq!(loaded.step, 6);
        check(&loaded);
    }
}
