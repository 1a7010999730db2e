//! Signals: the first asks, the second of its kind ends. The process that gets them is this test program itself.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use sinkscope_lab::interrupt::{Interrupt, Signal};

/// Variable: how to end, `saving` and exit as asked, or `never` by itself.
const ENDS: &str = "SINKSCOPE_TEST_INTERRUPTED";

/// Not a test but the process that is interrupted: a training run.
#[test]
#[ignore = "the other tests of this file start it"]
fn train_until_asked() {
    let Ok(ends) = std::env::var(ENDS) else { return };
    let interrupt = Interrupt::install().expect("installed");
    let same = Interrupt::install().expect("installed once more");
    assert_eq!(interrupt.requested(), None);
    println!("\nready");
    let begin = Instant::now();
    while interrupt.requested().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(60), "nobody asked");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(same.requested(), interrupt.requested());
    println!("\nasked");
    if ends == "never" {
        std::thread::sleep(Duration::from_secs(60));
    }
    std::process::exit(interrupt.requested().expect("a signal").exit_code().into());
}

fn start(ends: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "train_until_asked", "--ignored", "--nocapture"])
        .env(ENDS, ends)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    (child, output)
}

fn wait_for(output: &mut BufReader<ChildStdout>, word: &str) {
    assert!(output.lines().any(|line| line.expect("a line") == word), "the process ended without {word}");
}

fn send(child: &Child, signal: Signal) {
    let status = Command::new("kill").args(["-s", &signal.name()[3..], &child.id().to_string()]).status();
    assert!(status.expect("kill").success());
}

#[test]
fn the_first_signal_asks_and_the_status_tells_which() {
    for (signal, status) in [(Signal::Interrupt, 130), (Signal::Terminate, 143)] {
        let (mut child, mut output) = start("saving");
        wait_for(&mut output, "ready");
        send(&child, signal);
        wait_for(&mut output, "asked");
        assert_eq!(child.wait().expect("an end").code(), Some(status));
        assert_eq!(i32::from(signal.exit_code()), status);
    }
}

#[test]
fn the_second_of_a_kind_ends_at_once() {
    for (signal, other, number) in
        [(Signal::Interrupt, Signal::Terminate, 2), (Signal::Terminate, Signal::Interrupt, 15)]
    {
        let (mut child, mut output) = start("never");
        wait_for(&mut output, "ready");
        send(&child, signal);
        wait_for(&mut output, "asked");
        // One of the other kind is a first one.
        send(&child, other);
        std::thread::sleep(Duration::from_millis(200));
        assert!(child.try_wait().expect("a status").is_none());
        send(&child, signal);
        assert_eq!(child.wait().expect("an end").signal(), Some(number));
    }
}
