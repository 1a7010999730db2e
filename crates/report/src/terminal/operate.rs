//! A comparison: the untouched model in a sentence, a line for every operation, the layers that break, and advice.

use sinkscope_anatomy::not_finite::NotFinite;
use sinkscope_surgery::results::{Comparison, LinearLayer, Variant};

use super::grid::{Grid, Heading};
use super::interval_name;
use super::style::Style;
use crate::number::{counted, list, percent, value};
use crate::text::{escape_control, wrap};

/// Layers shown of each operation that quantises them.
const MOST_LAYERS: usize = 6;

/// Channels named of the default place.
const MOST_CHANNELS: usize = 8;

/// The untouched model, and where operations on spikes are done.
pub(super) fn baseline(comparison: &Comparison, style: &Style) -> String {
    let baseline = &comparison.baseline;
    let mut text = wrap(
        &format!(
            "Untouched: perplexity {} ({:.4} nats a token over {}), {} of the heads are sinks, the largest activation is {}.",
            baseline.perplexity.map_or_else(|| "infinite".to_owned(), value),
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
    if let Some(sinks) = comparison.sink_tokens.as_ref().filter(|sinks| sinks.tokens > 0) {
        text += &wrap(
            &format!(
                "Its sinks are {}: the first in {} of the sequences, and {} of all others.",
                counted(sinks.tokens, "token", "tokens"),
                percent(sinks.share_at_position_0),
                percent(sinks.rate_elsewhere),
            ),
            style.width(),
        );
    }
    text
}

/// A line for every operation; `None` if all are steps of sweeps.
pub(super) fn variants(comparison: &Comparison, style: &Style) -> Option<String> {
    let interval = interval_name();
    let mut grid = Grid::new([
        Heading::text("operation"),
        Heading::number("perplexity"),
        Heading::number("nats"),
        Heading::text(&interval).expendable(3),
        Heading::number("KL").expendable(1),
        Heading::number("same top").expendable(2),
        Heading::text("late perplexity").expendable(8),
        Heading::number("sinks").expendable(4),
        Heading::number("largest").expendable(5),
        Heading::text("attention to them").expendable(6),
        Heading::number("tokens changed").expendable(7),
    ]);
    // The steps of sweeps have a table of their own, and advice says what was tried.
    let swept =
        |index: usize| comparison.sweeps.iter().flat_map(|sweep| &sweep.steps).any(|step| step.variant == index);
    let runs =
        || comparison.variants.iter().enumerate().filter(|(index, _)| !swept(*index)).map(|(_, variant)| variant);
    runs().next()?;
    for variant in runs() {
        let Variant { perplexity, delta_nll, delta_ci95, .. } = variant;
        let name = escape_control(&variant.name);
        if let Some(found) = &variant.not_finite {
            grid.remark(name, not_finite(found));
            continue;
        }
        grid.row(vec![
            name,
            perplexity.map_or_else(|| "none".to_owned(), value),
            delta_nll.map_or_else(String::new, |delta| format!("{delta:+.4}")),
            delta_ci95.map_or_else(String::new, |[low, high]| format!("{low:+.4} to {high:+.4}")),
            variant.kl.map_or_else(String::new, |kl| format!("{kl:.4}")),
            variant.top1_agreement.map_or_else(String::new, percent),
            variant.perplexity_after.map_or_else(String::new, |after| {
                format!("{} (untouched {})", value(after.value), value(after.untouched))
            }),
            variant.sink_ratio.map_or_else(String::new, percent),
            variant.largest.map_or_else(String::new, value),
            variant
                .received_before
                .zip(variant.received)
                .map_or_else(String::new, |(before, after)| format!("{} to {}", percent(before), percent(after))),
            variant.changed_tokens.map_or_else(String::new, |count| count.to_string()),
        ]);
    }
    let what = "perplexity and nats a token over the targets that both predict, KL from the untouched model";
    Some(style.title("Operations", what) + &grid.render(style))
}

/// A table for every sweep.
pub(super) fn sweeps(comparison: &Comparison, style: &Style) -> Vec<String> {
    let interval = interval_name();
    let mut tables = Vec::new();
    for sweep in &comparison.sweeps {
        let mut grid = Grid::new([
            Heading::number("first tokens kept"),
            Heading::number("perplexity"),
            Heading::number("nats"),
            Heading::text(&interval).expendable(1),
            Heading::number("KL").expendable(2),
            Heading::number("same top token").expendable(3),
            Heading::text(""),
        ]);
        for step in &sweep.steps {
            let Some(variant) = comparison.variants.get(step.variant) else { continue };
            if let Some(found) = &variant.not_finite {
                grid.remark(step.kept.to_string(), not_finite(found));
                continue;
            }
            grid.row(vec![
                step.kept.to_string(),
                variant.perplexity.map_or_else(|| "none".to_owned(), value),
                variant.delta_nll.map_or_else(String::new, |delta| format!("{delta:+.4}")),
                variant.delta_ci95.map_or_else(String::new, |[low, high]| format!("{low:+.4} to {high:+.4}")),
                variant.kl.map_or_else(String::new, |kl| format!("{kl:.4}")),
                variant.top1_agreement.map_or_else(String::new, percent),
                if sweep.enough == Some(step.kept) { "enough".to_owned() } else { String::new() },
            ]);
        }
        let title = format!("How many tokens must stay: {}", escape_control(&sweep.name));
        tables.push(style.title(&title, "the first of each sequence") + &grid.render(style));
    }
    tables
}

/// Where a variant breaks.
pub(crate) fn not_finite(found: &NotFinite) -> String {
    let NotFinite { block, position, .. } = found;
    match found.channel {
        Some(channel) => format!("not finite from block {block}, channel {channel}, position {position}"),
        None => format!("not finite from the output head, position {position}"),
    }
}

/// The quantised layers that lose most; `None` if none was quantised.
pub(super) fn linear_layers(variant: &Variant, style: &Style) -> Option<String> {
    if variant.linear_layers.is_empty() {
        return None;
    }
    let mut grid = Grid::new([
        Heading::text("layer"),
        Heading::number("block").expendable(3),
        Heading::number("output lost"),
        Heading::number("at spikes").expendable(2),
        Heading::number("largest input at spikes").expendable(1),
        Heading::number("elsewhere").expendable(1),
        Heading::text(""),
    ]);
    let mut worst: Vec<&LinearLayer> = variant.linear_layers.iter().collect();
    worst.sort_by(|a, b| b.error.unwrap_or(0.0).total_cmp(&a.error.unwrap_or(0.0)));
    for layer in worst.iter().take(MOST_LAYERS) {
        grid.row(vec![
            escape_control(if layer.tensor.is_empty() { &layer.projection } else { &layer.tensor }),
            layer.block.to_string(),
            layer.error.map_or_else(String::new, percent),
            layer.error_at_spikes.map_or_else(String::new, percent),
            layer.largest_at_spikes.map_or_else(String::new, |largest| value(largest.into())),
            value(layer.largest_elsewhere.into()),
            if layer.breaks { "breaks".to_owned() } else { String::new() },
        ]);
    }
    if worst.len() > MOST_LAYERS {
        let breaking = worst.iter().skip(MOST_LAYERS).filter(|layer| layer.breaks).count();
        let more = counted(worst.len() - MOST_LAYERS, "more layer", "more layers");
        grid.elided(if breaking > 0 { format!("{more}, {breaking} of which break") } else { more });
    }
    let breaking = variant.linear_layers.iter().filter(|layer| layer.breaks).count();
    let what = format!("{breaking} of {} break; those that lose most", variant.linear_layers.len());
    Some(style.title(&format!("Layers under {}", escape_control(&variant.name)), &what) + &grid.render(style))
}

/// The advice, a line or more each; `None` if there is none.
pub(super) fn advice(comparison: &Comparison, style: &Style) -> Option<String> {
    if comparison.advice.is_empty() {
        return None;
    }
    let trials: usize = comparison.advice.iter().map(|line| line.trials).sum();
    let what = match trials {
        0 => "what this run measured".to_owned(),
        _ => format!("what this run measured, with {} to try it", counted(trials, "run more", "runs more")),
    };
    let mut text = style.title("Advice", &what);
    for line in &comparison.advice {
        let said = format!("{}: {}: {}.", line.about, escape_control(&line.operation), escape_control(&line.text));
        for line in wrap(&said, style.width().saturating_sub(2)).lines() {
            text.extend(["  ", line, "\n"]);
        }
    }
    Some(text)
}
