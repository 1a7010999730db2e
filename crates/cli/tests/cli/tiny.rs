//! A model of a few thousand weights in a directory of its own, to be examined, or to be spoilt first.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A copy of a fixture in Hugging Face's form. The directory `out` beside it does not exist.
pub struct Tiny {
    home: TempDir,
}

impl Tiny {
    /// The fixture of a family, with a tokeniser of a few words: every other word is token 0.
    pub fn new(family: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let tiny = Self { home };
        let source = fixtures().join("families").join(family);
        fs::create_dir(tiny.model()).expect("created");
        for file in ["config.json", "model.safetensors"] {
            fs::copy(source.join(file), tiny.model().join(file)).expect("a fixture in one file");
        }
        let words = ["<unk>", "the", "ship", "sails", "at", "dawn", "and", "returns", "."];
        let vocabulary: serde_json::Map<String, Value> =
            words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
        let tokenizer = json!({
            "version": "1.0",
            "pre_tokenizer": {"type": "Whitespace"},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        });
        fs::write(tiny.model().join("tokenizer.json"), tokenizer.to_string()).expect("written");
        tiny
    }

    /// The model's directory.
    pub fn model(&self) -> PathBuf {
        self.path("model")
    }

    /// A place beside the model.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file beside the model.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Writes token ids: `sequences` of `seq_len`, the same at every call.
    pub fn tokens(&self, sequences: usize, seq_len: usize) -> String {
        let id = |sequence: usize, position: usize| (7 * sequence + position * position + position / 3) % 32;
        let ids: Vec<Vec<usize>> = (0..sequences).map(|s| (0..seq_len).map(|p| id(s, p)).collect()).collect();
        self.write("tokens.json", json!({ "tokens": ids }).to_string())
    }

    /// Arguments that examine the model, results going to `out`.
    pub fn anatomy(&self, options: &[&str]) -> Vec<String> {
        let (model, out) = (self.model(), self.path("out"));
        let paths = [model.to_str().expect("UTF-8"), "--force", "--out", out.to_str().expect("UTF-8")];
        ["anatomy"].iter().chain(&paths).chain(options).map(|&argument| argument.to_owned()).collect()
    }

    /// Changes the configuration.
    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.model().join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).expect("there")).expect("JSON");
        change(&mut config);
        fs::write(path, config.to_string()).expect("written");
    }

    /// Changes the bytes of the file of weights.
    pub fn spoil(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.model().join("model.safetensors");
        let mut bytes = fs::read(&path).expect("there");
        change(&mut bytes);
        fs::write(path, bytes).expect("written");
    }

    /// Changes the header of the file of weights and leaves the data.
    pub fn spoil_header(&self, change: impl FnOnce(&mut Value)) {
        self.spoil(|bytes| {
            let length = u64::from_le_bytes(*bytes.first_chunk().expect("a length"));
            let (header, data) = bytes[8..].split_at(length as usize);
            let mut header = serde_json::from_slice(header).expect("JSON");
            change(&mut header);
            let header = header.to_string();
            *bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
        });
    }

    /// Changes the tensors and writes a sound file of them. `change` is given the name, the shape and the data, and
    /// says whether the tensor stays.
    pub fn replace_weights(&self, mut change: impl FnMut(&str, &mut Vec<u8>) -> bool) {
        self.spoil(|bytes| {
            let stored = SafeTensors::deserialize(bytes).expect("a fixture");
            let mut kept = Vec::new();
            for (name, tensor) in stored.tensors() {
                let mut data = tensor.data().to_vec();
                if change(&name, &mut data) {
                    kept.push((name, tensor.dtype(), tensor.shape().to_vec(), data));
                }
            }
            let views = kept.iter().map(|(name, dtype, shape, data)| {
                (name, TensorView::new(*dtype, shape.clone(), data).expect("as large as before"))
            });
            *bytes = safetensors::serialize(views.collect::<Vec<_>>(), None).expect("written");
        });
    }
}

/// Tiny models of all families, shared with the crate that reads them.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures")
}
