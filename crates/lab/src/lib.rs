//! What happens if we train it differently: data, optimiser, trainer, checkpoints.

pub mod data;
pub mod error;

pub use error::LabError;
