//! Text and token files of every kind, and everything that can be wrong with them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::write::GzEncoder;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;
use sha2::{Digest, Sha256};
use sinkscope_model::ModelError;
use sinkscope_model::checkpoint::Metadata;
use sinkscope_model::data::{BosPolicy, Data, SAMPLE_TEXT, SAMPLE_TEXT_NAME, TextRequest, load};
use sinkscope_model::tokenizer::Tokenizer;
use tempfile::TempDir;

/// Larger than the vocabulary of every fixture.
const VOCABULARY: usize = 1000;

fn tokenizer_with(name: &str, config: serde_json::Value) -> Tokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers").join(name);
    let metadata = Metadata::HuggingFace { folder: folder.clone(), config };
    Tokenizer::from_metadata(&metadata, &folder).unwrap().unwrap()
}

fn tokenizer() -> Tokenizer {
    tokenizer_with("gpt2", json!({"bos_token_id": 0}))
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A Parquet file of one or more row groups, with an `id` column and one for text.
fn parquet(schema: &str, groups: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let optional = schema.get_fields()[1].is_optional();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::default())).unwrap();
    for rows in groups {
        let mut group = writer.next_row_group().unwrap();
        let mut ids = group.next_column().unwrap().unwrap();
        let numbers: Vec<i64> = (0..rows.len() as i64).collect();
        ids.typed::<Int64Type>().write_batch(&numbers, None, None).unwrap();
        ids.close().unwrap();
        let mut texts = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = rows.iter().flatten().map(|text| ByteArray::from(text.to_vec())).collect();
        let levels: Vec<i16> = rows.iter().map(|text| i16::from(text.is_some())).collect();
        let levels = optional.then_some(levels.as_slice());
        texts.typed::<ByteArrayType>().write_batch(&values, levels, None).unwrap();
        texts.close().unwrap();
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

const TEXT_COLUMN: &str = "message rows { REQUIRED INT64 id; OPTIONAL BYTE_ARRAY text (UTF8); }";

fn sha256(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn request(text: &Path) -> TextRequest<'_> {
    TextRequest { text: Some(text), seq_len: Some(8), ..TextRequest::default() }
}

fn token_request(tokens: &Path) -> TextRequest<'_> {
    TextRequest { tokens: Some(tokens), ..TextRequest::default() }
}

fn read(request: &TextRequest<'_>) -> Data {
    load(request, Some(&tokenizer()), VOCABULARY).unwrap()
}

fn failure(request: &TextRequest<'_>) -> String {
    failure_with(request, Some(&tokenizer()))
}

fn failure_with(request: &TextRequest<'_>, tokenizer: Option<&Tokenizer>) -> String {
    load(request, tokenizer, VOCABULARY).unwrap_err().to_string()
}

/// Checks what a message says after the path of the file at fault.
fn assert_says(request: &TextRequest<'_>, expected: &str) {
    let path = request.text.or(request.tokens).unwrap().display().to_string();
    let message = failure(request);
    assert!(message.contains(&path), "{message}");
    assert!(message.replace(&path, "FILE").contains(expected), "{message}");
}

const DOCUMENTS: [&str; 3] = [
    "The ships came down the river in the morning, one after the other.",
    "He counted them; there were twelve.\nThen the fog came.",
    "caf\u{e9} 東京 \u{1f600} \"quoted\" and \\ and a tab\t.",
];

fn expected_ids() -> Vec<u32> {
    let tokenizer = tokenizer();
    DOCUMENTS.iter().flat_map(|document| tokenizer.encode(document).unwrap()).collect()
}

fn json_lines() -> String {
    let line = |text: &&str| json!({"id": 7, "text": text, "other": [1, {"text": "not this"}]}).to_string();
    DOCUMENTS.iter().map(line).collect::<Vec<_>>().join("\n\n")
}

fn parquet_rows() -> Vec<u8> {
    let [first, second, third] = DOCUMENTS.map(|text| Some(text.as_bytes()));
    parquet(TEXT_COLUMN, &[&[first, second], &[], &[third]])
}

#[test]
fn every_format_gives_the_same_tokens() {
    let folder = Folder::new();
    let ids = expected_ids();
    for (name, bytes) in [("a.jsonl", json_lines().into_bytes()), ("a.parquet", parquet_rows())] {
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
    let pieces = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    for name in ["gpt2", "llama3", "qwen2", "smollm"] {
        let tokenizer = tokenizer_with(name, json!({}));
        let ids = tokenizer.encode(&text).unwrap();
        let request = TextRequest { sequences: Some(ids.len() / 8), ..request(&path) };
        let data = load(&request, Some(&tokenizer), VOCABULARY).unwrap();
        assert_eq!(data.batch.tokens, ids[..ids.len() / 8 * 8], "{name} in {}", pieces.display());
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
    let first = &fs::read(&path).unwrap()[..65536];
    let digest: String = Sha256::digest(first).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(data.sha256, digest);
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
    assert!(matches!(error, ModelError::Io { .. }), "{error}");
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
        ("{\"text\": null}", "FILE: line 2, column 13: invalid type: null, expected a string"),
        ("{\"text\": 3}", "FILE: line 2, column 10: invalid type: integer `3`, expected a string"),
        ("not JSON", "FILE: line 2, column 2: expected ident"),
        ("{\"text\": \"x\"", "FILE: line 2, column 12: EOF while parsing"),
    ] {
        let path = folder.write("a.jsonl", format!("{{\"text\": \"first\"}}\n{line}"));
        assert_says(&request(&path), message);
    }
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
}
