//! What each kind of file gives.

use std::fs;

use serde_json::json;
use sinkscope_sources::data::{BosPolicy, SAMPLE_TEXT, SAMPLE_TEXT_NAME, TextRequest, load};

use crate::files::*;

#[test]
fn every_format_gives_the_same_tokens() {
    let folder = Folder::new();
    let ids = expected_ids();
    let marked = [b"\xEF\xBB\xBF", json_lines().as_bytes()].concat();
    let array = format!(" \n[{}]", json_lines().replace("\n\n", ",\n"));
    for (name, bytes) in [
        ("a.jsonl", json_lines().into_bytes()),
        ("a.ndjson", json_lines().into_bytes()),
        ("c4-train.00000-of-01024.json", json_lines().into_bytes()),
        ("marked.jsonl", marked),
        ("array.json", array.into_bytes()),
        ("strings.json", json!(DOCUMENTS).to_string().into_bytes()),
        ("a.parquet", parquet_rows()),
    ] {
        let packed = [
            folder.write(name, &bytes),
            folder.write(&format!("{name}.gz"), gzip(&bytes)),
            folder.write(&format!("{name}.zst"), zstandard(&bytes)),
            folder.write(&format!("B{}.ZST", name.to_uppercase()), zstandard(&bytes)),
        ];
        for path in packed {
            let data = read(&request(&path));
            assert_eq!(data.batch.seq_len, 8);
            assert_eq!(data.batch.sequences, ids.len() / 8, "{}", path.display());
            assert_eq!(data.batch.tokens, ids[..data.batch.sequences * 8], "{}", path.display());
            assert_eq!(data.source, path.display().to_string());
            assert_eq!(data.sha256, sha256(&path));
            assert!(!data.bos);
        }
    }
}

#[test]
fn a_text_file_is_one_document() {
    let folder = Folder::new();
    let text = DOCUMENTS.join("\n");
    let ids = tokenizer().encode(&text).unwrap();
    for path in [
        folder.write("a.txt", &text),
        folder.write("a.txt.gz", gzip(text.as_bytes())),
        folder.write("a.txt.zst", zstandard(text.as_bytes())),
        folder.write("name.with.dots.txt", &text),
        folder.write("marked.txt", [b"\xEF\xBB\xBF", text.as_bytes()].concat()),
        folder.write("marked.txt.gz", gzip(&[b"\xEF\xBB\xBF", text.as_bytes()].concat())),
    ] {
        let data = read(&request(&path));
        assert_eq!(data.batch.tokens, ids[..ids.len() / 8 * 8]);
        assert_eq!(data.sha256, sha256(&path));
    }
}

#[test]
fn packed_files_may_have_several_members() {
    let folder = Folder::new();
    let text = DOCUMENTS.join("\n");
    let (first, second) = text.as_bytes().split_at(40);
    let ids = tokenizer().encode(&text).unwrap();
    let gz = folder.write("a.txt.gz", [gzip(first), gzip(second)].concat());
    let zst = folder.write("a.txt.zst", [zstandard(first), zstandard(second)].concat());
    for path in [gz, zst] {
        assert_eq!(read(&request(&path)).batch.tokens, ids[..ids.len() / 8 * 8]);
    }
}

#[test]
fn a_long_text_in_parts_gives_the_tokens_of_the_whole() {
    let folder = Folder::new();
    let text = format!("{} 12  34\n\n", DOCUMENTS.join("\n")).repeat(2000);
    let path = folder.write("long.txt", &text);
    for name in ["sentencepiece", "gpt2", "llama3", "qwen2", "smollm"] {
        let tokenizer = tokenizer_with(name, json!({}));
        let ids = tokenizer.encode(&text).unwrap();
        let (sequences, bos) = (Some(ids.len() / 8), BosPolicy::Never);
        let request = TextRequest { sequences, bos, ..request(&path) };
        let data = load(&request, Some(&tokenizer), VOCABULARY).unwrap();
        assert_eq!(data.batch.tokens, ids[..ids.len() / 8 * 8], "{name}");
    }
}

