//! A text file as a stream of documents: `.txt` (one document), `.jsonl` (one a line), `.parquet` (one a row), each also
//! `.gz` or `.zst`.

use std::io::{BufReader, Read, Seek};
use std::path::Path;

use super::compression::{self, Compression};
use super::{digest, json_lines, parquet_column, plain_text};
use crate::error::ModelError;

/// Text that is encoded at once: a document, or a part of a long one.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The text.
    pub text: &'a str,
    /// Whether the document began in an earlier part.
    pub continues: bool,
}

/// Whether the receiver of parts wants another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    More,
    /// Stop reading.
    Enough,
}

/// What parts are given to, in the order of the file.
pub type Take<'a> = dyn FnMut(Part<'_>) -> Result<Flow, ModelError> + 'a;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    PlainText,
    JsonLines,
    Parquet,
}

/// Whether the extensions of a file name a text format that [`read`] reads.
pub fn is_text(path: &Path) -> bool {
    format(path).is_ok()
}

/// Whether the extensions of a file name plain text (`.txt`), which is one document unless the reader knows better.
pub fn is_plain(path: &Path) -> bool {
    matches!(format(path), Ok((Format::PlainText, _)))
}

/// Reads the documents of a file until there are no more or `take` has enough. Returns the name and the SHA-256 of
/// what was read, as [`super::Data`] has them.
///
/// # Memory
///
/// A document at a time; a `.txt` file is read in parts of 64 KiB. A compressed `.parquet` file is unpacked in memory,
/// as its format is read from the end.
///
/// # Errors
///
/// If the file cannot be read or is not what its extensions say; whatever `take` fails with.
pub fn read(path: &Path, take: &mut Take<'_>) -> Result<(String, String), ModelError> {
    let (format, compression) = format(path)?;
    let mut file = std::fs::File::open(path).map_err(|error| ModelError::io(path, error))?;
    let metadata = file.metadata().map_err(|error| ModelError::io(path, error))?;
    if metadata.is_file() && metadata.len() == 0 {
        return Err(ModelError::data(path.display().to_string(), "the file is empty"));
    }
    let stream = |file: &std::fs::File| -> Result<BufReader<Box<dyn Read>>, ModelError> {
        let file = file.try_clone().map_err(|error| ModelError::io(path, error))?;
        Ok(BufReader::new(compression::open(file, compression, path)?))
    };
    match (format, compression) {
        (Format::PlainText, _) => plain_text::read(&mut stream(&file)?, path, compression, take)?,
        (Format::JsonLines, _) => json_lines::read(&mut stream(&file)?, path, compression, take)?,
        (Format::Parquet, Compression::None) => {
            let file = file.try_clone().map_err(|error| ModelError::io(path, error))?;
            parquet_column::read(file, path, take)?;
        }
        (Format::Parquet, _) => {
            let mut unpacked = Vec::new();
            let mut packed = stream(&file)?;
            packed.read_to_end(&mut unpacked).map_err(|error| compression.error(path, error))?;
            parquet_column::read(bytes::Bytes::from(unpacked), path, take)?;
        }
    }
    let read = match format {
        Format::Parquet => metadata.len(),
        // The clones share one position: how far the stream was drawn.
        Format::PlainText | Format::JsonLines => file.stream_position().map_err(|error| ModelError::io(path, error))?,
    };
    digest::of_file(path, read)
}

/// What the extensions say: `.txt`, `.jsonl` or `.parquet`, each also `.gz` or `.zst`.
fn format(path: &Path) -> Result<(Format, Compression), ModelError> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let (name, compression) = if let Some(inner) = name.strip_suffix(".gz") {
        (inner, Compression::Gzip)
    } else if let Some(inner) = name.strip_suffix(".zst") {
        (inner, Compression::Zstandard)
    } else {
        (name.as_str(), Compression::None)
    };
    let format = match name.rsplit_once('.') {
        Some((_, "txt")) => Format::PlainText,
        Some((_, "jsonl")) => Format::JsonLines,
        Some((_, "parquet")) => Format::Parquet,
        _ => {
            let reason = "the extension does not name a text format; supported are .txt, .jsonl and .parquet, each \
                          also with .gz or .zst";
            return Err(ModelError::data(path.display().to_string(), reason));
        }
    };
    Ok((format, compression))
}
