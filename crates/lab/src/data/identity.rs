//! Which data: names and digests, as records carry them.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// Which data a source gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// What it is, for people: a directory, `the built-in text`, `Bigram-Backcopy`.
    pub source: String,
    /// SHA-256 of everything that its tokens depend on but the seed of their order, in lower-case hexadecimal.
    pub sha256: String,
}

/// The digest of parts, none of which runs into the next.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}
