//! Files of every kind, and what loading them gives.

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
use sinkscope_sources::checkpoint::Metadata;
use sinkscope_sources::data::{Data, TextRequest, load};
use sinkscope_sources::tokenizer::Tokenizer;
use tempfile::TempDir;

/// Larger than the vocabulary of every fixture.
pub(crate) const VOCABULARY: usize = 1000;

pub(crate) fn tokenizer_with(name: &str, config: serde_json::Value) -> Tokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers").join(name);
    let metadata = Metadata::HuggingFace { folder: folder.clone(), config };
    Tokenizer::from_metadata(&metadata, &folder).unwrap().unwrap()
}

pub(crate) fn tokenizer() -> Tokenizer {
    tokenizer_with("gpt2", json!({"bos_token_id": 0}))
}

pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A Parquet file of one or more row groups, with an `id` column and one for text.
pub(crate) fn parquet(schema: &str, groups: &[&[Option<&[u8]>]]) -> Vec<u8> {
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

pub(crate) const TEXT_COLUMN: &str = "message rows { REQUIRED INT64 id; OPTIONAL BYTE_ARRAY text (UTF8); }";

pub(crate) fn sha256(path: &Path) -> String {
    let digest = Sha256::digest(fs::read(path).unwrap());
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

pub(crate) fn request(text: &Path) -> TextRequest<'_> {
    TextRequest { text: Some(text), seq_len: Some(8), ..TextRequest::default() }
}

pub(crate) fn token_request(tokens: &Path) -> TextRequest<'_> {
    TextRequest { tokens: Some(tokens), ..TextRequest::default() }
}

pub(crate) fn read(request: &TextRequest<'_>) -> Data {
    load(request, Some(&tokenizer()), VOCABULARY).unwrap()
}

pub(crate) fn failure(request: &TextRequest<'_>) -> String {
    failure_with(request, Some(&tokenizer()))
}

pub(crate) fn failure_with(request: &TextRequest<'_>, tokenizer: Option<&Tokenizer>) -> String {
    load(request, tokenizer, VOCABULARY).unwrap_err().to_string()
}

/// Checks what a message says after the path of the file at fault.
pub(crate) fn assert_says(request: &TextRequest<'_>, expected: &str) {
    let path = request.text.or(request.tokens).unwrap().display().to_string();
    let message = failure(request);
    assert!(message.contains(&path), "{message}");
    assert!(message.replace(&path, "FILE").contains(expected), "{message}");
}

pub(crate) const DOCUMENTS: [&str; 3] = [
    "The ships came down the river in the morning, one after the other.",
    "He counted them; there were twelve.\nThen the fog came.",
    "caf\u{e9} 東京 \u{1f600} \"quoted\" and \\ and a tab\t.",
];

pub(crate) fn expected_ids() -> Vec<u32> {
    let tokenizer = tokenizer();
    DOCUMENTS.iter().flat_map(|document| tokenizer.encode(document).unwrap()).collect()
}

pub(crate) fn json_lines() -> String {
    let line = |text: &&str| json!({"id": 7, "text": text, "other": [1, {"text": "not this"}]}).to_string();
    DOCUMENTS.iter().map(line).collect::<Vec<_>>().join("\n\n")
}

pub(crate) fn parquet_rows() -> Vec<u8> {
    let [first, second, third] = DOCUMENTS.map(|text| Some(text.as_bytes()));
    parquet(TEXT_COLUMN, &[&[first, second], &[], &[third]])
}
