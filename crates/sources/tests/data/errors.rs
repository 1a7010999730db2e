//! Everything that can be wrong with a request or a file.

use std::fs;

use serde_json::json;
use sinkscope_sources::SourceError;
use sinkscope_sources::data::{BosPolicy, TextRequest, load};

use crate::files::*;

#[test]
fn requests_that_cannot_be_met() {
    let folder = Folder::new();
    let path = folder.write("a.txt", DOCUMENTS[0]);
    let sequences = TextRequest { sequences: Some(0), ..request(&path) };
    assert_eq!(failure(&sequences), "0 sequences were asked for; at least 1 is needed");
    let short = TextRequest { seq_len: Some(1), ..request(&path) };
    assert_eq!(failure(&short), "a sequence length of 1 was asked for; at least 2 tokens are needed");
    let both = TextRequest { tokens: Some(&path), ..request(&path) };
    assert!(failure(&both).starts_with("both a text ("));
    let always = TextRequest { bos: BosPolicy::Always, ..request(&path) };
    let nameless = tokenizer_with("gpt2", json!({}));
    for tokenizer in [None, Some(&nameless)] {
        let message = failure_with(&always, tokenizer);
        assert!(message.starts_with("a BOS token was asked for, but the checkpoint names none"), "{message}");
    }
    let message = failure_with(&request(&path), None);
    assert!(message.contains("the checkpoint has none") && message.contains("--tokens"), "{message}");
    assert!(failure_with(&TextRequest::default(), None).starts_with("the built-in text: text needs a tokeniser"));
}

#[test]
fn text_files_that_cannot_be_read() {
    let folder = Folder::new();
    let missing = folder.path("missing.txt");
    let error = load(&request(&missing), Some(&tokenizer()), VOCABULARY).unwrap_err();
    assert!(matches!(error, SourceError::Io { .. }), "{error}");
    assert_says(&request(&missing), "cannot read FILE: No such file");
    let text = DOCUMENTS[0].repeat(100);
    let directory = folder.path("folder.txt");
    fs::create_dir(&directory).unwrap();
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() - 9].to_vec();
    let mut damaged = zstandard(text.as_bytes());
    damaged[9] ^= 0x55;
    let cases = [
        (directory, "cannot read FILE: Is a directory"),
        (folder.write("empty.txt", ""), "FILE: the file is empty"),
        (folder.write("empty.jsonl.gz", ""), "FILE: the file is empty"),
        (folder.write("empty.txt.gz", gzip(b"")), "FILE: there is no text in it"),
        (folder.write("empty.jsonl", "{\"text\": \"\"}\n"), "FILE: there is no text in it"),
        (folder.write("a.doc", &text), "FILE: the extension does not name a text format; supported are .txt, .jsonl"),
        (folder.write("a.gz", gzip(text.as_bytes())), "FILE: the extension does not name a text format"),
        (folder.write("jsonl", &text), "FILE: the extension does not name a text format"),
        (folder.write("plain.txt.gz", &text), "FILE: named as gzip, but does not begin as gzip does"),
        (folder.write("plain.txt.zst", "x"), "FILE: named as Zstandard, but does not begin as Zstandard does"),
        (folder.write("cut.txt.gz", cut(gzip(text.as_bytes()))), "FILE: cannot be unpacked as gzip"),
        (folder.write("cut.txt.zst", cut(zstandard(text.as_bytes()))), "FILE: cannot be unpacked as Zstandard"),
        (folder.write("damaged.txt.zst", damaged), "FILE: cannot be unpacked as Zstandard"),
        (folder.write("cut.jsonl.gz", cut(gzip(json_lines().as_bytes()))), "FILE: cannot be unpacked as gzip"),
        (folder.write("latin.txt", b"caf\xE9 au lait"), "FILE: not UTF-8 text: the byte at offset 3 cannot"),
        (
            folder.write("latin.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"caf\xE9\"}\n"),
            "FILE: line 2 is not UTF-8 text: the byte at offset 27 cannot",
        ),
    ];
    for (path, message) in &cases {
        assert_says(&request(path), message);
    }
}

#[test]
fn texts_that_are_too_short() {
    let folder = Folder::new();
    let ids = tokenizer().encode(DOCUMENTS[0]).unwrap().len();
    let path = folder.write("short.txt", DOCUMENTS[0]);
    let long = TextRequest { seq_len: Some(64), ..request(&path) };
    assert_says(&long, &format!("FILE: the text is {ids} tokens long, shorter than one sequence of 64 tokens"));
    let many = TextRequest { sequences: Some(50), ..request(&path) };
    let expected = format!("FILE: 50 sequences were asked for, but the text gives {} of 8 tokens", ids / 8);
    assert_says(&many, &expected);
}

