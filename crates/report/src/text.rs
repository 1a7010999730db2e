//! Text that comes from outside, made safe to print.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A token as a quoted literal: `" the"`, `"\n"`; control, format and other invisible characters are escaped.
pub(crate) fn token(text: &str) -> String {
    format!("{text:?}")
}

/// A token, no wider than `width` columns; what is cut off is marked `…`.
pub(crate) fn token_within(text: &str, width: usize) -> String {
    let quoted = token(text);
    if quoted.width() <= width {
        return quoted;
    }
    let mut cut = String::new();
    let mut used = 1;
    for character in quoted.chars() {
        used += character.width().unwrap_or(0);
        if used > width {
            break;
        }
        cut.push(character);
    }
    cut.push('…');
    cut
}

/// A token by its text, no wider than `width` columns, or by its id if it has none.
pub(crate) fn token_or_id(text: &str, id: u32, width: usize) -> String {
    if text.is_empty() { format!("id {id}") } else { token_within(text, width) }
}

/// The text with control, format and other invisible characters escaped; letters, accents, quotes and backslashes stay.
pub fn escape_control(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => escaped.push(character),
            // Behind a letter, where a combining accent is no reason to escape.
            _ => escaped.extend(String::from_iter(['a', character]).escape_debug().skip(1)),
        }
    }
    escaped
}

/// Breaks text at spaces into lines of at most `width` columns, but not between a number and its `%`. Each line ends in
/// a newline.
pub(crate) fn wrap(text: &str, width: usize) -> String {
    wrap_indented(text, width, "")
}

/// As [`wrap`], with `indent` before each line.
pub(crate) fn wrap_indented(text: &str, width: usize, indent: &str) -> String {
    let mut lines = indent.to_owned();
    let mut used = indent.width();
    let mut words = text.split(' ').peekable();
    let mut is_first = true;
    while let Some(word) = words.next() {
        let mut word = word.to_owned();
        while let Some(sign) = words.next_if(|next| next.starts_with('%')) {
            word.push(' ');
            word.push_str(sign);
        }
        if !is_first && used + 1 + word.width() > width {
            lines.push('\n');
            lines.push_str(indent);
            used = indent.width();
        } else if !is_first {
            lines.push(' ');
            used += 1;
        }
        is_first = false;
        used += word.width();
        lines.push_str(&word);
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_moves_it() {
        let hostile = "a\u{1b}[2J\r\n\t\u{7}\u{202e}\u{200b}\u{9b}é語";
        for escaped in [token(hostile), token_within(hostile, 200), escape_control(hostile)] {
            assert!(!escaped.chars().any(char::is_control), "{escaped}");
            assert!(!escaped.contains(['\u{202e}', '\u{200b}']), "{escaped}");
            assert!(escaped.contains("é語"), "{escaped}");
        }
        for harmless in [r"C:\o'k", "e\u{301}", "\"語\""] {
            assert_eq!(escape_control(harmless), harmless);
        }
    }

    #[test]
    fn cut_tokens_fit() {
        assert_eq!(token_within(" the", 6), "\" the\"");
        assert_eq!(token_within("abcdefgh", 6), "\"abcd…");
        // Two columns a character.
        assert_eq!(token_within("語語語語", 6), "\"語語…");
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two three", 7), "one two\nthree\n");
        assert_eq!(wrap("unbreakable word", 4), "unbreakable\nword\n");
        assert_eq!(wrap("as much as 81.2 %).", 16), "as much as\n81.2 %).\n");
        assert_eq!(wrap_indented("one two three", 9, "  "), "  one two\n  three\n");
    }
}
