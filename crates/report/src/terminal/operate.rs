//! A comparison: the untouched model in a sentence, and a line for every operation.

use sinkscope_surgery::results::{Comparison, Variant};

use super::grid::{Grid, Heading};
use super::number::{counted, list, percent, value};
use super::style::Style;
use super::text::{escape_control, wrap};

/// Channels named of the default place.
const MOST_CHANNELS: usize = 8;

/// The untouched model, and where operations on spikes are done.
pub(super) fn baseline(comparison: &Comparison, style: &Style) -> String {
    let baseline = &comparison.baseline;
    let mut text = wrap(
        &format!(
            "Untouched: perplexity {} ({:.4} nats a token over {}), {} of the heads are sinks, the largest activation is {}.",
            value(baseline.perplexity),
            baseline.nll,
            counted(baseline.tokens, "predicted token", "predicted tokens"),
            percent(baseline.sink_ratio),
            value(baseline.largest),
        ),
        style.width(),
    );
    if let Some(spike) = &comparison.spike {
        let named = &spike.channels[..spike.channels.len().min(MOST_CHANNELS)];
        let more = spike.channels.len() - named.len();
        let named = if more > 0 {
            let named: Vec<String> = named.iter().map(usize::to_string).collect();
            format!("{} and {more} more", named.join(", "))
        } else {
            list(named)
        };
        text += &wrap(
            &format!(
                "Its spikes stand after block {}, at {}, in {} {named}.",
                spike.block,
                counted(spike.tokens, "token", "tokens"),
                if spike.channels.len() == 1 { "channel" } else { "channels" },
            ),
            style.width(),
        );
    }
    text
}

/// A line for every operation.
pub(super) fn variants(comparison: &Comparison, style: &Style) -> String {
    let mut grid = Grid::new([
        Heading::text("operation"),
        Heading::number("perplexity"),
        Heading::number("nats"),
        Heading::text("95 % interval").expendable(1),
        Heading::text("late perplexity").expendable(6),
        Heading::number("sinks").expendable(2),
        Heading::number("largest").expendable(3),
        Heading::text("attention to them").expendable(4),
        Heading::number("tokens changed").expendable(5),
    ]);
    for variant in &comparison.variants {
        let Variant { perplexity, delta_nll, delta_ci95, .. } = variant;
        grid.row(vec![
            escape_control(&variant.name),
            perplexity.map_or_else(|| "none".to_owned(), value),
            delta_nll.map_or_else(String::new, |delta| format!("{delta:+.4}")),
            delta_ci95.map_or_else(String::new, |[low, high]| format!("{low:+.4} to {high:+.4}")),
            variant.perplexity_after.map_or_else(String::new, |after| {
                format!("{} (untouched {})", value(after.value), value(after.untouched))
            }),
            percent(variant.sink_ratio),
            variant.largest.map_or_else(|| "infinite".to_owned(), value),
            variant
                .received_before
                .zip(variant.received)
                .map_or_else(String::new, |(before, after)| format!("{} to {}", percent(before), percent(after))),
            variant.changed_tokens.map_or_else(String::new, |count| count.to_string()),
        ]);
    }
    let what = "perplexity over the targets that both predict, and the difference in nats a token";
    style.title("Operations", what) + &grid.render(style)
}
