//! What can go wrong when results are put together.

use sinkscope_model::ModelError;
use thiserror::Error;

/// Why an examination has no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AnatomyError {
    /// The residual holds infinities or NaNs.
    #[error(
        "the residual after block {block} holds {values} infinite or undefined values (NaN); the weights or the arithmetic \
         that gave them are broken"
    )]
    NonFiniteResidual {
        /// The first block at which there are any.
        block: usize,
        /// How many there are at that block.
        values: u64,
    },
    /// The model, the text or the request is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
}
