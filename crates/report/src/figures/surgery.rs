//! What operations on the model do to it.

use sinkscope_anatomy::definitions::{INTERVAL, in_percent};
use sinkscope_anatomy::wide::mean;
use sinkscope_surgery::definitions::BREAKS;
use sinkscope_surgery::results::{Comparison, LinearLayer, SweepStep, Variant};

use super::{or_gap, take};
use crate::ReportError;
use crate::figure::{Axis, Colour, Content, Figure, Mark, Panel, Rule, Series};
use crate::number::{counted, value};
use crate::operate_tables::run_name;
use crate::tidy::Table;

/// Most runs with a line of their own, and most quantisations with a panel.
const MOST_LINES: usize = 6;
const MOST_PANELS: usize = 3;

/// What every operation costs in prediction, and what it leaves of sinks and spikes; perplexity of the untouched model is
/// over all its targets.
pub fn operations(comparison: &Comparison, tables: &[Table]) -> Result<Figure, ReportError> {
    let variants = &comparison.variants;
    let names = || Axis::names("", variants.iter().map(|variant| variant.name.clone()));
    let dots = |colour, of: &dyn Fn(&Variant) -> f64| {
        let points = variants.iter().enumerate().map(|(index, variant)| (of(variant), index as f64));
        Series::new("", colour, Mark::Dots, points)
            .with_notes(variants.iter().map(|variant| variant.name.clone()).collect())
    };
    let cost = dots(Colour::Spike, &|variant| or_gap(variant.delta_nll)).with_intervals(
        variants.iter().map(|variant| variant.delta_ci95.unwrap_or_else(|| [or_gap(variant.delta_nll); 2])).collect(),
    );
    let perplexity = dots(Colour::Spike, &|variant| or_gap(variant.perplexity));
    let sinks = dots(Colour::Sink, &|variant| 100.0 * or_gap(variant.sink_ratio));
    let largest = dots(Colour::Spike, &|variant| or_gap(variant.largest));
    let baseline = &comparison.baseline;
    let worst = variants
        .iter()
        .filter(|variant| variant.delta_nll.is_some())
        .max_by(|a, b| or_gap(a.delta_nll).total_cmp(&or_gap(b.delta_nll)));
    let perplexities = Panel::plot("Perplexity", Axis::log("perplexity"), names(), vec![perplexity]);
    Ok(Figure {
        id: "operations".into(),
        title: "What operations cost".into(),
        paper: None,
        caption: format!(
            "What is added to the loss, over the targets that both runs predict, with the paired {} bootstrap interval over \
             sequences; perplexity over these targets, beside that of the untouched model over all its own; the sink ratio \
             and the largest activation that are left.",
            in_percent(INTERVAL)
        ),
        alt: worst.map_or_else(
            || "No operation predicts a target that the untouched model does.".into(),
            |worst| {
                format!(
                    "Untouched, perplexity is {}; {} costs most, {:+.4} nats a token.",
                    baseline.perplexity.map_or_else(|| "infinite".to_owned(), value),
                    worst.name,
                    or_gap(worst.delta_nll)
                )
            },
        ),
        panels: vec![
            Panel::plot("Cost", Axis::linear("nats a token"), names(), vec![cost]).with_rule(Rule::upright(0.0, "")),
            match baseline.perplexity {
                Some(untouched) => perplexities.with_rule(Rule::upright(untouched, "untouched")),
                None => perplexities,
            },
            Panel::plot("Sinks", Axis::linear("sink ratio, %").within(0.0, 102.0), names(), vec![sinks])
                .with_rule(Rule::upright(100.0 * baseline.sink_ratio, "untouched")),
            Panel::plot("Spike", Axis::log("largest activation"), names(), vec![largest])
                .with_rule(Rule::upright(baseline.largest, "untouched")),
        ],
        data: take(tables, "variants")?,
    })
}

/// Loss by position, of the untouched model and of the operations that change it most.
pub fn by_position(comparison: &Comparison) -> Result<Figure, ReportError> {
    let binned = &comparison.by_position;
    let cost = |name: &str| {
        let variant = comparison.variants.iter().find(|variant| variant.name == name);
        variant.and_then(|variant| variant.delta_nll).map_or(f64::INFINITY, f64::abs)
    };
    // The untouched model has an empty name and comes first.
    let mut chosen: Vec<_> = binned.runs.iter().collect();
    chosen.sort_by(|a, b| cost(&b.name).total_cmp(&cost(&a.name)));
    chosen.truncate(MOST_LINES + 1);
    let at = |bin: usize| (bin * binned.width) as f64 + (binned.width - 1) as f64 / 2.0;
    let series = chosen.iter().enumerate().map(|(index, run)| {
        let (name, colour, mark) = if run.name.is_empty() {
            ("untouched", Colour::Other, Mark::Dashed)
        } else {
            (run.name.as_str(), Colour::Nth(index.saturating_sub(1)), Mark::Line)
        };
        let points = run.nll.iter().enumerate().map(|(bin, nll)| (at(bin), or_gap(*nll)));
        Series::new(name, colour, mark, points)
    });
    let rows = binned.runs.iter().flat_map(|run| run.nll.iter().enumerate().map(move |(bin, nll)| (run, bin, *nll)));
    Ok(Figure {
        id: "loss-by-position".into(),
        title: "Loss by position".into(),
        paper: None,
        caption: format!(
            "Mean negative log-likelihood of the token at a position, over sequences{}: of the untouched model and of the \
             operations that change it most.",
            if binned.width > 1 { format!(" and {} positions", binned.width) } else { String::new() }
        ),
        alt: chosen
            .iter()
            .take(2)
            .filter_map(|run| {
                let known: Vec<f64> = run.nll.iter().flatten().copied().collect();
                let quarter = (known.len() / 4).max(1);
                let of = |part: Option<&[f64]>| mean(part?.iter().copied());
                let (first, last) = (of(known.get(..quarter))?, of(known.get(known.len() - quarter..))?);
                let name = if run.name.is_empty() { "Untouched" } else { &run.name };
                Some(format!("{name}: {first:.2} nats in the first quarter, {last:.2} in the last."))
            })
            .collect::<Vec<_>>()
            .join(" "),
        panels: vec![Panel::plot("", Axis::linear("position"), Axis::linear("nats a token"), series.collect())],
        data: Table::of("loss-by-position", rows)
            .column("name", |(run, ..)| run_name(&run.name).to_owned())
            .column("first_position", |(_, bin, _)| bin * binned.width)
            .column("nll", |(.., nll)| *nll)
            .column("perplexity", |(.., nll)| nll.map(f64::exp))
            .table()?,
    })
}

