//! A `.jsonl` file: one document per line, in its field `text`.

use std::io::BufRead;
use std::path::Path;
use std::str;

use super::compression::Compression;
use super::document::{Flow, Part, Take};
use crate::error::ModelError;

#[derive(serde::Deserialize)]
struct Line {
    text: String,
}

/// Gives each line's text to `take`. Lines of white space are passed over.
pub(super) fn read(
    reader: &mut dyn BufRead,
    path: &Path,
    compression: Compression,
    take: &mut Take<'_>,
) -> Result<(), ModelError> {
    let mut bytes = Vec::new();
    let mut offset = 0;
    for number in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(|error| compression.error(path, error))? == 0 {
            break;
        }
        let line = str::from_utf8(&bytes).map_err(|error| {
            let offset = offset + error.valid_up_to();
            let reason = format!("line {number} is not UTF-8 text: the byte at offset {offset} cannot stand there");
            ModelError::malformed(path, reason)
        })?;
        offset += line.len();
        if line.trim().is_empty() {
            continue;
        }
        let Line { text } = serde_json::from_str(line).map_err(|error| {
            let (what, column) = (without_place(&error), error.column());
            let reason = format!("line {number}, column {column}: {what}; each line is an object with a string `text`");
            ModelError::malformed(path, reason)
        })?;
        if take(Part { text: &text, continues: false })? == Flow::Enough {
            break;
        }
    }
    Ok(())
}

/// What is wrong with some JSON, without the line within it.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or_default().to_owned()
}
