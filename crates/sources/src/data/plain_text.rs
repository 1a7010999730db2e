//! A `.txt` file: one document, read in parts.
//!
//! The parts are cut before a single space between two words, where the supported pre-tokenisers and SentencePiece
//! vocabularies cut too, so that the tokens are those of the whole text. Text without such a place in a part is cut
//! after a line end or, failing that, anywhere between characters; there the tokens at the cut may differ.

use std::io::Read;
use std::path::Path;
use std::str;

use super::compression::Compression;
use super::document::{Flow, Part, Take};
use crate::error::SourceError;

/// Bytes read before a part is cut. Long against a token, so that cuts are rare; short against a corpus.
const PART_BYTES: usize = 64 << 10;

/// Gives the text of `reader` to `take` in parts; `mark` is the length of a byte order mark that was removed.
pub(super) fn read(
    reader: &mut dyn Read,
    mark: usize,
    path: &Path,
    compression: Compression,
    take: &mut Take<'_>,
) -> Result<(), SourceError> {
    let mut buffer = Vec::with_capacity(2 * PART_BYTES);
    let mut given = 0;
    loop {
        let wanted = PART_BYTES.saturating_sub(buffer.len()).max(1);
        let count = (&mut *reader)
            .take(wanted as u64)
            .read_to_end(&mut buffer)
            .map_err(|error| compression.error(path, error))?;
        let at_end = count < wanted;
        let text = valid_text(&buffer, at_end).map_err(|offset| {
            let offset = mark + given + offset;
            SourceError::malformed(path, format!("not UTF-8 text: the byte at offset {offset} cannot stand there"))
        })?;
        let cut = if at_end { text.len() } else { cut(text) };
        if cut > 0 && take(Part { text: &text[..cut], continues: given > 0 })? == Flow::Enough {
            return Ok(());
        }
        if at_end {
            return Ok(());
        }
        given += cut;
        buffer.drain(..cut);
    }
}

/// The text in `bytes`, but for a character that is cut off at the end of what was read so far; or the offset of the
/// first byte that is not UTF-8.
fn valid_text(bytes: &[u8], at_end: bool) -> Result<&str, usize> {
    str::from_utf8(bytes).or_else(|error| {
        let valid = error.valid_up_to();
        if error.error_len().is_none() && !at_end {
            str::from_utf8(&bytes[..valid]).map_err(|_| valid)
        } else {
            Err(valid)
        }
    })
}

/// Where to end a part.
fn cut(text: &str) -> usize {
    let between_words = text.rmatch_indices(' ').map(|(index, _)| index).find(|&index| {
        let before = text[..index].chars().next_back();
        let after = text[index + 1..].chars().next();
        [before, after].into_iter().all(|neighbour| neighbour.is_some_and(|character| !character.is_whitespace()))
    });
    between_words.or_else(|| text.rfind('\n').map(|index| index + 1)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(bytes: &[u8]) -> Result<Vec<(String, bool)>, SourceError> {
        let mut parts = Vec::new();
        let mut reader = bytes;
        read(&mut reader, 0, Path::new("corpus.txt"), Compression::None, &mut |part| {
            parts.push((part.text.to_owned(), part.continues));
            Ok(Flow::More)
        })?;
        Ok(parts)
    }

    #[test]
    fn parts_are_cut_between_words() {
        assert_eq!(cut("one two  three\n four"), 3);
        assert_eq!(cut("one  two\n three"), 9);
        assert_eq!(cut("one  "), 5);
        assert_eq!(cut("\u{6771}\u{4eac}"), 6);
    }

    #[test]
    fn parts_make_up_the_text() -> Result<(), SourceError> {
        let word = "harbour \u{6e2f} ";
        for text in [word.repeat(20_000), "\u{6e2f}".repeat(70_000), "x".repeat(PART_BYTES), "one\n".repeat(40_000)] {
            let parts = parts(text.as_bytes())?;
            assert!(parts.iter().all(|(part, _)| part.len() <= PART_BYTES));
            assert!(parts.iter().enumerate().all(|(index, (_, continues))| *continues == (index > 0)));
            assert_eq!(parts.iter().map(|(part, _)| part.as_str()).collect::<String>(), text);
        }
        Ok(())
    }

    #[test]
    fn bytes_that_are_not_text_are_found_in_later_parts() {
        let mut bytes = "some words ".repeat(10_000).into_bytes();
        bytes[100_001] = 0xFF;
        let message = parts(&bytes).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(
            message.err().as_deref(),
            Some("corpus.txt: not UTF-8 text: the byte at offset 100001 cannot stand there")
        );
    }

    #[test]
    fn a_character_cut_off_at_the_end_of_the_file_is_an_error() {
        assert!(parts(&"\u{6e2f}".as_bytes()[..2]).is_err());
    }
}
