//! Where a document of a `.txt` file ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_sources::SourceError;
use sinkscope_sources::data::document::Part;

/// Bytes of a document after which [`Separator::Pages`] ends it at the next blank line.
pub const PAGE_BYTES: usize = 4096;

/// What ends a document of a `.txt` file. In the other formats a line or a row is a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Separator {
    /// A form feed; or a blank line, once the document is [`PAGE_BYTES`] long.
    #[default]
    Pages,
    /// A form feed.
    FormFeed,
    /// A blank line: each paragraph is a document.
    BlankLine,
    /// The end of the file.
    File,
}

impl Separator {
    fn at_form_feed(self) -> bool {
        matches!(self, Self::Pages | Self::FormFeed)
    }

    fn at_blank_line(self, length: usize) -> bool {
        match self {
            Self::Pages => length >= PAGE_BYTES,
            Self::BlankLine => true,
            Self::FormFeed | Self::File => false,
        }
    }
}

/// What takes the parts of documents.
type Give<'a> = dyn FnMut(Part<'_>) -> Result<(), SourceError> + 'a;

/// Cuts the parts of a `.txt` file into those of its documents.
///
/// Separators, blank lines before a document, and documents of white space belong to no document.
#[derive(Debug)]
pub(super) struct Cutter {
    separator: Separator,
    /// Bytes of the current document given so far.
    length: usize,
    /// Whether the current line is white space so far.
    blank: bool,
}

impl Cutter {
    /// At the beginning of a file.
    pub(super) fn new(separator: Separator) -> Self {
        Self { separator, length: 0, blank: true }
    }

    /// Gives `give` what `text`, the next part of the file, holds of each document.
    pub(super) fn cut(&mut self, text: &str, give: &mut Give<'_>) -> Result<(), SourceError> {
        // Of the current document, this part's text begins at `start`; of the current line, at `line`.
        let (mut start, mut line) = (0, 0);
        for (end, mark) in text.match_indices(['\n', '\x0C']) {
            let blank = self.blank && text[line..end].trim().is_empty();
            if mark == "\x0C" {
                if !self.separator.at_form_feed() {
                    continue;
                }
                self.end(&text[start..end], give)?;
                start = end + 1;
            } else if blank && self.length == 0 && text[start..line].is_empty() {
                start = end + 1;
            } else if blank && self.separator.at_blank_line(self.length + line - start) {
                self.end(&text[start..line], give)?;
                start = end + 1;
            }
            line = end + 1;
            self.blank = true;
        }
        self.blank = self.blank && text[line..].trim().is_empty();
        self.give(&text[start..], give)
    }

    fn end(&mut self, text: &str, give: &mut Give<'_>) -> Result<(), SourceError> {
        self.give(text, give)?;
        self.length = 0;
        Ok(())
    }

    fn give(&mut self, text: &str, give: &mut Give<'_>) -> Result<(), SourceError> {
        if text.is_empty() || (self.length == 0 && text.trim().is_empty()) {
            return Ok(());
        }
        give(Part { text, continues: self.length > 0 })?;
        self.length += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents of a file whose parts are `parts`.
    fn documents(separator: Separator, parts: &[&str]) -> Vec<String> {
        let mut documents: Vec<String> = Vec::new();
        let mut cutter = Cutter::new(separator);
        for part in parts {
            let mut give = |part: Part<'_>| {
                match documents.last_mut().filter(|_| part.continues) {
                    Some(last) => last.push_str(part.text),
                    None => documents.push(part.text.to_owned()),
                }
                Ok(())
            };
            cutter.cut(part, &mut give).expect("`give` does not fail");
        }
        documents
    }

    #[test]
    fn form_feeds_end_documents() {
        let text = "\n\none\n\ntwo\n\x0C\n \n\x0Cthree\x0C";
        assert_eq!(documents(Separator::FormFeed, &[text]), ["one\n\ntwo\n", "three"]);
        assert_eq!(documents(Separator::Pages, &[text]), ["one\n\ntwo\n", "three"]);
        assert_eq!(documents(Separator::File, &[text]), [&text[2..]]);
    }

    #[test]
    fn blank_lines_end_paragraphs() {
        let text = "one\n two\n \t\n\n  three\n\nfour";
        assert_eq!(documents(Separator::BlankLine, &[text]), ["one\n two\n", "  three\n", "four"]);
        assert_eq!(documents(Separator::Pages, &[text]), [text]);
    }

    #[test]
    fn pages_end_at_a_blank_line_when_they_are_long() {
        let paragraph = format!("{}\n", "word ".repeat(300));
        let text = [paragraph.as_str(); 5].join("\n");
        let pages = documents(Separator::Pages, &[&text]);
        assert_eq!(pages, [[paragraph.as_str(); 3].join("\n"), [paragraph.as_str(); 2].join("\n")]);
    }

    #[test]
    fn it_does_not_matter_where_parts_are_cut() {
        let text = "one two\n \n\nthree\n\x0C\x0Cfour five\n\nsix\n".repeat(3);
        for separator in [Separator::Pages, Separator::FormFeed, Separator::BlankLine, Separator::File] {
            let whole = documents(separator, &[&text]);
            for cut in 1..text.len() {
                let parts = documents(separator, &[&text[..cut], &text[cut..]]);
                let trimmed = |documents: &[String]| -> Vec<String> {
                    documents.iter().map(|document| document.trim_end().to_owned()).collect()
                };
                assert_eq!(trimmed(&parts), trimmed(&whole), "{separator:?}, cut at {cut}");
            }
        }
    }
}
