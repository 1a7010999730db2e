//! Where weights come from: files, mapped into memory and decoded a few rows at a time.
//!
//! A [`Checkpoint`] is a GGUF file or a Hugging Face directory (perhaps one in the hub's cache). Opening it reads the
//! headers alone; weights stay in the file until [`Tensor::decode_rows`] turns rows of them into f32, and
//! [`Tensor::release`] gives their pages back. The files must not be truncated while they are open.

mod decode;
mod demo;
mod digest;
mod dtype;
mod folder;
mod gguf;
mod hub;
mod mapping;
mod metadata;
mod safetensors;
mod tensor;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use self::mapping::Mapping;
use crate::SourceError;

pub use demo::DEMO;
pub use dtype::DType;
pub use hub::{Download, HubSettings, Watch};
pub use metadata::{GgufMetadata, GgufValue, Metadata};
pub use tensor::Tensor;

/// An open checkpoint.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    name: String,
    metadata: Metadata,
    weights: WeightFiles,
    tensors: BTreeMap<String, Tensor>,
    /// Tensors of integers and booleans, which are not decoded, with their types.
    buffers: BTreeMap<String, String>,
    /// Tensors that an index names and that none of its shards holds.
    promised: BTreeSet<String>,
}

/// Where the bytes of the weights are.
#[derive(Debug, Clone)]
enum WeightFiles {
    /// In these files, in name order.
    Files(Vec<PathBuf>),
    /// In memory.
    Memory(Arc<Mapping>),
}

impl Checkpoint {
    /// A checkpoint that is in memory: the content of a `config.json` and of a safetensors file. `name` stands for its path.
    ///
    /// # Errors
    /// If the content is damaged.
    pub fn from_memory(name: &str, config: serde_json::Value, safetensors: Vec<u8>) -> Result<Self, SourceError> {
        let mapping = Arc::new(Mapping::from_memory(name, safetensors));
        let contents = safetensors::read(&mapping)?;
        Ok(Self {
            path: name.into(),
            name: name.to_owned(),
            metadata: Metadata::Memory { config, tokenizer: None, tokenizer_config: serde_json::Value::Null },
            weights: WeightFiles::Memory(mapping),
            tensors: contents.tensors,
            buffers: contents.buffers,
            promised: BTreeSet::new(),
        })
    }

    /// Opens what a user calls a model: a path to a `.gguf` file, a path to a Hugging Face directory, or, where there is
    /// nothing at that path and it has the form `owner/name`, a hub id; or [`DEMO`].
    ///
    /// # Errors
    /// As [`Checkpoint::open_path`] and [`Checkpoint::open_hub`].
    pub fn open(model: &str) -> Result<Self, SourceError> {
        Self::open_with(model, &HubSettings::from_env())
    }

