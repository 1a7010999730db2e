//! A table as Parquet.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::{Table, Values};
use crate::ReportError;

pub(super) fn encode(table: &Table) -> Result<Vec<u8>, ReportError> {
    let failed = |error: &dyn std::fmt::Display| {
        ReportError::table(table.name(), format!("cannot be written as Parquet ({error})"))
    };
    let fields: Vec<Field> =
        table.columns().iter().map(|column| Field::new(&column.name, column.values.data_type(), true)).collect();
    let arrays = table.columns().iter().map(|column| column.values.array()).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|error| failed(&error))?;
    // Snappy is what every reader of Parquet has.
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).map_err(|error| failed(&error))?;
    writer.write(&batch).map_err(|error| failed(&error))?;
    writer.close().map_err(|error| failed(&error))?;
    Ok(bytes)
}

impl Values {
    fn data_type(&self) -> DataType {
        match self {
            Self::Integers(_) => DataType::Int64,
            Self::Floats(_) => DataType::Float64,
            Self::Singles(_) => DataType::Float32,
            Self::Booleans(_) => DataType::Boolean,
            Self::Texts(_) => DataType::Utf8,
        }
    }

    fn array(&self) -> ArrayRef {
        match self {
            Self::Integers(values) => Arc::new(values.iter().copied().collect::<Int64Array>()),
            Self::Floats(values) => Arc::new(values.iter().copied().collect::<Float64Array>()),
            Self::Singles(values) => Arc::new(values.iter().copied().collect::<Float32Array>()),
            Self::Booleans(values) => Arc::new(values.iter().copied().collect::<BooleanArray>()),
            Self::Texts(values) => Arc::new(values.iter().map(Option::as_deref).collect::<StringArray>()),
        }
    }
}
