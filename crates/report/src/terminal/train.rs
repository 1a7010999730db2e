//! A run: what it came to, and how it went there.

use sinkscope_lab::cost::Cost;
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
    let mut grid = Grid::new([
        Heading::number("step"),
        Heading::number("loss"),
        Heading::number("perplexity"),
        Heading::number("spike"),
        Heading::number("over typical").expendable(3),
        Heading::text("where").expendable(4),
        Heading::number("sinks"),
        Heading::number("mean max alpha").expendable(2),
        Heading::number("tokens/s").expendable(1),
    ]);
    let shown = looks.len().min(MOST_LOOKS);
    for index in 0..shown {
        let Look { step, record, timing } = &looks[index * (looks.len() - 1) / (shown - 1).max(1)];
        let watched = &record.watched;
        grid.row(vec![
            step.to_string(),
            record.loss.map_or_else(String::new, |loss| format!("{loss:.3}")),
            value(watched.perplexity),
            value(watched.spike),
            watched.spike_over_typical.map_or_else(String::new, value),
            watched.spike_at.map_or_else(String::new, |at| {
                format!("block {}, channel {}, position {}", at.block, at.channel, at.position)
            }),
            percent(watched.sink_ratio),
            format!("{:.3}", watched.mean_max_alpha),
            timing.tokens_per_second.map_or_else(String::new, |rate| count(rate as u64)),
        ]);
    }
    style.title("Looks", "held-out sequences; loss is of the training batches since the look before")
        + &grid.render(style)
}
