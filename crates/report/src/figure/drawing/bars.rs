//! Bars: upright or lying, side by side where several series have them.

use super::canvas::{Area, Canvas, DARK};
use super::plot::{self, Axes};
use crate::figure::{Mark, Series};

/// The share of the distance between neighbours that bars fill, and the most pixels they do.
const FILLED: f64 = 0.76;
const WIDEST: f64 = 72.0;

/// The bars of a series around their place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    shift: f64,
    width: f64,
}

/// The slot of every series; of those without bars, none.
pub(super) fn slots(series: &[Series], axes: &Axes) -> Vec<Slot> {
    let along = axes.along();
    let bars = || series.iter().filter(|one| one.mark == Mark::Bars);
    let count = bars().count();
    let standing = bars().flat_map(|one| if axes.lying { &one.y } else { &one.x });
    let mut at: Vec<f64> = standing.filter_map(|&value| along.of(value)).collect();
    at.sort_by(f64::total_cmp);
    // Series that share no place need not make room for one another.
    let shared = at.windows(2).any(|pair| pair[1] - pair[0] <= 1e-6);
    if let Some(step) = axes.step() {
        // Names are as far apart whether they have bars or not.
        at = vec![0.0, step];
    }
    let gaps = at.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 1e-6);
    let gap = gaps.fold(f64::INFINITY, f64::min).min(along.length());
    let group = (gap * FILLED).min(WIDEST);
    let width = if shared { group / count.max(1) as f64 } else { group };
    let mut next = 0;
    let slot = |one: &Series| {
        if one.mark != Mark::Bars {
            return Slot::default();
        }
        if !shared {
            return Slot { shift: 0.0, width };
        }
        next += 1;
        Slot { shift: (f64::from(next) - 0.5) * width - group / 2.0, width }
    };
    series.iter().map(slot).collect()
}

/// Draws the bars of a series, and their intervals.
pub(super) fn draw(series: &Series, slot: Slot, axes: &Axes, canvas: &mut Canvas<'_>) {
    let (along, measure) = (axes.along(), axes.measure());
    // A hair between neighbours.
    let half = (slot.width / 2.0 - 0.4).max(slot.width * 0.3);
    for (&x, &y) in series.x.iter().zip(&series.y) {
        let (standing, value) = if axes.lying { (y, x) } else { (x, y) };
        let (Some(at), Some(_), Some(end)) = (along.of(standing), measure.of(value), measure.within(value)) else {
            continue;
        };
        let [from, to] = [at + slot.shift - half, at + slot.shift + half].map(|edge| edge.clamp(0.0, along.length()));
        if from < to {
            let (first, last) = (axes.join(from, measure.base()), axes.join(to, end));
            let area = Area {
                left: first.0.min(last.0),
                top: first.1.min(last.1),
                right: first.0.max(last.0),
                bottom: first.1.max(last.1),
            };
            canvas.area(area, series.colour.rgb());
        }
    }
    plot::whiskers(series, axes, canvas, slot.shift, DARK);
}
