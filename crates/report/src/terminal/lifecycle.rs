//! The life cycle of the largest channels: the blocks at which something happens, with the quiet ones left out.

use std::collections::BTreeSet;

use sinkscope_anatomy::results::{BlockLifecycle, Lifecycle, Spikes, Stage, TopChannel};

use super::grid::{Grid, Heading};
use super::style::Style;
use crate::anatomy_tables::kind_name;
use crate::number::{count, counted, factor, value};
use crate::text::token_within;

/// Up to so many blocks are all shown.
const SHORT: usize = 9;
/// Width of a token.
const TOKEN_WIDTH: usize = 10;
/// Width of the bar at the largest magnitude.
const BAR_WIDTH: usize = 16;

/// The table.
pub(super) fn section(lifecycle: &Lifecycle, spikes: Option<&Spikes>, style: &Style) -> String {
    let stages = spikes.map_or(&[][..], |spikes| &spikes.stages);
    let blocks = &lifecycle.blocks;
    let scale = BarScale::of(blocks);
    let eventful = eventful(lifecycle, stages);
    let mut grid = Grid::new([
        Heading::number("block"),
        Heading::text("kind").expendable(3),
        Heading::number("largest"),
        Heading::text("").expendable(5),
        Heading::number("typical").expendable(1),
        Heading::number("ratio"),
        Heading::number("channel"),
        Heading::number("spikes").expendable(2),
        Heading::text("token").expendable(4),
        Heading::text("what happens"),
    ]);
    let mut quiet = 0;
    for (index, block) in blocks.iter().enumerate() {
        let shown = blocks.len() <= SHORT || eventful.contains(&block.block) || is_lone(blocks, index, &eventful);
        if !shown {
            quiet += 1;
            continue;
        }
        flush(&mut grid, &mut quiet);
        grid.row(row(block, &scale, &events(block.block, lifecycle, stages)));
    }
    flush(&mut grid, &mut quiet);
    let title = style.title("Life cycle", "largest magnitude in the residual after a block, mean over sequences");
    title + &grid.render(style)
}

fn flush(grid: &mut Grid, quiet: &mut usize) {
    if *quiet > 0 {
        grid.elided(counted(*quiet, "quiet block", "quiet blocks"));
        *quiet = 0;
    }
}

/// A single quiet block between two that are shown: a line either way.
fn is_lone(blocks: &[BlockLifecycle], index: usize, eventful: &BTreeSet<usize>) -> bool {
    let shown =
        |at: Option<usize>| at.and_then(|at| blocks.get(at)).is_none_or(|block| eventful.contains(&block.block));
    shown(index.checked_sub(1)) && shown(Some(index + 1))
}

fn row(block: &BlockLifecycle, scale: &BarScale, events: &str) -> Vec<String> {
    let residual = &block.residual;
    let top = residual.top.first();
    let ratio = residual.largest_mean / residual.typical_token_largest;
    vec![
        block.block.to_string(),
        kind_name(block.kind).to_owned(),
        value(residual.largest_mean),
        scale.bar(residual.largest_mean),
        value(residual.typical_token_largest),
        if ratio.is_finite() { factor(ratio) } else { String::new() },
        top.map_or_else(String::new, |top| top.channel.to_string()),
        count(residual.spike_tokens as u64),
        top.map_or_else(String::new, token_of),
        events.to_owned(),
    ]
}

fn token_of(top: &TopChannel) -> String {
    if top.token.is_empty() { String::new() } else { token_within(&top.token, TOKEN_WIDTH) }
}

/// The blocks to show: ends, steps, peaks, and the largest of all.
fn eventful(lifecycle: &Lifecycle, stages: &[Stage]) -> BTreeSet<usize> {
    let blocks = &lifecycle.blocks;
    let mut eventful: BTreeSet<usize> = lifecycle.step_up.iter().chain(&lifecycle.step_down).copied().collect();
    eventful.extend(blocks.first().map(|block| block.block));
    eventful.extend(blocks.last().map(|block| block.block));
    eventful.extend(largest_block(blocks));
    for stage in stages {
        eventful.extend(stage.step_up.iter().chain(&stage.step_down));
        eventful.insert(stage.peak_block);
    }
    eventful
}

fn largest_block(blocks: &[BlockLifecycle]) -> Option<usize> {
    blocks.iter().max_by(|a, b| a.residual.largest_mean.total_cmp(&b.residual.largest_mean)).map(|block| block.block)
}

/// What happens at a block, in words; of several stages, behind the stage's number.
fn events(block: usize, lifecycle: &Lifecycle, stages: &[Stage]) -> String {
    let mut events = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        let happens: Vec<&str> = [
            ("step-up", stage.step_up.contains(&block)),
            ("peak", stage.peak_block == block),
            ("step-down", stage.step_down.contains(&block)),
        ]
        .into_iter()
        .filter_map(|(event, happens)| happens.then_some(event))
        .collect();
        if !happens.is_empty() {
            let stage = if stages.len() > 1 { format!("stage {}: ", index + 1) } else { String::new() };
            events.push(format!("{stage}{}", happens.join(", ")));
        }
    }
    if stages.is_empty() {
        for (blocks, name) in [(&lifecycle.step_up, "step-up"), (&lifecycle.step_down, "step-down")] {
            if blocks.contains(&block) {
                events.push(name.to_owned());
            }
        }
        if largest_block(&lifecycle.blocks) == Some(block) {
            events.push("largest".to_owned());
        }
    }
    events.join("; ")
}

/// A logarithmic scale for bars: from the smallest magnitude to the largest.
struct BarScale {
    low: f64,
    span: f64,
}

impl BarScale {
    fn of(blocks: &[BlockLifecycle]) -> Self {
        let magnitudes =
            || blocks.iter().map(|block| block.residual.largest_mean).filter(|m| *m > 0.0 && m.is_finite());
        let low = magnitudes().fold(f64::INFINITY, f64::min).ln();
        let high = magnitudes().fold(0.0, f64::max).ln();
        Self { low, span: high - low }
    }

    fn bar(&self, magnitude: f64) -> String {
        let place = (magnitude.ln() - self.low) / self.span;
        // Without a span, or for a magnitude of zero, there is nothing to compare.
        if place.is_finite() {
            "█".repeat(1 + (place.clamp(0.0, 1.0) * (BAR_WIDTH - 1) as f64).round() as usize)
        } else {
            String::new()
        }
    }
}
