//! What happens if we train it differently: data, optimiser, trainer, checkpoints.

pub mod checkpoint;
pub mod error;
pub mod interrupt;
pub mod metrics;
pub mod recipe_file;

pub use error::LabError;
