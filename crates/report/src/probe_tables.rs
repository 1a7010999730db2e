//! The tidy table of `sinkscope probe`: `probe`, one row a vocabulary item.

use sinkscope_anatomy::probe::{Probe, ProbedItem};

use crate::ReportError;
use crate::tidy::Table;

/// The table of a probe, empty without one.
pub fn probe_tables(probe: Option<&Probe>) -> Result<Vec<Table>, ReportError> {
    let items: &[ProbedItem] = probe.map_or(&[], |probe| &probe.items);
    let table = Table::of("probe", items.iter().enumerate())
        .column("id", |row| row.0)
        .column("text", |row| row.1.text.clone())
        .column("value", |row| row.1.value)
        .column("channel", |row| row.1.channel)
        .column("spikes", |row| row.1.spikes)
        .table()?;
    Ok(vec![table])
}
