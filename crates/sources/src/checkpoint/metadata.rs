//! What a checkpoint says of itself: `config.json` of a Hugging Face directory, or the key-value pairs of a GGUF file.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The description that comes with the weights.
#[derive(Debug, Clone, PartialEq)]
pub enum Metadata {
    /// A Hugging Face model directory.
    HuggingFace {
        /// The directory (inside the hub cache for a hub id).
        folder: PathBuf,
        /// The whole of `config.json`.
        config: serde_json::Value,
    },
    /// A GGUF file.
    Gguf(GgufMetadata),
    /// What is in memory, laid out as a Hugging Face model directory is.
    Memory {
        /// `config.json`.
        config: serde_json::Value,
        /// `tokenizer.json`, if there is one.
        tokenizer: Option<&'static [u8]>,
        /// `tokenizer_config.json`.
        tokenizer_config: serde_json::Value,
    },
}

/// The key-value pairs of a GGUF file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GgufMetadata(pub BTreeMap<String, GgufValue>);

/// A GGUF value; integers and floats are widened.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// u8, u16, u32, u64.
    Unsigned(u64),
    /// i8, i16, i32, i64.
    Signed(i64),
    /// f32, f64.
    Float(f64),
    /// bool.
    Bool(bool),
    /// UTF-8 text (invalid sequences replaced).
    Text(String),
    /// An array of any integer type.
    Integers(Vec<i64>),
    /// An array of f32 or f64.
    Floats(Vec<f64>),
    /// An array of bool.
    Bools(Vec<bool>),
    /// An array of strings.
    Texts(Vec<String>),
}

impl GgufMetadata {
    /// A non-negative integer, whatever its stored type.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.0.get(key)? {
            GgufValue::Unsigned(v) => Some(*v),
            GgufValue::Signed(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    /// A number, whatever its stored type.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.0.get(key)? {
            GgufValue::Float(v) => Some(*v),
            GgufValue::Unsigned(v) => Some(*v as f64),
            GgufValue::Signed(v) => Some(*v as f64),
            _ => None,
        }
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.0.get(key)? {
            GgufValue::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// A string.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key)? {
            GgufValue::Text(v) => Some(v),
            _ => None,
        }
    }

    /// An array of strings.
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.0.get(key)? {
            GgufValue::Texts(v) => Some(v),
            _ => None,
        }
    }

    /// An array of integers.
    pub fn integers(&self, key: &str) -> Option<&[i64]> {
        match self.0.get(key)? {
            GgufValue::Integers(v) => Some(v),
            _ => None,
        }
    }

    /// An array of floats.
    pub fn floats(&self, key: &str) -> Option<&[f64]> {
        match self.0.get(key)? {
            GgufValue::Floats(v) => Some(v),
            _ => None,
        }
    }
}
