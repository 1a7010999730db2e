//! What can be read, and what confirmed that it is computed right.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FAMILIES;

/// By family. Written by the test that compares (`model/parity/confirmed.rs`), never by hand.
const CONFIRMED: &str = include_str!("confirmed.json");

/// A family of models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Supported {
    /// Its name.
    pub family: String,
    /// Its Hugging Face directories.
    pub hugging_face: Option<SupportedFormat>,
    /// Its GGUF files.
    pub gguf: Option<SupportedFormat>,
}

/// A family in one format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SupportedFormat {
    /// What it is called there: `model_type` in `config.json`, `general.architecture` in a GGUF file.
    pub names: Vec<String>,
    /// What confirmed it; `None` of this program's own format.
    pub confirmed: Option<Confirmation>,
}

/// How it was confirmed that models are computed right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Confirmation {
    /// The other implementation.
    pub by: String,
    /// Tiny random models that both computed.
    pub models: Vec<String>,
    /// What was compared.
    pub points: Vec<String>,
    /// Published configurations that were read.
    pub published_configurations: usize,
}

/// What confirmed a family in each format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confirmed {
    pub hugging_face: Option<Confirmation>,
    pub gguf: Option<Confirmation>,
}

/// The families that can be read.
pub fn supported() -> Vec<Supported> {
    // A test compares the file, so it is sound.
    let mut confirmed: BTreeMap<String, Confirmed> = serde_json::from_str(CONFIRMED).unwrap_or_default();
    let describe = |family: &super::Family| {
        let Confirmed { hugging_face, gguf } = confirmed.remove(family.name).unwrap_or_default();
        let format =
            |names: Vec<String>, confirmed| (!names.is_empty()).then_some(SupportedFormat { names, confirmed });
        let model_types = family.hugging_face.iter().map(|entry| entry.model_type.to_owned()).collect();
        let architecture = family.gguf.iter().map(|entry| entry.architecture.to_owned()).collect();
        Supported {
            family: family.name.to_owned(),
            hugging_face: format(model_types, hugging_face),
            gguf: format(architecture, gguf),
        }
    };
    FAMILIES.iter().map(describe).collect()
}
