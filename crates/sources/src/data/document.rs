//! A text file as a stream of documents: `.txt` (one document), `.jsonl`, `.ndjson` and `.json` (one an object), `.parquet`
//! (one a row), each also `.gz` or `.zst`; or standard input, whose format is seen from how it begins.

use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;

use super::compression::{self, Compression};
use super::conversation::{self, Render};
use super::{digest, json, parquet_column, plain_text};
use crate::byte_order_mark;
use crate::error::SourceError;

/// What stands for standard input in the place of a file.
pub const STANDARD_INPUT: &str = "-";

/// The field of JSON or the column of Parquet that holds the text where a request names none.
pub const TEXT_FIELD: &str = "text";

/// The formats, as messages name them.
pub const FORMATS: &str = ".txt, .jsonl, .ndjson, .json and .parquet, each also with .gz or .zst";

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
pub type Take<'a> = dyn FnMut(Part<'_>) -> Result<Flow, SourceError> + 'a;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    PlainText,
    Json,
    Parquet,
}

/// What a file holds.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// Texts, in this field or column where there are several.
    Field(&'a str),
    /// Conversations, to be rendered so.
    Conversations(&'a Render<'a>),
}

/// Whether the extensions of a file name a text format that [`read`] reads.
pub fn is_text(path: &Path) -> bool {
    format(path).is_ok()
}

/// Whether the extensions of a file name plain text (`.txt`), which is one document unless the reader knows better.
pub fn is_plain(path: &Path) -> bool {
    matches!(format(path), Ok((Format::PlainText, _)))
}

/// Reads the documents of a file, or of standard input ([`STANDARD_INPUT`]), until there are no more or `take` has enough. `field` is the
/// field or column that holds the text: a name, or names with dots between them that lead into objects, structs and
/// lists; each string of a list is a document. Returns the name and the SHA-256 of what was read, as [`super::Data`] has
/// them.
///
/// # Memory
/// A document at a time; a `.txt` file is read in parts of 64 KiB. A compressed `.parquet` file is unpacked in memory,
/// as its format is read from the end.
///
/// # Errors
/// If the file cannot be read or is not what its extensions say; whatever `take` fails with.
pub fn read(path: &Path, field: &str, take: &mut Take<'_>) -> Result<(String, String), SourceError> {
    read_wanted(path, Wanted::Field(field), take)
}

/// As [`read`], of a file of conversations, one a line: each is a document, the text that `render` makes of it.
pub(super) fn read_conversations(
    path: &Path,
    render: &Render<'_>,
    take: &mut Take<'_>,
) -> Result<(String, String), SourceError> {
    read_wanted(path, Wanted::Conversations(render), take)
}

fn read_wanted(path: &Path, wanted: Wanted<'_>, take: &mut Take<'_>) -> Result<(String, String), SourceError> {
    if path == Path::new(STANDARD_INPUT) {
        return read_standard_input(wanted, take);
    }
    let (format, compression) = format(path)?;
    if matches!(wanted, Wanted::Conversations(_)) && format != Format::Json {
        let reason = "the extension does not name a file of conversations; supported are .jsonl, .ndjson and .json, one a \
                      line, each also with .gz or .zst";
        return Err(SourceError::data(path.display().to_string(), reason));
    }
    let mut file = std::fs::File::open(path).map_err(|error| SourceError::io(path, error))?;
    let metadata = file.metadata().map_err(|error| SourceError::io(path, error))?;
    if metadata.is_file() && metadata.len() == 0 {
        return Err(SourceError::data(path.display().to_string(), "the file is empty"));
    }
    let copy = file.try_clone().map_err(|error| SourceError::io(path, error))?;
    match (wanted, format, compression) {
        (Wanted::Field(field), Format::Parquet, Compression::None) => parquet_column::read(copy, path, field, take)?,
        _ => read_stream(compression::open(copy, compression, path)?, format, path, compression, wanted, take)?,
    }
    let read = match format {
        Format::Parquet => metadata.len(),
        // The clones share one position: how far the stream was drawn.
        Format::PlainText | Format::Json => file.stream_position().map_err(|error| SourceError::io(path, error))?,
    };
    digest::of_file(path, read)
}

/// Reads the unpacked bytes of a file.
fn read_stream(
    mut stream: Box<dyn Read + '_>,
    format: Format,
    path: &Path,
    compression: Compression,
    wanted: Wanted<'_>,
    take: &mut Take<'_>,
) -> Result<(), SourceError> {
    let failed = |error| compression.error(path, error);
    if let (Wanted::Field(field), Format::Parquet) = (wanted, format) {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map_err(failed)?;
        return parquet_column::read(bytes::Bytes::from(bytes), path, field, take);
    }
    let mut first = Vec::new();
    stream.by_ref().take(4).read_to_end(&mut first).map_err(failed)?;
    let kept = byte_order_mark::strip(&first).map_err(|reason| SourceError::malformed(path, reason))?;
    let mark = first.len() - kept.len();
    let kept = Cursor::new(kept);
    match (wanted, format) {
        (Wanted::Conversations(render), _) => {
            conversation::read(&mut kept.chain(BufReader::new(stream)), mark, path, compression, render, take)
        }
        // Parts are read whole, and no further.
        (_, Format::PlainText) => plain_text::read(&mut kept.chain(stream), mark, path, compression, take),
        (Wanted::Field(field), Format::Json | Format::Parquet) => {
            json::read(&mut kept.chain(BufReader::new(stream)), mark, path, compression, field, take)
        }
    }
}

/// Bytes in which the format of standard input is looked for.
const BEGINNING: usize = 64 << 10;

fn read_standard_input(wanted: Wanted<'_>, take: &mut Take<'_>) -> Result<(String, String), SourceError> {
    let name = Path::new("standard input");
    let failed = |error| SourceError::io(name, error);
    let mut input = BufReader::with_capacity(BEGINNING, digest::Hashing::new(io::stdin().lock()));
    let beginning = input.fill_buf().map_err(failed)?;
    if beginning.is_empty() {
        return Err(SourceError::data("standard input", "there is nothing in it"));
    }
    let compression = Compression::of(beginning);
    {
        let unpacked = compression::unpack(Box::new(&mut input), compression, name)?;
        let mut unpacked = BufReader::with_capacity(BEGINNING, unpacked);
        let beginning = unpacked.fill_buf().map_err(|error| compression.error(name, error))?;
        let format = match wanted {
            Wanted::Field(_) => looks_like(beginning),
            Wanted::Conversations(_) => Format::Json,
        };
        read_stream(Box::new(unpacked), format, name, compression, wanted, take)?;
    }
    input.into_inner().finish(name)
}

/// The format of what begins so.
fn looks_like(beginning: &[u8]) -> Format {
    if beginning.starts_with(b"PAR1") {
        return Format::Parquet;
    }
    let text = byte_order_mark::strip(beginning).unwrap_or(beginning);
    let mut signs = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
    match (signs.next(), signs.next()) {
        (Some(b'{'), Some(b'"' | b'}')) | (Some(b'['), Some(b'{' | b'"')) => Format::Json,
        _ => Format::PlainText,
    }
}

/// What the extensions say.
fn format(path: &Path) -> Result<(Format, Compression), SourceError> {
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
        Some((_, "jsonl" | "ndjson" | "json")) => Format::Json,
        Some((_, "parquet")) => Format::Parquet,
        _ => {
            let reason = format!("the extension does not name a text format; supported are {FORMATS}");
            return Err(SourceError::data(path.display().to_string(), reason));
        }
    };
    Ok((format, compression))
}
