//! Lines, bands, dots and crosses.

use super::bars;
use super::canvas::{Area, Canvas, Ink, Spot};
use super::clip;
use super::place::Place;
use crate::figure::{Mark, Series};

/// Width of lines in pixels.
pub(super) const STROKE: f64 = 1.6;
/// Length of dashes and of the gaps between them.
pub(super) const DASH: [f64; 2] = [5.0, 3.5];
/// How much of what is below a band is hidden.
const BAND: f64 = 0.2;
/// Width of the bars of intervals, and half the width of their ends.
const WHISKER: [f64; 2] = [1.0, 2.5];
/// Dots are smaller from this many in a panel.
const MANY: usize = 150;

/// The two axes of a panel, as pixels from the top left of what they enclose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axes {
    pub x: Place,
    pub y: Place,
    /// Whether y names things: intervals and bars lie.
    pub lying: bool,
    /// Whether the axis names things along which bars stand.
    pub named: bool,
}

impl Axes {
    /// What they enclose.
    pub(super) fn area(&self) -> Area {
        Area { left: 0.0, top: 0.0, right: self.x.length(), bottom: self.y.length() }
    }

    /// Where a point stands, which may be beyond the ends.
    pub(super) fn spot(&self, x: f64, y: f64) -> Option<Spot> {
        Some((self.x.of(x)?, self.y.of(y)?))
    }

    /// The axis along which things are measured.
    pub(super) fn measure(&self) -> &Place {
        if self.lying { &self.x } else { &self.y }
    }

    /// The axis along which bars stand side by side.
    pub(super) fn along(&self) -> &Place {
        if self.lying { &self.y } else { &self.x }
    }

    /// Pixels between two names along which bars stand.
    pub(super) fn step(&self) -> Option<f64> {
        let (low, high) = self.along().ends();
        self.named.then(|| self.along().length() / (high - low))
    }

    /// A spot from a pixel along and a pixel of measure.
    pub(super) fn join(&self, along: f64, measured: f64) -> Spot {
        if self.lying { (measured, along) } else { (along, measured) }
    }
}

/// Draws all series: bands below everything else, then one after another.
pub(super) fn draw(series: &[Series], axes: &Axes, canvas: &mut Canvas<'_>) {
    for one in series.iter().filter(|one| matches!(one.mark, Mark::Line | Mark::Dashed)) {
        band(one, axes, canvas);
    }
    let dots = series.iter().filter(|one| one.mark == Mark::Dots).map(|one| one.y.len()).sum::<usize>();
    let radius = if dots < MANY { 2.8 } else { 1.9 };
    let slots = bars::slots(series, axes);
    for (one, slot) in series.iter().zip(slots) {
        let ink = one.colour.rgb();
        match one.mark {
            Mark::Line | Mark::Dashed => line(one, axes, canvas),
            Mark::Dots | Mark::Crosses => {
                whiskers(one, axes, canvas, 0.0, ink);
                for spot in inside(one, axes) {
                    if one.mark == Mark::Dots { canvas.dot(spot, radius, ink) } else { cross(canvas, spot, ink) }
                }
            }
            Mark::Bars => bars::draw(one, slot, axes, canvas),
        }
    }
}

/// A diagonal cross.
pub(super) fn cross(canvas: &mut Canvas<'_>, (x, y): Spot, ink: Ink) {
    const HALF: f64 = 2.8;
    canvas.path(&[(x - HALF, y - HALF), (x + HALF, y + HALF)], ink, 1.3);
    canvas.path(&[(x - HALF, y + HALF), (x + HALF, y - HALF)], ink, 1.3);
}

/// Bars around every value, moved along by `shift` pixels.
pub(super) fn whiskers(series: &Series, axes: &Axes, canvas: &mut Canvas<'_>, shift: f64, ink: Ink) {
    let [stroke, half] = WHISKER;
    for (&interval, spot) in series.intervals.iter().zip(spots(series, axes)) {
        let (Some(spot), Some([low, high])) = (spot, ends(interval, axes)) else { continue };
        let at = shift + if axes.lying { spot.1 } else { spot.0 };
        if at < -0.5 || at > axes.along().length() + 0.5 {
            continue;
        }
        canvas.path(&[axes.join(at, low), axes.join(at, high)], ink, stroke);
        // An end that is cut off has no mark.
        let held = interval.map(|end| axes.measure().holds(end));
        for (end, _) in [low, high].into_iter().zip(held).filter(|(_, held)| *held) {
            canvas.path(&[axes.join(at - half, end), axes.join(at + half, end)], ink, stroke);
        }
    }
}

/// Where the points of a series stand; `None` where there is a gap.
pub(super) fn spots(series: &Series, axes: &Axes) -> Vec<Option<Spot>> {
    series.x.iter().zip(&series.y).map(|(&x, &y)| axes.spot(x, y)).collect()
}

fn inside(series: &Series, axes: &Axes) -> Vec<Spot> {
    let points = series.x.iter().zip(&series.y).filter(|(x, y)| axes.x.holds(**x) && axes.y.holds(**y));
    points.filter_map(|(&x, &y)| axes.spot(x, y)).collect()
}

/// The pixels of an interval, cut at the axes; `None` if it is all beyond them.
fn ends([low, high]: [f64; 2], axes: &Axes) -> Option<[f64; 2]> {
    let place = axes.measure();
    let [from, to] = [place.within(low)?, place.within(high)?];
    (from != to || place.holds(low)).then_some([from, to])
}

fn line(series: &Series, axes: &Axes, canvas: &mut Canvas<'_>) {
    let area = axes.area();
    let ink = series.colour.rgb();
    for run in spots(series, axes).split(Option::is_none) {
        let run: Vec<Spot> = run.iter().flatten().copied().collect();
        if let [(x, y)] = run[..] {
            // A point between gaps would not be seen.
            if (0.0..=area.right).contains(&x) && (0.0..=area.bottom).contains(&y) {
                canvas.dot((x, y), STROKE, ink);
            }
        }
        for part in clip::path(&run, &area) {
            if series.mark == Mark::Dashed {
                for piece in clip::dashes(&part, DASH[0], DASH[1]) {
                    canvas.path(&piece, ink, STROKE);
                }
            } else {
                canvas.path(&part, ink, STROKE);
            }
        }
    }
}

fn band(series: &Series, axes: &Axes, canvas: &mut Canvas<'_>) {
    let points = series.x.iter().zip(&series.y).zip(&series.intervals);
    let edges: Vec<Option<(Spot, Spot)>> = points
        .map(|((&x, &y), &[low, high])| {
            axes.spot(x, y)?;
            let at = axes.along().of(if axes.lying { y } else { x })?;
            let measure = axes.measure();
            let [low, high] = [low, high].map(|end| measure.of(end).or_else(|| measure.within(end)));
            Some((axes.join(at, low?), axes.join(at, high?)))
        })
        .collect();
    for run in edges.split(Option::is_none) {
        let run = run.iter().flatten();
        let outline: Vec<Spot> = run.clone().map(|edge| edge.0).chain(run.rev().map(|edge| edge.1)).collect();
        let shape = clip::shape(&outline, &axes.area());
        if shape.len() > 2 {
            canvas.shape(&shape, series.colour.rgb(), BAND);
        }
    }
}
