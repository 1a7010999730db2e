//! The legend: what every colour and mark means, in rows above the data.

use super::canvas::{Align, Area, Canvas, Ink, Turn};
use super::text::{self, TEXT};
use super::{clip, plot};
use crate::figure::{Content, Mark, Panel, Series};

/// Height of a row in pixels.
pub(super) const ROW: f64 = 17.0;
/// Width of the sample of a mark.
const SAMPLE: f64 = 18.0;
/// Between the sample and its name, and between entries.
const GAPS: [f64; 2] = [5.0, 14.0];

/// A name in the legend.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    name: String,
    ink: Ink,
    marks: Vec<Mark>,
    width: f64,
}

/// What the series of a panel are called. Several with one name and colour are one entry.
pub(super) fn entries(panel: &Panel) -> Vec<Entry> {
    let Content::Plot { series, .. } = &panel.content else { return Vec::new() };
    let mut entries: Vec<Entry> = Vec::new();
    for Series { name, colour, mark, .. } in series.iter().filter(|series| !series.name.trim().is_empty()) {
        let ink = colour.rgb();
        match entries.iter_mut().find(|entry| entry.name == *name && entry.ink == ink) {
            Some(entry) if entry.marks.contains(mark) => {}
            Some(entry) => entry.marks.push(*mark),
            None => entries.push(Entry { name: name.clone(), ink, marks: vec![*mark], width: 0.0 }),
        }
    }
    entries
}

/// Rows no wider than `room`; columns if there are several.
pub(super) fn rows(entries: &[Entry], room: f64) -> Vec<Vec<Entry>> {
    let fitted = |entry: &Entry| {
        let name = text::shortened(&entry.name, TEXT, (room - SAMPLE - GAPS[0]).max(0.0));
        let width = SAMPLE + GAPS[0] + text::width(&name, TEXT);
        Entry { name, width, ..entry.clone() }
    };
    let mut entries: Vec<Entry> = entries.iter().map(fitted).collect();
    let whole = entries.iter().map(|entry| entry.width + GAPS[1]).sum::<f64>() - GAPS[1];
    let widest = entries.iter().map(|entry| entry.width).fold(0.0, f64::max);
    if whole > room && 2.0 * widest + GAPS[1] <= room {
        for entry in &mut entries {
            entry.width = widest;
        }
    }
    let mut rows: Vec<Vec<Entry>> = Vec::new();
    let mut left = 0.0;
    for entry in entries {
        let needed = entry.width;
        match rows.last_mut() {
            Some(row) if needed <= left => row.push(entry),
            _ => {
                rows.push(vec![entry]);
                left = room;
            }
        }
        left -= needed + GAPS[1];
    }
    rows
}

/// Draws them from `left` and `top` downwards.
pub(super) fn draw(rows: &[Vec<Entry>], canvas: &mut Canvas<'_>, left: f64, top: f64) {
    for (index, row) in rows.iter().enumerate() {
        let middle = top + (index as f64 + 0.5) * ROW;
        let mut x = left;
        for entry in row {
            for &mark in &entry.marks {
                sample(mark, entry.ink, canvas, x, middle);
            }
            let spot = (x + SAMPLE + GAPS[0], middle + 0.36 * TEXT);
            canvas.words(&entry.name, spot, TEXT, Align::Start, Turn::Level);
            x += entry.width + GAPS[1];
        }
    }
}

fn sample(mark: Mark, ink: Ink, canvas: &mut Canvas<'_>, x: f64, middle: f64) {
    let line = [(x, middle), (x + SAMPLE, middle)];
    let centre = (x + SAMPLE / 2.0, middle);
    match mark {
        Mark::Line => canvas.path(&line, ink, plot::STROKE),
        Mark::Dashed => {
            for piece in clip::dashes(&line, plot::DASH[0], plot::DASH[1]) {
                canvas.path(&piece, ink, plot::STROKE);
            }
        }
        Mark::Dots => canvas.dot(centre, 3.0, ink),
        Mark::Crosses => plot::cross(canvas, centre, ink),
        Mark::Bars => {
            let area = Area { left: centre.0 - 6.0, top: middle - 4.5, right: centre.0 + 6.0, bottom: middle + 4.5 };
            canvas.area(area, ink);
        }
    }
}
