//! `--help` and `--version`.

use crate::run;

#[test]
fn of_the_program() {
    let (status, stdout, stderr) = run(&["--help"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
}

#[test]
fn of_anatomy() {
    let (status, stdout, stderr) = run(&["anatomy", "--help"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
}

#[test]
fn version() {
    let (status, stdout, _) = run(&["--version"]);
    assert_eq!((status, stdout), (0, format!("sinkscope {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn of_census() {
    let (status, stdout, stderr) = run(&["census", "--help"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
}

#[test]
fn of_probe() {
    let (status, stdout, stderr) = run(&["probe", "--help"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
}

#[test]
fn of_operate() {
    let (status, stdout, stderr) = run(&["operate", "--help"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
}

#[test]
fn of_data_prepare() {
    let (status, stdout, stderr) = run(&["data", "prepare", "--help"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
}

#[test]
fn of_study() {
    let (status, stdout, stderr) = run(&["study", "--help"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
}

#[test]
fn of_report() {
    let (status, stdout, stderr) = run(&["report", "--help"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
}

#[test]
fn of_families() {
    let (status, stdout, stderr) = run(&["families", "--help"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
}
