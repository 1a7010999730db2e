//! SHA-256 of what was read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::SourceError;

/// Files up to this size are covered whole, however little of them was needed.
const WHOLE_FILE_BYTES: u64 = 256 << 20;

/// The name and digest of a file of which the first `read` bytes were needed.
pub(super) fn of_file(path: &Path, read: u64) -> Result<(String, String), SourceError> {
    let failed = |error| SourceError::io(path, error);
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

/// A stream that is hashed as it is read. Buffers are filled whole, so that it does not matter how a pipe is cut.
pub(super) struct Hashing<R> {
    stream: R,
    hasher: Sha256,
    read: u64,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, hasher: Sha256::new(), read: 0 }
    }

    /// The name and digest of the stream, whole if it is not longer than a file that is covered whole.
    pub(super) fn finish(mut self, name: &Path) -> Result<(String, String), SourceError> {
        let mut buffer = vec![0; 1 << 16];
        let mut ended = false;
        while !ended && self.read < WHOLE_FILE_BYTES {
            ended = self.read(&mut buffer).map_err(|error| SourceError::io(name, error))? == 0;
        }
        let (name, read) = (name.display(), self.read);
        let name = if ended { name.to_string() } else { format!("{name} (its first {read} bytes)") };
        Ok((name, hex::encode(self.hasher.finalize())))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.hasher.update(&buffer[..filled]);
        self.read += filled as u64;
        Ok(filled)
    }
}
