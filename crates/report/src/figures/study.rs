//! A study: its rows beside one another, and when they part.

use sinkscope_lab::measure::Measure;
use sinkscope_lab::study::results::{RowResult, StudyResults};
use sinkscope_lab::study::summary::ShortLook;

use super::take;
use crate::ReportError;
use crate::figure::{Axis, Colour, Figure, Mark, Panel, Series};
use crate::number::{count, percent, value};
use crate::tidy::Table;

/// Perplexity, sinks and standout of every row, each seed and the mean with its deviation.
pub fn rows(results: &StudyResults, tables: &[Table]) -> Result<Figure, ReportError> {
    let rows: Vec<&RowResult> = results.rows.iter().filter(|row| row.figures.is_some()).collect();
    let names = || Axis::names("", rows.iter().map(|row| row.name.clone()));
    let panel = |title: &str, axis: Axis, colour, measure| {
        let spreads = rows.iter().enumerate().filter_map(|(at, row)| Some((at, *row, row.figures?.of(measure)?)));
        let means =
            Series::new("", colour, Mark::Dots, spreads.clone().map(|(at, _, spread)| (spread.mean, at as f64)))
                .with_intervals(
                    spreads.clone().map(|(_, row, spread)| row.interval(measure).unwrap_or([spread.mean; 2])).collect(),
                )
                .with_notes(spreads.map(|(_, row, spread)| format!("{}: {}", row.name, value(spread.mean))).collect());
        let runs = || {
            let runs = rows.iter().enumerate().flat_map(|(at, row)| row.runs.iter().map(move |run| (at, run)));
            runs.filter_map(|(at, run)| Some((at, run.seed, run.figures.of(measure)?)))
        };
        let seeds = Series::new("", Colour::Other, Mark::Crosses, runs().map(|(at, _, of)| (of, at as f64)))
            .with_notes(runs().map(|(_, seed, of)| format!("seed {seed}: {}", value(of))).collect());
        Panel::plot(title, axis, names(), vec![seeds, means])
    };
    let said = rows.iter().filter_map(|row| {
        let mean = |measure| Some(row.figures?.of(measure)?.mean);
        Some(format!(
            "{}: perplexity {}, sinks {}, standout {}",
            row.name,
            value(mean(Measure::Perplexity)?),
            percent(mean(Measure::SinkPercent)? / 100.0),
            mean(Measure::Standout).map_or_else(|| "not known".into(), value)
        ))
    });
    Ok(Figure {
        id: "rows".into(),
        title: "The rows beside one another".into(),
        paper: results.table.clone(),
        caption: "A dot is the mean over seeds, with its 95 % t interval; crosses are the seeds.".into(),
        alt: said.collect::<Vec<_>>().join("; ") + ".",
        panels: vec![
            panel("Perplexity", Axis::linear("perplexity"), Colour::Nth(2), Measure::Perplexity),
            panel("Sinks", Axis::linear("sink ratio, %"), Colour::Sink, Measure::SinkPercent),
            panel("Standout", Axis::log("largest over typical"), Colour::Spike, Measure::Standout),
        ],
        data: take(tables, "study")?,
    })
}

/// Loss, sinks and largest activation of every row over training, mean over seeds.
pub fn emergence(results: &StudyResults, tables: &[Table]) -> Result<Figure, ReportError> {
    let rows: Vec<&RowResult> = results.rows.iter().filter(|row| !row.runs.is_empty()).collect();
    let panel = |title: &str, axis: Axis, of: fn(&ShortLook) -> f64| {
        let lines = rows.iter().enumerate().map(|(index, row)| {
            // The looks of all seeds are at the same steps; of a run that lacks one, none is taken there.
            let most = row.runs.iter().map(|run| run.summary.looks.len()).min().unwrap_or(0);
            let points = (0..most).map(|look| {
                let at = |run: usize| &row.runs[run].summary.looks[look];
                let mean = (0..row.runs.len()).map(|run| of(at(run))).sum::<f64>() / row.runs.len() as f64;
                (at(0).tokens as f64 / 1e6, mean)
            });
            let mark = if index < Colour::ALIKE { Mark::Line } else { Mark::Dashed };
            Series::new(&row.name, Colour::Nth(index), mark, points)
        });
        Panel::plot(title, Axis::linear("million tokens"), axis, lines.collect())
    };
    Ok(Figure {
        id: "rows-over-training".into(),
        title: "When the rows part".into(),
        paper: None,
        caption: "Looks at the models while they were trained, mean over seeds.".into(),
        alt: rows
            .iter()
            .filter_map(|row| {
                let looks = &row.runs.first()?.summary.looks;
                let most = looks.iter().max_by(|a, b| a.sink_ratio.total_cmp(&b.sink_ratio))?;
                Some(format!(
                    "{}: seed {} sinks most, {}, after {} tokens",
                    row.name,
                    row.runs[0].seed,
                    percent(most.sink_ratio),
                    count(most.tokens)
                ))
            })
            .collect::<Vec<_>>()
            .join("; ")
            + ".",
        panels: vec![
            panel("Loss", Axis::linear("nats a token, held out"), |look| look.nll),
            panel("Sinks", Axis::linear("sink ratio, %"), |look| 100.0 * look.sink_ratio),
            panel("Largest activation", Axis::log("after any block"), |look| look.spike),
        ],
        data: take(tables, "looks")?,
    })
}
