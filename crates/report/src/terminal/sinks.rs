//! Sinks: a line a layer, and the ratio under each definition.

use sinkscope_anatomy::results::Sinks;

use super::grid::{Grid, Heading};
use super::interval_name;
use super::style::Style;
use crate::number::{known, percent};

/// From an alpha of 0 to an alpha of 1.
const MARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns that the numbers beside the marks take.
const BESIDE: usize = 40;

/// One line a layer: the share of heads that are sinks, and a mark for each head.
pub(super) fn by_layer(sinks: &Sinks, style: &Style) -> String {
    let interval = interval_name();
    let room = style.width().saturating_sub(BESIDE).max(1);
    // Heads that do not fit are shown several to a mark, the strongest of them.
    let widest = sinks.heads.iter().map(Vec::len).max().unwrap_or(0);
    let heads_a_mark = widest.div_ceil(room).max(1);
    let marks = |layer: usize| -> String {
        let heads = sinks.heads.get(layer).map_or(&[][..], Vec::as_slice);
        heads.chunks(heads_a_mark).map(|some| mark(some.iter().copied().fold(0.0, f64::max))).collect()
    };
    let interval_of = |layer: usize| sinks.by_layer_ci95.as_ref().and_then(|all| all.get(layer).copied());
    let grid = Grid::of(
        sinks.by_layer.iter().enumerate(),
        &[
            (Heading::number("layer"), &|(layer, _)| layer.to_string()),
            (Heading::number("sinks"), &|(_, ratio)| percent(**ratio)),
            (Heading::text(&interval).expendable(2), &|(layer, _)| known(interval_of(*layer), range)),
            (Heading::text("heads").expendable(1), &|(layer, _)| marks(*layer)),
        ],
    );
    let one = if heads_a_mark == 1 { "a head".to_owned() } else { format!("the strongest of {heads_a_mark} heads") };
    let what = format!("share of heads; a mark is {one}, its mean largest alpha from 0 ▁ to 1 █");
    style.title("Sinks by layer", &what) + &grid.render(style)
}

fn mark(alpha: f64) -> char {
    MARKS[((alpha.clamp(0.0, 1.0) * MARKS.len() as f64) as usize).min(MARKS.len() - 1)]
}

/// The ratio under every definition.
pub(super) fn by_definition(sinks: &Sinks, style: &Style) -> String {
    let interval = interval_name();
    let mut grid = Grid::new([
        Heading::text("definition"),
        Heading::number("sink ratio"),
        Heading::text(&interval),
        Heading::number("mean largest alpha").expendable(1),
    ]);
    let mut row = |name: &str, ratio, interval: Option<[f64; 2]>, alpha: f64| {
        let interval = interval.map_or_else(|| "one sequence: none".to_owned(), range);
        grid.row(vec![name.to_owned(), percent(ratio), interval, format!("{alpha:.3}")]);
    };
    row(&sinks.definition, sinks.ratio, sinks.ratio_ci95, sinks.mean_max_alpha);
    for (name, other) in &sinks.other_definitions {
        row(name, other.ratio, other.ratio_ci95, other.mean_max_alpha);
    }
    style.title("Sink ratio", &format!("share of heads with alpha above {}, by definition", sinks.epsilon))
        + &grid.render(style)
}

fn range([low, high]: [f64; 2]) -> String {
    format!("{} to {}", percent(low), percent(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_cover_every_alpha() {
        let alphas = [0.0, 0.12, 0.13, 0.5, 0.99, 1.0, 1.5, -1.0, f64::NAN];
        let marks: String = alphas.into_iter().map(mark).collect();
        assert_eq!(marks, "▁▁▂▅██".to_owned() + "█▁▁");
    }
}
