//! The sheet of a figure: its panels in rows.

use super::canvas::{Align, Canvas, Spot, Turn};
use super::frame::{self, Frame};
use super::legend::{self, Entry};
use super::text::{self, LINE, TITLE};
use super::{axes, heat, plot};
use crate::figure::{Content, Figure};

/// Free around everything.
const MARGIN: f64 = 8.0;
/// Between panels side by side, and between rows.
const GAPS: [f64; 2] = [22.0, 16.0];
/// Width of a panel, and of its axes at least, by how many are side by side.
const WIDTHS: [[f64; 2]; 3] = [[404.0, 220.0], [316.0, 180.0], [262.0, 150.0]];

/// A figure laid out.
pub(super) struct Sheet<'a> {
    rows: Vec<FrameRow<'a>>,
    title: Vec<String>,
    legend: Vec<Vec<Entry>>,
    width: f64,
}

/// Panels side by side: their axes begin and end at one height.
struct FrameRow<'a> {
    frames: Vec<Frame<'a>>,
    head: f64,
    height: f64,
    foot: f64,
}

impl<'a> Sheet<'a> {
    /// Lays out a figure.
    pub(super) fn new(figure: &'a Figure) -> Self {
        let panels = &figure.panels;
        let columns = match panels.len() {
            0 | 1 => 1,
            2 | 4 => 2,
            _ => 3,
        };
        let entries: Vec<_> = panels.iter().map(legend::entries).filter(|entries| !entries.is_empty()).collect();
        let shared = entries.len() > 1 && entries.windows(2).all(|pair| pair[0] == pair[1]);
        let untitled = panels.iter().all(|panel| panel.title.trim().is_empty());
        let [width, least] = WIDTHS[columns - 1];
        let row = |row: &'a [crate::figure::Panel]| {
            let height = row.iter().map(frame::height).fold(0.0, f64::max);
            let frame = |panel: &'a crate::figure::Panel| {
                let title = if panels.len() == 1 && untitled { &figure.title } else { &panel.title };
                Frame::new(panel, title, !shared, [width, least, height])
            };
            let frames: Vec<_> = row.iter().map(frame).collect();
            let most = |room: fn(&Frame<'a>) -> f64| frames.iter().map(room).fold(0.0, f64::max);
            FrameRow { head: most(Frame::head), foot: most(Frame::foot), height, frames }
        };
        let rows: Vec<FrameRow<'a>> = panels.chunks(columns).map(row).collect();
        let width = rows.iter().map(FrameRow::width).fold(if rows.is_empty() { width } else { 0.0 }, f64::max);
        let title = if panels.len() != 1 && untitled { figure.title.as_str() } else { "" };
        let first = entries.first().filter(|_| shared);
        Self {
            rows,
            title: text::wrapped(title, TITLE, width, 3),
            legend: legend::rows(first.map_or(&[][..], Vec::as_slice), width),
            width,
        }
    }

    /// Its width and height, in whole pixels.
    pub(super) fn size(&self) -> Spot {
        let rows: f64 = self.rows.iter().map(|row| row.head + row.height + row.foot).sum();
        let gaps = self.rows.len().saturating_sub(1) as f64 * GAPS[1];
        ((self.width + 2.0 * MARGIN).ceil(), (self.head() + rows + gaps + 2.0 * MARGIN).ceil())
    }

    pub(super) fn draw(&self, canvas: &mut Canvas<'_>) {
        canvas.move_to((MARGIN, MARGIN));
        for (index, line) in self.title.iter().enumerate() {
            let y = (index as f64 + 0.8) * TITLE * LINE;
            canvas.words(line, (0.0, y), TITLE, Align::Start, Turn::Level);
        }
        legend::draw(&self.legend, canvas, 0.0, self.title_height());
        let mut top = MARGIN + self.head();
        for row in &self.rows {
            let mut left = MARGIN;
            for frame in &row.frames {
                canvas.move_to((left + frame.left, top + row.head));
                panel(frame, canvas, row.head);
                left += frame.width() + GAPS[0];
            }
            top += row.head + row.height + row.foot + GAPS[1];
        }
    }

    fn head(&self) -> f64 {
        let legend = self.legend.len() as f64 * legend::ROW;
        self.title_height() + if legend > 0.0 { legend + 4.0 } else { 0.0 }
    }

    fn title_height(&self) -> f64 {
        if self.title.is_empty() { 0.0 } else { self.title.len() as f64 * TITLE * LINE + 3.0 }
    }
}

impl FrameRow<'_> {
    fn width(&self) -> f64 {
        let gaps = self.frames.len().saturating_sub(1) as f64 * GAPS[0];
        self.frames.iter().map(Frame::width).sum::<f64>() + gaps
    }
}

fn panel(frame: &Frame<'_>, canvas: &mut Canvas<'_>, head: f64) {
    axes::head(frame, canvas, head);
    axes::grid(frame, canvas);
    match &frame.panel.content {
        Content::Plot { series, .. } => plot::draw(series, &frame.axes, canvas),
        Content::Heat { values, .. } => {
            if let Some(key) = &frame.key {
                heat::draw(values, key, &frame.axes, canvas);
                key.draw(frame.axes.area(), canvas);
            }
        }
    }
    axes::axes(frame, canvas);
    axes::rules(frame, canvas);
}