#[test]
fn only_what_is_needed_is_read() {
    let folder = Folder::new();
    // What follows the first part is not even text.
    let mut bytes = "The ships came down. ".repeat(10_000).into_bytes();
    bytes.extend([0xFF; 1000]);
    let path = folder.write("long.txt", &bytes);
    let data = read(&TextRequest { sequences: Some(3), ..request(&path) });
    assert_eq!(data.batch.sequences, 3);
    assert_eq!(data.sha256, sha256(&path));
    let lines = format!("{}\nnot JSON\n", json_lines());
    let path = folder.write("long.jsonl", lines);
    assert_eq!(read(&TextRequest { sequences: Some(1), ..request(&path) }).batch.sequences, 1);
}

#[test]
fn a_large_file_is_named_with_the_part_that_was_read() {
    let folder = Folder::new();
    let path = folder.write("large.txt", "The ships came down. ".repeat(10_000));
    let size = (256 << 20) + 1;
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
    let data = read(&TextRequest { sequences: Some(3), ..request(&path) });
    assert_eq!(data.source, format!("{} (its first 65536 bytes)", path.display()));
    let first = folder.write("first.txt", &fs::read(&path).unwrap()[..65536]);
    assert_eq!(data.sha256, sha256(&first));
}

#[test]
fn the_built_in_text_is_used_when_none_is_named() {
    let tokenizer = tokenizer();
    let data = load(&TextRequest::default(), Some(&tokenizer), VOCABULARY).unwrap();
    assert_eq!((data.batch.sequences, data.batch.seq_len), (64, 64));
    assert_eq!(data.batch.tokens, tokenizer.encode(SAMPLE_TEXT).unwrap()[..64 * 64]);
    assert_eq!(data.source, SAMPLE_TEXT_NAME);
    assert_eq!(data.sha256.len(), 64);
}

#[test]
fn at_most_64_sequences_unless_more_are_asked_for() {
    let folder = Folder::new();
    let path = folder.write("long.txt", "one two three ".repeat(1000));
    assert_eq!(read(&request(&path)).batch.sequences, 64);
    assert_eq!(read(&TextRequest { sequences: Some(200), ..request(&path) }).batch.sequences, 200);
}

#[test]
fn a_bos_token_heads_sequences_as_asked() {
    let folder = Folder::new();
    let text = DOCUMENTS.join("\n");
    let path = folder.write("a.txt", &text);
    let adding = tokenizer_with("llama3", json!({"bos_token_id": 0}));
    let plain = tokenizer();
    for (tokenizer, bos, headed) in [
        (&adding, BosPolicy::Auto, true),
        (&adding, BosPolicy::Never, false),
        (&plain, BosPolicy::Auto, false),
        (&plain, BosPolicy::Always, true),
    ] {
        let data = load(&TextRequest { bos, ..request(&path) }, Some(tokenizer), VOCABULARY).unwrap();
        let ids = tokenizer.encode(&text).unwrap();
        let body = 8 - usize::from(headed);
        assert_eq!((data.bos, data.batch.seq_len, data.batch.sequences), (headed, 8, ids.len() / body));
        for (index, part) in ids.chunks_exact(body).enumerate() {
            let sequence = data.batch.sequence(index);
            assert_eq!(&sequence[8 - body..], part);
            assert!(!headed || sequence[0] == 0);
        }
    }
}