#[test]
fn json_lines_without_text() {
    let folder = Folder::new();
    for (line, message) in [
        ("{\"body\": \"x\"}", "FILE: line 2, column 13: missing field `text`; each line is an object"),
        ("{\"text\": null}", "FILE: line 2, column 13: field `text`: invalid type: null, expected a string"),
        ("{\"text\": 3}", "FILE: line 2, column 10: field `text`: invalid type: integer `3`, expected a string"),
        ("{\"text\": NaN}", "FILE: line 2, column 10: field `text`: expected value"),
        ("{\"text\": \"a \\ud83d b\"}", "field `text`: lone leading surrogate in hex escape"),
        ("{\"text\": \"a\", \"text\": \"b\"}", "field `text`: it is there twice"),
        ("{\"text\": {\"en\": \"a\"}}", "field `text`: invalid type: map, expected a string"),
        ("{\"score\": NaN}", "FILE: line 2, column 14: missing field `text`"),
        ("{\"score\": Nan, \"text\": \"a\"}", "FILE: line 2, column 1"),
        ("\"words\"", "FILE: line 2, column 7: invalid type: string \"words\", expected an object"),
        ("not JSON", "FILE: line 2, column 2: expected ident"),
        ("{\"text\": \"x\"", "FILE: line 2, column 12: EOF while parsing"),
    ] {
        let path = folder.write("a.jsonl", format!("{{\"text\": \"first\"}}\n{line}"));
        assert_says(&request(&path), message);
    }
}

#[test]
fn json_arrays_without_text() {
    let folder = Folder::new();
    for (json, message) in [
        (
            "[\"a\",\n {\"body\": \"x\"}]",
            "FILE: line 2, column 14: missing field `text`; each element is a string or an object",
        ),
        ("\n\n[3]", "FILE: line 3, column 3: invalid type: integer `3`, expected a string or an object"),
        ("[{\"text\": [1]}]", "FILE: line 1, column 13: field `text`: invalid type: integer `1`, expected a string"),
        ("[\"a\"", "FILE: line 1, column 4: EOF while parsing a list"),
        ("[\"a\"] more", "FILE: line 1, column 7: trailing characters"),
        ("[]", "FILE: there is no text in it"),
    ] {
        assert_says(&request(&folder.write("a.json", json)), message);
    }
}

#[test]
fn other_encodings_are_refused_by_name() {
    let folder = Folder::new();
    let text: Vec<u8> = "{\"text\": \"words\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf16 = [b"\xFF\xFE", text.as_slice()].concat();
    for name in ["a.txt", "a.jsonl", "a.json"] {
        let message = "FILE: begins with the byte order mark of UTF-16; save it as UTF-8";
        assert_says(&request(&folder.write(name, &utf16)), message);
        assert_says(&request(&folder.write(&format!("{name}.gz"), gzip(&utf16))), message);
    }
    let tokens = folder.write("ids.json", &utf16);
    assert_says(&token_request(&tokens), "FILE: begins with the byte order mark of UTF-16");
    let late = folder.write("late.jsonl", b"\xEF\xBB\xBF{\"text\": \"caf\xE9\"}\n");
    assert_says(&request(&late), "FILE: line 1 is not UTF-8 text: the byte at offset 16 cannot");
    let late = folder.write("late.txt", b"\xEF\xBB\xBFcaf\xE9 au lait");
    assert_says(&request(&late), "FILE: not UTF-8 text: the byte at offset 6 cannot");
}

