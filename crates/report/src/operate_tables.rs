//! The tidy tables of `sinkscope operate`: `variants`, one row a run, the untouched model first; `positions`, one row a run
//! and position of the target; `linear_layers`, one row a run and layer that it quantises; `sweeps`, one row a number of tokens
//! kept; `advice`, one row a line.

use sinkscope_anatomy::not_finite::NotFinite;
use sinkscope_surgery::results::{Comparison, LinearLayer, Sweep, SweepStep, Variant};

use crate::ReportError;
use crate::tidy::{Column, Table, Values};

/// The untouched model in tables, whose readers may take an empty name for a missing one.
const UNTOUCHED: &str = "untouched";

/// The name of a run in tables and figures.
pub(crate) fn run_name(name: &str) -> &str {
    if name.is_empty() { UNTOUCHED } else { name }
}

/// The tables of a comparison.
///
/// # Errors
/// [`ReportError::Table`] if the writer refuses one.
pub fn operate_tables(comparison: &Comparison) -> Result<Vec<Table>, ReportError> {
    let baseline = &comparison.baseline;
    // What was tried is a run as others are.
    let runs: Vec<&Variant> = comparison.variants.iter().chain(&comparison.trials).collect();
    let variants = &runs;
    let optional = |name, first: Option<f64>, of: fn(&Variant) -> Option<f64>| {
        Column::optional_floats(name, std::iter::once(first).chain(variants.iter().map(|variant| of(variant))))
    };
    let place = |name, of: fn(&NotFinite) -> Option<usize>| {
        let broken = variants.iter().map(|variant| variant.not_finite.as_ref().and_then(of));
        let places = std::iter::once(None).chain(broken).map(|place| place.map(|place| place as i64));
        Column::new(name, Values::Integers(places.collect()))
    };
    let table = Table::new(
        "variants",
        vec![
            Column::texts(
                "name",
                std::iter::once(UNTOUCHED).chain(variants.iter().map(|variant| variant.name.as_str())),
            ),
            optional("perplexity", baseline.perplexity, |variant| variant.perplexity),
            optional("nll", Some(baseline.nll), |variant| variant.nll),
            optional("delta_nll", None, |variant| variant.delta_nll),
            optional("delta_low", None, |variant| variant.delta_ci95.map(|interval| interval[0])),
            optional("delta_high", None, |variant| variant.delta_ci95.map(|interval| interval[1])),
            Column::counts(
                "tokens",
                std::iter::once(baseline.tokens).chain(variants.iter().map(|variant| variant.tokens)),
            ),
            optional("sink_ratio", Some(baseline.sink_ratio), |variant| variant.sink_ratio),
            optional("largest", Some(baseline.largest), |variant| variant.largest),
            optional("perplexity_after", None, |variant| variant.perplexity_after.map(|after| after.value)),
            optional("received_before", None, |variant| variant.received_before),
            optional("received", None, |variant| variant.received),
            place("not_finite_block", |found| Some(found.block)),
            place("not_finite_channel", |found| found.channel),
            place("not_finite_sequence", |found| Some(found.sequence)),
            place("not_finite_position", |found| Some(found.position)),
            optional("kl", Some(0.0), |variant| variant.kl),
            optional("kl_low", None, |variant| variant.kl_ci95.map(|interval| interval[0])),
            optional("kl_high", None, |variant| variant.kl_ci95.map(|interval| interval[1])),
            optional("top1_agreement", Some(1.0), |variant| variant.top1_agreement),
        ],
    )?;
    let rows = &comparison.positions;
    let positions = Table::new(
        "positions",
        vec![
            Column::texts("name", rows.iter().map(|row| run_name(&row.name))),
            Column::counts("position", rows.iter().map(|row| row.position)),
            Column::floats("nll", rows.iter().map(|row| row.nll)),
        ],
    )?;
    let mut tables = vec![table, positions];
    let layers: Vec<(&str, &LinearLayer)> = variants
        .iter()
        .flat_map(|variant| variant.linear_layers.iter().map(|layer| (variant.name.as_str(), layer)))
        .collect();
    if !layers.is_empty() {
        tables.push(linear_layers(&layers)?);
    }
    let lines = &comparison.advice;
    if !lines.is_empty() {
        tables.push(Table::new(
            "advice",
            vec![
                Column::texts("about", lines.iter().map(|line| &line.about)),
                Column::texts("operation", lines.iter().map(|line| line.operation.as_str())),
                Column::texts("text", lines.iter().map(|line| line.text.as_str())),
                Column::floats("figure", lines.iter().map(|line| line.figure)),
                Column::texts("unit", lines.iter().map(|line| &line.unit)),
                Column::counts("trials", lines.iter().map(|line| line.trials)),
            ],
        )?);
    }
    let steps: Vec<(&Sweep, &SweepStep, &Variant)> = comparison
        .sweeps
        .iter()
        .flat_map(|sweep| sweep.steps.iter().map(move |step| (sweep, step)))
        .filter_map(|(sweep, step)| Some((sweep, step, comparison.variants.get(step.variant)?)))
        .collect();
    if !steps.is_empty() {
        let of = |name, of: fn(&Variant) -> Option<f64>| {
            Column::optional_floats(name, steps.iter().map(|(.., variant)| of(variant)))
        };
        tables.push(Table::new(
            "sweeps",
            vec![
                Column::texts("name", steps.iter().map(|(sweep, ..)| sweep.name.as_str())),
                Column::counts("kept", steps.iter().map(|(_, step, _)| step.kept)),
                of("delta_nll", |variant| variant.delta_nll),
                of("delta_low", |variant| variant.delta_ci95.map(|interval| interval[0])),
                of("delta_high", |variant| variant.delta_ci95.map(|interval| interval[1])),
                of("kl", |variant| variant.kl),
                of("top1_agreement", |variant| variant.top1_agreement),
            ],
        )?);
    }
    Ok(tables)
}

fn linear_layers(layers: &[(&str, &LinearLayer)]) -> Result<Table, ReportError> {
    let singles = |name, of: fn(&LinearLayer) -> Option<f32>| {
        Column::new(name, Values::Singles(layers.iter().map(|(_, layer)| of(layer)).collect()))
    };
    let floats = |name, of: fn(&LinearLayer) -> Option<f64>| {
        Column::optional_floats(name, layers.iter().map(|(_, layer)| of(layer)))
    };
    Table::new(
        "linear_layers",
        vec![
            Column::texts("name", layers.iter().map(|(name, _)| *name)),
            Column::counts("block", layers.iter().map(|(_, layer)| layer.block)),
            Column::texts("projection", layers.iter().map(|(_, layer)| &layer.projection)),
            Column::texts("tensor", layers.iter().map(|(_, layer)| &layer.tensor)),
            Column::counts("weights", layers.iter().map(|(_, layer)| layer.weights)),
            singles("largest_at_spikes", |layer| layer.largest_at_spikes),
            singles("largest_elsewhere", |layer| Some(layer.largest_elsewhere)),
            floats("error", |layer| layer.error),
            floats("error_at_spikes", |layer| layer.error_at_spikes),
            Column::booleans("breaks", layers.iter().map(|(_, layer)| layer.breaks)),
        ],
    )
}
