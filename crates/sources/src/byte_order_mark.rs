//! Byte order marks, which Windows tools put before text: that of UTF-8 is no part of the text, those of other encodings
//! say that the text cannot be read.

/// Without a byte order mark of UTF-8.
///
/// # Errors
/// If the mark is that of another encoding: which one, and what would be right.
pub fn strip(bytes: &[u8]) -> Result<&[u8], String> {
    let foreign = match bytes {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => "UTF-32",
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "UTF-16",
        _ => return Ok(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)),
    };
    Err(format!("begins with the byte order mark of {foreign}; save it as UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mark_of_utf8_is_removed() {
        assert_eq!(strip(b"\xEF\xBB\xBFa"), Ok(&b"a"[..]));
        assert_eq!(strip(b"\xEF\xBB\xBF\xEF\xBB\xBF"), Ok(&b"\xEF\xBB\xBF"[..]));
        assert_eq!(strip(b"\xEF\xBB"), Ok(&b"\xEF\xBB"[..]));
        assert_eq!(strip(b""), Ok(&b""[..]));
    }

    #[test]
    fn other_encodings_are_named() {
        for (bytes, encoding) in [
            (&b"\xFF\xFEa\0"[..], "UTF-16"),
            (b"\xFE\xFF\0a", "UTF-16"),
            (b"\xFF\xFE\0\0a\0\0\0", "UTF-32"),
            (b"\0\0\xFE\xFF\0\0\0a", "UTF-32"),
        ] {
            let reason = strip(bytes).expect_err("not UTF-8");
            assert!(reason.contains(encoding) && reason.contains("byte order mark"), "{reason}");
        }
    }
}
