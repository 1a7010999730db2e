//! Families: from what a checkpoint says of itself to an [`Architecture`], and from the roles of its weights to the
//! tensors that hold them.
//!
//! A family is a point in the space of architectures plus a naming of tensors; nothing outside this module knows
//! families by name.

mod fields;
mod gguf;
mod huggingface;
mod inventory;
mod naming;
mod own;

use std::path::Path;

use crate::architecture::Architecture;
use crate::checkpoint::{Checkpoint, Metadata};
use crate::error::ModelError;

pub(crate) use inventory::{Place, down_inputs, gate_inputs, inventory};
pub(crate) use naming::{Location, Naming, Role, RowOrder, rows};
pub(crate) use own::describe;

/// What a checkpoint is: its architecture and how its tensors are named and laid out.
pub(crate) struct Identity {
    pub architecture: Architecture,
    pub naming: Naming,
}

/// Reads the description of a checkpoint.
pub(crate) fn identify(checkpoint: &Checkpoint) -> Result<Identity, ModelError> {
    let path = checkpoint.path();
    let has_tensor = |name: &str| checkpoint.tensor(name).is_some();
    let identity = match checkpoint.metadata() {
        Metadata::HuggingFace { config, folder } => {
            huggingface::identify(config, &folder.join("config.json"), &has_tensor)?
        }
        Metadata::Memory { config, .. } => huggingface::identify(config, path, &has_tensor)?,
        Metadata::Gguf(metadata) => gguf::identify(metadata, path, checkpoint)?,
    };
    identity.architecture.validate().map_err(|reason| ModelError::malformed(description_path(checkpoint), reason))?;
    Ok(identity)
}

/// The file that describes the model.
fn description_path(checkpoint: &Checkpoint) -> std::path::PathBuf {
    match checkpoint.metadata() {
        Metadata::HuggingFace { folder, .. } => folder.join("config.json"),
        Metadata::Gguf(_) | Metadata::Memory { .. } => checkpoint.path().to_owned(),
    }
}

fn unsupported_family(path: &Path, family: &str, supported: &[&str]) -> ModelError {
    ModelError::unsupported(path, format!("family `{family}` is not supported; supported: {}", supported.join(", ")))
}
