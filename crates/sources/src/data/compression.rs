//! Unpacking `.gz` and `.zst` while reading.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::SourceError;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    None,
    /// One or more gzip members.
    Gzip,
    /// One or more Zstandard frames.
    Zstandard,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Gzip => "gzip",
            Self::Zstandard => "Zstandard",
        }
    }

    fn magic(self) -> &'static [u8] {
        match self {
            Self::None => &[],
            Self::Gzip => &[0x1F, 0x8B],
            Self::Zstandard => &[0x28, 0xB5, 0x2F, 0xFD],
        }
    }

    /// How what begins so is packed.
    pub(super) fn of(beginning: &[u8]) -> Self {
        let packed = [Self::Gzip, Self::Zstandard].into_iter().find(|packed| beginning.starts_with(packed.magic()));
        packed.unwrap_or(Self::None)
    }

    /// What a failure to read means: of a packed file, that it is damaged.
    pub(super) fn error(self, path: &Path, error: io::Error) -> SourceError {
        match self {
            Self::None => SourceError::io(path, error),
            packed => SourceError::malformed(path, format!("cannot be unpacked as {}: {error}", packed.name())),
        }
    }
}

/// The unpacked bytes of a file that stands at its beginning.
pub(super) fn open(mut file: File, compression: Compression, path: &Path) -> Result<Box<dyn Read>, SourceError> {
    let magic = compression.magic();
    let mut first = Vec::with_capacity(magic.len());
    file.by_ref().take(magic.len() as u64).read_to_end(&mut first).map_err(|error| SourceError::io(path, error))?;
    if first != magic {
        let reason = format!("named as {}, but does not begin as {0} does", compression.name());
        return Err(SourceError::malformed(path, reason));
    }
    file.seek(SeekFrom::Start(0)).map_err(|error| SourceError::io(path, error))?;
    unpack(Box::new(file), compression, path)
}

/// The unpacked bytes of a stream.
pub(super) fn unpack<'a>(
    packed: Box<dyn Read + 'a>,
    compression: Compression,
    path: &Path,
) -> Result<Box<dyn Read + 'a>, SourceError> {
    Ok(match compression {
        Compression::None => packed,
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Compression::Zstandard => Box::new(zstd::Decoder::new(packed).map_err(|error| compression.error(path, error))?),
    })
}
