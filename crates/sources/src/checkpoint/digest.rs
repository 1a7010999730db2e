//! The hash that identifies a checkpoint in results.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::hub;
use crate::SourceError;

/// SHA-256 of one file, or of the concatenated 32-byte hashes of several files, in the order given; lower-case hex.
/// A file of the hub's cache is held to the hash that the cache states for it.
///
/// Files are read through a small buffer and not through their mapping, so that their pages do not count as resident.
pub(super) fn sha256(files: &[PathBuf]) -> Result<String, SourceError> {
    let of_file = |file: &PathBuf| {
        let digest = of_file(file)?;
        hub::check_digest(file, &digest)?;
        Ok::<_, SourceError>(digest)
    };
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

/// SHA-256 of one file.
pub(super) fn of_file(path: &Path) -> Result<[u8; 32], SourceError> {
    let mut hash = Sha256::new();
    File::open(path).and_then(|mut file| read_into(&mut hash, &mut file)).map_err(|e| SourceError::io(path, e))?;
    Ok(hash.finalize().into())
}

/// Adds the rest of a file to a hash.
pub(super) fn read_into(hash: &mut impl Digest, file: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
