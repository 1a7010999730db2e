//! One page for everything: `report.html`, whole in itself, which opens from disk and asks no network for anything.
//!
//! [`contents`] decides what is said of the outputs, in which order; [`document`] is that as data; [`html`] writes it
//! down. Figures are drawn in the browser by Plotly, which comes with the crate `plotly` ([`interactive`] says what it is
//! to draw); the rest of what happens in the browser is in `page.js`. Whatever comes from a model, a text or a file is
//! data to that program or escaped text, never markup.

mod contents;
mod document;
mod html;
mod interactive;
mod sentences;
mod token_text;

use crate::ReportError;
use crate::figure::Figure;
use crate::outputs::Found;

/// The name of the page.
pub const PAGE_FILE: &str = "report.html";

/// The page about these outputs, as HTML.
///
/// # Errors
/// [`ReportError::Table`] if results contradict each other.
pub fn page(found: &[Found]) -> Result<String, ReportError> {
    html::page(&contents::document(found)?)
}

/// The figures of that page, in its order.
///
/// # Errors
/// As [`page`].
pub fn figures(found: &[Found]) -> Result<Vec<Figure>, ReportError> {
    Ok(contents::document(found)?.into_figures())
}
