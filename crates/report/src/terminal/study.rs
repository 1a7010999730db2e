//! A study: its table, and its claims with their verdicts. The words and figures are also those of its Markdown.

use sinkscope_lab::study::claim::{Measure, Statistic, Tested, Verdict};
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
    pub perplexity: String,
    pub sinks: String,
    pub mean_max_alpha: String,
    pub spike: String,
    pub over_typical: String,
    pub seeds: String,
    /// Perplexity, sinks, spike.
    pub paper: [String; 3],
}

impl Cells {
    pub(crate) fn of(row: &RowResult, seeds: usize) -> Self {
        let figure =
            |measure| row.figures.map_or_else(|| NONE.to_owned(), |figures| spread(figures.of(measure), measure));
        let paper = |measure| row.paper.of(measure).map_or_else(|| NONE.to_owned(), |value| plain(value, measure));
        Self {
            perplexity: figure(Measure::Perplexity),
            sinks: figure(Measure::SinkPercent),
            mean_max_alpha: figure(Measure::MeanMaxAlpha),
            spike: figure(Measure::Spike),
            over_typical: figure(Measure::SpikeOverTypical),
            seeds: counted(row.runs.len(), row.diverged.len(), seeds),
            paper: [Measure::Perplexity, Measure::SinkPercent, Measure::Spike].map(paper),
        }
    }
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

/// What a measure is called.
fn name(measure: Measure) -> &'static str {
    match measure {
        Measure::Perplexity => "perplexity",
        Measure::SinkPercent => "sink ratio in %",
        Measure::MeanMaxAlpha => "mean max alpha",
        Measure::Spike => "spike",
        Measure::SpikeOverTypical => "spike over typical",
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
fn spread(spread: Spread, measure: Measure) -> String {
    let Spread { mean, deviation } = spread;
    let decimals = decimals(mean, measure);
    let deviation = deviation.map_or_else(String::new, |deviation| format!(" ± {}", fixed(deviation, decimals)));
    fixed(mean, decimals) + &deviation
}

/// A figure of the paper, with as many digits as it has.
fn plain(value: f64, measure: Measure) -> String {
    fixed(value, usize::from(measure != Measure::Spike))
}

fn decimals(value: f64, measure: Measure) -> usize {
    match (measure, value.abs()) {
        (Measure::SinkPercent, _) => 1,
        (Measure::MeanMaxAlpha, _) => 3,
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
    let what = match condition.statistic {
        Some(Statistic::Ratio) => format!("{} of {row} over that of {against}", name(condition.measure)),
        Some(Statistic::Difference) => format!("{} of {row} less that of {against}", name(condition.measure)),
        None => format!("{} of {row}", name(condition.measure)),
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
    let mut grid = Grid::new([
        Heading::text("row"),
        Heading::number("perplexity"),
        Heading::number("sinks, %"),
        Heading::number("max alpha").expendable(2),
        Heading::number("spike"),
        Heading::number("over typical").expendable(3),
        Heading::number("seeds"),
        Heading::text("paper").expendable(1),
    ]);
    for row in &results.rows {
        let cells = Cells::of(row, results.seeds.len());
        let name = escape_control(&row.name) + if row.baseline { " *" } else { "" };
        let known = cells.paper.iter().any(|figure| !figure.is_empty());
        let paper = if known { cells.paper.join(" / ") } else { NONE.to_owned() };
        grid.row(vec![
            name,
            cells.perplexity,
            cells.sinks,
            cells.mean_max_alpha,
            cells.spike,
            cells.over_typical,
            cells.seeds,
            paper,
        ]);
    }
    let paper = if is_of_paper(results) { "; paper: perplexity / sinks / spike of its 7B models" } else { "" };
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
