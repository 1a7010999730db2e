//! The figures of a report: one module a question, one function a figure.

pub(crate) mod examination;
pub(crate) mod sinks;
pub mod study;
pub(crate) mod surgery;
pub(crate) mod training;
pub(crate) mod weights;

use crate::ReportError;
use crate::figure::{Axis, Colour, Mark, Series};
use crate::tidy::Table;

/// The blocks of a model on an axis.
fn blocks() -> Axis {
    Axis::linear("block")
}

/// Those of `tables` that is called `name`.
fn take(tables: &[Table], name: &str) -> Result<Table, ReportError> {
    let found = tables.iter().find(|table| table.name() == name);
    found.cloned().ok_or_else(|| ReportError::table(name, "is not among the tables of the command"))
}

/// A series over whole numbers: blocks, layers, channels, ranks.
fn line(name: &str, colour: Colour, mark: Mark, points: impl IntoIterator<Item = (usize, f64)>) -> Series {
    Series::new(name, colour, mark, points.into_iter().map(|(x, y)| (x as f64, y)))
}

/// What there is of many, `None` as not a number.
fn or_gap(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}
