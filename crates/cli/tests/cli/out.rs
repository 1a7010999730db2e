//! `--out`: found to be unusable before the work, and left as it was when the run fails.

use std::fs;
use std::path::Path;

use crate::tiny::Tiny;
use crate::{refused, run, run_in};

/// The message for an output directory, with a model that is not there: had the work begun, it would be about that.
fn refused_out(out: &Path) -> String {
    refused(&["anatomy", "absent.gguf", "--out", &out.to_string_lossy()])
}

#[test]
fn a_file_in_its_place() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("file");
    fs::write(&file, "before").expect("written");
    for out in [file.clone(), file.join("below/it")] {
        let message = refused_out(&out);
        assert!(message.contains("file") && message.contains("not a directory"), "{message}");
        assert!(!message.contains("absent.gguf"), "{message}");
    }
    assert_eq!(fs::read(&file).expect("still there"), b"before");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_system_without_files() {
    for out in ["/proc", "/proc/sinkscope"] {
        let message = refused_out(Path::new(out));
        assert!(message.starts_with(out) && message.contains("output directory"), "{message}");
    }
}

#[test]
fn an_empty_name() {
    assert!(refused_out(Path::new("")).contains("--out <DIR>"));
}

#[test]
fn a_failed_run_leaves_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let message = refused_out(&home.path().join("new/deep"));
    assert!(message.contains("absent.gguf"), "{message}");
    assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 0);
}

#[test]
fn a_failed_run_leaves_what_was_there() {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("anatomy.json"), "before").expect("written");
    refused_out(home.path());
    assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 1);
    assert_eq!(fs::read(home.path().join("anatomy.json")).expect("still there"), b"before");
}

#[test]
fn results_of_another_request_are_replaced_only_when_forced() {
    let tiny = Tiny::new("llama");
    let line = |options: &[&str]| {
        let mut line = tiny.anatomy(options);
        line.retain(|argument| argument != "--force");
        line
    };
    let examine = |options: &[&str]| run(&line(options));
    let written = || fs::read(tiny.path("out/anatomy.json")).expect("written");
    let (status, _, stderr) = examine(&["--only", "nll", "--quiet"]);
    assert_eq!(status, 0, "{stderr}");
    let first = written();
    // The same request, on other threads.
    assert_eq!(examine(&["--only", "nll", "--quiet", "--threads", "1"]).0, 0);
    let other = ["--only", "nll,sinks", "--quiet"];
    let message = refused(&line(&other));
    assert!(message.contains("anatomy.json: holds the results of another command, `sinkscope anatomy"), "{message}");
    assert!(message.contains("--force"), "{message}");
    let results = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON")["results"].clone();
    assert_eq!(results(&written()), results(&first));
    assert_eq!(run_in(&tiny, &other).0, 0, "the line of other tests forces it");
    assert_ne!(results(&written()), results(&first));
    fs::write(tiny.path("out/anatomy.json"), "a letter").expect("written");
    assert!(refused(&line(&other)).contains("is no output of sinkscope"));
    assert_eq!(fs::read(tiny.path("out/anatomy.json")).expect("still there"), b"a letter");
}
