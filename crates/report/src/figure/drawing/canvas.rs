//! What is drawn upon: shapes and words in pixels, written as SVG by plotters.
//!
//! Plotters counts in whole pixels; it is handed tenths, and the view box makes tenths of them again.

use plotters::prelude::{Color as _, DrawingBackend, FontTransform, IntoFont, RGBColor, SVGBackend, ShapeStyle};
use plotters::style::TextStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::text;

/// Red, green and blue.
pub(super) type Ink = [u8; 3];
/// To the right and downwards, in pixels.
pub(super) type Spot = (f64, f64);

/// Of words.
pub(super) const DARK: Ink = [34, 34, 34];
/// Of axes.
pub(super) const AXIS: Ink = [140, 140, 140];
/// Of lines that lead the eye.
pub(super) const GRID: Ink = [230, 230, 230];

const FONTS: &str = "Noto Sans, Arial, Helvetica, sans-serif";
/// Tenths of a pixel are fine enough.
const FINENESS: f64 = 10.0;
/// Plotters divides the size of a font by this.
const PLOTTERS_FONT: f64 = 1.24;
/// Plotters lowers words that hang from their top by this share of their size, which puts the line they stand on there.
const PLOTTERS_DROP: f64 = 0.76;

/// A rectangle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

/// Which end of words is at their spot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Start,
    Middle,
    End,
}

/// Where words run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Level,
    Up,
    Down,
}

/// A sheet being drawn.
pub(super) struct Canvas<'a> {
    backend: SVGBackend<'a>,
    origin: Spot,
    problem: Option<String>,
}

impl<'a> Canvas<'a> {
    /// A white sheet of this width and height.
    pub(super) fn new(svg: &'a mut String, size: Spot) -> Self {
        let pixels = |length: f64| (length * FINENESS).round() as u32;
        let backend = SVGBackend::with_string(svg, (pixels(size.0), pixels(size.1)));
        let mut canvas = Self { backend, origin: (0.0, 0.0), problem: None };
        canvas.area(Area { left: 0.0, top: 0.0, right: size.0, bottom: size.1 }, [255; 3]);
        canvas
    }

    /// The first tag of such a sheet, which says its true size and what it shows.
    pub(super) fn tag(size: Spot, title: &str, description: &str) -> String {
        let pixels = |length: f64| (length * FINENESS).round();
        let (title, description) = (text::escaped(title), text::escaped(description));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\">\n\
             <title>{title}</title>\n<desc>{description}</desc>\n",
            size.0,
            size.1,
            pixels(size.0),
            pixels(size.1)
        )
    }

    /// What follows is drawn with its zero here.
    pub(super) fn move_to(&mut self, origin: Spot) {
        self.origin = origin;
    }

    /// A line through all of `spots`.
    pub(super) fn path(&mut self, spots: &[Spot], ink: Ink, width: f64) {
        let style = ShapeStyle { color: colour(ink, 1.0), filled: false, stroke_width: tenths(width) as u32 };
        let spots: Vec<_> = spots.iter().map(|&spot| self.pixel(spot)).collect();
        let done = self.backend.draw_path(spots, &style);
        self.note(done);
    }

    /// A filled shape that hides this share of what is below it.
    pub(super) fn shape(&mut self, spots: &[Spot], ink: Ink, cover: f64) {
        let spots: Vec<_> = spots.iter().map(|&spot| self.pixel(spot)).collect();
        let done = self.backend.fill_polygon(spots, &colour(ink, cover));
        self.note(done);
    }

    /// A filled rectangle.
    pub(super) fn area(&mut self, area: Area, ink: Ink) {
        let (from, to) = (self.pixel((area.left, area.top)), self.pixel((area.right, area.bottom)));
        let done = self.backend.draw_rect(from, to, &colour(ink, 1.0), true);
        self.note(done);
    }

    /// A filled disc.
    pub(super) fn dot(&mut self, centre: Spot, radius: f64, ink: Ink) {
        let centre = self.pixel(centre);
        let done = self.backend.draw_circle(centre, tenths(radius) as u32, &colour(ink, 1.0), true);
        self.note(done);
    }

    /// Words that stand on the line through `spot`.
    pub(super) fn words(&mut self, words: &str, spot: Spot, size: f64, align: Align, turn: Turn) {
        let words = text::clean(words);
        if words.trim().is_empty() {
            return;
        }
        let drop = PLOTTERS_DROP * size;
        let (transform, (x, y)) = match turn {
            Turn::Level => (FontTransform::None, (spot.0, spot.1 - drop)),
            Turn::Up => (FontTransform::Rotate270, (spot.0 - drop, spot.1)),
            Turn::Down => (FontTransform::Rotate90, (spot.0 + drop, spot.1)),
        };
        let side = match align {
            Align::Start => HPos::Left,
            Align::Middle => HPos::Center,
            Align::End => HPos::Right,
        };
        let font = (FONTS, size * (FINENESS * PLOTTERS_FONT)).into_font().transform(transform);
        let ink = colour(DARK, 1.0);
        let style = TextStyle::from(font).color(&ink).pos(Pos::new(side, VPos::Top));
        let pixel = self.pixel((x, y));
        let done = self.backend.draw_text(&words, &style, pixel);
        self.note(done);
    }

    /// Ends the sheet; what went wrong, if something did.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let done = self.backend.present();
        self.note(done);
        self.problem.map_or(Ok(()), Err)
    }

    fn pixel(&self, spot: Spot) -> (i32, i32) {
        (tenths(self.origin.0 + spot.0), tenths(self.origin.1 + spot.1))
    }

    fn note<E: std::fmt::Display>(&mut self, done: Result<(), E>) {
        if let Err(problem) = done {
            self.problem.get_or_insert_with(|| problem.to_string());
        }
    }
}

impl Area {
    /// Whether they have more than an edge in common.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }
}

fn tenths(length: f64) -> i32 {
    (length * FINENESS).round() as i32
}

fn colour([red, green, blue]: Ink, cover: f64) -> plotters::style::RGBAColor {
    RGBColor(red, green, blue).mix(cover)
}
