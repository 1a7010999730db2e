//! A table as CSV.

use std::borrow::Cow;

use super::{Table, Values};
use crate::ReportError;

pub(super) fn encode(table: &Table) -> Result<Vec<u8>, ReportError> {
    let failed = |error: csv::Error| ReportError::table(table.name(), format!("cannot be written as CSV ({error})"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(table.columns().iter().map(|column| &column.name)).map_err(failed)?;
    for row in 0..table.rows() {
        let fields = table.columns().iter().map(|column| column.values.field(row));
        for field in fields {
            writer.write_field(field.as_bytes()).map_err(failed)?;
        }
        writer.write_record(None::<&[u8]>).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| ReportError::table(table.name(), error))
}

impl Values {
    /// One value as text; null is empty.
    fn field(&self, row: usize) -> Cow<'_, str> {
        match self {
            Self::Integers(values) => values[row].map(|value| value.to_string().into()),
            Self::Floats(values) => values[row].map(|value| value.to_string().into()),
            Self::Singles(values) => values[row].map(|value| value.to_string().into()),
            Self::Booleans(values) => values[row].map(|value| if value { "true" } else { "false" }.into()),
            Self::Texts(values) => values[row].as_deref().map(Cow::Borrowed),
        }
        .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use crate::tidy::{Column, Table, Values};

    #[test]
    fn fields_are_quoted_where_needed_and_read_back() {
        let tokens = ["plain", "a,b", "say \"so\"", "two\nlines", "\r", " lead", "ü", ""];
        let table = Table::new("t", vec![Column::counts("id", 0..tokens.len()), Column::texts("token", tokens)])
            .expect("a table");
        let bytes = table.to_csv().expect("text");
        let text = String::from_utf8(bytes.clone()).expect("UTF-8");
        assert!(text.starts_with("id,token\n0,plain\n1,\"a,b\"\n2,\"say \"\"so\"\"\"\n3,\"two\nlines\"\n4,\"\r\"\n"));
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let read: Vec<String> = reader.records().map(|record| record.expect("a record")[1].to_owned()).collect();
        assert_eq!(read, tokens);
    }

    #[test]
    fn numbers_are_short_and_nulls_empty() {
        let table = Table::new(
            "t",
            vec![
                Column::new("i", Values::Integers(vec![Some(-3), None])),
                Column::new("f", Values::Floats(vec![Some(0.1), None])),
                Column::new("s", Values::Singles(vec![Some(0.1), None])),
                Column::new("b", Values::Booleans(vec![Some(true), None])),
            ],
        )
        .expect("a table");
        assert_eq!(table.to_csv().expect("text"), b"i,f,s,b\n-3,0.1,0.1,true\n,,,\n");
    }

    #[test]
    fn an_empty_table_keeps_its_header() {
        let table = Table::new("t", vec![Column::counts("a", []), Column::floats("b", [])]).expect("a table");
        assert_eq!(table.to_csv().expect("text"), b"a,b\n");
    }
}
