//! A figure on paper: SVG, and PDF made from it.
//!
//! ```
//! use sinkscope_report::figure::{Axis, Colour, Figure, Mark, Panel, Series, drawing};
//! use sinkscope_report::tidy::{Column, Table};
//!
//! let points = [(0.0, 1.0), (1.0, 300.0), (2.0, 23_000.0)];
//! let figure = Figure {
//!     id: "spikes".to_owned(),
//!     title: "The largest value of every block".to_owned(),
//!     paper: None,
//!     caption: String::new(),
//!     alt: "It grows from 1 to 23,000.".to_owned(),
//!     panels: vec![Panel::plot(
//!         "",
//!         Axis::linear("block"),
//!         Axis::log("largest value"),
//!         vec![Series::new("spikes", Colour::Spike, Mark::Line, points)],
//!     )],
//!     data: Table::new("spikes", vec![Column::floats("value", points.map(|point| point.1))])?,
//! };
//! assert!(drawing::svg(&figure)?.contains("largest value"));
//! assert!(drawing::pdf(&figure)?.starts_with(b"%PDF"));
//! # Ok::<(), sinkscope_report::ReportError>(())
//! ```

mod axes;
mod bars;
mod canvas;
mod clip;
mod colours;
mod frame;
mod heat;
mod legend;
mod number;
mod paper;
mod place;
mod plot;
mod sheet;
mod text;
mod ticks;

use self::canvas::Canvas;
use self::sheet::Sheet;
use super::Figure;
use crate::ReportError;

/// Whether this build draws figures.
///
/// # Errors
/// [`ReportError::NoFigures`] in a build without the feature `figures`.
pub fn ready() -> Result<(), ReportError> {
    Ok(())
}

/// The figure as SVG: about 420 x 280 pixels for one panel, wider for several, higher for many names. Words stay words,
/// in Noto Sans or what there is like it. The same figure gives the same bytes.
///
/// # Errors
/// [`ReportError::Figure`] if plotters refuses it.
pub fn svg(figure: &Figure) -> Result<String, ReportError> {
    let sheet = Sheet::new(figure);
    let size = sheet.size();
    let mut drawn = String::new();
    let mut canvas = Canvas::new(&mut drawn, size);
    sheet.draw(&mut canvas);
    canvas.finish().map_err(|problem| ReportError::figure(&figure.id, problem))?;
    let (_, shapes) = drawn.split_once('\n').ok_or_else(|| ReportError::figure(&figure.id, "nothing was drawn"))?;
    Ok(Canvas::tag(size, &figure.title, &figure.alt) + shapes)
}

/// The figure as a PDF of one page, a point a pixel; its words can be found and copied, and its font is in it.
///
/// # Errors
/// [`ReportError::Figure`] if its SVG cannot be drawn or turned into PDF.
pub fn pdf(figure: &Figure) -> Result<Vec<u8>, ReportError> {
    paper::pdf(&svg(figure)?).map_err(|problem| ReportError::figure(&figure.id, problem))
}
