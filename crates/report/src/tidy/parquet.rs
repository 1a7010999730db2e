//! A table as Parquet.

use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArrayType, DataType, DoubleType, FloatType, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

use super::{Column, Table, Values};
use crate::ReportError;

/// The name of the schema's root: the one that writers on top of Arrow give it.
const ROOT: &str = "arrow_schema";
/// Rows of a row group.
const GROUP: usize = 1 << 20;

pub(super) fn encode(table: &Table) -> Result<Vec<u8>, ReportError> {
    write(table).map_err(|error| ReportError::table(table.name(), format!("cannot be written as Parquet ({error})")))
}

fn write(table: &Table) -> ParquetResult<Vec<u8>> {
    let fields = table.columns().iter().map(field).collect::<ParquetResult<_>>()?;
    let schema = Type::group_type_builder(ROOT).with_fields(fields).build()?;
    // Snappy is what every reader of Parquet has.
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    for first in (0..table.rows()).step_by(GROUP) {
        let mut group = writer.next_row_group()?;
        for column in table.columns() {
            let Some(mut chunk) = group.next_column()? else { break };
            column.values.write(first..table.rows().min(first + GROUP), &mut chunk)?;
            chunk.close()?;
        }
        group.close()?;
    }
    writer.into_inner()
}

/// A column of the schema.
fn field(column: &Column) -> ParquetResult<TypePtr> {
    let (physical, logical) = match column.values {
        Values::Integers(_) => (Physical::INT64, None),
        Values::Floats(_) => (Physical::DOUBLE, None),
        Values::Singles(_) => (Physical::FLOAT, None),
        Values::Booleans(_) => (Physical::BOOLEAN, None),
        Values::Texts(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let builder = Type::primitive_type_builder(&column.name, physical).with_repetition(Repetition::OPTIONAL);
    builder.with_logical_type(logical).build().map(Arc::new)
}

impl Values {
    fn write(&self, rows: std::ops::Range<usize>, chunk: &mut SerializedColumnWriter<'_>) -> ParquetResult<()> {
        match self {
            Self::Integers(values) => write_chunk::<Int64Type>(chunk, values[rows].iter().copied()),
            Self::Floats(values) => write_chunk::<DoubleType>(chunk, values[rows].iter().copied()),
            Self::Singles(values) => write_chunk::<FloatType>(chunk, values[rows].iter().copied()),
            Self::Booleans(values) => write_chunk::<BoolType>(chunk, values[rows].iter().copied()),
            Self::Texts(values) => {
                write_chunk::<ByteArrayType>(chunk, values[rows].iter().map(|text| text.as_deref().map(Into::into)))
            }
        }
    }
}

/// Writes values and, for each row, its definition level: 1 where there is a value, 0 where it is null.
fn write_chunk<T: DataType>(
    chunk: &mut SerializedColumnWriter<'_>,
    values: impl Iterator<Item = Option<T::T>>,
) -> ParquetResult<()> {
    let (mut present, mut levels) = (Vec::new(), Vec::new());
    for value in values {
        levels.push(i16::from(value.is_some()));
        present.extend(value);
    }
    chunk.typed::<T>().write_batch(&present, Some(&levels), None)?;
    Ok(())
}
