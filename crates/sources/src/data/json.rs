//! Text in JSON: an object a line (`.jsonl`, `.ndjson`, and `.json` as C4 has it), or one array of objects or strings.
//!
//! Only the field that was asked for is read. What stands in the others need not be text that Rust can hold: half of
//! a surrogate pair, a number beyond all bounds, or the `NaN` and `Infinity` that Python writes.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::str;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::compression::Compression;
use super::document::{Flow, Part, Take};
use super::non_numbers::WithoutNonNumbers;
use crate::error::SourceError;

/// Gives the text of each object to `take`; `mark` is the length of a byte order mark that was removed.
pub(super) fn read(
    reader: &mut dyn BufRead,
    mark: usize,
    path: &Path,
    compression: Compression,
    field: &str,
    take: &mut Take<'_>,
) -> Result<(), SourceError> {
    let (mut lines, mut offset) = (0, mark);
    loop {
        let buffer = reader.fill_buf().map_err(|error| compression.error(path, error))?;
        let Some(&first) = buffer.first() else { return Ok(()) };
        match first {
            b'[' => return read_array(reader, path, compression, lines, field, take),
            first if first.is_ascii_whitespace() => {
                lines += usize::from(first == b'\n');
                offset += 1;
                reader.consume(1);
            }
            _ => return read_lines(reader, path, compression, (lines, offset), field, take),
        }
    }
}

/// An object a line.
fn read_lines(
    reader: &mut dyn BufRead,
    path: &Path,
    compression: Compression,
    before: (usize, usize),
    field: &str,
    take: &mut Take<'_>,
) -> Result<(), SourceError> {
    let mut texts = Vec::new();
    each_line(reader, path, compression, before, &mut |number, line| {
        parse_line(line, field, &mut texts).map_err(|error| {
            let (what, column) = (without_place(&error), error.column());
            let reason =
                format!("line {number}, column {column}: {what}; each line is an object with a string `{field}`");
            SourceError::malformed(path, reason)
        })?;
        for text in texts.drain(..) {
            if take(Part { text: &text, continues: false })? == Flow::Enough {
                return Ok(Flow::Enough);
            }
        }
        Ok(Flow::More)
    })
}

/// Gives each line, with its number, to `take`, after so many lines and bytes. Lines of white space are passed over.
pub(super) fn each_line(
    reader: &mut dyn BufRead,
    path: &Path,
    compression: Compression,
    (lines, mut offset): (usize, usize),
    take: &mut dyn FnMut(usize, &str) -> Result<Flow, SourceError>,
) -> Result<(), SourceError> {
    let mut bytes = Vec::new();
    for number in lines + 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(|error| compression.error(path, error))? == 0 {
            break;
        }
        let line = str::from_utf8(&bytes).map_err(|error| {
            let offset = offset + error.valid_up_to();
            let reason = format!("line {number} is not UTF-8 text: the byte at offset {offset} cannot stand there");
            SourceError::malformed(path, reason)
        })?;
        offset += line.len();
        if !line.trim().is_empty() && take(number, line)? == Flow::Enough {
            return Ok(());
        }
    }
    Ok(())
}

fn parse_line(line: &str, field: &str, texts: &mut Vec<String>) -> Result<(), serde_json::Error> {
    let mut parse = |line: &str| {
        texts.clear();
        let mut json = serde_json::Deserializer::from_str(line);
        Search { field, rest: field, within: Within::Line, texts: &mut *texts }.deserialize(&mut json)?;
        json.end()
    };
    let Err(error) = parse(line) else { return Ok(()) };
    let (mut cleaned, mut reader) = (String::new(), WithoutNonNumbers::new(line.as_bytes()));
    let blamed = error.to_string().starts_with("field `");
    if error.is_data() && !blamed || reader.read_to_string(&mut cleaned).is_err() || cleaned == line {
        return Err(error);
    }
    parse(&cleaned).map_err(|of_cleaned| if blamed { error } else { of_cleaned })
}

