//! One error type for everything that can be wrong with a file, a repository or a text. Each variant carries what was wrong,
//! where, and what would be right.

use std::path::{Path, PathBuf};

/// Why weights, a tokeniser or a text could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
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
    /// A tensor is missing, has another shape than it must have, or holds values that are not finite.
    #[error("{path}: tensor {tensor}: {reason}")]
    Tensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's name as stored.
        tensor: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The tokens or the text do not suit the request.
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

impl SourceError {
    /// A file or directory that cannot be read.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    /// A file that is not what it claims to be.
    pub fn malformed(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.as_ref().to_owned(), reason: reason.into() }
    }

    /// A file that asks for something this program does not do.
    pub fn unsupported(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Unsupported { path: path.as_ref().to_owned(), reason: reason.into() }
    }

    /// Tokens or a text that do not suit the request.
    pub fn data(source_name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Data { source_name: source_name.into(), reason: reason.into() }
    }

    /// A repository that cannot be found or downloaded.
    pub fn hub(id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Hub { id: id.into(), reason: reason.into() }
    }

    /// A tensor that is missing or not as it must be.
    pub fn tensor(path: impl AsRef<Path>, tensor: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Tensor { path: path.as_ref().to_owned(), tensor: tensor.into(), reason: reason.into() }
    }
}
