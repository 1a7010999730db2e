//! Where weights come from: files, mapped into memory and decoded a few rows at a time.

mod metadata;

pub use metadata::{GgufMetadata, GgufValue, Metadata};
