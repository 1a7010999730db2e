//! One error type for everything that can go wrong while results are written.

use std::path::{Path, PathBuf};

/// Why results could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Found before any work: the output directory cannot be used.
    #[error(
        "{path}: cannot be used as the output directory ({source}); name a directory that can be created and written"
    )]
    Unusable {
        /// What was given.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Writing failed.
    #[error("{path}: cannot write ({source})")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A result has no JSON form.
    #[error("{name}: cannot be written as JSON ({source})")]
    Json {
        /// The file's name.
        name: String,
        /// What the serialiser said.
        source: serde_json::Error,
    },
    /// A result has no form as a table.
    #[error("table {table}: {reason}")]
    Table {
        /// The table's name.
        table: String,
        /// What is wrong.
        reason: String,
    },
    /// A figure cannot be drawn.
    #[error("figure {figure}: {reason}")]
    Figure {
        /// The figure's name.
        figure: String,
        /// What is wrong.
        reason: String,
    },
}

impl ReportError {
    pub(crate) fn write(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Write { path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn table(table: &str, reason: impl std::fmt::Display) -> Self {
        Self::Table { table: table.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn figure(figure: &str, reason: impl std::fmt::Display) -> Self {
        Self::Figure { figure: figure.to_owned(), reason: reason.to_string() }
    }
}