#[test]
fn token_files_are_taken_as_they_are() {
    let folder = Folder::new();
    let path = folder.write("ids.json", r#"{"tokens": [[1, 2, 3], [4, 5, 6]], "note": "kept by the user"}"#);
    let data = load(&token_request(&path), None, VOCABULARY).unwrap();
    assert_eq!(data.batch.tokens, [1, 2, 3, 4, 5, 6]);
    assert_eq!((data.batch.sequences, data.batch.seq_len, data.bos), (2, 3, false));
    assert_eq!((data.source, data.sha256), (path.display().to_string(), sha256(&path)));
    let one = TextRequest { sequences: Some(1), seq_len: Some(3), ..token_request(&path) };
    assert_eq!(read(&one).batch.tokens, [1, 2, 3]);
    let always = read(&TextRequest { bos: BosPolicy::Always, ..token_request(&path) });
    assert_eq!(always.batch.tokens, [0, 1, 2, 3, 0, 4, 5, 6]);
    assert_eq!((always.batch.seq_len, always.bos), (4, true));
    let headed = folder.write("headed.json", r#"{"tokens": [[0, 2, 3], [0, 5, 6]]}"#);
    assert!(read(&token_request(&headed)).bos);
}

#[test]
fn only_the_field_of_the_text_is_read() {
    let folder = Folder::new();
    let others = [
        r#""a": NaN, "b": [-Infinity, {"c": Infinity}]"#,
        r#""a": 1e999999, "b": 123456789012345678901234567890"#,
        r#""a": "bad \ud83d end", "\ud83d": 1"#,
        r#""a": "NaN \" Infinity", "b": {"text": NaN}"#,
    ];
    let lines: Vec<String> = DOCUMENTS
        .iter()
        .zip(others.iter().cycle())
        .map(|(text, others)| {
            format!(r#"{{{others}, "text": {}, {others}}}"#, json!(text)).replace(r#", "a""#, r#", "z""#)
        })
        .collect();
    let ids = expected_ids();
    for (name, content) in [
        ("a.jsonl", lines.join("\n")),
        ("a.json", format!("[{}]", lines.join(","))),
        ("b.json", lines.join("\r\n\r\n")),
    ] {
        let data = read(&request(&folder.write(name, content)));
        assert_eq!(data.batch.tokens, ids[..data.batch.sequences * 8], "{name}");
        assert_eq!(data.batch.sequences, ids.len() / 8, "{name}");
    }
}

#[test]
fn a_field_may_lie_within_objects_and_lists() {
    let folder = Folder::new();
    let [first, second, third] = DOCUMENTS;
    let lines = [
        json!({"text": "not this", "a": {"b": first}, "a.c": "nor this"}),
        json!({"a": {"text": "nor this", "b": [second, third]}}),
        json!({"a": [{"b": []}]}),
    ];
    let nested = lines.map(|line| line.to_string()).join("\n");
    let ids = expected_ids();
    let path = folder.write("a.jsonl", &nested);
    let data = read(&TextRequest { field: Some("a.b"), ..request(&path) });
    assert_eq!(data.batch.tokens, ids[..ids.len() / 8 * 8]);
    let dotted = folder.write("b.jsonl", json!({"a.b": DOCUMENTS}).to_string());
    let data = read(&TextRequest { field: Some("a.b"), ..request(&dotted) });
    assert_eq!(data.batch.tokens, ids[..ids.len() / 8 * 8]);
    assert_says(&TextRequest { field: Some("a.z"), ..request(&path) }, "field `a.z`: missing field `a.z`");
    assert_says(&TextRequest { field: Some("body"), ..request(&path) }, "missing field `body`");
}

#[test]
fn parquet_text_need_not_be_optional() {
    let folder = Folder::new();
    let schema = TEXT_COLUMN.replace("OPTIONAL", "REQUIRED");
    let rows = DOCUMENTS.map(|text| Some(text.as_bytes()));
    let path = folder.write("required.parquet", parquet(&schema, &[&rows]));
    assert_eq!(read(&request(&path)).batch.tokens, expected_ids()[..expected_ids().len() / 8 * 8]);
    // More rows than are decoded at once.
    let rows = vec![Some("one two three four".as_bytes()); 1000];
    let path = folder.write("many.parquet", parquet(TEXT_COLUMN, &[&rows, &rows]));
    let all = tokenizer().encode("one two three four").unwrap().len() * 2000 / 8;
    assert_eq!(read(&TextRequest { sequences: Some(all), ..request(&path) }).batch.sequences, all);
}
