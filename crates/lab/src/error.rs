//! What can go wrong in the lab.

use std::path::{Path, PathBuf};

use sinkscope_model::ModelError;
use sinkscope_sources::SourceError;
use thiserror::Error;

use crate::trainer::Diverged;

/// Why data could not be prepared, or a model not trained.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LabError {
    /// A file or directory could not be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what would be right.
        reason: String,
    },
    /// A run came to something that is no number. Its weights and checkpoints are those before.
    #[error("step {}: {}: the run diverged; a lower learning rate may hold it", .0.step, .0.what)]
    Diverged(Diverged),
    /// The request cannot be met.
    #[error("{0}")]
    Request(String),
    /// A model is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A text or a checkpoint is wrong.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl LabError {
    pub(crate) fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn malformed(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.as_ref().to_owned(), reason: reason.into() }
    }
}