/// One array, an element at a time.
fn read_array(
    reader: &mut dyn BufRead,
    path: &Path,
    compression: Compression,
    lines: usize,
    field: &str,
    take: &mut Take<'_>,
) -> Result<(), SourceError> {
    let mut stopped = None;
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(WithoutNonNumbers::new(reader)));
    let all = json.deserialize_seq(Elements { field, take, stopped: &mut stopped }).and_then(|()| json.end());
    match (stopped, all) {
        (Some(stopped), _) => stopped,
        (None, Ok(())) => Ok(()),
        (None, Err(error)) if error.is_io() => Err(compression.error(path, error.into())),
        (None, Err(error)) => {
            let (what, line, column) = (without_place(&error), lines + error.line(), error.column());
            let reason = format!(
                "line {line}, column {column}: {what}; each element is a string or an object with a string `{field}`"
            );
            Err(SourceError::malformed(path, reason))
        }
    }
}

/// What is wrong with some JSON, without the line within it.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or_default();
    // The library says so of the first half of a surrogate pair that stands alone.
    what.replace("unexpected end of hex escape", "lone leading surrogate in hex escape")
}

struct Elements<'a, 'b> {
    field: &'a str,
    take: &'a mut Take<'b>,
    /// Why the rest is not read.
    stopped: &'a mut Option<Result<(), SourceError>>,
}

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let mut texts = Vec::new();
        let field = self.field;
        let next = |array: &mut A, texts: &mut Vec<String>| {
            array.next_element_seed(Search { field, rest: field, within: Within::Array, texts })
        };
        while next(&mut array, &mut texts)?.is_some() {
            for text in texts.drain(..) {
                let stopped = match (self.take)(Part { text: &text, continues: false }) {
                    Ok(Flow::More) => continue,
                    Ok(Flow::Enough) => Ok(()),
                    Err(error) => Err(error),
                };
                *self.stopped = Some(stopped);
                return Err(A::Error::custom("enough"));
            }
        }
        Ok(())
    }
}

/// Where a value stands in which a field is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// It is a line.
    Line,
    /// It is an element of the outermost array.
    Array,
    /// It is on the way to the field.
    Path,
    /// It is the field.
    Field,
}

/// Collects the texts of a field.
struct Search<'a> {
    /// The whole name.
    field: &'a str,
    /// What of it leads on from here.
    rest: &'a str,
    within: Within,
    texts: &'a mut Vec<String>,
}

impl Search<'_> {
    fn next<'b>(&'b mut self, rest: &'b str, within: Within) -> Search<'b> {
        Search { field: self.field, rest, within, texts: self.texts }
    }
}

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.within {
            Within::Line => "an object",
            Within::Array => "a string or an object",
            Within::Path => "an object or an array of objects",
            Within::Field => "a string",
        })
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<(), E> {
        if matches!(self.within, Within::Line | Within::Path) {
            return Err(E::invalid_type(serde::de::Unexpected::Str(&text), &self));
        }
        self.texts.push(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        if matches!(self.within, Within::Line | Within::Array) {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let (rest, within) = (self.rest, self.within);
        while array.next_element_seed(self.next(rest, within))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<(), A::Error> {
        if self.within == Within::Field {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        }
        let (field, path) = (self.field, self.rest);
        let mut found = false;
        while let Some(Key(key)) = object.next_key()? {
            let rest = path.as_bytes().strip_prefix(&key[..]).and_then(|rest| match rest {
                [] => Some(""),
                [b'.', ..] => path.get(path.len() - rest.len() + 1..),
                _ => None,
            });
            let Some(rest) = rest else {
                object.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut found, true) {
                return Err(A::Error::custom(format!("field `{field}`: it is there twice")));
            }
            let within = if rest.is_empty() { Within::Field } else { Within::Path };
            object.next_value_seed(self.next(rest, within)).map_err(|error| {
                let message = error.to_string();
                let named = message.starts_with("field `");
                A::Error::custom(if named { message } else { format!("field `{field}`: {message}") })
            })?;
        }
        if found { Ok(()) } else { Err(A::Error::custom(format!("missing field `{field}`"))) }
    }
}

/// The name of a field, which need not be text.
struct Key(Vec<u8>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Key;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("the name of a field")
            }

            fn visit_bytes<E>(self, name: &[u8]) -> Result<Key, E> {
                Ok(Key(name.to_owned()))
            }
        }
        json.deserialize_bytes(Bytes)
    }
}
