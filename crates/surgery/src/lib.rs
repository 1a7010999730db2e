//! What a trained model needs: change it while it runs, and compare with the untouched model on the same tokens.
//!
//! An [`operation::Operation`] is parsed from what a user types. [`compare::compare`] runs the untouched model once, finds
//! where its spikes are, and then runs the model once for every operation, from the first layer that the operation changes.

pub mod advice;
pub mod compare;
pub mod definitions;
pub mod divergence;
pub mod edits;
pub mod error;
pub mod operation;
pub mod plan;
pub mod positions;
pub mod quantise;
pub mod results;
pub mod save;
mod seen;
pub mod taps;
pub mod tokens;

pub use error::SurgeryError;

/// A poisoned lock means that another task panicked; what it guards is still whole.
fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
