//! Where tokens come from: text and token files, and the text inside the binary.

mod batch;

pub use batch::TokenBatch;
