//! What `data.json` says of a prepared directory.

use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_sources::byte_order_mark;

use super::documents::Input;
use super::separator::Separator;
use super::shard::Shard;
use crate::LabError;

/// The file that says so.
pub const MANIFEST_FILE: &str = "data.json";

/// The tokeniser, as `tokenizers` and `transformers` read it.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// What `transformers` needs beside it: which token is which.
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";

/// The version of the layout.
pub const LAYOUT: u32 = 1;

/// A prepared directory: what is in it and what it was made of. The header of its token files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// Version of the layout, [`LAYOUT`].
    pub layout: u32,
    /// Number of tokens of the vocabulary: ids from 0.
    pub vocabulary: usize,
    /// The id that begins every document.
    pub bos: u32,
    /// Bytes a token in the files of tokens.
    pub token_bytes: usize,
    /// SHA-256 of the tokeniser's file, in lower-case hexadecimal.
    pub tokenizer_sha256: String,
    /// The share that was to be held out.
    pub held_out_share: f64,
    /// Whether that is a share of the text, in bytes, and not of the documents.
    #[serde(default)]
    pub held_out_of_text: bool,
    /// Seed of the choice.
    pub seed: u64,
    /// What ends a document of a `.txt` file.
    pub document_separator: Separator,
    /// Bytes of text.
    pub bytes: u64,
    /// Bytes of text in the documents held out.
    pub held_out_bytes: u64,
    /// Documents to train on.
    pub train: Shard,
    /// Documents held out.
    pub val: Shard,
    /// The files it was made of, in order.
    pub inputs: Vec<Input>,
}

/// What the files of a prepared directory are and how they came about, by name, as `data.json` carries it.
pub const DEFINITIONS: [(&str, &str); 5] = [
    (
        "tokens",
        "train.bin, val.bin: token ids and nothing else, little-endian, `token_bytes` bytes each; every document begins with \
         the token `bos`",
    ),
    (
        "index",
        "train.idx, val.idx: where each document begins in the file of tokens, counted in tokens, and at last where the last \
         one ends; 64-bit little-endian numbers",
    ),
    (
        "document",
        "an object of .jsonl, .ndjson or .json, a row of .parquet (each string, if there the text is a list), a part of .txt as \
         `document_separator` says; those of white space are passed over",
    ),
    (
        "held_out",
        "a document is in val if the first 8 bytes of the SHA-256 of `seed` (64-bit, little-endian) and its text (of the first \
         part, if it is a long document of a .txt file), a big-endian number, are at most `held_out_share` of 2^64, or, if \
         `held_out_of_text`, below the multiple of 2^44 up to which the bytes of documents are nearest to that share of all; if \
         that leaves either split empty, the nearest number that does not",
    ),
    (
        "vocabulary",
        "byte-level BPE on the words of GPT-2's pre-tokeniser, learnt from the documents in train: the commonest pair first, of \
         equally common ones the one of smaller ids, none that occurs once",
    ),
];

#[derive(Deserialize)]
struct Framed {
    results: Manifest,
}

impl Manifest {
    /// Reads `data.json` of a prepared directory.
    ///
    /// # Errors
    /// If the directory has none that this version can read.
    pub fn read(directory: &Path) -> Result<Self, LabError> {
        let path = directory.join(MANIFEST_FILE);
        let bytes = fs::read(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                let reason = "no data.json in it; make it with `sinkscope data prepare`";
                return LabError::Request(format!(
                    "{}: not a directory of prepared data: {reason}",
                    directory.display()
                ));
            }
            LabError::io(&path, error)
        })?;
        let bytes = byte_order_mark::strip(&bytes).map_err(|reason| LabError::malformed(&path, reason))?;
        let wrong =
            |error: serde_json::Error| LabError::malformed(&path, format!("not a record of prepared data: {error}"));
        let layout = serde_json::from_slice::<serde_json::Value>(bytes).map_err(wrong)?["results"]["layout"].clone();
        if layout.as_u64().is_some_and(|layout| layout != u64::from(LAYOUT)) {
            let reason = format!("layout {layout} is not known to this version, which reads {LAYOUT}");
            return Err(LabError::malformed(path, reason));
        }
        let Framed { results } = serde_json::from_slice(bytes).map_err(wrong)?;
        Ok(results)
    }
}
