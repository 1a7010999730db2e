//! A weight file mapped into memory, and the only `unsafe` of this crate; or one that is in memory already.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::SourceError;

/// A file, mapped read-only, or bytes that stand for one. A file must not be truncated by anyone while it is open: reading a page that no longer exists
/// ends the process with SIGBUS, as it does for every program that maps files.
#[derive(Debug)]
pub(crate) struct Mapping {
    path: PathBuf,
    content: Bytes,
}

#[derive(Debug)]
enum Bytes {
    File(Mmap),
    Memory(Vec<u8>),
}

impl Mapping {
    /// Maps the whole of a regular file that holds at least one byte.
    ///
    /// # Errors
    /// If the file cannot be opened, is not a regular file, or is empty.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let file = File::open(path).map_err(|e| SourceError::io(path, e))?;
        let about = file.metadata().map_err(|e| SourceError::io(path, e))?;
        if !about.is_file() {
            return Err(SourceError::malformed(
                path,
                "is not a regular file; weights are a .gguf or .safetensors file",
            ));
        }
        if about.len() == 0 {
            return Err(SourceError::malformed(path, "is empty (0 bytes); expected a .gguf or .safetensors file"));
        }
        // SAFETY: the map is read-only and lives as long as the bytes borrowed from it. `Mmap::map` is unsafe because
        // another process could change the file underneath. A change of content yields other numbers, never another
        // layout: offsets and lengths are checked once and kept outside the map, the bytes are only ever read as
        // integers and floating-point numbers, for which every bit pattern is valid, and no `str` is borrowed from the
        // map beyond the parsing of the header. Truncation raises SIGBUS, which ends the process and corrupts nothing.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| SourceError::io(path, e))?;
        Ok(Self { path: path.to_owned(), content: Bytes::File(map) })
    }

    /// Bytes as they would stand in a file; `name` stands for its path in messages.
    pub(crate) fn from_memory(name: &str, bytes: Vec<u8>) -> Self {
        Self { path: name.into(), content: Bytes::Memory(bytes) }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.content {
            Bytes::File(map) => map,
            Bytes::Memory(bytes) => bytes,
        }
    }

    /// Tells the kernel that the pages of `range` (bytes) need not stay resident. They come back from the file when
    /// read again. Advice only: nothing happens where the system has no such call, or refuses it.
    pub(crate) fn release(&self, range: Range<usize>) {
        let Bytes::File(map) = &self.content else { return };
        let range = range.start.min(map.len())..range.end.min(map.len());
        if range.is_empty() {
            return;
        }
        #[cfg(unix)]
        {
            // SAFETY: MADV_DONTNEED loses the content of private pages that were written to. This map is shared,
            // read-only and backed by a file, so every page dropped is read from the same file at the next access and
            // borrowed slices keep their values. The range lies within the map.
            let advised =
                unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
            if let Err(error) = advised {
                tracing::debug!(path = %self.path.display(), %error, "the kernel would not release pages");
            }
        }
    }
}
