//! The tidy tables of `sinkscope census`: `norms`, `spectra`, `units`, `triggers`.

use sinkscope_anatomy::census::{BlockCensus, Census, Spectrum};

use crate::ReportError;
use crate::tidy::{Column, Table};

/// All tables of a census, empty without one.
///
/// # Errors
/// [`ReportError::Table`] if the results contradict each other so that columns differ in length.
pub fn census_tables(census: Option<&Census>) -> Result<Vec<Table>, ReportError> {
    let spectra = census.map_or(&[][..], |census| &census.spectra);
    Ok(vec![
        norms_table(census.map_or(&[], |census| &census.blocks))?,
        spectra_table(spectra)?,
        units_table(spectra)?,
        triggers_table(spectra)?,
    ])
}

/// One row a block and channel.
fn norms_table(blocks: &[BlockCensus]) -> Result<Table, ReportError> {
    let channels = || blocks.iter().flat_map(|block| (0..block.frobenius.len()).map(move |channel| (block, channel)));
    Table::new(
        "norms",
        vec![
            Column::counts("block", channels().map(|(block, _)| block.block)),
            Column::counts("channel", channels().map(|(_, channel)| channel)),
            Column::floats("frobenius", channels().map(|(block, channel)| block.frobenius[channel])),
            Column::floats("symmetric", channels().map(|(block, channel)| block.symmetric[channel])),
        ],
    )
}

/// One row an eigenvalue. Ranks count from 1, by magnitude.
fn spectra_table(spectra: &[Spectrum]) -> Result<Table, ReportError> {
    let rows =
        || spectra.iter().flat_map(|spectrum| spectrum.eigenvalues.iter().enumerate().map(move |e| (spectrum, e)));
    Table::new(
        "spectra",
        vec![
            Column::counts("block", rows().map(|(spectrum, _)| spectrum.block)),
            Column::counts("channel", rows().map(|(spectrum, _)| spectrum.channel)),
            Column::counts("rank", rows().map(|(_, (rank, _))| rank + 1)),
            Column::floats("eigenvalue", rows().map(|(_, (_, value))| *value)),
        ],
    )
}

/// One row a hidden unit of a channel. Ranks count from 1.
fn units_table(spectra: &[Spectrum]) -> Result<Table, ReportError> {
    let rows =
        || spectra.iter().flat_map(|spectrum| spectrum.units.iter().enumerate().map(move |unit| (spectrum, unit)));
    Table::new(
        "units",
        vec![
            Column::counts("block", rows().map(|(spectrum, _)| spectrum.block)),
            Column::counts("channel", rows().map(|(spectrum, _)| spectrum.channel)),
            Column::counts("rank", rows().map(|(_, (rank, _))| rank + 1)),
            Column::counts("unit", rows().map(|(_, (_, unit))| unit.unit)),
            Column::floats("down", rows().map(|(_, (_, unit))| unit.down)),
            Column::floats("gate_norm", rows().map(|(_, (_, unit))| unit.gate_norm)),
            Column::floats("up_norm", rows().map(|(_, (_, unit))| unit.up_norm)),
            Column::floats("collinearity", rows().map(|(_, (_, unit))| unit.collinearity)),
        ],
    )
}

/// One row an entry of a trigger.
fn triggers_table(spectra: &[Spectrum]) -> Result<Table, ReportError> {
    let rows = || spectra.iter().flat_map(|spectrum| spectrum.trigger.iter().enumerate().map(move |e| (spectrum, e)));
    Table::new(
        "triggers",
        vec![
            Column::counts("block", rows().map(|(spectrum, _)| spectrum.block)),
            Column::counts("channel", rows().map(|(spectrum, _)| spectrum.channel)),
            Column::counts("input", rows().map(|(_, (input, _))| input)),
            Column::floats("value", rows().map(|(_, (_, value))| *value)),
        ],
    )
}
