//! Words: how wide they are, how they are shortened and broken into lines, what of them is left out.

use std::sync::LazyLock;

use ttf_parser::Face;
use unicode_width::UnicodeWidthChar;

/// Size of titles, in pixels.
pub(super) const TITLE: f64 = 13.0;
/// Size of the titles of axes and of legends.
pub(super) const TEXT: f64 = 12.0;
/// Size of the numbers and names along axes.
pub(super) const SMALL: f64 = 11.0;
/// Height of a line, as a share of the size of its words.
pub(super) const LINE: f64 = 1.25;

/// The font of PDF files, whose widths are those of the layout.
pub(super) const FONT: &[u8] = notosans::REGULAR_TTF;

const ELLIPSIS: char = '…';

/// Without control characters, and without those that turn the direction of what follows.
pub(super) fn clean(words: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let unfit = |c: char| c.is_control() || turns(c) || matches!(c, '\u{fffe}' | '\u{ffff}');
    let spaced = words.chars().map(|c| if matches!(c, '\t' | '\n' | '\r') { ' ' } else { c });
    spaced.filter(|&c| !unfit(c)).collect()
}

/// As XML writes it.
pub(super) fn escaped(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    for c in clean(words).chars() {
        match c {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            other => text.push(other),
        }
    }
    text
}

/// How wide `words` are at a size, in pixels.
pub(super) fn width(words: &str, size: f64) -> f64 {
    clean(words).chars().map(advance).sum::<f64>() * size
}

/// The widest of `words`.
pub(super) fn widest<'a>(words: impl IntoIterator<Item = &'a str>, size: f64) -> f64 {
    words.into_iter().map(|words| width(words, size)).fold(0.0, f64::max)
}

/// The same if it is no wider than `room`; else with its middle left out.
pub(super) fn shortened(words: &str, size: f64, room: f64) -> String {
    let words = clean(words);
    if width(&words, size) <= room {
        return words;
    }
    let letters: Vec<char> = words.chars().collect();
    let mut left = room - advance(ELLIPSIS) * size;
    let (mut start, mut end) = (0, letters.len());
    while start < end {
        // Three letters of the beginning for two of the end.
        let from_start = 2 * start <= 3 * (letters.len() - end);
        let next = if from_start { letters[start] } else { letters[end - 1] };
        left -= advance(next) * size;
        if left < 0.0 {
            break;
        }
        if from_start { start += 1 } else { end -= 1 }
    }
    let first: String = letters[..start].iter().collect();
    let last: String = letters[end..].iter().collect();
    format!("{}{ELLIPSIS}{}", first.trim_end(), last.trim_start())
}

/// Lines no wider than `room`, at most `most` of them.
pub(super) fn wrapped(words: &str, size: f64, room: f64, most: usize) -> Vec<String> {
    let words = clean(words);
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        let full = lines.len() >= most;
        if let Some(line) = lines.last_mut() {
            let longer = format!("{line} {word}");
            if full || width(&longer, size) <= room {
                *line = longer;
                continue;
            }
        }
        lines.push(word.to_owned());
    }
    lines.iter().map(|line| shortened(line, size, room)).collect()
}

/// Width of a letter as a share of the size.
fn advance(letter: char) -> f64 {
    static FACE: LazyLock<Option<Face<'static>>> = LazyLock::new(|| Face::parse(FONT, 0).ok());
    let known = FACE.as_ref().and_then(|face| {
        let units = face.glyph_hor_advance(face.glyph_index(letter)?)?;
        Some(f64::from(units) / f64::from(face.units_per_em()))
    });
    known.unwrap_or_else(|| 0.6 * letter.width().unwrap_or(0) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_shortened_to_their_room() {
        let long = "quantize=w8a8-tensor+keep-spikes@block=4";
        let short = shortened(long, 11.0, 120.0);
        assert!(short.starts_with("quantize") && short.ends_with("block=4") && short.contains('…'), "{short}");
        assert!(width(&short, 11.0) <= 120.0);
        assert_eq!(shortened("short", 11.0, 120.0), "short");
        assert_eq!(shortened(long, 11.0, 0.0), "…");
    }

    #[test]
    fn words_are_broken_into_lines() {
        let lines = wrapped("one two three four five six", 12.0, 60.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| width(line, 12.0) <= 60.0), "{lines:?}");
        assert!(wrapped(" \u{1}", 12.0, 60.0, 2).is_empty());
    }

    #[test]
    fn nothing_that_xml_forbids_is_left() {
        assert_eq!(escaped("a\u{0}b\u{1b}c\n<&>\u{202e}"), "abc &lt;&amp;&gt;");
    }
}
