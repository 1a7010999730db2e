//! Every format of text, plain and packed, and the text inside the program.

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use crate::tiny::Tiny;
use crate::{refused, run_in, sinkscope};

/// One row a text.
pub fn parquet(texts: &[&str]) -> Vec<u8> {
    let schema = parse_message_type("message rows { OPTIONAL BYTE_ARRAY text (UTF8); }").expect("a schema");
    let properties = Arc::new(WriterProperties::default());
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties).expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    let mut column = group.next_column().expect("a column").expect("one");
    let values: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(*text)).collect();
    column.typed::<ByteArrayType>().write_batch(&values, Some(&vec![1; texts.len()]), None).expect("written");
    column.close().expect("closed");
    group.close().expect("closed");
    writer.into_inner().expect("whole")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("whole")
}

fn examine(tiny: &Tiny, options: &[&str]) -> Value {
    let (status, _, stderr) = run_in(tiny, options);
    assert_eq!((status, stderr.as_str()), (0, ""), "{options:?}");
    serde_json::from_slice(&std::fs::read(tiny.path("out/anatomy.json")).expect("written")).expect("JSON")
}

#[test]
fn formats_give_one_result() {
    let tiny = Tiny::new("llama");
    let text = "the ship sails at dawn and the whale returns at dawn . ".repeat(4);
    let ids: [[u32; 9]; 4] = [
        [1, 2, 3, 4, 5, 6, 1, 0, 7],
        [4, 5, 8, 1, 2, 3, 4, 5, 6],
        [1, 0, 7, 4, 5, 8, 1, 2, 3],
        [4, 5, 6, 1, 0, 7, 4, 5, 8],
    ];
    let tokens = tiny.write("ids.json", json!({ "tokens": ids }).to_string());
    let expected = examine(&tiny, &["--tokens", &tokens]);
    let lines = json!({ "text": text, "title": "of no account" }).to_string() + "\n";
    for (name, bytes) in [
        ("a.txt", text.clone().into_bytes()),
        ("a.jsonl", lines.clone().into_bytes()),
        ("a.ndjson", lines.clone().into_bytes()),
        ("a.json", lines.into_bytes()),
        ("array.json", json!([text]).to_string().into_bytes()),
        ("a.parquet", parquet(&[text.as_str()])),
    ] {
        let packed = [
            (String::new(), bytes.clone()),
            (".gz".into(), gzip(&bytes)),
            (".zst".into(), zstd::encode_all(&bytes[..], 1).expect("packed")),
        ];
        for (extension, bytes) in packed {
            let path = tiny.write(&format!("{name}{extension}"), bytes);
            let file = examine(&tiny, &["--text", &path, "--seq-len", "9", "--sequences", "4"]);
            assert_eq!(file["data"]["source"], path.as_str());
            assert_eq!((&file["data"]["sequences"], &file["data"]["seq_len"]), (&4.into(), &9.into()));
            for part in ["sinks", "nll"] {
                assert_eq!(file["results"][part], expected["results"][part], "{name}{extension}");
            }
        }
    }
}

#[test]
fn standard_input_is_a_text_in_the_format_that_it_begins_as() {
    let tiny = Tiny::new("llama");
    let text = "the ship sails at dawn and the whale returns at dawn . ".repeat(4);
    let options = ["--seq-len", "9", "--sequences", "4", "--only", "nll"];
    let file = tiny.write("a.txt", &text);
    let expected = examine(&tiny, &[&["--text", &file][..], &options].concat());
    let line = json!({ "text": text, "body": {"en": text} }).to_string();
    let marked = [b"\xEF\xBB\xBF", text.as_bytes()].concat();
    for (input, field) in [
        (text.clone().into_bytes(), None),
        (marked, None),
        (gzip(text.as_bytes()), None),
        (zstd::encode_all(line.as_bytes(), 1).expect("packed"), None),
        (format!("\n {line}\n").into_bytes(), None),
        (format!("[ {line}]").into_bytes(), Some("body.en")),
        (parquet(&[text.as_str()]), None),
    ] {
        let mut arguments = tiny.anatomy(&[&["--text", "-"][..], &options].concat());
        arguments.extend(field.into_iter().flat_map(|field| ["--text-field".to_owned(), field.to_owned()]));
        let output = sinkscope(&arguments).write_stdin(input.clone()).output().expect("it starts");
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
        let found = std::fs::read(tiny.path("out/anatomy.json")).expect("written");
        let found: Value = serde_json::from_slice(&found).expect("JSON");
        assert_eq!(found["results"]["nll"], expected["results"]["nll"]);
        assert_eq!(found["data"]["source"], "standard input");
        let same = found["data"]["sha256"] == expected["data"]["sha256"];
        assert_eq!(same, input == text.as_bytes());
    }
    let arguments = tiny.anatomy(&["--text", "-"]);
    let output = sinkscope(&arguments).write_stdin("").output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "error: standard input: there is nothing in it\n");
}

