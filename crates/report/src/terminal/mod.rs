//! Results as text for people: what was found in a sentence or two, then the tables.
//!
//! Text is fitted to a width: a table that does not fit leaves out its least important columns. Colour is emphasis
//! alone; without it every word is still there. Token texts and names are escaped, so that nothing in a checkpoint or a
//! text can move the cursor.

mod causes;
mod census;
mod data;
mod grid;
mod lifecycle;
mod operate;
mod probe;
mod sinks;
mod stages;
pub(crate) mod study;
mod style;
mod summary;
mod train;

use sinkscope_anatomy::census::Census;
use sinkscope_anatomy::definitions::{INTERVAL, in_percent};
use sinkscope_anatomy::probe::Probe;
use sinkscope_anatomy::results::Anatomy;
use sinkscope_lab::cost::Cost;
use sinkscope_lab::data::Manifest;
use sinkscope_lab::study::StudyResults;
use sinkscope_lab::trainer::Look;
use sinkscope_surgery::results::Comparison;

use self::grid::{Grid, Heading};
use crate::envelope::{Envelope, Timing};

pub(crate) use operate::not_finite;
pub use style::Style;
pub(crate) use summary::{fp16_sentence, last_block_sentence, sink_sentence, spike_sentence, tokens};

/// What the bootstrap intervals are called.
fn interval_name() -> String {
    format!("{} interval", in_percent(INTERVAL))
}

/// What a run of `sinkscope train` will cost on a machine of so many operations a second, in a sentence without an end.
pub fn cost(cost: &Cost, operations_per_second: f64) -> String {
    train::cost(cost, operations_per_second)
}

/// The report of `sinkscope train`. Ends in a newline.
pub fn train(run: &str, looks: &[Look], style: &Style) -> String {
    train::finding(run, looks, style) + "\n" + &train::looks(looks, style)
}

/// The report of `sinkscope study`. Ends in a newline.
pub fn study(results: &StudyResults, style: &Style) -> String {
    study::rows(results, style) + &study::claims(results, style)
}

/// The report of `sinkscope anatomy`. Ends in a newline.
pub fn anatomy<A>(envelope: &Envelope<Anatomy, A>, style: &Style) -> String {
    let results = &envelope.results;
    let mut sections = vec![summary::header(envelope, style), summary::findings(results, style)];
    if let Some(lifecycle) = &results.lifecycle {
        sections.push(lifecycle::section(lifecycle, results.spikes.as_ref(), style));
    }
    if let Some(spikes) = &results.spikes {
        sections.extend(stages::section(spikes, style));
        sections.extend(spikes.stages.first().and_then(|stage| causes::elsewhere(stage, style)));
        if !spikes.stages.is_empty() {
            sections.extend(results.regularities.as_ref().map(|verdicts| causes::regularities(verdicts, style)));
        }
    }
    if let Some(sinks) = &results.sinks {
        sections.push(sinks::by_layer(sinks, style));
        sections.push(sinks::by_definition(sinks, style));
    }
    sections.extend(causes::sample(results, style));
    if let Some(census) = &results.census {
        sections.push(census::finding(census, style));
        sections.extend(results.prediction_score.as_ref().map(|score| census::score(score, style)));
        sections.extend(census_sections(census, style));
    }
    if let Some(probe) = &results.probe {
        sections.push(probe::finding(probe, style));
        sections.extend(probe::ends(probe, style));
    }
    sections.extend(summary::perplexity(results, style));
    sections.push(summary::timing(envelope, style));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

/// The report of `sinkscope data prepare`. Ends in a newline.
pub fn data(directory: &str, manifest: &Manifest, timing: &Timing, style: &Style) -> String {
    [data::header(directory, manifest, style), data::splits(manifest, style), data::timing(manifest, timing, style)]
        .join("\n")
}

/// The report of `sinkscope families`: a row a format. Ends in a newline.
pub fn families(rows: impl IntoIterator<Item = [String; 6]>, style: &Style) -> String {
    let texts = ["family", "format", "confirmed by", "compared"].map(Heading::text);
    let numbers = ["models", "configurations"].map(Heading::number);
    let mut grid = Grid::new([&texts[..], &numbers].concat());
    rows.into_iter().for_each(|row| grid.row(row.into()));
    grid.render(style)
}

/// The report of `sinkscope census`. Ends in a newline.
pub fn census<A>(envelope: &Envelope<Census, A>, style: &Style) -> String {
    let results = &envelope.results;
    let mut sections = vec![summary::model(envelope, &[], style) + &census::finding(results, style)];
    sections.extend(census_sections(results, style));
    sections.push(summary::timing(envelope, style));
    sections.join("\n")
}

fn census_sections(results: &Census, style: &Style) -> Vec<String> {
    [census::blocks(results, style), census::rankings(results, style), census::steering(results, style)]
        .into_iter()
        .flatten()
        .collect()
}

/// The report of `sinkscope probe`. Ends in a newline.
pub fn probe<A>(envelope: &Envelope<Probe, A>, style: &Style) -> String {
    let results = &envelope.results;
    let mut sections = vec![summary::model(envelope, &[], style) + &probe::finding(results, style)];
    sections.extend(probe::ends(results, style));
    sections.push(summary::timing(envelope, style));
    sections.join("\n")
}

/// The report of `sinkscope operate`. Ends in a newline.
pub fn operate<A>(envelope: &Envelope<Comparison, A>, style: &Style) -> String {
    let results = &envelope.results;
    let mut sections = vec![summary::model(envelope, &[], style) + "\n" + &operate::baseline(results, style)];
    sections.extend(operate::variants(results, style));
    sections.extend(operate::sweeps(results, style));
    sections.extend(results.variants.iter().filter_map(|variant| operate::linear_layers(variant, style)));
    sections.extend(operate::advice(results, style));
    sections.push(summary::timing(envelope, style));
    sections.join("\n")
}
