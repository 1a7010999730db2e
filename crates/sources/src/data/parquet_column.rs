//! A `.parquet` file: one document per row, in a column of strings; of a column of lists, one per string.

use std::path::Path;

use parquet::basic::{Repetition, Type};
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::containment::contain;
use super::document::{Flow, Part, Take};
use crate::error::SourceError;

/// Rows decoded at once.
const ROWS: usize = 256;

/// Gives the text of each row to `take`, one row group after the other.
pub(super) fn read<R: ChunkReader + 'static>(
    source: R,
    path: &Path,
    field: &str,
    take: &mut Take<'_>,
) -> Result<(), SourceError> {
    let file = decode(path, || SerializedFileReader::new(source))?;
    let index = text_column(&file, path, field)?;
    let column = file.metadata().file_metadata().schema_descr().column(index);
    let wrong = |reason: String| SourceError::data(path.display().to_string(), reason);
    // A list may be empty or null, and then has no text; a string may not be null.
    let optional = column.self_type().get_basic_info().has_repetition()
        && column.self_type().get_basic_info().repetition() == Repetition::OPTIONAL;
    let whole = column.max_def_level();
    let is_null = |level: i16| if column.max_rep_level() == 0 { level < whole } else { optional && level + 1 == whole };
    let mut row = 0;
    for group in 0..file.metadata().num_row_groups() {
        let reader = decode(path, || file.get_row_group(group)?.get_column_reader(index))?;
        let ColumnReader::ByteArrayColumnReader(mut reader) = reader else {
            return Err(wrong(format!("the column `{field}` does not hold strings")));
        };
        let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            values.clear();
            definitions.clear();
            repetitions.clear();
            let (rows, present, levels) = decode(path, || {
                reader.read_records(ROWS, Some(&mut definitions), Some(&mut repetitions), &mut values)
            })?;
            if rows == 0 {
                break;
            }
            // Levels are left out where there is only one.
            let level = |levels: &[i16], at: usize, only: i16| levels.get(at).copied().unwrap_or(only);
            let mut texts = values.iter();
            let first = row;
            for at in 0..levels.max(present) {
                row += usize::from(level(&repetitions, at, 0) == 0);
                let definition = level(&definitions, at, whole);
                if is_null(definition) {
                    return Err(wrong(format!("row {} has no text: its `{field}` is null", row - 1)));
                }
                if definition < whole {
                    continue;
                }
                let Some(value) = texts.next() else { break };
                if take(Part { text: text(value, row - 1, path)?, continues: false })? == Flow::Enough {
                    return Ok(());
                }
            }
            row = first + rows;
        }
    }
    Ok(())
}

/// A call into the Parquet reader.
fn decode<T>(path: &Path, call: impl FnOnce() -> ParquetResult<T>) -> Result<T, SourceError> {
    let reason = match contain(call) {
        Some(Ok(value)) => return Ok(value),
        Some(Err(error)) => error.to_string(),
        None => "its pages are damaged".to_owned(),
    };
    Err(SourceError::malformed(path, format!("cannot be read as Parquet: {reason}")))
}

/// The index of a column among the leaves, by its whole path or by one without the levels that only make it a list.
fn text_column(file: &dyn FileReader, path: &Path, field: &str) -> Result<usize, SourceError> {
    let columns = file.metadata().file_metadata().schema_descr().columns();
    let wrong = |reason: String| SourceError::data(path.display().to_string(), reason);
    let exact = columns.iter().position(|column| column.path().string() == field);
    let Some(index) = exact.or_else(|| columns.iter().position(|column| short_path(column) == field)) else {
        let names: Vec<String> = columns.iter().map(|column| short_path(column)).collect();
        return Err(wrong(format!("there is no column `{field}`; the columns are {}", names.join(", "))));
    };
    match columns[index].physical_type() {
        Type::BYTE_ARRAY => Ok(index),
        other => Err(wrong(format!("the column `{field}` holds {other} values, not strings"))),
    }
}

/// The path of a column without the two levels that Parquet and its writers put into a list.
fn short_path(column: &ColumnDescriptor) -> String {
    let parts = column.path().parts();
    if column.max_rep_level() == 0 {
        return parts.join(".");
    }
    let mut short = Vec::new();
    let mut rest = parts;
    while let [part, after @ ..] = rest {
        short.push(part.as_str());
        rest = match after {
            [list, element, after @ ..] if is_list(list) && is_element(element) => after,
            [list, after @ ..] if list == "array" => after,
            after => after,
        };
    }
    short.join(".")
}

fn is_list(name: &str) -> bool {
    matches!(name, "list" | "bag" | "array")
}

fn is_element(name: &str) -> bool {
    matches!(name, "element" | "item" | "array" | "array_element")
}

fn text<'a>(value: &'a ByteArray, row: usize, path: &Path) -> Result<&'a str, SourceError> {
    std::str::from_utf8(value.data()).map_err(|error| {
        let offset = error.valid_up_to();
        let reason = format!("row {row} is not UTF-8 text: the byte at offset {offset} of it cannot stand there");
        SourceError::malformed(path, reason)
    })
}