    /// As [`Checkpoint::open`], with other settings than those of the environment.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_with(model: &str, settings: &HubSettings) -> Result<Self, SourceError> {
        if model == DEMO {
            return demo::open();
        }
        let path = Path::new(model);
        if hub::looks_like_id(model) && matches!(path.try_exists(), Ok(false)) {
            return Self::open_hub(model, settings);
        }
        Self::open_path(path)
    }

    /// Opens a model of the hub, `owner/name`, after downloading what the cache lacks.
    ///
    /// # Errors
    /// If there is no such repository, it has no safetensors, it cannot be downloaded, or may not be because of
    /// `settings.offline`; and as [`Checkpoint::open_path`].
    pub fn open_hub(id: &str, settings: &HubSettings) -> Result<Self, SourceError> {
        if !hub::looks_like_id(id) {
            return Err(SourceError::hub(id, "is not a hub id; expected owner/name"));
        }
        Self::open_folder(&hub::fetch(id, settings)?, id.to_owned())
    }

    /// Opens a GGUF file or a Hugging Face directory.
    ///
    /// # Errors
    /// If there is no such file, it is not a checkpoint, is damaged, or holds what this program does not read. The error
    /// names the file, and the tensor or key at fault.
    pub fn open_path(path: &Path) -> Result<Self, SourceError> {
        let about = std::fs::metadata(path).map_err(|error| SourceError::io(path, explain_missing(error)))?;
        if about.is_dir() {
            return Self::open_folder(path, name_of_folder(path));
        }
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            return Err(SourceError::Request(format!(
                "{}: give the directory that holds it together with {}, not the file",
                path.display(),
                folder::CONFIG
            )));
        }
        let (metadata, tensors) = gguf::open(path).map_err(hub::or_damaged)?;
        if tensors.is_empty() {
            return Err(SourceError::malformed(path, "holds no tensors; it may be a vocabulary without its model"));
        }
        Ok(Self {
            path: path.to_owned(),
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            metadata: Metadata::Gguf(metadata),
            weights: WeightFiles::Files(vec![path.to_owned()]),
            tensors,
            buffers: BTreeMap::new(),
            promised: BTreeSet::new(),
        })
    }

    fn open_folder(path: &Path, name: String) -> Result<Self, SourceError> {
        hub::check_snapshot(path)?;
        let folder = folder::open(path).map_err(hub::or_damaged)?;
        hub::check_small_weights(&folder.files)?;
        Ok(Self {
            path: path.to_owned(),
            name,
            metadata: Metadata::HuggingFace { folder: path.to_owned(), config: folder.config },
            weights: WeightFiles::Files(folder.files),
            tensors: folder.contents.tensors,
            buffers: folder.contents.buffers,
            promised: folder.promised,
        })
    }

    /// The GGUF file or the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's name, the file's name without its ending, or the hub id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the checkpoint says of itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensor of that name, if there is one that can be decoded.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// If there is none, or it holds integers.
    pub fn require(&self, name: &str) -> Result<&Tensor, SourceError> {
        self.tensor(name).ok_or_else(|| {
            let reason = match self.buffers.get(name) {
                Some(stored) => format!("is stored as {stored}; supported are F32, F16 and BF16"),
                None if self.promised.contains(name) => {
                    format!("is in none of the shards, though {} names it", folder::INDEX)
                }
                None => "is missing".to_owned(),
            };
            SourceError::tensor(&self.path, name, reason)
        })
    }

    /// Whether a tensor of that name is stored, in whatever type.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.buffers.contains_key(name)
    }

    /// The names of all tensors, those included that are not decoded and those that an index names but no file holds.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let stored = self.tensors.keys().chain(self.buffers.keys());
        stored.chain(&self.promised).map(String::as_str)
    }

    /// All tensors that can be decoded, sorted by name. Integer and boolean tensors, which some families store as
    /// buffers, are left out.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.values()
    }

    /// SHA-256 of the weight file, in lower-case hex. Of several files: of their 32-byte hashes, one after the other, in the
    /// order of the file names. Reads every byte each time it is called.
    ///
    /// # Errors
    /// If a file can no longer be read, or is one of the hub's cache and has another hash than the cache states.
    pub fn sha256(&self) -> Result<String, SourceError> {
        match &self.weights {
            WeightFiles::Files(files) => digest::sha256(files),
            WeightFiles::Memory(mapping) => Ok(hex::encode(Sha256::digest(mapping.bytes()))),
        }
    }
}

/// Tells a user what a model can be, when there is nothing at a path.
fn explain_missing(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound {
        io::Error::new(
            io::ErrorKind::NotFound,
            "no such file or directory; a model is a .gguf file, a Hugging Face directory, or a hub id such as \
             HuggingFaceTB/SmolLM2-135M",
        )
    } else {
        error
    }
}

/// The last component of a path, also of one that ends in `.` or `..`.
fn name_of_folder(path: &Path) -> String {
    let named = match path.file_name() {
        Some(_) => path.to_owned(),
        None => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
    };
    named.file_name().map_or_else(|| named.to_string_lossy(), |name| name.to_string_lossy()).into_owned()
}
