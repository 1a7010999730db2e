//! Where training tokens come from.
//!
//! [`prepare()`] makes a directory of tokens from text files: a byte-level BPE vocabulary, two files of tokens (`train.bin`
//! and `val.bin`, documents held out) and what is to be known of them (`data.json`). A [`Source`] gives batches to a
//! trainer: from such a directory, from the text inside the binary, or from the synthetic task Bigram-Backcopy. A batch
//! is a function of the seed and the number of the step, so that a run that was stopped goes on as if it had not been.

pub mod batch;
pub mod bigram_backcopy;
pub mod bpe;
pub mod documents;
pub mod identity;
pub mod manifest;
pub mod packing;
pub mod prepare;
pub mod separator;
pub mod shard;
pub mod source;

mod encoder;
mod permutation;
mod text;
mod words;

pub use batch::{Batch, IGNORED};
pub use identity::Identity;
pub use manifest::Manifest;
pub use packing::Packing;
pub use prepare::{PrepareRequest, Stage, Staged, prepare};
pub use separator::Separator;
pub use source::{Source, SourceKind, SourceRequest};
