//! What is around the data of a panel: title, legend, axes, grid, rules.

use super::canvas::{AXIS, Align, Area, Canvas, DARK, GRID, Turn};
use super::frame::{Frame, SPACE, TICK, TITLE_SPACE};
use super::text::{self, LINE, SMALL, TEXT, TITLE};
use super::{clip, legend};
use crate::figure::{Content, Mark, Scale};

/// Width of axes and of the lines of the grid.
const THIN: f64 = 0.8;
/// Dashes of rules and the gaps between them.
const DOTS: [f64; 2] = [2.5, 2.5];
/// How much of a letter is above the middle of the line.
const HALF_LETTER: f64 = 0.36;

/// Draws title and legend, the zero of the canvas being where the axes meet at the top; `head` pixels are above it.
pub(super) fn head(frame: &Frame<'_>, canvas: &mut Canvas<'_>, head: f64) {
    for (index, line) in frame.title.iter().enumerate() {
        let y = -head + (index as f64 + 0.8) * TITLE * LINE;
        canvas.words(line, (-frame.left, y), TITLE, Align::Start, Turn::Level);
    }
    legend::draw(&frame.legend, canvas, -frame.left, frame.title_height() - head);
}

/// Draws the grid, below the data.
pub(super) fn grid(frame: &Frame<'_>, canvas: &mut Canvas<'_>) {
    let Content::Plot { series, .. } = &frame.panel.content else { return };
    let (width, height) = (frame.axes.x.length(), frame.axes.y.length());
    let dots = series.iter().any(|one| one.mark != Mark::Bars);
    let upright = if dots { !matches!(frame.panel.x.scale, Scale::Names(_)) } else { frame.axes.lying };
    for tick in frame.x.labelled.iter().filter(|_| upright) {
        canvas.path(&[(tick.at, 0.0), (tick.at, height)], GRID, THIN);
    }
    let level = !frame.axes.lying || dots;
    for tick in frame.y.labelled.iter().filter(|_| level) {
        canvas.path(&[(0.0, tick.at), (width, tick.at)], GRID, THIN);
    }
}

/// Draws the axes, their labels and titles.
pub(super) fn axes(frame: &Frame<'_>, canvas: &mut Canvas<'_>) {
    let (width, height) = (frame.axes.x.length(), frame.axes.y.length());
    canvas.path(&[(0.0, 0.0), (0.0, height), (width, height)], AXIS, 1.0);
    let bars =
        matches!(&frame.panel.content, Content::Plot { series, .. } if series.iter().any(|one| one.mark == Mark::Bars));
    let base = frame.axes.measure().base();
    if bars && base > 0.5 && base < frame.axes.measure().length() - 0.5 {
        let along = frame.axes.along().length();
        canvas.path(&[frame.axes.join(0.0, base), frame.axes.join(along, base)], AXIS, 1.0);
    }
    for tick in &frame.x.labelled {
        canvas.path(&[(tick.at, height), (tick.at, height + TICK)], AXIS, THIN);
        let top = height + TICK + SPACE;
        if frame.x.turned {
            canvas.words(&tick.label, (tick.at + HALF_LETTER * SMALL, top), SMALL, Align::End, Turn::Up);
        } else {
            let half = text::width(&tick.label, SMALL) / 2.0;
            let x = tick.at.min(width + frame.right - half).max(half - frame.left);
            canvas.words(&tick.label, (x, top + 0.78 * SMALL), SMALL, Align::Middle, Turn::Level);
        }
    }
    for tick in &frame.y.labelled {
        canvas.path(&[(-TICK, tick.at), (0.0, tick.at)], AXIS, THIN);
        let spot = (-TICK - SPACE, tick.at + HALF_LETTER * SMALL);
        canvas.words(&tick.label, spot, SMALL, Align::End, Turn::Level);
    }
    for &at in &frame.x.minor {
        canvas.path(&[(at, height), (at, height + TICK / 2.0)], AXIS, THIN);
    }
    for &at in &frame.y.minor {
        canvas.path(&[(-TICK / 2.0, at), (0.0, at)], AXIS, THIN);
    }
    titles(frame, canvas);
}

fn titles(frame: &Frame<'_>, canvas: &mut Canvas<'_>) {
    let (width, height) = (frame.axes.x.length(), frame.axes.y.length());
    for (index, line) in frame.x_title.iter().enumerate() {
        let half = text::width(line, TEXT) / 2.0;
        let x = (width / 2.0).min(width + frame.right - half).max(half - frame.left);
        let y = height + frame.label_depth() + TITLE_SPACE + (index as f64 + 0.8) * TEXT * LINE;
        canvas.words(line, (x, y), TEXT, Align::Middle, Turn::Level);
    }
    for (index, line) in frame.y_title.iter().enumerate() {
        let x = -frame.left + (index as f64 + 0.8) * TEXT * LINE;
        canvas.words(line, (x, height / 2.0), TEXT, Align::Middle, Turn::Up);
    }
}

/// Draws the rules and what they say: of upright ones above the axes, of level ones where least is hidden.
pub(super) fn rules(frame: &Frame<'_>, canvas: &mut Canvas<'_>) {
    let Content::Plot { rules, .. } = &frame.panel.content else { return };
    let (width, height) = (frame.axes.x.length(), frame.axes.y.length());
    let mut taken: Vec<Area> = Vec::new();
    for rule in rules {
        let place = if rule.upright { &frame.axes.x } else { &frame.axes.y };
        let Some(at) = place.within(rule.at).filter(|_| place.holds(rule.at)) else { continue };
        let line = if rule.upright { [(at, 0.0), (at, height)] } else { [(0.0, at), (width, at)] };
        for piece in clip::dashes(&line, DOTS[0], DOTS[1]) {
            canvas.path(&piece, DARK, 1.0);
        }
        if !rule.upright && !rule.label.trim().is_empty() {
            let label = text::shortened(&rule.label, SMALL, width - 8.0);
            let area = frame.free_place(&label, at, &taken);
            canvas.words(&label, (area.left, area.bottom - 0.25 * SMALL), SMALL, Align::Start, Turn::Level);
            taken.push(area);
        }
    }
    for &(rule, row, from) in &frame.labels {
        let label = text::shortened(&rule.label, SMALL, width + frame.right - from);
        let y = -4.0 - row as f64 * SMALL * LINE;
        canvas.words(&label, (from, y), SMALL, Align::Start, Turn::Level);
    }
}
