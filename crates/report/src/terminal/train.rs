//! A run: what it came to, and how it went there.

use sinkscope_lab::cost::Cost;
use sinkscope_lab::measure::{About, Topic, Unit};
use sinkscope_lab::trainer::Look;

use super::grid::{Grid, Heading};
use super::style::Style;
use crate::number::{bytes, count, list, percent, seconds, value};
use crate::text::{escape_control, wrap};

/// Looks in the table.
const MOST_LOOKS: usize = 12;
/// What of the arithmetic bound training reaches, about.
const SHARE_OF_BOUND: f64 = 0.5;

/// How large a run is.
pub(super) fn cost(cost: &Cost, operations_per_second: f64) -> String {
    format!(
        "{} weights, {} tokens, {:.2e} operations: about {} on this machine, in {} of memory",
        count(cost.parameters),
        count(cost.tokens),
        cost.flops,
        seconds(cost.flops / (SHARE_OF_BOUND * operations_per_second)),
        bytes(cost.memory),
    )
}

/// The last look in a sentence or two.
pub(super) fn finding(run: &str, looks: &[Look], style: &Style) -> String {
    let Some(Look { step, record, .. }) = looks.last() else { return String::new() };
    let watched = &record.watched;
    let spike = match (&watched.stage, watched.spike_at) {
        (Some(stage), _) => format!(
            "Its first spike is in channel {} of {} of the sequences' first tokens, {} at block {} ({} times the typical \
             token's largest), raised by {}.",
            stage.channel,
            percent(stage.share_at_position_0),
            value(stage.peak),
            stage.peak_block,
            value(stage.peak_over_typical),
            match &stage.step_up[..] {
                [] => "no single block".to_owned(),
                [one] => format!("block {one}"),
                more => format!("blocks {}", list(more)),
            },
        ),
        (None, Some(at)) => format!(
            "No token spikes by the definition; the largest activation, {}, is in channel {} at position {} after block {}.",
            value(watched.spike),
            at.channel,
            at.position,
            at.block,
        ),
        (None, None) => String::new(),
    };
    let text = format!(
        "{}: after {step} steps perplexity {}, {} of the heads are sinks (mean of the largest alpha {:.3}). {spike}",
        escape_control(run),
        value(watched.perplexity),
        percent(watched.sink_ratio),
        watched.mean_max_alpha,
    );
    wrap(&text, style.width())
}

/// Evenly chosen looks, the first and the last among them.
pub(super) fn looks(looks: &[Look], style: &Style) -> String {
    let measures = About::in_looks();
    // The place of the spike stands behind what is said of spikes.
    let place = measures.partition_point(|about| about.topic <= Topic::Spikes);
    let mut headings: Vec<_> =
        measures.iter().map(|about| Heading::number(about.heading).expendable(about.expendable)).collect();
    headings.insert(place, Heading::text("where").expendable(4));
    headings.splice(0..0, ["step", "loss"].map(Heading::number));
    headings.push(Heading::number("tokens/s").expendable(1));
    let mut grid = Grid::new(headings);
    let shown = looks.len().min(MOST_LOOKS);
    for index in 0..shown {
        let Look { step, record, timing } = &looks[index * (looks.len() - 1) / (shown - 1).max(1)];
        let watched = &record.watched;
        let figure = |about: &&About| match ((about.of)(watched), about.unit) {
            (None, _) => String::new(),
            (Some(share), Unit::Percent(_)) => percent(share),
            (Some(share), Unit::Share) => format!("{share:.3}"),
            (Some(number), _) => value(number),
        };
        let mut cells: Vec<String> = measures.iter().map(figure).collect();
        let at = watched.spike_at.map_or_else(String::new, |at| {
            format!("block {}, channel {}, position {}", at.block, at.channel, at.position)
        });
        cells.insert(place, at);
        let loss = record.loss.map_or_else(String::new, |loss| format!("{loss:.3}"));
        cells.splice(0..0, [step.to_string(), loss]);
        cells.push(timing.tokens_per_second.map_or_else(String::new, |rate| count(rate as u64)));
        grid.row(cells);
    }
    style.title("Looks", "held-out sequences; loss is of the training batches since the look before")
        + &grid.render(style)
}
