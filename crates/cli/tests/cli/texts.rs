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

use crate::run_in;
use crate::tiny::Tiny;

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
        ("a.jsonl", lines.into_bytes()),
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
fn the_text_inside() {
    let tiny = Tiny::new("llama");
    let file = examine(&tiny, &["--seq-len", "16"]);
    assert!(file["data"]["source"].as_str().is_some_and(|source| source.contains("built-in")), "{}", file["data"]);
    assert_eq!(file["data"]["seq_len"], 16);
    assert_eq!(file["data"]["sequences"], 64);
}
