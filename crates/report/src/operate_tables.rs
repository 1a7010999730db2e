//! The tidy tables of `sinkscope operate`: `variants`, one row a run, the untouched model first; `positions`, one row a run
//! and position of the target.

use sinkscope_surgery::results::{Comparison, Variant};

use crate::ReportError;
use crate::tidy::{Column, Table};

/// The tables of a comparison.
///
/// # Errors
/// [`ReportError::Table`] if the writer refuses one.
pub fn operate_tables(comparison: &Comparison) -> Result<Vec<Table>, ReportError> {
    let baseline = &comparison.baseline;
    let variants = &comparison.variants;
    let optional = |name, first: Option<f64>, of: fn(&Variant) -> Option<f64>| {
        Column::optional_floats(name, std::iter::once(first).chain(variants.iter().map(of)))
    };
    let table = Table::new(
        "variants",
        vec![
            Column::texts("name", std::iter::once("").chain(variants.iter().map(|variant| variant.name.as_str()))),
            optional("perplexity", Some(baseline.perplexity), |variant| variant.perplexity),
            optional("nll", Some(baseline.nll), |variant| variant.nll),
            optional("delta_nll", None, |variant| variant.delta_nll),
            optional("delta_low", None, |variant| variant.delta_ci95.map(|interval| interval[0])),
            optional("delta_high", None, |variant| variant.delta_ci95.map(|interval| interval[1])),
            Column::counts(
                "tokens",
                std::iter::once(baseline.tokens).chain(variants.iter().map(|variant| variant.tokens)),
            ),
            optional("sink_ratio", Some(baseline.sink_ratio), |variant| Some(variant.sink_ratio)),
            optional("largest", Some(baseline.largest), |variant| variant.largest),
            optional("perplexity_after", None, |variant| variant.perplexity_after.map(|after| after.value)),
            optional("received_before", None, |variant| variant.received_before),
            optional("received", None, |variant| variant.received),
        ],
    )?;
    let rows = &comparison.positions;
    let positions = Table::new(
        "positions",
        vec![
            Column::texts("name", rows.iter().map(|row| row.name.as_str())),
            Column::counts("position", rows.iter().map(|row| row.position)),
            Column::floats("nll", rows.iter().map(|row| row.nll)),
        ],
    )?;
    Ok(vec![table, positions])
}