/// What keeping first tokens wins back; `None` if nothing was swept.
///
/// # Errors
/// [`ReportError::Table`] if `tables` lacks the numbers.
pub fn sweeps(comparison: &Comparison, tables: &[Table]) -> Result<Option<Figure>, ReportError> {
    if comparison.sweeps.is_empty() {
        return Ok(None);
    }
    let series = comparison.sweeps.iter().enumerate().map(|(index, sweep)| {
        let variant = |step: &SweepStep| comparison.variants.get(step.variant);
        let points = sweep
            .steps
            .iter()
            .map(|step| (step.kept as f64, or_gap(variant(step).and_then(|variant| variant.delta_nll))));
        Series::new(sweep.name.as_str(), Colour::Nth(index), Mark::Line, points)
    });
    let answers = comparison.sweeps.iter().map(|sweep| match sweep.enough {
        Some(enough) => format!("{}: {enough} are enough", sweep.name),
        None => format!("{}: no number up to the last is", sweep.name),
    });
    let answers: Vec<String> = answers.collect();
    Ok(Some(Figure {
        id: "sweeps".into(),
        title: "How many tokens must stay".into(),
        paper: None,
        caption: "What an operation adds to the loss with each number of first tokens kept as they are. Enough are \
                  those beyond which a token is worth at most twice an average one."
            .into(),
        alt: answers.join("; ") + ".",
        panels: vec![Panel::plot(
            "",
            Axis::linear("first tokens kept of each sequence"),
            Axis::linear("nats a token"),
            series.collect(),
        )],
        data: take(tables, "sweeps")?,
    }))
}

/// What quantised layers lose of their output, layer by layer; `None` if nothing was quantised.
pub fn quantisation(comparison: &Comparison, tables: &[Table]) -> Result<Option<Figure>, ReportError> {
    let mut quantised: Vec<&Variant> =
        comparison.variants.iter().filter(|variant| !variant.linear_layers.is_empty()).collect();
    if quantised.is_empty() {
        return Ok(None);
    }
    // The worst first, all on one scale.
    let worst = |variant: &Variant| variant.linear_layers.iter().filter_map(|layer| layer.error).fold(0.0, f64::max);
    quantised.sort_by(|a, b| worst(b).total_cmp(&worst(a)));
    let shown = || quantised.iter().take(MOST_PANELS);
    let errors = || shown().flat_map(|variant| &variant.linear_layers).filter_map(|layer| layer.error);
    let errors = || errors().filter(|error| *error > 0.0).map(|error| 100.0 * error);
    let range = [errors().fold(f64::INFINITY, f64::min), errors().fold(0.0, f64::max)];
    let range = (range[0] < range[1]).then_some(range);
    let panels = shown().map(|variant| {
        let mut projections: Vec<&str> = Vec::new();
        for layer in &variant.linear_layers {
            if !projections.contains(&layer.projection.as_str()) {
                projections.push(&layer.projection);
            }
        }
        let layer_of = |layer: &LinearLayer| (layer.block.max(1) - 1) / 2;
        let layers = variant.linear_layers.iter().map(layer_of).max().unwrap_or(0) + 1;
        let mut values = vec![vec![f64::NAN; layers]; projections.len()];
        for layer in &variant.linear_layers {
            let row = projections.iter().position(|projection| *projection == layer.projection);
            if let (Some(row), Some(error)) = (row, layer.error) {
                values[row][layer_of(layer)] = 100.0 * error;
            }
        }
        Panel {
            title: variant.name.clone(),
            x: Axis::linear("layer"),
            y: Axis::names("", projections),
            content: Content::Heat { values, unit: "error, %".into(), range, log: true },
        }
    });
    let broken: Vec<String> = quantised
        .iter()
        .map(|variant| {
            let breaking = variant.linear_layers.iter().filter(|layer| layer.breaks).count();
            format!("{}: {breaking} of {} layers break", variant.name, variant.linear_layers.len())
        })
        .collect();
    Ok(Some(Figure {
        id: "quantisation".into(),
        title: "Where quantisation does damage".into(),
        paper: None,
        caption: format!(
            "Relative error of the output of every quantised layer on the untouched model's inputs, at tokens that do not \
             spike, in percent, for the {} worst of {}. Colours go by the logarithm. A layer breaks above {}.",
            shown().count(),
            counted(quantised.len(), "quantisation", "quantisations"),
            in_percent(BREAKS)
        ),
        alt: broken.join("; ") + ".",
        panels: panels.collect(),
        data: take(tables, "linear_layers")?,
    }))
}
