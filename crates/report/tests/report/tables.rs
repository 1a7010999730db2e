//! What programs read.

use std::fs;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch, RecordBatchReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sinkscope_report::anatomy_tables::anatomy_tables;
use sinkscope_report::files::OutputDirectory;
use sinkscope_report::tidy::{Table, Values};

use crate::sample;

fn tables() -> Vec<Table> {
    anatomy_tables(&sample::anatomy(), |_| false).expect("consistent results")
}

/// Through a file and back.
fn read_back(table: &Table) -> RecordBatch {
    let directory = tempfile::tempdir().expect("a directory");
    let mut out = OutputDirectory::prepare(directory.path()).expect("usable");
    table.stage(&mut out).expect("written");
    out.commit().expect("moved");
    let file = fs::File::open(directory.path().join(format!("{}.parquet", table.name()))).expect("there");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("readable");
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("a batch")).collect();
    batches.into_iter().next().unwrap_or_else(|| RecordBatch::new_empty(schema))
}

#[test]
fn parquet_reads_back_as_written() {
    for table in tables() {
        let batch = read_back(&table);
        assert_eq!((batch.num_rows(), batch.num_columns()), (table.rows(), table.columns().len()), "{}", table.name());
        for (field, column) in batch.schema().fields().iter().zip(table.columns()) {
            assert_eq!(field.name(), &column.name);
            let array = batch.column_by_name(&column.name).expect("there");
            let read = match &column.values {
                Values::Integers(_) => Values::Integers(array.as_primitive::<Int64Type>().iter().collect()),
                Values::Floats(_) => Values::Floats(array.as_primitive::<Float64Type>().iter().collect()),
                Values::Singles(_) => Values::Singles(array.as_primitive::<Float32Type>().iter().collect()),
                Values::Booleans(_) => Values::Booleans(array.as_boolean().iter().collect()),
                Values::Texts(_) => {
                    Values::Texts(array.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
                }
            };
            assert_eq!(read, column.values, "{} {}", table.name(), column.name);
        }
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
        assert_eq!(read_back(empty).num_rows(), 0);
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
    let low = heads.column_by_name("mean_max_alpha_low").expect("there");
    assert_eq!(low.null_count(), heads.num_rows());
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
