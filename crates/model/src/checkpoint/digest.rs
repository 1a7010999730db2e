//! The hash that identifies a checkpoint in results.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::ModelError;

/// SHA-256 of one file, or of the concatenated 32-byte hashes of several files, in the order given; lower-case hex.
///
/// Files are read through a small buffer and not through their mapping, so that their pages do not count as resident.
pub(super) fn sha256(files: &[PathBuf]) -> Result<String, ModelError> {
    let digest = match files {
        [file] => of_file(file)?,
        files => {
            let mut whole = Sha256::new();
            for file in files {
                whole.update(of_file(file)?);
            }
            whole.finalize().into()
        }
    };
    Ok(hex::encode(digest))
}

fn of_file(path: &Path) -> Result<[u8; 32], ModelError> {
    let mut file = File::open(path).map_err(|e| ModelError::io(path, e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ModelError::io(path, error)),
        }
    }
}
