//! One error type for everything that can be wrong with a model or its input. Each variant carries what was
//! wrong, where, and what would be right.

use std::path::{Path, PathBuf};

/// Why a model, a tokeniser or a text could not be read, or a pass could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file or directory could not be opened or read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is not what it claims to be: truncated, overlapping or out-of-bounds tensors, wrong magic.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what would be right.
        reason: String,
    },
    /// A well-formed file asks for something this program does not do.
    #[error("{path}: {reason}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The family, tensor type, tokeniser or setting, and what is supported.
        reason: String,
    },
    /// A setting of a model has a value of the wrong type, or one that it cannot have.
    #[error("{path}: field `{key}` is {value}; {wanted} is needed")]
    WrongValue {
        /// The file.
        path: PathBuf,
        /// The setting, nested ones with dots between.
        key: String,
        /// Its value, as JSON.
        value: String,
        /// What would be right.
        wanted: String,
    },
    /// Settings that say something about a model which this program does not take into account.
    #[error("{path}: {}", unknown_keys(family, keys))]
    UnknownKeys {
        /// The file.
        path: PathBuf,
        /// The family that the model says it is of.
        family: String,
        /// The settings.
        keys: Vec<UnknownKey>,
    },
    /// Tensors that the architecture has no place for.
    #[error("{path}: {}", unused_tensors(family, tensors))]
    UnusedTensors {
        /// The checkpoint.
        path: PathBuf,
        /// The family that the model says it is of.
        family: String,
        /// Their names, sorted.
        tensors: Vec<String>,
    },
    /// A tensor that the architecture needs is missing, has another shape, or holds values that are not finite.
    #[error("{path}: tensor {tensor}: {reason}")]
    Tensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's name as stored.
        tensor: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The tokens or the text do not suit the model or the request.
    #[error("{source_name}: {reason}")]
    Data {
        /// The file, or `the built-in text`.
        source_name: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A hub repository could not be found or downloaded.
    #[error("{id}: {reason}")]
    Hub {
        /// The hub id, `owner/name`.
        id: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The request itself cannot be met.
    #[error("{0}")]
    Request(String),
}

/// A setting that is not taken into account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// Its name, nested ones with dots between.
    pub key: String,
    /// Its value, as JSON.
    pub value: String,
    /// What is known of the setting, if it is known with other values.
    pub known: Option<String>,
}

/// Names listed in a message.
const MOST_LISTED: usize = 4;

fn unknown_keys(family: &str, keys: &[UnknownKey]) -> String {
    let describe = |unknown: &UnknownKey| {
        let UnknownKey { key, value, known } = unknown;
        let known = known.as_ref().map_or_else(String::new, |known| format!(" ({known})"));
        format!("field `{key}` is {}{known}", shortened(value))
    };
    let names: Vec<&str> = keys.iter().map(|unknown| &unknown.key[..]).collect();
    format!(
        "{}: nothing is known of that in a model of family `{family}`, and the results could be wrong; to go on as if it \
         were not there, give --allow-unknown {}",
        listed(&keys.iter().map(describe).collect::<Vec<_>>()),
        names.join(",")
    )
}

fn unused_tensors(family: &str, tensors: &[String]) -> String {
    format!(
        "tensor {}: a model of family `{family}` with this configuration has no place for it, and the results could be wrong; \
         to go on without, give --allow-unknown NAME,... (`*` stands for any part of a name)",
        listed(tensors)
    )
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MOST_LISTED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A value that is too long for a message.
fn shortened(value: &str) -> String {
    const MOST: usize = 60;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}

impl ModelError {
    pub(crate) fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn malformed(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.as_ref().to_owned(), reason: reason.into() }
    }

    pub(crate) fn unsupported(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Unsupported { path: path.as_ref().to_owned(), reason: reason.into() }
    }

    pub(crate) fn data(source_name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Data { source_name: source_name.into(), reason: reason.into() }
    }

    pub(crate) fn hub(id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Hub { id: id.into(), reason: reason.into() }
    }

    pub(crate) fn tensor(path: impl AsRef<Path>, tensor: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Tensor { path: path.as_ref().to_owned(), tensor: tensor.into(), reason: reason.into() }
    }
}
