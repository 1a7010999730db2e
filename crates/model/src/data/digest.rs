//! SHA-256 of what was read.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::ModelError;

/// Files up to this size are covered whole, however little of them was needed.
const WHOLE_FILE_BYTES: u64 = 256 << 20;

/// The name and digest of a file of which the first `read` bytes were needed.
pub(super) fn of_file(path: &Path, read: u64) -> Result<(String, String), ModelError> {
    let failed = |error| ModelError::io(path, error);
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let covered = if size <= WHOLE_FILE_BYTES { size } else { read.min(size) };
    let mut hasher = Sha256::new();
    let mut bytes = file.take(covered);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match bytes.read(&mut buffer).map_err(failed)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let name = path.display();
    let name = if covered == size { name.to_string() } else { format!("{name} (its first {covered} bytes)") };
    Ok((name, hex::encode(hasher.finalize())))
}
