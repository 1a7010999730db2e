//! What a GGUF file is, where it is no language model.

use std::path::Path;

use super::Gguf;
use super::inert::MIXTURE;
use super::keys::shown;
use crate::error::ModelError;
use crate::families::{FAMILIES, unsupported_family};
use sinkscope_sources::checkpoint::{GgufMetadata, GgufValue};

const ARCHITECTURE: &str = "general.architecture";
const TYPE: &str = "general.type";

/// The family of a language model.
///
/// # Errors
/// If the file is something else, or its architecture is not supported: what it is.
pub(super) fn family(metadata: &GgufMetadata, path: &Path) -> Result<&'static Gguf, ModelError> {
    let kind = text(metadata, TYPE, path)?;
    let architecture = text(metadata, ARCHITECTURE, path)?;
    let has = |namespace: &str| metadata.0.keys().any(|key| key.starts_with(namespace));
    let refused = |what: &str| Err(ModelError::unsupported(path, what));
    match (kind, architecture) {
        (Some("adapter"), _) => return refused(ADAPTER),
        (Some("imatrix"), _) => return refused(IMATRIX),
        (Some("mmproj"), _) | (_, Some("clip")) => return refused(MMPROJ),
        (_, Some("controlvector")) => return refused(CONTROL_VECTOR),
        _ if has("adapter.") => return refused(ADAPTER),
        (_, None) if has("imatrix.") => return refused(IMATRIX),
        (Some(kind), _) if kind != "model" => {
            return refused(&format!("key `{TYPE}` is {kind:?}; \"model\" is needed"));
        }
        _ => {}
    }
    let Some(architecture) = architecture else {
        return Err(ModelError::malformed(path, format!("key `{ARCHITECTURE}` is missing; it names the family")));
    };
    let experts = format!("{architecture}.expert_count");
    if let Some(value) = metadata.0.get(&experts)
        && !matches!(value, GgufValue::Unsigned(0) | GgufValue::Signed(0))
    {
        return refused(&format!("key `{experts}` is {}; {MIXTURE}", shown(value)));
    }
    let entries = || FAMILIES.iter().filter_map(|family| family.gguf.as_ref());
    entries().find(|entry| entry.architecture == architecture).ok_or_else(|| {
        unsupported_family(path, &format!("`{architecture}`"), entries().map(|entry| entry.architecture))
    })
}

const ADAPTER: &str = "is an adapter (LoRA), differences of weights without their model; merge it into the model that it was \
                       made for, and name the result";
const IMATRIX: &str = "is an importance matrix (imatrix), statistics of activations that steer quantisation; name the model \
                       that it was made from";
const MMPROJ: &str = "is a projector of images or sound (mmproj) without its language model; name the file of the language \
                      model";
const CONTROL_VECTOR: &str = "is a control vector, directions to add to a model's residual; name the model itself";

fn text<'a>(metadata: &'a GgufMetadata, key: &str, path: &Path) -> Result<Option<&'a str>, ModelError> {
    match metadata.0.get(key) {
        None => Ok(None),
        Some(GgufValue::Text(text)) => Ok(Some(text)),
        Some(value) => Err(ModelError::malformed(path, format!("key `{key}` is {}; a text is needed", shown(value)))),
    }
}
