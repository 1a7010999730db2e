//! How a vocabulary writes bytes, and how a reader wants to see them.

use std::fmt::Write as _;

/// How the strings of a vocabulary stand for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Each character stands for one byte, by GPT-2's table (`Ġ` is a space).
    ByteLevel,
    /// Text with `▁` for a space, and `<0xNN>` for a byte.
    SentencePiece,
}

impl Spelling {
    /// The text of a token; bytes that are not UTF-8 by themselves as `\xNN`.
    pub(super) fn text(self, spelled: &str) -> String {
        match self {
            Self::ByteLevel => readable(&byte_level_bytes(spelled)),
            Self::SentencePiece => match byte_of_name(spelled) {
                Some(byte) => readable(&[byte]),
                None => spelled.replace('▁', " "),
            },
        }
    }
}

/// The byte that a SentencePiece byte token such as `<0x0A>` stands for.
pub(super) fn byte_of_name(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if hexadecimal { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// The bytes of a byte-level token. A character outside GPT-2's table stands for its own UTF-8 bytes.
fn byte_level_bytes(spelled: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(spelled.len());
    for character in spelled.chars() {
        match byte_of_character(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// GPT-2's table, backwards.
fn byte_of_character(character: char) -> Option<u8> {
    (0..=u8::MAX).find(|&byte| character_of_byte(byte) == character)
}

/// How GPT-2's table writes a byte: printable Latin-1 characters stand for themselves, the other 68 bytes, in order, are
/// the characters from U+0100 on.
pub fn character_of_byte(byte: u8) -> char {
    let stands_for_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if stands_for_itself(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&other| !stands_for_itself(other)).count();
    char::from_u32(0x100 + rank as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_level_tokens_read_as_text() {
        let text = |spelled| Spelling::ByteLevel.text(spelled);
        assert_eq!(text("Ġthe"), " the");
        assert_eq!(text("Ċ"), "\n");
        assert_eq!(text("Ã©"), "é");
        assert_eq!(text("Ã"), "\\xC3");
        assert_eq!(text("ĠÃ"), " \\xC3");
        assert_eq!(text("Ń"), "\\xAD", "the last of the displaced bytes");
    }

    #[test]
    fn sentencepiece_tokens_read_as_text() {
        let text = |spelled| Spelling::SentencePiece.text(spelled);
        assert_eq!(text("▁the"), " the");
        assert_eq!(text("<0x0A>"), "\n");
        assert_eq!(text("<0xE2>"), "\\xE2");
        assert_eq!(text("<s>"), "<s>");
        assert_eq!(text("<0x+A>"), "<0x+A>");
    }

    #[test]
    fn every_byte_has_its_character() {
        let characters: Vec<char> = (0..=0x143).filter_map(char::from_u32).collect();
        let mut bytes: Vec<u8> = characters.iter().filter_map(|&character| byte_of_character(character)).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<_>>());
    }
}
