//! The command as a user meets it: help, exit statuses, messages, and what is left on disk.

mod bad_checkpoints;
mod bad_texts;
mod census;
mod data;
mod demo;
mod examination;
mod families;
mod help;
mod hub;
mod messages;
mod operate;
mod out;
mod probe;
mod report;
mod study;
mod texts;
mod tiny;
mod train;

use std::ffi::OsStr;

use assert_cmd::Command;

use crate::tiny::Tiny;

/// The command, away from the surroundings of whoever runs the tests.
fn sinkscope(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sinkscope"));
    command.args(arguments).env("COLUMNS", "100").env_remove("NO_COLOR").env("HF_HUB_OFFLINE", "1");
    command
}

/// Runs it: exit status, stdout, stderr.
fn run<A: AsRef<OsStr>>(arguments: &[A]) -> (i32, String, String) {
    let output = sinkscope(arguments).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

/// Examines a tiny model.
fn run_in(tiny: &Tiny, options: &[&str]) -> (i32, String, String) {
    run(&tiny.anatomy(options))
}

/// The message, without the place of the tiny model, of an examination that is refused before it leaves anything.
fn refused_without_trace(tiny: &Tiny, options: &[&str]) -> String {
    let message = refused(&tiny.anatomy(options));
    assert!(!tiny.path("out").exists(), "{message}");
    assert_eq!(message.matches('\n').count(), 1, "{message}");
    message.replace(tiny.path("").to_str().expect("UTF-8"), "")
}

/// The one message of a request that is wrong.
fn refused(arguments: &[impl AsRef<OsStr>]) -> String {
    let (status, stdout, stderr) = run(arguments);
    let line: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    assert_eq!(status, 2, "{line:?}: {stderr}");
    assert_eq!(stdout, "", "{line:?}");
    let message = stderr.strip_prefix("error: ").expect(&stderr);
    assert!(!message.contains("panicked") && !message.contains("backtrace"), "{message}");
    message.to_owned()
}
