//! The filter `tojson`: JSON as Python's `json.dumps` writes it.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use serde_json::Value as Json;

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
#[expect(clippy::needless_pass_by_value, reason = "the signature that minijinja calls")]
pub(super) fn filter(value: &Value, given: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let wrong = |what: String| Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}"));
    let argument = |index: usize, name: &str| -> Result<Option<Value>, Error> {
        let value = match given.get(index) {
            Some(value) => Some(value.clone()),
            None => named.get::<Option<Value>>(name)?,
        };
        Ok(value.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    if value.is_undefined() || given.len() > 4 {
        return Err(wrong(
            if value.is_undefined() { "the value is undefined" } else { "too many arguments" }.to_owned(),
        ));
    }
    let ascii = argument(0, "ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = match argument(1, "indent")? {
        None => None,
        Some(value) if value.kind() == ValueKind::String => Some(value.to_string()),
        Some(value) => Some(" ".repeat(usize::try_from(i64::try_from(value)?.clamp(0, 64)).unwrap_or(0))),
    };
    let (item, key) = match argument(2, "separators")? {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(pair) => {
            let parts: Vec<Value> = pair.try_iter()?.collect();
            match &parts[..] {
                [item, key] => (item.to_string(), key.to_string()),
                _ => return Err(wrong(format!("separators are {pair}; expected two strings"))),
            }
        }
    };
    let sorted = argument(3, "sort_keys")?.is_some_and(|value| value.is_true());
    named.assert_all_used()?;
    let json = serde_json::to_value(value).map_err(|error| wrong(error.to_string()))?;
    let mut writer = Writer { ascii, indent, item, key, sorted, out: String::new() };
    writer.write(&json, 0);
    Ok(writer.out)
}

struct Writer {
    ascii: bool,
    indent: Option<String>,
    /// Between entries.
    item: String,
    /// Between a key and its value.
    key: String,
    sorted: bool,
    out: String,
}

impl Writer {
    fn write(&mut self, json: &Json, depth: usize) {
        match json {
            Json::Null | Json::Bool(_) => self.out += &json.to_string(),
            Json::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => self.out += &python_float(float),
                None => self.out += &number.to_string(),
            },
            Json::String(text) => self.string(text),
            Json::Array(entries) if entries.is_empty() => self.out += "[]",
            Json::Object(fields) if fields.is_empty() => self.out += "{}",
            Json::Array(entries) => {
                self.out.push('[');
                for (index, entry) in entries.iter().enumerate() {
                    self.begin(index, depth + 1);
                    self.write(entry, depth + 1);
                }
                self.end(depth, ']');
            }
            Json::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                if self.sorted {
                    fields.sort_by_key(|&(name, _)| name);
                }
                self.out.push('{');
                for (index, (name, value)) in fields.into_iter().enumerate() {
                    self.begin(index, depth + 1);
                    self.string(name);
                    self.out += &self.key;
                    self.write(value, depth + 1);
                }
                self.end(depth, '}');
            }
        }
    }

    fn begin(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.out += &self.item;
        }
        self.line(depth);
    }

    fn end(&mut self, depth: usize, bracket: char) {
        self.line(depth);
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out += &indent.repeat(depth);
        }
    }

    fn string(&mut self, text: &str) {
        let quoted = Json::from(text).to_string();
        if !self.ascii {
            self.out += &quoted;
            return;
        }
        for character in quoted.chars() {
            if character <= '~' {
                self.out.push(character);
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing into a string does not fail.
                let _ = write!(self.out, "\\u{unit:04x}");
            }
        }
    }
}

/// The shortest digits that mean the number, with an exponent where Python has one.
fn python_float(float: f64) -> String {
    let scientific = format!("{float:e}");
    let parts = scientific.split_once('e').and_then(|(digits, power)| Some((digits, power.parse::<i32>().ok()?)));
    match parts {
        Some((digits, power)) if !(-4..16).contains(&power) => {
            let sign = if power < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", power.abs())
        }
        _ => format!("{float:?}"),
    }
}
