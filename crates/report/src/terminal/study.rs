//! A study: its table, and its claims with their verdicts. The words and figures are also those of its Markdown.

use sinkscope_lab::measure::{About, MEASURES, Measure, Unit};
use sinkscope_lab::study::claim::{Statistic, Tested, Verdict};
use sinkscope_lab::study::file::Paper;
use sinkscope_lab::study::results::{RowResult, StudyResults};
use sinkscope_lab::study::statistics::Spread;

use super::grid::{Grid, Heading};
use super::style::Style;
use crate::number::{count, value};
use crate::text::{escape_control, wrap, wrap_indented};

/// What stands for a figure that there is none of.
pub(crate) const NONE: &str = "";

/// What the figures are.
pub(crate) const CAPTION: &str = "mean ± sample deviation over seeds";
/// How verdicts come about, in a sentence.
pub(crate) const TEST: &str = "\
Verdicts: the two-sided 95 % t interval over seeds, paired by seed, lies on the claimed side of the bound (agrees), on the \
other (disagrees), or on both (undecided, as with one seed).";

/// The cells of a row, but for its name.
pub(crate) struct Cells {
    /// One a measure.
    pub figures: Vec<String>,
    pub seeds: String,
    /// One a measure of [`Paper::MEASURES`].
    pub paper: Vec<String>,
}

impl Cells {
    pub(crate) fn of(row: &RowResult, seeds: usize) -> Self {
        let figure = |about: &About| {
            row.figures.map_or_else(|| NONE.to_owned(), |figures| spread(figures.of(about.measure), about.unit))
        };
        let paper = |measure: Measure| {
            row.paper.of(measure).map_or_else(|| NONE.to_owned(), |value| plain(value, measure.about().unit))
        };
        Self {
            figures: MEASURES.iter().map(figure).collect(),
            seeds: counted(row.runs.len(), row.diverged.len(), seeds),
            paper: Paper::MEASURES.map(paper).into(),
        }
    }

    /// Those of a table with a column for each.
    pub(crate) fn row(self, name: String, is_of_paper: bool) -> Vec<String> {
        let paper = if is_of_paper { self.paper } else { Vec::new() };
        [vec![name], self.figures, vec![self.seeds], paper].concat()
    }
}

/// What stands above the figures of a measure.
pub(crate) fn heading(about: &About) -> String {
    about.heading.to_owned() + if matches!(about.unit, Unit::Percent(_)) { ", %" } else { "" }
}

/// The headings of a table with a column for each cell, those of the paper after a `mark` by their place.
pub(crate) fn headings(is_of_paper: bool, mark: fn(usize) -> &'static str) -> Vec<String> {
    let paper: &[Measure] = if is_of_paper { &Paper::MEASURES } else { &[] };
    let paper = paper.iter().enumerate().map(|(at, measure)| mark(at).to_owned() + &heading(measure.about()));
    ["row".to_owned()]
        .into_iter()
        .chain(MEASURES.iter().map(heading))
        .chain(["seeds".to_owned()])
        .chain(paper)
        .collect()
}

/// How many of the seeds have finished, and how many diverged.
fn counted(finished: usize, diverged: usize, seeds: usize) -> String {
    match (finished, diverged) {
        (finished, 0) if finished == seeds => seeds.to_string(),
        (finished, 0) => format!("{finished} of {seeds}"),
        (finished, diverged) if finished + diverged == seeds => format!("{diverged} of {seeds} diverged"),
        (finished, diverged) => format!("{finished} of {seeds}, {diverged} diverged"),
    }
}

/// What a verdict is called.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Agrees => "agrees",
        Verdict::Disagrees => "disagrees",
        Verdict::Undecided => "undecided",
    }
}

/// A mean and how far values lie from it, with as many decimals.
fn spread(spread: Spread, unit: Unit) -> String {
    let Spread { mean, deviation } = spread;
    let decimals = decimals(mean, unit);
    let deviation = deviation.map_or_else(String::new, |deviation| format!(" ± {}", fixed(deviation, decimals)));
    fixed(mean, decimals) + &deviation
}

/// A figure of the paper, with as many digits as it has.
fn plain(value: f64, unit: Unit) -> String {
    fixed(value, usize::from(unit != Unit::Magnitude))
}

