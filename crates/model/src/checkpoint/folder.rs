//! A Hugging Face model directory: `config.json` and safetensors, in one file or in shards listed by an index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::safetensors::{self, Contents};
use crate::{ModelError, byte_order_mark};

pub(super) const CONFIG: &str = "config.json";
pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// What a directory holds.
pub(super) struct Folder {
    pub(super) config: serde_json::Value,
    /// The weight files, in name order.
    pub(super) files: Vec<PathBuf>,
    pub(super) contents: Contents,
}

/// Reads the config and the headers of all weight files.
///
/// # Errors
/// If a file is missing or damaged, or a tensor is in two shards or not in the shard that the index names.
pub(super) fn open(folder: &Path) -> Result<Folder, ModelError> {
    let config = read_config(folder)?;
    let index = folder.join(INDEX);
    let (files, contents) = if folder.join(SINGLE).exists() {
        let file = folder.join(SINGLE);
        let contents = safetensors::open(&file)?;
        (vec![file], contents)
    } else if index.exists() {
        open_shards(folder, &index)?
    } else {
        return Err(no_weights(folder));
    };
    if contents.tensors.is_empty() {
        return Err(ModelError::malformed(folder, "holds no tensors of type F32, F16 or BF16"));
    }
    refuse_quantised(folder, &config, &contents)?;
    Ok(Folder { config, files, contents })
}

fn read_config(folder: &Path) -> Result<serde_json::Value, ModelError> {
    let path = folder.join(CONFIG);
    if !path.exists() {
        return Err(match no_weights_hint(folder) {
            Some(hint) => ModelError::malformed(folder, format!("has no {CONFIG}; {hint}")),
            None => ModelError::malformed(
                folder,
                format!("has no {CONFIG}; a Hugging Face model directory holds {CONFIG} and {SINGLE}"),
            ),
        });
    }
    let config: serde_json::Value = read_json(&path)?;
    if config.is_object() {
        Ok(config)
    } else {
        Err(ModelError::malformed(path, "is not a JSON object; expected the settings of a model"))
    }
}

/// Reads a JSON file; the error says line and column.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let text = fs::read(path).map_err(|e| ModelError::io(path, e))?;
    if text.is_empty() {
        return Err(ModelError::malformed(path, "is empty (0 bytes); expected JSON"));
    }
    let text = byte_order_mark::strip(&text).map_err(|reason| ModelError::malformed(path, reason))?;
    serde_json::from_slice(text).map_err(|e| ModelError::malformed(path, format!("is not the JSON expected: {e}")))
}

/// `model.safetensors.index.json`.
#[derive(serde::Deserialize)]
struct Index {
    /// Tensor name to file name.
    weight_map: BTreeMap<String, String>,
}

/// The names of the shards that an index lists, sorted, each checked to be a plain file name.
///
/// # Errors
/// If the index cannot be read, or names something that is not a file beside it.
pub(super) fn shards(index: &Path) -> Result<BTreeSet<String>, ModelError> {
    let names: BTreeSet<String> = read_json::<Index>(index)?.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(ModelError::malformed(index, "has an empty weight_map; expected the file of each tensor"));
    }
    for name in &names {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ':']) {
            let reason = format!("names the shard {name:?}; expected the name of a file in the same directory");
            return Err(ModelError::malformed(index, reason));
        }
    }
    Ok(names)
}

fn open_shards(folder: &Path, index: &Path) -> Result<(Vec<PathBuf>, Contents), ModelError> {
    let names = shards(index)?;
    if let Some(missing) = names.iter().find(|name| !folder.join(name).exists()) {
        return Err(ModelError::malformed(
            folder.join(missing),
            format!("does not exist; {INDEX} lists it among {} shards, and all are needed", names.len()),
        ));
    }
    let mut whole = Contents { tensors: BTreeMap::new(), buffers: BTreeMap::new() };
    let mut origin: BTreeMap<String, String> = BTreeMap::new();
    for shard in &names {
        let path = folder.join(shard);
        let contents = safetensors::open(&path)?;
        for name in contents.tensors.keys().chain(contents.buffers.keys()) {
            if let Some(other) = origin.insert(name.clone(), shard.clone()) {
                return Err(ModelError::tensor(path, name, format!("is also in {other}; expected in one shard")));
            }
        }
        whole.tensors.extend(contents.tensors);
        whole.buffers.extend(contents.buffers);
    }
    for (name, shard) in read_json::<Index>(index)?.weight_map {
        if origin.get(&name) != Some(&shard) {
            let found = origin.get(&name).map_or("is in none of the shards".into(), |o| format!("is in {o}"));
            return Err(ModelError::tensor(index, name, format!("{found}, but the index says {shard}")));
        }
    }
    Ok((names.iter().map(|name| folder.join(name)).collect(), whole))
}

/// Weights packed into integers (GPTQ, AWQ, bitsandbytes) look like buffers; the config tells.
fn refuse_quantised(folder: &Path, config: &serde_json::Value, contents: &Contents) -> Result<(), ModelError> {
    let Some(quantisation) = config.get("quantization_config") else { return Ok(()) };
    let Some((name, stored)) = contents.buffers.first_key_value() else { return Ok(()) };
    let method = quantisation.get("quant_method").and_then(serde_json::Value::as_str).unwrap_or("of some kind");
    Err(ModelError::unsupported(
        folder,
        format!(
            "is quantised ({method}; tensor {name:?} is stored as {stored}); supported are F32, F16 and BF16 weights, \
             or a quantised GGUF file"
        ),
    ))
}

fn no_weights(folder: &Path) -> ModelError {
    let hint = no_weights_hint(folder).unwrap_or_else(|| format!("expected {SINGLE}, or {INDEX} and its shards"));
    ModelError::malformed(folder, format!("has no {SINGLE} or {INDEX}; {hint}"))
}

/// What to do about the weights that are there instead.
fn no_weights_hint(folder: &Path) -> Option<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let ending = |endings: &[&str]| names.iter().find(|name| endings.iter().any(|ending| name.ends_with(ending)));
    if let Some(gguf) = ending(&[".gguf"]) {
        return Some(format!("to examine {gguf}, give the path of the file itself"));
    }
    if let Some(torch) = ending(&[".bin", ".pt", ".pth", ".bin.index.json"]) {
        return Some(format!(
            "{torch} is a PyTorch file, which is not read: safetensors is needed (in transformers, load the model and \
             call save_pretrained with safe_serialization=True)"
        ));
    }
    ending(&[".safetensors"])
        .map(|other| format!("it holds {other}, which is not a whole model under the name expected"))
}