#[test]
fn parquet_files_without_text() {
    let folder = Folder::new();
    let row: &[Option<&[u8]>] = &[Some(b"words")];
    let named = |name: &str| TEXT_COLUMN.replace(" text ", &format!(" {name} "));
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() - 9].to_vec();
    let numbers = "message rows { REQUIRED INT64 text; REQUIRED BYTE_ARRAY id; }";
    let cases = [
        (
            folder.write("names.parquet", parquet(&named("content"), &[row])),
            "no column `text`; the columns are id, content",
        ),
        (
            folder.write("numbers.parquet", parquet(numbers, &[row])),
            "FILE: the column `text` holds INT64 values, not strings",
        ),
        (folder.write("null.parquet", parquet(TEXT_COLUMN, &[row, &[Some(b"more"), None]])), "FILE: row 2 has no text"),
        (
            folder.write("latin.parquet", parquet(TEXT_COLUMN, &[&[Some(b"fine"), Some(b"caf\xE9")]])),
            "FILE: row 1 is not UTF-8 text: the byte at offset 3 of it",
        ),
        (folder.write("none.parquet", parquet(TEXT_COLUMN, &[])), "FILE: there is no text in it"),
        (folder.write("cut.parquet", cut(parquet_rows())), "FILE: cannot be read as Parquet"),
        (folder.write("text.parquet", DOCUMENTS[0]), "FILE: cannot be read as Parquet"),
        (folder.write("plain.parquet.gz", parquet_rows()), "FILE: named as gzip, but does not begin as gzip does"),
    ];
    for (path, message) in &cases {
        assert_says(&request(path), message);
    }
}

#[test]
fn damaged_parquet_never_panics() {
    let folder = Folder::new();
    let whole = parquet_rows();
    let tokenizer = tokenizer();
    for index in 0..whole.len() {
        for flip in [0xFF, 0x04] {
            let mut damaged = whole.clone();
            damaged[index] ^= flip;
            let path = folder.write("damaged.parquet", damaged);
            let _ = load(&request(&path), Some(&tokenizer), VOCABULARY);
        }
    }
}

#[test]
fn token_files_that_are_wrong() {
    let folder = Folder::new();
    for (json, message) in [
        ("", "FILE: the file is empty"),
        ("{\"tokens\": [[1, 2], [3", "FILE: not JSON of the form {\"tokens\": [[id, ...], ...]}: EOF while parsing"),
        ("{\n\"tokens\": [[1, x]]}", "at line 2 column 16"),
        ("{\"ids\": [[1, 2]]}", "missing field `tokens`"),
        ("{\"tokens\": [1, 2]}", "expected a sequence"),
        ("{\"tokens\": [[1, \"2\"]]}", "at line 1 column"),
        ("{\"tokens\": []}", "FILE: there are no sequences in it"),
        ("{\"tokens\": [[], []]}", "FILE: its sequences have 0 tokens; at least 2 are needed"),
        ("{\"tokens\": [[1], [2]]}", "FILE: its sequences have 1 tokens; at least 2 are needed"),
        ("{\"tokens\": [[1, 2], [3, 4], [5]]}", "FILE: sequence 2 has 1 tokens, but sequence 0 has 2;"),
        ("{\"tokens\": [[1, 2], [3, -4]]}", "FILE: sequence 1, position 1: -4 is not a token id"),
        ("{\"tokens\": [[1, 2.5]]}", "FILE: sequence 0, position 1: 2.5 is not a token id"),
        ("{\"tokens\": [[1, 4294967296]]}", "FILE: sequence 0, position 1: 4294967296 is not a token id"),
        (
            "{\"tokens\": [[1, 2], [1000, 4]]}",
            "FILE: sequence 1, position 0: token id 1000 is outside the model's vocabulary of 1000",
        ),
    ] {
        let path = folder.write("ids.json", json);
        assert_says(&token_request(&path), message);
    }
    let path = folder.write("ids.json", "{\"tokens\": [[1, 2], [3, 4]]}");
    let longer = TextRequest { seq_len: Some(64), ..token_request(&path) };
    assert_says(&longer, "FILE: its sequences have 2 tokens, but a sequence length of 64 was asked for");
    let more = TextRequest { sequences: Some(3), ..token_request(&path) };
    assert_says(&more, "FILE: 3 sequences were asked for, but there are 2");
    assert_says(&token_request(&folder.path("missing.json")), "cannot read FILE: No such file");
}

#[test]
fn text_tokens_outside_the_models_vocabulary() {
    let folder = Folder::new();
    let path = folder.write("a.txt", DOCUMENTS[0]);
    let error = load(&request(&path), Some(&tokenizer()), 60).unwrap_err().to_string();
    assert!(error.contains("sequence 0, position") && error.contains("vocabulary of 60"), "{error}");
    let path = folder.write("b.txt", "<think>".repeat(20));
    let error = load(&request(&path), Some(&tokenizer()), 60).unwrap_err().to_string();
    assert!(error.contains("(\"<think>\") is outside the model's vocabulary"), "{error}");
}
