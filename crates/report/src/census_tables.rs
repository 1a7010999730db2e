//! The tidy tables of `sinkscope census`: `norms`, `spectra`, `units`, `triggers`.

use sinkscope_anatomy::census::{BlockCensus, Census, Spectrum};

use crate::ReportError;
use crate::tidy::{Rows, Table};

/// All tables of a census, empty without one.
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
    let rows = blocks.iter().flat_map(|block| (0..block.frobenius.len()).map(move |channel| (block, channel)));
    Table::of("norms", rows)
        .column("block", |row| row.0.block)
        .column("channel", |row| row.1)
        .column("frobenius", |row| row.0.frobenius[row.1])
        .column("symmetric", |row| row.0.symmetric[row.1])
        .table()
}

/// The rows of what spectra have several of, numbered from 0, with block and channel as their first columns.
fn of_spectra<'a, T>(
    name: &str,
    spectra: &'a [Spectrum],
    several: fn(&Spectrum) -> &[T],
) -> Rows<(&'a Spectrum, usize, &'a T)> {
    let of = |spectrum: &'a Spectrum| several(spectrum).iter().enumerate().map(move |(at, one)| (spectrum, at, one));
    Table::of(name, spectra.iter().flat_map(of))
        .column("block", |row| row.0.block)
        .column("channel", |row| row.0.channel)
}

/// One row an eigenvalue. Ranks count from 1, by magnitude.
fn spectra_table(spectra: &[Spectrum]) -> Result<Table, ReportError> {
    of_spectra("spectra", spectra, |spectrum| &spectrum.eigenvalues)
        .column("rank", |row| row.1 + 1)
        .column("eigenvalue", |row| *row.2)
        .table()
}

/// One row a hidden unit of a channel. Ranks count from 1.
fn units_table(spectra: &[Spectrum]) -> Result<Table, ReportError> {
    of_spectra("units", spectra, |spectrum| &spectrum.units)
        .column("rank", |row| row.1 + 1)
        .column("unit", |row| row.2.unit)
        .column("down", |row| row.2.down)
        .column("gate_norm", |row| row.2.gate_norm)
        .column("up_norm", |row| row.2.up_norm)
        .column("collinearity", |row| row.2.collinearity)
        .table()
}

/// One row an entry of a trigger.
fn triggers_table(spectra: &[Spectrum]) -> Result<Table, ReportError> {
    of_spectra("triggers", spectra, |spectrum| &spectrum.trigger)
        .column("input", |row| row.1)
        .column("value", |row| *row.2)
        .table()
}
