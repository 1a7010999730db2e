//! What can go wrong when a model is operated on.

use std::io;
use std::path::PathBuf;

use sinkscope_anatomy::error::AnatomyError;
use sinkscope_model::ModelError;
use thiserror::Error;

/// Why an operation could not be done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SurgeryError {
    /// The operation makes no sense, or none for this model and these tokens.
    #[error("{operation}: {reason}")]
    Operation {
        /// As typed.
        operation: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A changed model could not be written.
    #[error("--save {}", path.display())]
    Save {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The model, the text or the request is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The untouched model could not be examined.
    #[error(transparent)]
    Anatomy(#[from] AnatomyError),
}
