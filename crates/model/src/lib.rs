//! What a transformer is: its architecture, where its weights and tokens come from, its blocks, and the
//! streamed pass that pushes sequences through them, layer by layer, past taps that measure and edits that change.

pub mod checkpoint;
pub mod data;
pub mod tap;
pub mod tokenizer;

mod error;

pub use error::ModelError;
