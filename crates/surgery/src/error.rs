//! What can go wrong when a model is operated on.

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
    /// The model, the text or the request is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The untouched model could not be examined.
    #[error(transparent)]
    Anatomy(#[from] AnatomyError),
}
