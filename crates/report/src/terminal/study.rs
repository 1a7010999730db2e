//! A study: its table, and its claims with their verdicts. The words and figures are also those of its Markdown.

use sinkscope_lab::measure::{About, MEASURES, Measure, Unit};
use sinkscope_lab::study::claim::{Statistic, Tested, Verdict};
use sinkscope_lab::study::file::Paper;
use sinkscope_lab::study::results::{RowResult, StudyResults};
use sinkscope_lab::study::statistics::Spread;

use super::grid::{Grid, Heading};
use super::style::Style;
use crate::number::{self, count, value};
use crate::text::{escape_control, wrap, wrap_indented};

/// What the figures are.
pub(crate) const CAPTION: &str = "mean ± sample deviation over seeds";
/// How verdicts come about, in a sentence.
pub(crate) const TEST: &str = "\
Verdicts: of studies whose truths lie on the bounds, 5 % at most say agrees or disagrees of any claim (tests of unpaired rows, \
unless said otherwise, by Holm's rule over the study); the rest is undecided, and so are rows of fewer than five runs. Intervals: \
95 %, of each condition by itself.";

/// Measures so expendable or more have no column but in the tidy tables.
const TIDY_ALONE: u8 = 7;

/// The measures that have a column here: of those that any row has, not all, as the tidy tables have.
pub(crate) fn shown(results: &StudyResults) -> impl Iterator<Item = &'static About> {
    let has = |row: &RowResult, about: &About| row.figures.is_some_and(|figures| figures.of(about.measure).is_some());
    MEASURES.iter().filter(move |about| about.expendable < TIDY_ALONE && results.rows.iter().any(|row| has(row, about)))
}

/// The headings of the table, those of the paper's figures after a mark.
pub(crate) fn headings(results: &StudyResults, mark: [&str; 3]) -> Vec<String> {
    let mut all = vec!["row".to_owned()];
    all.extend(shown(results).map(heading));
    all.push("seeds".to_owned());
    let paper = Paper::MEASURES.iter().zip(mark).filter(|_| is_of_paper(results));
    all.extend(paper.map(|(measure, mark)| mark.to_owned() + &heading(measure.about())));
    all
}

fn heading(about: &About) -> String {
    about.heading.to_owned() + if matches!(about.unit, Unit::Percent(_)) { ", %" } else { "" }
}

/// The cells of a row under them.
pub(crate) fn cells(name: String, row: &RowResult, results: &StudyResults) -> Vec<String> {
    let mut all = vec![name];
    let figure = |about: &About| row.figures?.of(about.measure).map(|of| spread(of, about.unit));
    all.extend(shown(results).map(|about| figure(about).unwrap_or_default()));
    let seeds = if row.seeds == 0 { results.seeds.len() } else { row.seeds };
    all.push(counted(row.runs.len(), row.diverged.len(), seeds));
    let paper = |measure: &Measure| row.paper.of(*measure).map(|value| plain(value, measure.about().unit));
    let measures = Paper::MEASURES.iter().filter(|_| is_of_paper(results));
    all.extend(measures.map(|measure| paper(measure).unwrap_or_default()));
    all
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
    let runs = match (tested.against_seeds, tested.correlation) {
        (Some(others), _) => format!("{} and {}", tested.seeds, number::counted(others, "run", "runs")),
        (None, Some(correlation)) => {
            format!("{}, correlation {correlation:.2}", number::counted(tested.seeds, "pair", "pairs"))
        }
        (None, None) => number::counted(tested.seeds, "run", "runs"),
    };
    let diverged = match tested.diverged {
        0 => String::new(),
        1 => ", without 1 that diverged".to_owned(),
        count => format!(", without {count} that diverged"),
    };
    let needed = tested.runs_needed.map_or_else(String::new, |runs| format!("; some {runs} a row would decide"));
    format!("{what}: {estimate}{interval}, {claimed}; {runs}{diverged}{needed}")
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
    let (headings, figures) = (headings(results, [""; 3]), shown(results).count() + 2);
    let columns = headings.iter().take(figures).enumerate().map(|(at, heading)| match at.checked_sub(1) {
        None => Heading::text(heading),
        // That figures are means is said above.
        Some(at) => Heading::number(heading.trim_start_matches("mean "))
            .expendable(shown(results).nth(at).map_or(0, |about| about.expendable)),
    });
    let mut grid = Grid::new(columns.chain([Heading::text("paper").expendable(1)]).collect::<Vec<_>>());
    for row in &results.rows {
        let name = escape_control(&row.name) + if row.baseline { " *" } else { "" };
        let mut cells = cells(name, row, results);
        let paper = cells.split_off(figures);
        let known = paper.iter().any(|figure| !figure.is_empty());
        cells.push(if known { paper.join(" / ") } else { String::new() });
        grid.row(cells);
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