#[test]
fn a_text_that_brings_its_own_bos_is_warned_of() {
    let tiny = Tiny::new("llama");
    let place = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let path = tiny.model().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).expect("there")).expect("JSON");
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [place("<unk>"), text],
        "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<unk>": {"id": "<unk>", "ids": [0], "tokens": ["<unk>"]}},
    });
    std::fs::write(&path, tokenizer.to_string()).expect("written");
    std::fs::write(tiny.model().join("tokenizer_config.json"), r#"{"bos_token": "<unk>"}"#).expect("written");
    let own = json!({"text": "<unk>the ship sails at dawn "});
    let others = json!({"text": "the ship sails at dawn "});
    let lines = [&own, &others, &own].map(Value::to_string).join("\n");
    let file = tiny.write("chat.jsonl", lines);
    let options = ["--seq-len", "4", "--only", "nll", "--text", &file];
    let (status, _, stderr) = run_in(&tiny, &options);
    assert_eq!(status, 0, "{stderr}");
    let expected = "2 of 3 documents begin with the BOS token \"<unk>\", and each sequence begins with one more";
    assert!(stderr.contains("WARN") && stderr.contains(expected) && stderr.lines().count() == 1, "{stderr}");
    let (_, _, stderr) = run_in(&tiny, &[&options[..], &["--bos", "never"]].concat());
    assert_eq!(stderr, "");
    let ids = tiny.write("ids.json", r#"{"tokens": [[0, 1, 2], [3, 4, 5]]}"#);
    let (_, _, stderr) = run_in(&tiny, &["--tokens", &ids, "--bos", "always", "--only", "nll"]);
    assert!(stderr.contains("1 of 2 sequences begin with the BOS token (id 0) already"), "{stderr}");
}

#[test]
fn the_text_inside() {
    let tiny = Tiny::new("llama");
    let file = examine(&tiny, &["--seq-len", "16"]);
    assert!(file["data"]["source"].as_str().is_some_and(|source| source.contains("built-in")), "{}", file["data"]);
    assert_eq!(file["data"]["seq_len"], 16);
    assert_eq!(file["data"]["sequences"], 64);
}

#[test]
fn conversations_go_through_the_model_s_template() {
    let tiny = Tiny::new("llama");
    let line =
        r#"{"messages": [{"role": "user", "content": "the ship"}, {"role": "assistant", "content": "sails at dawn"}]}"#;
    let file = tiny.write("chat.jsonl", [line; 3].join("\n"));
    let options = ["--chat", &file, "--seq-len", "6", "--only", "nll"];
    let message = refused(&tiny.anatomy(&options));
    assert!(message.contains("has no chat template"), "{message}");
    let template = "{% for message in messages %}{{ message.content }} {% endfor %}. ";
    let config = json!({"chat_template": template}).to_string();
    std::fs::write(tiny.model().join("tokenizer_config.json"), config).expect("written");
    let (status, stdout, stderr) = run_in(&tiny, &options);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("3 conversations through the chat template"), "{stdout}");
    let text = tiny.write("same.txt", "the ship sails at dawn . ".repeat(3));
    let nll = |options: &[&str]| {
        assert_eq!(run_in(&tiny, options).0, 0);
        let file = std::fs::read(tiny.path("out/anatomy.json")).expect("written");
        serde_json::from_slice::<Value>(&file).expect("JSON")["results"]["nll"].clone()
    };
    assert_eq!(nll(&options), nll(&["--text", &text, "--seq-len", "6", "--only", "nll"]));
    let twice = tiny.write("twice.jsonl", line.replace("}]}", "}], \"messages\": []}"));
    let message = refused(&tiny.anatomy(&["--chat", &twice, "--seq-len", "6"]));
    assert!(message.contains("line 1") && message.contains("field `messages`: it is there twice"), "{message}");
}
