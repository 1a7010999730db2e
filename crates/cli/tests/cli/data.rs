//! `sinkscope data prepare`: what is left on disk, and requests that are wrong.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::texts::parquet;
use crate::{refused, run};

/// Two hundred paragraphs.
fn write_text(path: &Path) {
    let paragraph = |number: usize| format!("Paragraph {number} of the harbour and the lantern.\nIt ends here.\n\n");
    fs::write(path, (0..200).map(paragraph).collect::<String>()).expect("written");
}

fn prepare<'a>(input: &'a Path, out: &'a Path, options: &[&'a str]) -> Vec<&'a str> {
    let (input, out) = (input.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    [&["data", "prepare", input, "--out", out, "--document-separator", "blank-line"], options].concat()
}

#[test]
fn the_files_are_what_was_promised() {
    let home = tempfile::tempdir().expect("a directory");
    let (text, out) = (home.path().join("text.txt"), home.path().join("out"));
    write_text(&text);
    let (status, stdout, stderr) = run(&prepare(&text, &out, &["--vocab-size", "300", "--held-out", "0.1"]));
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.contains("200 documents") && stdout.contains("a vocabulary of 300 tokens"), "{stdout}");
    assert!(stdout.contains("train") && stdout.contains("held out"), "{stdout}");

    let record: Value = serde_json::from_slice(&fs::read(out.join("data.json")).expect("written")).expect("JSON");
    let keys: Vec<&String> = record.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["sinkscope", "command", "model", "data", "definitions", "timing", "seed", "results"]);
    assert!(record["model"].is_null() && record["command"][1] == "data");
    assert!(record["definitions"]["tokens"].is_string() && record["timing"]["seconds"].is_number());
    let results = &record["results"];
    assert_eq!((results["vocabulary"].as_u64(), results["token_bytes"].as_u64()), (Some(300), Some(2)));
    let (train, val) = (&results["train"], &results["val"]);
    assert_eq!(train["documents"].as_u64().zip(val["documents"].as_u64()).map(|(train, val)| train + val), Some(200));
    for (split, file) in [(train, "train"), (val, "val")] {
        let size = |extension: &str| fs::metadata(out.join(format!("{file}.{extension}"))).expect("written").len();
        assert_eq!(split["tokens"].as_u64(), Some(size("bin") / 2));
        assert_eq!(split["documents"].as_u64(), Some(size("idx") / 8 - 1));
    }
    assert_eq!(results["inputs"][0]["documents"], 200);
    assert_eq!(fs::read_dir(&out).expect("a directory").count(), 7, "and nothing else");
}

#[test]
fn formats_give_the_same_files() {
    let home = tempfile::tempdir().expect("a directory");
    let texts: Vec<String> = (0..200).map(|number| format!("Row {number} of the harbour and the lantern.")).collect();
    let rows: Vec<&str> = texts.iter().map(String::as_str).collect();
    let lines: Vec<String> = texts.iter().map(|text| serde_json::json!({ "text": text }).to_string()).collect();
    let packed = zstd::encode_all(lines.join("\n").as_bytes(), 1).expect("packed");
    let files = [("a.parquet", parquet(&rows)), ("a.jsonl.zst", packed), ("a.txt", texts.join("\x0C").into_bytes())];
    let made = files.map(|(name, content)| {
        let (input, out) = (home.path().join(name), home.path().join(format!("out-{name}")));
        fs::write(&input, content).expect("written");
        let (input, place) = (input.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
        // Pages end at form feeds.
        let (status, _, stderr) = run(&["data", "prepare", input, "--out", place, "--vocab-size", "290"]);
        assert_eq!((status, stderr.as_str()), (0, ""), "{name}");
        let read = |file: &str| fs::read(out.join(file)).expect("there");
        ["tokenizer.json", "train.bin", "train.idx", "val.bin", "val.idx"].map(read)
    });
    assert!(made[0] == made[1] && made[1] == made[2], "the files differ");
}

#[test]
fn threads_change_nothing_and_quiet_says_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let text = home.path().join("text.txt");
    write_text(&text);
    let outs = ["1", "2"].map(|threads| {
        let out = home.path().join(threads);
        let options = ["--vocab-size", "290", "--threads", threads, "--quiet"];
        assert_eq!(run(&prepare(&text, &out, &options)).0, 0);
        out
    });
    for file in ["train.bin", "train.idx", "val.bin", "val.idx", "tokenizer.json"] {
        assert_eq!(
            fs::read(outs[0].join(file)).expect("there"),
            fs::read(outs[1].join(file)).expect("there"),
            "{file}"
        );
    }
}

#[test]
fn wrong_requests_leave_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let (text, out) = (home.path().join("text.txt"), home.path().join("out"));
    write_text(&text);
    let empty = home.path().join("empty.txt");
    fs::write(&empty, "").expect("written");
    let absent = home.path().join("absent.txt");
    let cases: [(&Path, &[&str], &str); 8] = [
        (&text, &["--vocab-size", "256"], "--vocab-size 256 is not from 257"),
        (&text, &["--vocab-size", "9999999"], "--vocab-size 9999999 is not from 257"),
        (&text, &["--vocab-size", "5000"], "a vocabulary of 5000 was asked for, but the text supports"),
        (&text, &["--vocab-size", "300", "--held-out", "-0.1"], "--held-out -0.1 is not"),
        (&text, &["--vocab-size", "300", "--threads", "0"], "--threads 0 is too few"),
        (&empty, &["--vocab-size", "300"], "the file is empty"),
        (&absent, &["--vocab-size", "300"], "cannot read"),
        (home.path(), &["--vocab-size", "300"], "the file is empty"),
    ];
    for (input, options, expected) in cases {
        let message = refused(&prepare(input, &out, options));
        assert!(message.contains(expected), "{message}");
        assert_eq!(message.matches('\n').count(), 1, "{message}");
        assert!(!out.exists(), "{message}");
    }
    fs::create_dir(&out).expect("made");
    let message = refused(&prepare(&out, &home.path().join("other"), &["--vocab-size", "300"]));
    assert!(message.contains("no text in this directory"), "{message}");
    fs::write(out.join("precious"), "").expect("written");
    let message = refused(&prepare(&text, &out, &["--vocab-size", "300"]));
    assert!(message.contains("the output directory is not empty"), "{message}");
    assert_eq!(fs::read_dir(&out).expect("a directory").count(), 1);
    let message = refused(&prepare(&text, &text, &["--vocab-size", "300"]));
    assert!(message.contains("not a directory"), "{message}");
    refused(&["data", "prepare", "--vocab-size", "300", "--out", out.to_str().expect("UTF-8")]);
}

#[test]
fn what_is_there_when_preparing_fails_stays() {
    let home = tempfile::tempdir().expect("a directory");
    let (text, out) = (home.path().join("text.jsonl"), home.path().join("out"));
    fs::write(&text, "{\"text\": \"one\"}\n{\"text\": 2}\n").expect("written");
    fs::create_dir(&out).expect("made");
    let message = refused(&prepare(&text, &out, &["--vocab-size", "300"]));
    assert!(message.contains("text.jsonl: line 2, column"), "{message}");
    assert_eq!(fs::read_dir(&out).expect("still there").count(), 0);
}
