//! Families: from what a checkpoint says of itself to an [`Architecture`], and from the roles of its weights to the
//! tensors that hold them.
//!
//! A family is a point in the space of architectures plus a naming of tensors. All that is of one family stands in its own
//! file, as a constant of [`Family`]; nothing else knows families by name. Whatever a checkpoint says is accounted for
//! ([`accounting`]): a model is either right or refused.

mod accounting;
mod fields;
mod gguf;
mod hugging_face;
mod inventory;
mod naming;
mod plain;
mod rope;
mod supported;

mod gemma;
mod gpt2;
mod gpt_neox;
mod llama;
mod own;
mod phi3;
mod qwen;
mod smollm3;

use std::path::Path;

use self::gguf::Gguf;
use self::hugging_face::{HuggingFace, Stored};
use crate::architecture::{Architecture, Uniform};
use crate::error::ModelError;
use sinkscope_sources::checkpoint::{Checkpoint, Metadata};

pub(crate) use accounting::{any_matches, matches};
pub(crate) use inventory::{Slot, gate_inputs, inventory};
pub(crate) use naming::{BiasRule, Location, Naming, Role, RowOrder, rows};
pub(crate) use own::describe;
pub use supported::{Confirmation, Supported, SupportedFormat, supported};

/// All families.
const FAMILIES: &[Family] = &[
    llama::LLAMA,
    llama::MISTRAL,
    qwen::QWEN2,
    qwen::QWEN3,
    gemma::GEMMA2,
    gemma::GEMMA3,
    llama::OLMO2,
    smollm3::SMOLLM3,
    phi3::PHI3,
    gpt2::GPT2,
    gpt_neox::GPT_NEOX,
    own::OWN,
];

struct Family {
    name: &'static str,
    /// How Hugging Face directories describe it: one entry for each `model_type`.
    hugging_face: &'static [HuggingFace],
    /// How GGUF files describe it, if the conversion was confirmed by another implementation.
    gguf: Option<Gguf>,
}

/// What a family says of a model.
struct Identity {
    architecture: Architecture,
    naming: Naming,
}

impl Identity {
    /// A model described by the file `path`, whose layers are alike.
    fn new(path: &Path, uniform: Uniform, naming: Naming) -> Result<Self, ModelError> {
        let architecture = Architecture::try_from(uniform);
        let sound = architecture.and_then(|architecture| architecture.validate().map(|()| architecture));
        let architecture = sound.map_err(|reason| ModelError::malformed(path, reason))?;
        Ok(Self { architecture, naming })
    }
}

/// What a checkpoint is: its architecture, how its tensors are named and laid out, and what is left over.
pub(crate) struct Identified {
    pub architecture: Architecture,
    pub naming: Naming,
    /// Whether it has an output head.
    pub has_head: bool,
    /// Patterns of names of tensors that may be stored beside those that are used.
    pub leftovers: Vec<&'static str>,
    /// Keys that only the user lets pass.
    pub passed: Vec<String>,
}

/// Reads the description of a checkpoint. `allowed`: patterns of keys that the user lets pass unknown.
pub(crate) fn identify(checkpoint: &Checkpoint, allowed: &[String]) -> Result<Identified, ModelError> {
    let has = |name: &str| checkpoint.has(name);
    let stored = Stored { has: &has };
    match checkpoint.metadata() {
        Metadata::HuggingFace { config, folder } => {
            hugging_face::identify(config, &folder.join("config.json"), &stored, allowed)
        }
        Metadata::Memory { config, .. } => hugging_face::identify(config, checkpoint.path(), &stored, allowed),
        Metadata::Gguf(metadata) => gguf::identify(metadata, checkpoint, allowed),
    }
}

fn unsupported_family(path: &Path, family: &str, supported: impl Iterator<Item = &'static str>) -> ModelError {
    let supported = supported.collect::<Vec<_>>().join(", ");
    ModelError::unsupported(path, format!("family {family} is not supported; supported: {supported}"))
}

#[cfg(test)]
pub(crate) use {supported::Confirmed, tests::accepted_configurations};

#[cfg(test)]
mod tests;