fn decimals(value: f64, unit: Unit) -> usize {
    match (unit, value.abs()) {
        (Unit::Percent(_), _) => 1,
        (Unit::Share, _) => 3,
        (_, 999.5..) => 0,
        (_, 99.95..) => 1,
        _ => 2,
    }
}

fn fixed(number: f64, decimals: usize) -> String {
    match decimals {
        _ if !number.is_finite() || number.abs() >= 1e15 => value(number),
        0 if number >= 0.0 => count(number.round() as u64),
        _ => format!("{number:.decimals$}"),
    }
}

/// What was tested and what it came to, with names marked by `mark`.
pub(crate) fn condition(tested: &Tested, mark: impl Fn(&str) -> String) -> String {
    let condition = &tested.condition;
    let row = mark(&condition.row);
    let against = condition.against.as_deref().map(mark).unwrap_or_default();
    let About { words, unit, .. } = condition.measure.about();
    let of = words.to_string() + if matches!(unit, Unit::Percent(_)) { " in %" } else { "" };
    let what = match condition.statistic {
        Some(Statistic::Ratio) => format!("{of} of {row} over that of {against}"),
        Some(Statistic::Difference) => format!("{of} of {row} less that of {against}"),
        None => format!("{of} of {row}"),
    };
    let claimed = match (condition.below, condition.above) {
        (Some(bound), _) => format!("claimed below {bound}"),
        (None, Some(bound)) => format!("claimed above {bound}"),
        (None, None) => String::new(),
    };
    let estimate = tested.estimate.map_or_else(|| "not known".to_owned(), value);
    let interval =
        tested.interval.map_or_else(String::new, |[low, high]| format!(" ({} to {})", value(low), value(high)));
    let diverged = match tested.diverged {
        0 => String::new(),
        1 => ", without 1 seed that diverged".to_owned(),
        count => format!(", without {count} seeds that diverged"),
    };
    format!("{what}: {estimate}{interval}, {claimed}{diverged}")
}

/// Whether the paper has any of the rows.
pub(crate) fn is_of_paper(results: &StudyResults) -> bool {
    results.rows.iter().any(|row| row.paper != Paper::default())
}

/// What the study is about, in a line.
pub(crate) fn subject(results: &StudyResults) -> String {
    match &results.table {
        Some(table) => format!("{} ({table})", results.title),
        None => results.title.clone(),
    }
}

/// The table.
pub(super) fn rows(results: &StudyResults, style: &Style) -> String {
    // That figures are means is said above.
    let headings: Vec<_> = MEASURES.iter().map(|about| heading(about).replacen("mean ", "", 1)).collect();
    let figures = MEASURES.iter().zip(&headings);
    let figures = figures.map(|(about, heading)| Heading::number(heading).expendable(about.expendable));
    let (seeds, paper) = (Heading::number("seeds"), Heading::text("paper").expendable(1));
    let mut grid =
        Grid::new([Heading::text("row")].into_iter().chain(figures).chain([seeds, paper]).collect::<Vec<_>>());
    for row in &results.rows {
        let Cells { figures, seeds, paper } = Cells::of(row, results.seeds.len());
        let name = escape_control(&row.name) + if row.baseline { " *" } else { "" };
        let known = paper.iter().any(|figure| !figure.is_empty());
        let paper = if known { paper.join(" / ") } else { NONE.to_owned() };
        grid.row([vec![name], figures, vec![seeds, paper]].concat());
    }
    let paper = if is_of_paper(results) {
        format!("; paper: {} of its 7B models", Paper::MEASURES.map(|measure| measure.about().heading).join(" / "))
    } else {
        String::new()
    };
    style.title(&escape_control(&subject(results)), &format!("{CAPTION}{paper}; * the baseline")) + &grid.render(style)
}

/// The claims, if there are any, each with its conditions.
pub(super) fn claims(results: &StudyResults, style: &Style) -> String {
    if results.claims.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", style.heading("Claims"));
    for claim in &results.claims {
        let sentence = format!("{}: {}", verdict(claim.verdict), escape_control(&claim.text));
        text += &wrap_indented(&sentence, style.width(), "  ");
        for tested in &claim.conditions {
            let line = format!("{}: {}", verdict(tested.verdict), condition(tested, escape_control));
            text += &style.faint(&wrap_indented(&line, style.width(), "    "));
        }
    }
    text + &wrap(TEST, style.width())
}
