//! Heat maps and the bar that says what their colours mean.

use super::canvas::{Align, Area, Canvas, DARK, Turn};
use super::colours;
use super::place::{Place, Wanted};
use super::plot::Axes;
use super::text::{self, LINE, SMALL, TEXT};
use super::ticks::{Ticks, numbered};
use crate::figure::{Axis, Scale};

/// Between the map and the bar, the bar's width, and from there to its numbers.
const BAR: [f64; 3] = [12.0, 11.0, 5.0];
/// Colours of the bar.
const SHADES: usize = 100;
/// Neighbours overlap by this, or there would be light between them.
const OVERLAP: f64 = 0.4;

/// The bar of colours.
#[derive(Debug)]
pub(super) struct Key {
    place: Place,
    ticks: Ticks,
    unit: Vec<String>,
}

impl Key {
    /// The key of these values, as high as the map.
    pub(super) fn new(values: &[Vec<f64>], unit: &str, range: Option<[f64; 2]>, log: bool, height: f64) -> Self {
        let scale = if log { Scale::Log } else { Scale::Linear };
        let axis = Axis { title: String::new(), scale, range };
        let wanted = Wanted { values: values.iter().flatten().copied().collect(), zero: false, tight: true };
        let place = Place::new(&axis, &wanted, height, true);
        Self { place, ticks: numbered(&place, false), unit: text::wrapped(unit, TEXT, height, 2) }
    }

    /// How much room it takes to the right of the map.
    pub(super) fn width(&self) -> f64 {
        let numbers = text::widest(self.ticks.labelled.iter().map(|tick| tick.label.as_str()), SMALL);
        BAR.iter().sum::<f64>() + numbers + self.unit.len() as f64 * TEXT * LINE + 6.0
    }

    /// Draws it to the right of `map`.
    pub(super) fn draw(&self, map: Area, canvas: &mut Canvas<'_>) {
        let [gap, width, space] = BAR;
        let (left, height) = (map.right + gap, self.place.length());
        for shade in 0..SHADES {
            let [low, high] = [shade, shade + 1].map(|edge| height * (1.0 - edge as f64 / SHADES as f64));
            let bottom = (low + OVERLAP).min(height);
            let share = (shade as f64 + 0.5) / SHADES as f64;
            canvas.area(Area { left, top: high, right: left + width, bottom }, colours::of(share));
        }
        let numbers = left + width + space;
        for tick in &self.ticks.labelled {
            canvas.path(&[(left + width, tick.at), (left + width + 3.0, tick.at)], DARK, 0.8);
            let spot = (numbers, tick.at + 0.36 * SMALL);
            canvas.words(&tick.label, spot, SMALL, Align::Start, Turn::Level);
        }
        let widest = text::widest(self.ticks.labelled.iter().map(|tick| tick.label.as_str()), SMALL);
        for (index, line) in self.unit.iter().rev().enumerate() {
            let x = numbers + widest + 6.0 + index as f64 * TEXT * LINE;
            canvas.words(line, (x + 0.25 * TEXT, height / 2.0), TEXT, Align::Middle, Turn::Down);
        }
    }
}

/// Draws a colour for every row and column.
pub(super) fn draw(values: &[Vec<f64>], key: &Key, axes: &Axes, canvas: &mut Canvas<'_>) {
    for (row, cells) in values.iter().enumerate() {
        let Some([top, bottom]) = edges(row, row, &axes.y) else { continue };
        let bottom = (bottom + OVERLAP).min(axes.y.length());
        let inks: Vec<_> = cells.iter().map(|&value| colours::of(key.place.share(value).unwrap_or(f64::NAN))).collect();
        let mut column = 0;
        // Neighbours of one colour are one rectangle.
        for run in inks.chunk_by(|one, next| one == next) {
            let last = column + run.len() - 1;
            if let Some([left, right]) = edges(column, last, &axes.x) {
                let right = (right + OVERLAP).min(axes.x.length());
                canvas.area(Area { left, top, right, bottom }, run[0]);
            }
            column += run.len();
        }
    }
}

/// The pixels from half before one to half after another, in rising order, if any are on the axis.
fn edges(first: usize, last: usize, place: &Place) -> Option<[f64; 2]> {
    let from = place.within(first as f64 - 0.5)?;
    let to = place.within(last as f64 + 0.5)?;
    (from != to).then(|| [from.min(to), from.max(to)])
}
