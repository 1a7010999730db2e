//! What can go wrong when results are put together.

use sinkscope_model::ModelError;
use thiserror::Error;

use crate::not_finite::NotFinite;

/// Why an examination has no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AnatomyError {
    /// A residual or a log-likelihood is infinite or undefined, so that no figure would mean anything.
    #[error("{0}; the weights or the arithmetic that gave it are broken, and no figure can be computed from it")]
    NotFinite(NotFinite),
    /// The model, the text or the request is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
}
