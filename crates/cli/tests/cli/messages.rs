//! Requests that are wrong: status 2 and one message that says what would be right.

use std::fs;

use crate::{refused, run, sinkscope};

#[test]
fn unknown_commands_and_options() {
    for arguments in [
        &["dissect"][..],
        &["anatomy", "m.gguf", "--colour"],
        &["anatomy", "m.gguf", "--bos", "perhaps"],
        &["anatomy", "m.gguf", "--seed", "-1"],
        &["anatomy", "m.gguf", "--text", "a", "--tokens", "b"],
        &["anatomy", "m.gguf", "--quiet", "-v"],
    ] {
        refused(arguments);
    }
    let (status, stdout, _) = run::<&str>(&[]);
    assert_eq!((status, stdout.as_str()), (2, ""));
}

#[test]
fn values() {
    let messages: Vec<String> = [
        &["anatomy", ""][..],
        &["anatomy", "m.gguf", "--only", "lifecycle,geometrie"],
        &["anatomy", "m.gguf", "--only", "everything"],
        &["anatomy", "m.gguf", "--memory", "plenty"],
        &["anatomy", "m.gguf", "--memory", "0"],
        &["anatomy", "m.gguf", "--threads", "0"],
        &["anatomy", "m.gguf", "--seq-len", "1"],
        &["anatomy", "m.gguf", "--sequences", "0"],
        &["anatomy", "m.gguf", "--spike-ratio", "-5"],
        &["anatomy", "m.gguf", "--spike-ratio", "inf"],
        &["anatomy", "m.gguf", "--epsilon", "1.5"],
        &["anatomy", "m.gguf", "--tsne", "3"],
        &["anatomy", "m.gguf", "--tsne", "3.two"],
        &["anatomy", "m.gguf", "--tsne", ""],
        &["anatomy", "m.gguf", "--only", ""],
        &["probe", "m.gguf", "--spike-ratio", "0"],
    ]
    .into_iter()
    .map(refused)
    .collect();
    for message in &messages {
        assert_eq!(message.matches('\n').count(), 1, "{message}");
    }
    insta::assert_snapshot!(messages.concat());
}

#[test]
fn missing_models() {
    let message = refused(&["anatomy", "no/such/model.gguf"]);
    assert!(message.contains("no/such/model.gguf") && message.contains("no such file"), "{message}");
    assert_eq!(message.matches("no such file").count(), 1, "{message}");
}

#[test]
fn empty_and_foreign_files() {
    let home = tempfile::tempdir().expect("a directory");
    for content in ["", "hello, this is not a model at all"] {
        let model = home.path().join("bad.gguf");
        fs::write(&model, content).expect("written");
        let message = refused(&["anatomy", &model.to_string_lossy()]);
        assert!(message.contains("bad.gguf"), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn names_cannot_move_the_cursor() {
    let message = refused(&["anatomy", "a\u{1b}[2Jb\n.gguf"]);
    assert!(message.contains("a\\u{1b}[2Jb\\n.gguf"), "{message}");
}

#[test]
fn rust_backtrace_shows_none() {
    let output = sinkscope(&["anatomy", "absent.gguf"]).env("RUST_BACKTRACE", "full").output().expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.matches('\n').count()), (Some(2), 1), "{stderr}");
}

#[test]
fn instruction_sets_that_the_machine_does_not_have() {
    let with = |set: &str| {
        let output = sinkscope(&["census", "absent.gguf"]).env("SINKSCOPE_ISA", set).output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, stderr) = with("sse9");
    let said = "error: SINKSCOPE_ISA=sse9: is no instruction set; this machine has portable";
    assert!(status == Some(2) && stderr.starts_with(said), "{stderr}");
    let (status, stderr) = with("portable");
    assert!(status == Some(2) && stderr.contains("absent.gguf"), "{stderr}");
}
