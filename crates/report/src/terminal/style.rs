//! Where the text goes: how wide, and whether with colour.

use crate::text::wrap;

/// Narrower than this, tables stop shrinking.
const MIN_WIDTH: usize = 40;

/// How text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    width: usize,
    colour: bool,
}

impl Style {
    /// Text at most `width` columns wide, with ANSI emphasis if `colour`.
    pub fn new(width: usize, colour: bool) -> Self {
        Self { width: width.max(MIN_WIDTH), colour }
    }

    /// Columns to use.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The title of a section: a heading and what the section shows, wrapped.
    pub(super) fn title(&self, heading: &str, what: &str) -> String {
        let plain = wrap(&format!("{heading}: {what}"), self.width);
        // A heading is short: it stands on the first line whole.
        match plain.strip_prefix(heading) {
            Some(rest) => format!("{}{rest}", self.heading(heading)),
            None => plain,
        }
    }

    pub(super) fn heading(&self, text: &str) -> String {
        self.sgr("1", text)
    }

    /// What is there for completeness.
    pub(super) fn faint(&self, text: &str) -> String {
        self.sgr("2", text)
    }

    fn sgr(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
