//! The tidy table of `sinkscope probe`: `probe`, one row a vocabulary item.

use sinkscope_anatomy::probe::{Probe, ProbedItem};

use crate::ReportError;
use crate::tidy::{Column, Table};

/// The table of a probe, empty without one.
///
/// # Errors
/// [`ReportError::Table`] if the writer refuses it.
pub fn probe_tables(probe: Option<&Probe>) -> Result<Vec<Table>, ReportError> {
    let items: &[ProbedItem] = probe.map_or(&[], |probe| &probe.items);
    let table = Table::new(
        "probe",
        vec![
            Column::counts("id", 0..items.len()),
            Column::texts("text", items.iter().map(|item| &item.text)),
            Column::singles("value", items.iter().map(|item| item.value)),
            Column::counts("channel", items.iter().map(|item| item.channel)),
            Column::booleans("spikes", items.iter().map(|item| item.spikes)),
        ],
    )?;
    Ok(vec![table])
}
