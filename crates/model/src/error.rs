//! One error type for everything that can be wrong with a model or its input. Each variant carries what was
//! wrong, where, and what would be right.

use std::path::{Path, PathBuf};

use sinkscope_sources::SourceError;

/// Why a model could not be read, or a pass could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Weights, tokeniser or text could not be read, or are not as they must be.
    #[error(transparent)]
    Source(#[from] SourceError),
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
    pub(crate) fn malformed(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        SourceError::malformed(path, reason).into()
    }

    pub(crate) fn unsupported(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        SourceError::unsupported(path, reason).into()
    }

    pub(crate) fn tensor(path: impl AsRef<Path>, tensor: impl Into<String>, reason: impl Into<String>) -> Self {
        SourceError::tensor(path, tensor, reason).into()
    }
}
