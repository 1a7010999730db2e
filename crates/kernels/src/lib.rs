//! How it is computed: the operations of a transformer, on slices, one file each.
//!
//! Every operation is generic over [`Float`] (`f32`, `f64`) and single-threaded: the caller splits work into tiles of a
//! fixed size and spreads them over threads, so that no result depends on how many there are. Inner loops are plain
//! Rust, written so that they vectorise, and run through [`simd::dispatch`], which compiles them once per instruction
//! set and picks the best the machine has, or the one that is asked for ([`instruction_set`]). Bit equality is promised per
//! instruction set.
//!
//! # Panics
//!
//! Slices of the wrong length are errors of the caller, not of the user: operations assert their shapes.

#![expect(clippy::missing_panics_doc, reason = "said above, once for every operation")]
#![expect(
    clippy::inline_always,
    reason = "what is not inlined into the closure of `simd::dispatch` is not compiled for its instruction set"
)]

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod buffer;
pub mod cross_entropy;
#[cfg(test)]
mod differences;
pub mod divergence;
pub mod float;
pub mod gate;
#[cfg(test)]
mod in_use;
pub mod instruction_set;
pub mod matmul;
pub mod microscaling;
pub mod norm;
pub mod peak;
pub mod quantise;
pub mod rope;
pub mod simd;

pub use buffer::Buffer;
pub use float::Float;
pub use instruction_set::InstructionSet;
