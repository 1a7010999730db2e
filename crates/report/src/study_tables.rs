//! The tidy tables of `sinkscope study`: `study`, one row a row; `looks`, one row a look at a run; `conditions`, one
//! row a condition of a claim.

use sinkscope_lab::measure::{About, MEASURES, Measure};
use sinkscope_lab::study::StudyResults;
use sinkscope_lab::study::claim::{Tested, Verdict};
use sinkscope_lab::study::file::Paper;
use sinkscope_lab::study::results::{RowResult, RunResult};
use sinkscope_lab::study::summary::ShortLook;

use crate::ReportError;
use crate::tidy::{Column, Table, Values};

/// The tables of a study.
///
/// # Errors
/// [`ReportError::Table`] if the writer refuses one.
pub fn study_tables(results: &StudyResults) -> Result<Vec<Table>, ReportError> {
    Ok(vec![rows(&results.rows)?, looks(&results.rows)?, conditions(results)?])
}

fn rows(rows: &[RowResult]) -> Result<Table, ReportError> {
    let parameters = |row: &RowResult| Some(row.runs.first()?.summary.parameters as i64);
    let mut columns = vec![
        Column::texts("row", rows.iter().map(|row| row.name.as_str())),
        Column::booleans("baseline", rows.iter().map(|row| row.baseline)),
        Column::counts("seeds", rows.iter().map(|row| row.runs.len())),
        Column::counts("diverged", rows.iter().map(|row| row.diverged.len())),
        Column::new("parameters", Values::Integers(rows.iter().map(parameters).collect())),
    ];
    for &About { measure, name, .. } in MEASURES {
        let figures = || rows.iter().map(|row| row.figures?.of(measure));
        columns.push(Column::optional_floats(name, figures().map(|spread| Some(spread?.mean))));
        columns.push(Column::optional_floats(format!("{name}_deviation"), figures().map(|spread| spread?.deviation)));
        let interval = |end: usize| rows.iter().map(move |row| row.interval(measure).map(|interval| interval[end]));
        columns.push(Column::optional_floats(format!("{name}_low"), interval(0)));
        columns.push(Column::optional_floats(format!("{name}_high"), interval(1)));
        if Paper::MEASURES.contains(&measure) {
            let paper = rows.iter().map(|row| row.paper.of(measure));
            columns.push(Column::optional_floats(format!("paper_{name}"), paper));
        }
    }
    Table::new("study", columns)
}

fn looks(rows: &[RowResult]) -> Result<Table, ReportError> {
    let looks: Vec<(&RowResult, &RunResult, &ShortLook)> = rows
        .iter()
        .flat_map(|row| row.runs.iter().map(move |run| (row, run)))
        .flat_map(|(row, run)| run.summary.looks.iter().map(move |look| (row, run, look)))
        .collect();
    let counts =
        |name, of: fn(&ShortLook) -> u64| Column::counts(name, looks.iter().map(|(.., look)| of(look) as usize));
    let floats = |name, of: fn(&ShortLook) -> Option<f64>| {
        Column::optional_floats(name, looks.iter().map(|(.., look)| of(look)))
    };
    let place = |name, of: fn(&ShortLook) -> Option<usize>| {
        let places = looks.iter().map(|(.., look)| of(look).map(|place| place as i64));
        Column::new(name, Values::Integers(places.collect()))
    };
    let mut columns = vec![
        Column::texts("row", looks.iter().map(|(row, ..)| row.name.as_str())),
        Column::counts("seed", looks.iter().map(|(_, run, _)| run.seed as usize)),
        counts("step", |look| look.step),
        counts("tokens", |look| look.tokens),
        floats("loss", |look| look.loss),
        floats("nll", |look| Some(look.nll)),
    ];
    for about in About::in_looks() {
        columns.extend(about.of_short.map(|of| floats(about.name_in_looks(), of)));
        if about.measure == Measure::Spike {
            columns.push(place("spike_block", |look| look.spike_at.map(|at| at.block)));
            columns.push(place("spike_channel", |look| look.spike_at.map(|at| at.channel)));
            columns.push(place("spike_position", |look| look.spike_at.map(|at| at.position)));
        }
    }
    Table::new("looks", columns)
}

fn conditions(results: &StudyResults) -> Result<Table, ReportError> {
    let conditions: Vec<(&str, Verdict, &Tested)> = results
        .claims
        .iter()
        .flat_map(|claim| claim.conditions.iter().map(|tested| (claim.text.as_str(), claim.verdict, tested)))
        .collect();
    let texts = |name, of: &dyn Fn(&Tested) -> Option<String>| {
        Column::new(name, Values::Texts(conditions.iter().map(|(.., tested)| of(tested)).collect()))
    };
    let floats = |name, of: fn(&Tested) -> Option<f64>| {
        Column::optional_floats(name, conditions.iter().map(|(.., tested)| of(tested)))
    };
    let integers = |name, of: fn(&Tested) -> Option<usize>| {
        let counts = conditions.iter().map(|(.., tested)| of(tested).map(|count| count as i64));
        Column::new(name, Values::Integers(counts.collect()))
    };
    Table::new(
        "conditions",
        vec![
            Column::texts("claim", conditions.iter().map(|(claim, ..)| *claim)),
            Column::texts(
                "claim_verdict",
                conditions.iter().map(|(_, verdict, _)| crate::terminal::study::verdict(*verdict)),
            ),
            texts("row", &|tested| Some(tested.condition.row.clone())),
            texts("against", &|tested| tested.condition.against.clone()),
            texts("measure", &|tested| Some(tested.condition.measure.about().name.to_owned())),
            texts("statistic", &|tested| {
                tested.condition.statistic.map(|statistic| format!("{statistic:?}").to_lowercase())
            }),
            floats("below", |tested| tested.condition.below),
            floats("above", |tested| tested.condition.above),
            Column::counts("seeds", conditions.iter().map(|(.., tested)| tested.seeds)),
            integers("against_seeds", |tested| tested.against_seeds),
            floats("estimate", |tested| tested.estimate),
            floats("low", |tested| tested.interval.map(|interval| interval[0])),
            floats("high", |tested| tested.interval.map(|interval| interval[1])),
            floats("correlation", |tested| tested.correlation),
            texts("test", &|tested| tested.test.map(|test| format!("{test:?}").to_lowercase())),
            floats("p_agrees", |tested| tested.p_agrees),
            floats("p_disagrees", |tested| tested.p_disagrees),
            integers("runs_needed", |tested| tested.runs_needed),
            texts("verdict", &|tested| Some(crate::terminal::study::verdict(tested.verdict).to_owned())),
        ],
    )
}
