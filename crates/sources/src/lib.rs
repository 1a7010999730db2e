//! What is in the files: weights in any stored form, what a checkpoint says of itself, tokenisers, texts and token ids, from a
//! path, a hub or memory. What the weights are for is not known here.

#![warn(clippy::too_many_arguments)]

pub mod byte_order_mark;
pub mod checkpoint;
pub mod data;
pub mod tokenizer;

mod error;

pub use error::SourceError;
