//! A `.parquet` file: one document per row, in its column `text`.

use std::path::Path;

use parquet::basic::Type;
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};

use super::containment::contain;
use super::document::{Flow, Part, Take};
use crate::error::ModelError;

/// Rows decoded at once.
const ROWS: usize = 256;

/// Gives each row's text to `take`, one row group after the other.
pub(super) fn read<R: ChunkReader + 'static>(source: R, path: &Path, take: &mut Take<'_>) -> Result<(), ModelError> {
    let file = decode(path, || SerializedFileReader::new(source))?;
    let column = text_column(&file, path)?;
    let mut row = 0;
    for group in 0..file.metadata().num_row_groups() {
        let reader = decode(path, || file.get_row_group(group)?.get_column_reader(column))?;
        let ColumnReader::ByteArrayColumnReader(mut reader) = reader else {
            return Err(ModelError::data(path.display().to_string(), "the column `text` does not hold strings"));
        };
        let (mut values, mut definitions) = (Vec::new(), Vec::new());
        loop {
            values.clear();
            definitions.clear();
            let (rows, present, _) =
                decode(path, || reader.read_records(ROWS, Some(&mut definitions), None, &mut values))?;
            if rows == 0 {
                break;
            }
            if present < rows {
                let missing = row + definitions.iter().position(|&level| level == 0).unwrap_or_default();
                let reason = format!("row {missing} has no text: its `text` is null");
                return Err(ModelError::data(path.display().to_string(), reason));
            }
            for value in &values {
                if take(Part { text: text(value, row, path)?, continues: false })? == Flow::Enough {
                    return Ok(());
                }
                row += 1;
            }
        }
    }
    Ok(())
}

/// A call into the Parquet reader.
fn decode<T>(path: &Path, call: impl FnOnce() -> ParquetResult<T>) -> Result<T, ModelError> {
    let reason = match contain(call) {
        Some(Ok(value)) => return Ok(value),
        Some(Err(error)) => error.to_string(),
        None => "its pages are damaged".to_owned(),
    };
    Err(ModelError::malformed(path, format!("cannot be read as Parquet: {reason}")))
}

/// The index of the column `text` among the leaves.
fn text_column(file: &dyn FileReader, path: &Path) -> Result<usize, ModelError> {
    let columns = file.metadata().file_metadata().schema_descr().columns();
    let wrong = |reason: String| ModelError::data(path.display().to_string(), reason);
    let Some(index) = columns.iter().position(|column| column.path().string() == "text") else {
        let names: Vec<String> = columns.iter().map(|column| column.path().string()).collect();
        return Err(wrong(format!("there is no column `text`; the columns are {}", names.join(", "))));
    };
    match columns[index].physical_type() {
        Type::BYTE_ARRAY if columns[index].max_rep_level() == 0 => Ok(index),
        Type::BYTE_ARRAY => Err(wrong("the column `text` holds several strings a row; one is needed".to_owned())),
        other => Err(wrong(format!("the column `text` holds {other} values, not strings"))),
    }
}

fn text<'a>(value: &'a ByteArray, row: usize, path: &Path) -> Result<&'a str, ModelError> {
    std::str::from_utf8(value.data()).map_err(|error| {
        let offset = error.valid_up_to();
        let reason = format!("row {row} is not UTF-8 text: the byte at offset {offset} of it cannot stand there");
        ModelError::malformed(path, reason)
    })
}
