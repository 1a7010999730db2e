//! Tidy tables: one description, written as both Parquet and CSV.
//!
//! One row an observation, one column a variable. What is not known is null: an empty field in CSV.

mod csv;
mod parquet;

use crate::ReportError;
use crate::files::OutputDirectory;

/// A table with columns of equal length.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    name: String,
    columns: Vec<Column>,
}

/// A named column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The variable.
    pub name: String,
    /// Its values, one a row.
    pub values: Values,
}

/// The values of a column; `None` is null.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Whole numbers: blocks, channels, positions, counts.
    Integers(Vec<Option<i64>>),
    /// f64: means and ratios.
    Floats(Vec<Option<f64>>),
    /// f32: activations, as the pass computed them.
    Singles(Vec<Option<f32>>),
    /// Yes or no.
    Booleans(Vec<Option<bool>>),
    /// Text, any Unicode.
    Texts(Vec<Option<String>>),
}

impl Table {
    /// A table of a row for each of `rows`, whose columns are still to be named.
    pub fn of<R>(name: impl Into<String>, rows: impl IntoIterator<Item = R>) -> Rows<R> {
        Rows { name: name.into(), of: rows.into_iter().collect(), columns: Vec::new() }
    }

    /// A table. Its files are called `name.parquet` and `name.csv`.
    pub fn new(name: impl Into<String>, columns: Vec<Column>) -> Result<Self, ReportError> {
        let name = name.into();
        let Some(first) = columns.first() else { return Err(ReportError::table(&name, "has no columns")) };
        let rows = first.values.len();
        for (index, column) in columns.iter().enumerate() {
            if column.values.len() != rows {
                let found = column.values.len();
                let reason = format!("column {} has {found} values; {} has {rows}", column.name, first.name);
                return Err(ReportError::table(&name, reason));
            }
            if columns[..index].iter().any(|other| other.name == column.name) {
                return Err(ReportError::table(&name, format!("two columns are called {}", column.name)));
            }
        }
        Ok(Self { name, columns })
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }

    /// The content of the Parquet file: Snappy-compressed, every column nullable.
    pub fn to_parquet(&self) -> Result<Vec<u8>, ReportError> {
        parquet::encode(self)
    }

    /// The content of the CSV file: UTF-8, a header, `\n` line ends, fields quoted where needed; floats print as the
    /// shortest digits that read back the same.
    pub fn to_csv(&self) -> Result<Vec<u8>, ReportError> {
        csv::encode(self)
    }

    /// Stages both files.
    pub fn stage(&self, out: &mut OutputDirectory) -> Result<(), ReportError> {
        out.stage(&format!("{}.parquet", self.name), &self.to_parquet()?)?;
        out.stage(&format!("{}.csv", self.name), &self.to_csv()?)
    }
}

/// Rows on their way to a table: what its columns hold follows from them.
#[derive(Debug)]
pub struct Rows<R> {
    name: String,
    of: Vec<R>,
    columns: Vec<Column>,
}

impl<R> Rows<R> {
    /// The same with a column of what `of` gives for each row.
    #[must_use]
    pub fn column<C: Cell>(mut self, name: impl Into<String>, of: impl Fn(&R) -> C) -> Self {
        self.columns.push(Column::new(name, C::values(self.of.iter().map(of))));
        self
    }

    /// The table.
    pub fn table(self) -> Result<Table, ReportError> {
        Table::new(self.name, self.columns)
    }
}

/// What a row has in a column.
pub trait Cell: Sized {
    /// The values of a column.
    fn values(cells: impl Iterator<Item = Self>) -> Values;
}

macro_rules! cells {
    ($($type:ty => $values:ident, $value:expr;)*) => {$(
        impl Cell for $type {
            fn values(cells: impl Iterator<Item = Self>) -> Values {
                Values::$values(cells.map($value).collect())
            }
        }
    )*};
}

cells! {
    usize => Integers, |count| Some(count as i64);
    Option<usize> => Integers, |count| count.map(|count| count as i64);
    f64 => Floats, Some;
    Option<f64> => Floats, |value| value;
    f32 => Singles, Some;
    bool => Booleans, Some;
    String => Texts, Some;
    &'static str => Texts, |text| Some(text.to_owned());
}

impl Column {
    /// A column.
    pub fn new(name: impl Into<String>, values: Values) -> Self {
        Self { name: name.into(), values }
    }

    /// A column of whole numbers without nulls.
    pub fn counts(name: impl Into<String>, values: impl IntoIterator<Item = usize>) -> Self {
        Self::new(name, Values::Integers(values.into_iter().map(|value| Some(value as i64)).collect()))
    }

    /// A column of f64 without nulls.
    pub fn floats(name: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        Self::new(name, Values::Floats(values.into_iter().map(Some).collect()))
    }

    /// A column of f64.
    pub fn optional_floats(name: impl Into<String>, values: impl IntoIterator<Item = Option<f64>>) -> Self {
        Self::new(name, Values::Floats(values.into_iter().collect()))
    }

    /// A column of yes and no without nulls.
    pub fn booleans(name: impl Into<String>, values: impl IntoIterator<Item = bool>) -> Self {
        Self::new(name, Values::Booleans(values.into_iter().map(Some).collect()))
    }

    /// A column of text without nulls.
    pub fn texts<T: Into<String>>(name: impl Into<String>, values: impl IntoIterator<Item = T>) -> Self {
        Self::new(name, Values::Texts(values.into_iter().map(|value| Some(value.into())).collect()))
    }
}

impl Values {
    /// Number of values, nulls included.
    pub fn len(&self) -> usize {
        match self {
            Self::Integers(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Singles(values) => values.len(),
            Self::Booleans(values) => values.len(),
            Self::Texts(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_are_none_are_refused() {
        let message = |columns| Table::new("t", columns).expect_err("refused").to_string();
        assert_eq!(message(vec![]), "table t: has no columns");
        let uneven = vec![Column::counts("a", [1, 2]), Column::floats("b", [1.0])];
        assert_eq!(message(uneven), "table t: column b has 1 values; a has 2");
        let twins = vec![Column::counts("a", [1]), Column::floats("a", [1.0])];
        assert_eq!(message(twins), "table t: two columns are called a");
    }
}
