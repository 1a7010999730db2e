//! A Hugging Face model directory: `config.json` and safetensors, in one file or in shards listed by an index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::safetensors::{self, Contents};
use crate::{SourceError, byte_order_mark};

pub(super) const CONFIG: &str = "config.json";
pub(super) const SINGLE: &str = "model.safetensors";
/// What describes an adapter (LoRA and its like) of another model.
const ADAPTER: &str = "adapter_config.json";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// What a directory holds.
pub(super) struct Folder {
    pub(super) config: serde_json::Value,
    /// The weight files, in name order.
    pub(super) files: Vec<PathBuf>,
    pub(super) contents: Contents,
    /// Tensors that the index names and that none of its shards holds: a tied head, say, which is not stored twice.
    pub(super) promised: BTreeSet<String>,
}

/// Reads the config and the headers of all weight files.
///
/// # Errors
/// If a file is missing or damaged, or a tensor is in two shards or not in the shard that the index names.
pub(super) fn open(folder: &Path) -> Result<Folder, SourceError> {
    let config = read_config(folder)?;
    let index = folder.join(INDEX);
    let (files, contents, promised) = if folder.join(SINGLE).exists() {
        let file = folder.join(SINGLE);
        let contents = safetensors::open(&file)?;
        (vec![file], contents, BTreeSet::new())
    } else if index.exists() {
        open_shards(folder, &index)?
    } else {
        return Err(no_weights(folder));
    };
    if contents.tensors.is_empty() {
        return Err(SourceError::malformed(folder, "holds no tensors of type F32, F16 or BF16"));
    }
    Ok(Folder { config, files, contents, promised })
}

fn read_config(folder: &Path) -> Result<serde_json::Value, SourceError> {
    let path = folder.join(CONFIG);
    if !path.exists() {
        return Err(match no_weights_hint(folder) {
            Some(hint) => SourceError::malformed(folder, format!("has no {CONFIG}; {hint}")),
            None => SourceError::malformed(
                folder,
                format!("has no {CONFIG}; a Hugging Face model directory holds {CONFIG} and {SINGLE}"),
            ),
        });
    }
    let config: serde_json::Value = read_json(&path)?;
    if config.is_object() {
        Ok(config)
    } else {
        Err(SourceError::malformed(path, "is not a JSON object; expected the settings of a model"))
    }
}

/// Reads a JSON file; the error says line and column.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, SourceError> {
    let text = fs::read(path).map_err(|e| SourceError::io(path, e))?;
    if text.is_empty() {
        return Err(SourceError::malformed(path, "is empty (0 bytes); expected JSON"));
    }
    let text = byte_order_mark::strip(&text).map_err(|reason| SourceError::malformed(path, reason))?;
    serde_json::from_slice(text).map_err(|e| SourceError::malformed(path, format!("is not the JSON expected: {e}")))
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
pub(super) fn shards(index: &Path) -> Result<BTreeSet<String>, SourceError> {
    let names: BTreeSet<String> = read_json::<Index>(index)?.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(SourceError::malformed(index, "has an empty weight_map; expected the file of each tensor"));
    }
    for name in &names {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ':']) {
            let reason = format!("names the shard {name:?}; expected the name of a file in the same directory");
            return Err(SourceError::malformed(index, reason));
        }
    }
    Ok(names)
}

fn open_shards(folder: &Path, index: &Path) -> Result<(Vec<PathBuf>, Contents, BTreeSet<String>), SourceError> {
    let names = shards(index)?;
    if let Some(missing) = names.iter().find(|name| !folder.join(name).exists()) {
        return Err(SourceError::malformed(
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
                return Err(SourceError::tensor(path, name, format!("is also in {other}; expected in one shard")));
            }
        }
        whole.tensors.extend(contents.tensors);
        whole.buffers.extend(contents.buffers);
    }
    let mut promised = BTreeSet::new();
    for (name, shard) in read_json::<Index>(index)?.weight_map {
        match origin.get(&name) {
            Some(found) if *found == shard => {}
            Some(found) => {
                return Err(SourceError::tensor(index, name, format!("is in {found}, but the index says {shard}")));
            }
            None => {
                promised.insert(name);
            }
        }
    }
    Ok((names.iter().map(|name| folder.join(name)).collect(), whole, promised))
}

fn no_weights(folder: &Path) -> SourceError {
    let hint = no_weights_hint(folder).unwrap_or_else(|| format!("expected {SINGLE}, or {INDEX} and its shards"));
    SourceError::malformed(folder, format!("has no {SINGLE} or {INDEX}; {hint}"))
}

/// What to do about the weights that are there instead.
fn no_weights_hint(folder: &Path) -> Option<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    if names.iter().any(|name| name == ADAPTER) {
        let base = read_json::<serde_json::Value>(&folder.join(ADAPTER)).ok();
        let base = base.as_ref().and_then(|adapter| adapter.get("base_model_name_or_path")?.as_str());
        return Some(format!(
            "it holds an adapter of {}, not a model: merge the two first (in PEFT, merge_and_unload and save_pretrained)",
            base.unwrap_or("another model")
        ));
    }
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
