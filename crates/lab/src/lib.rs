//! What happens if we train it differently: data, optimiser, trainer, checkpoints.

pub mod error;

pub use error::LabError;
