//! Python writes `NaN`, `Infinity` and `-Infinity` into JSON, which has no such numbers.

use std::io::{self, Read};

/// JSON in which zeros of the same length stand for what is no number.
pub(super) struct WithoutNonNumbers<R> {
    json: R,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    InString,
    AfterBackslash,
    /// Within a word of which these letters are to come.
    Word(&'static [u8]),
}

impl<R> WithoutNonNumbers<R> {
    pub(super) fn new(json: R) -> Self {
        Self { json, place: Place::Outside }
    }
}

impl<R: Read> Read for WithoutNonNumbers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.json.read(buffer)?;
        for byte in &mut buffer[..count] {
            if let Place::Word([next, rest @ ..]) = self.place
                && *byte == *next
            {
                self.place = if rest.is_empty() { Place::Outside } else { Place::Word(rest) };
                *byte = b' ';
                continue;
            }
            self.place = match (self.place, *byte) {
                (Place::InString, b'\\') => Place::AfterBackslash,
                (Place::InString, b'"') => Place::Outside,
                (Place::InString | Place::AfterBackslash, _) => Place::InString,
                (_, b'"') => Place::InString,
                (_, b'N') => Place::Word(b"aN"),
                (_, b'I') => Place::Word(b"nfinity"),
                _ => Place::Outside,
            };
            if matches!(self.place, Place::Word(_)) {
                *byte = b'0';
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_outside_of_strings_is_replaced() {
        let json = r#"{"NaN": NaN, "a\"NaN": [Infinity,-Infinity, null], "b\\": NaN}"#;
        let expected = r#"{"NaN": 0  , "a\"NaN": [0       ,-0       , null], "b\\": 0  }"#;
        let mut found = String::new();
        WithoutNonNumbers::new(json.as_bytes()).read_to_string(&mut found).expect("text");
        assert_eq!(found, expected);
    }
}
