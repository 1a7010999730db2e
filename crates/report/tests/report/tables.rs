//! What programs read.

use std::fs;

use parquet::basic::{Compression, LogicalType, Repetition};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use parquet::record::{Field, Row};
use sinkscope_report::anatomy_tables::anatomy_tables;
use sinkscope_report::files::OutputDirectory;
use sinkscope_report::tidy::{Column, Table, Values};

use crate::sample;

fn tables() -> Vec<Table> {
    anatomy_tables(&sample::anatomy(), |_| false).expect("consistent results")
}

/// The Parquet file of a table.
fn parquet_file(table: &Table) -> SerializedFileReader<fs::File> {
    let directory = tempfile::tempdir().expect("a directory");
    let mut out = OutputDirectory::prepare(directory.path()).expect("usable");
    table.stage(&mut out).expect("written");
    out.commit().expect("moved");
    let file = fs::File::open(directory.path().join(format!("{}.parquet", table.name()))).expect("there");
    SerializedFileReader::new(file).expect("Parquet")
}

/// Through a file and back.
fn read_back(table: &Table) -> Table {
    let rows: Vec<Row> = parquet_file(table).into_iter().map(|row| row.expect("a row")).collect();
    let column = |(index, column): (usize, &Column)| {
        let name = &column.name;
        let fields = rows.iter().map(|row| {
            let (found, field) = row.get_column_iter().nth(index).expect("a field");
            assert_eq!(found, name);
            field
        });
        macro_rules! values {
            ($kind:ident, $field:ident) => {
                Values::$kind(
                    fields
                        .map(|field| match field {
                            Field::Null => None,
                            Field::$field(value) => Some(value.clone()),
                            other => panic!("{name} holds {other:?}"),
                        })
                        .collect(),
                )
            };
        }
        let values = match column.values {
            Values::Integers(_) => values!(Integers, Long),
            Values::Floats(_) => values!(Floats, Double),
            Values::Singles(_) => values!(Singles, Float),
            Values::Booleans(_) => values!(Booleans, Bool),
            Values::Texts(_) => values!(Texts, Str),
        };
        Column::new(name, values)
    };
    Table::new(table.name(), table.columns().iter().enumerate().map(column).collect()).expect("a table")
}

#[test]
fn parquet_reads_back_as_written() {
    for table in tables() {
        assert_eq!(read_back(&table), table);
    }
}

#[test]
fn every_column_of_parquet_is_nullable_compressed_and_has_the_type_of_its_values() {
    let columns = vec![
        Column::new("i", Values::Integers(vec![Some(-3), None])),
        Column::new("f", Values::Floats(vec![Some(0.1), None])),
        Column::new("s", Values::Singles(vec![Some(0.1), None])),
        Column::new("b", Values::Booleans(vec![None, Some(true)])),
        Column::new("t", Values::Texts(vec![Some("ü".to_owned()), None])),
    ];
    let table = Table::new("kinds", columns).expect("a table");
    assert_eq!(read_back(&table), table);
    let file = parquet_file(&table);
    let metadata = file.metadata();
    let schema = metadata.file_metadata().schema_descr();
    assert_eq!(schema.name(), "arrow_schema");
    let types: Vec<String> = schema.columns().iter().map(|column| column.physical_type().to_string()).collect();
    assert_eq!(types, ["INT64", "DOUBLE", "FLOAT", "BOOLEAN", "BYTE_ARRAY"]);
    assert_eq!(schema.column(4).logical_type_ref(), Some(&LogicalType::String));
    for (column, chunk) in schema.columns().iter().zip(metadata.row_group(0).columns()) {
        assert_eq!(column.self_type().get_basic_info().repetition(), Repetition::OPTIONAL);
        assert_eq!(chunk.compression(), Compression::SNAPPY);
        assert_eq!(chunk.statistics().and_then(Statistics::null_count_opt), Some(1));
    }
}

#[test]
fn csv_and_parquet_have_the_same_rows() {
    for table in tables() {
        let bytes = table.to_csv().expect("text");
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let headers = reader.headers().expect("a header").clone();
        assert!(headers.iter().eq(table.columns().iter().map(|column| column.name.as_str())));
        assert_eq!(reader.records().count(), table.rows(), "{}", table.name());
    }
}

#[test]
fn every_table_has_its_columns() {
    let overview: Vec<String> = tables()
        .iter()
        .map(|table| {
            let columns: Vec<&str> = table.columns().iter().map(|column| column.name.as_str()).collect();
            format!("{} ({} rows): {}", table.name(), table.rows(), columns.join(", "))
        })
        .collect();
    insta::assert_snapshot!(overview.join("\n"));
}

#[test]
fn small_tables_in_full() {
    let text: Vec<String> = tables()
        .iter()
        .filter(|table| table.rows() < 10)
        .map(|table| {
            format!(
                "{}\n{}",
                table.name(),
                String::from_utf8_lossy(&table.to_csv().expect("text")).replace('\u{1b}', "<ESC>")
            )
        })
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn parts_not_asked_for_are_empty_tables_with_the_same_columns() {
    let empty = anatomy_tables(&sample::nothing(), |_| false).expect("consistent results");
    for (empty, full) in empty.iter().zip(tables()) {
        assert_eq!((empty.name(), empty.rows()), (full.name(), 0));
        assert!(empty.columns().iter().map(|column| &column.name).eq(full.columns().iter().map(|column| &column.name)));
        assert_eq!(&read_back(empty), empty);
    }
}

#[test]
fn tables_of_a_census_and_a_probe_that_are_there_are_left_alone() {
    let names = |there: &str| -> Vec<String> {
        let tables = anatomy_tables(&sample::anatomy(), |name| name == there).expect("consistent results");
        tables.iter().map(|table| table.name().to_owned()).collect()
    };
    let all = names("");
    let without = |left_out: &[&str]| -> Vec<String> {
        all.iter().filter(|name| !left_out.contains(&name.as_str())).cloned().collect()
    };
    assert_eq!(names("census.json"), without(&["norms", "spectra", "units", "triggers"]));
    assert_eq!(names("probe.json"), without(&["probe"]));
    assert_eq!(all.len(), without(&["norms", "spectra", "units", "triggers", "probe"]).len() + 5);
}

#[test]
fn intervals_of_one_sequence_are_null() {
    let tables = anatomy_tables(&sample::calm(), |_| false).expect("consistent results");
    let heads = read_back(&tables[1]);
    let low = heads.columns().iter().find(|column| column.name == "mean_max_alpha_low").expect("there");
    assert_eq!(low.values, Values::Floats(vec![None; heads.rows()]));
    assert_ne!(heads.rows(), 0);
}

#[test]
fn operations_in_full() {
    let tables = sinkscope_report::operate_tables::operate_tables(&sample::comparison()).expect("consistent results");
    let text: Vec<String> = tables
        .iter()
        .map(|table| String::from_utf8_lossy(&table.to_csv().expect("text")).replace('\u{1b}', "<ESC>"))
        .collect();
    insta::assert_snapshot!(text.concat());
}
