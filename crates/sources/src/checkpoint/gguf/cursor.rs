//! Reading a header forwards, with every length checked.

use std::path::Path;

use crate::SourceError;

/// Why a header cannot be read; becomes an error once the file's name is known.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file is damaged.
    Malformed(String),
    /// The file is sound, and beyond this program.
    Unsupported(String),
}

impl Fault {
    pub(super) fn into_error(self, path: &Path) -> SourceError {
        match self {
            Fault::Malformed(reason) => SourceError::malformed(path, reason),
            Fault::Unsupported(reason) => SourceError::unsupported(path, reason),
        }
    }
}

/// A position in a file's bytes.
pub(super) struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a [u8]) -> Self {
        Self { file, at: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn file_len(&self) -> usize {
        self.file.len()
    }

    pub(super) fn remaining(&self) -> usize {
        self.file.len() - self.at
    }

    /// The next `len` bytes; `what` they are is for the error.
    pub(super) fn bytes(&mut self, len: usize, what: &str) -> Result<&'a [u8], Fault> {
        let Some(bytes) = self.file[self.at..].get(..len) else {
            return Err(Fault::Malformed(format!(
                "ends at byte {} within {what}, which needs {len} bytes from byte {}; the file is truncated or damaged",
                self.file.len(),
                self.at
            )));
        };
        self.at += len;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Fault> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Text with its length before it; bytes that are not UTF-8 are replaced.
    pub(super) fn text(&mut self, what: &str) -> Result<String, Fault> {
        let len = self.u64(what)?;
        let len = self.count(len, 1, what)?;
        self.bytes(len, what).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// A stored count as a `usize`, refused if the rest of the file cannot hold that many items of at least
    /// `smallest` bytes: so nothing is ever allocated on the word of a damaged file.
    pub(super) fn count(&self, stored: u64, smallest: usize, what: &str) -> Result<usize, Fault> {
        let most = self.remaining() / smallest;
        match usize::try_from(stored) {
            Ok(count) if count <= most => Ok(count),
            _ => Err(Fault::Malformed(format!(
                "{what}: {stored} announced at byte {}, but the {} bytes that follow have room for at most {most}; \
                 the file is truncated or damaged",
                self.at,
                self.remaining()
            ))),
        }
    }
}
