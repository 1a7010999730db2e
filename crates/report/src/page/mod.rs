//! One page for everything: `report.html`, whole in itself, which opens from disk and asks no network for anything.
//!
//! `contents` decides what is said of the outputs, in which order; `document` is that as data; `html` writes it
//! down. Figures are drawn in the browser by Plotly, which comes with the crate `plotly` and is packed by `build.rs`
//! (`interactive` says what it is to draw); the rest of what happens in the browser is in `page.js`. Whatever comes from a
//! model, a text or a file is data to that program or escaped text, never markup.

mod contents;
mod document;
mod html;
mod interactive;
mod sentences;
mod token_text;

use self::document::Document;
use crate::ReportError;
use crate::figure::Figure;
use crate::outputs::Found;

/// The name of the page.
pub const PAGE_FILE: &str = "report.html";

/// A page and its figures.
#[derive(Debug)]
pub struct Page(Document);

impl Page {
    /// About these outputs.
    pub fn new(found: &[Found]) -> Result<Self, ReportError> {
        contents::document(found).map(Self)
    }

    /// As HTML.
    pub fn html(&self) -> Result<String, ReportError> {
        html::page(&self.0)
    }

    /// Its figures, in its order.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.0.figures()
    }
}
