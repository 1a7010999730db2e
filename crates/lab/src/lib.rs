//! What happens if we train it differently: data, optimiser, trainer, checkpoints, studies.

pub mod checkpoint;
pub mod cost;
pub mod data;
pub mod error;
mod export;
pub mod files;
mod idle;
pub mod interrupt;
pub mod measure;
pub mod metrics;
pub mod network;
pub mod optimizer;
pub mod recipe;
pub mod recipe_file;
mod resumption;
pub mod study;
pub mod trained;
pub mod trainer;
pub mod watch;

pub use error::LabError;
