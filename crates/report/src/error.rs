//! One error type for everything that can go wrong while results are written or read back.

use std::path::{Path, PathBuf};

use sinkscope_lab::LabError;

/// Why results could not be written, or read back.
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
    /// An output cannot be read.
    #[error("{path}: cannot read ({source})")]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A directory holds no output.
    #[error(
        "{path}: holds no output; name a directory that `anatomy`, `census`, `probe`, `operate`, `train` or `study` wrote \
         with --out"
    )]
    Nothing {
        /// The directory.
        path: PathBuf,
    },
    /// An output is not what this version writes.
    #[error("{path}: is no output of this version ({}{source}); run the command again", written_by(writer.as_deref()))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The version that it says wrote it.
        writer: Option<String>,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The records of a run cannot be read.
    #[error(transparent)]
    Records(#[from] LabError),
    /// This build has no feature `figures`.
    #[error(
        "this build of sinkscope cannot draw figures as SVG and PDF; one with the feature `figures` can: \
         cargo build --release --features figures"
    )]
    NoFigures,
    /// A figure cannot be drawn.
    #[error("figure {figure}: {reason}")]
    Figure {
        /// Its anchor.
        figure: String,
        /// What is wrong.
        reason: String,
    },
    /// A result has no form as a table.
    #[error("table {table}: {reason}")]
    Table {
        /// The table's name.
        table: String,
        /// What is wrong.
        reason: String,
    },
}

/// The version that wrote a file, if it is not this one.
fn written_by(writer: Option<&str>) -> String {
    let other = writer.filter(|writer| *writer != crate::envelope::VERSION);
    other.map_or_else(String::new, |version| format!("written by version {version}; "))
}

impl ReportError {
    pub(crate) fn write(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Write { path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn table(table: &str, reason: impl std::fmt::Display) -> Self {
        Self::Table { table: table.to_owned(), reason: reason.to_string() }
    }

    #[cfg(feature = "figures")]
    pub(crate) fn figure(figure: &str, reason: impl std::fmt::Display) -> Self {
        Self::Figure { figure: figure.to_owned(), reason: reason.to_string() }
    }
}
