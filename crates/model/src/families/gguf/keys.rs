//! Typed look-ups among the keys of one architecture, with errors that name key and value. Every look-up is written down, so
//! that the keys that nothing looked at can be named.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::inert;
use crate::error::{ModelError, UnknownKey};
use crate::families::accounting::{self, Account};
use sinkscope_sources::checkpoint::{Checkpoint, GgufMetadata, GgufValue};

/// The keys of one architecture, and the tensors beside them. Keys are named here without the architecture before them.
pub(in crate::families) struct Keys<'a> {
    metadata: &'a GgufMetadata,
    pub checkpoint: &'a Checkpoint,
    pub path: &'a Path,
    account: Account<'a>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    pub fn new(metadata: &'a GgufMetadata, checkpoint: &'a Checkpoint, family: &'a str, allowed: &'a [String]) -> Self {
        let path = checkpoint.path();
        Self { metadata, checkpoint, path, account: Account::new(path, family, allowed), read: RefCell::default() }
    }

    /// The key as the file has it.
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.account.family)
    }

    /// A value that still counts as not read.
    pub fn peek(&self, key: &str) -> Option<&'a GgufValue> {
        self.metadata.0.get(&self.name(key))
    }

    pub fn get(&self, key: &str) -> Option<&'a GgufValue> {
        self.read.borrow_mut().insert(self.name(key));
        self.peek(key)
    }

    fn convert<T>(
        &self,
        key: &str,
        wanted: &str,
        convert: impl Fn(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        self.get(key).map(|value| convert(value).ok_or_else(|| self.wrong(key, value, wanted))).transpose()
    }

    /// A whole number, 0 included.
    pub fn count(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.convert(key, "a whole number", whole)
    }

    /// A whole number from 1.
    pub fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.convert(key, "a whole number from 1", |value| whole(value).filter(|&size| size > 0))
    }

    /// A whole number from 1 that every one of `layers` layers has: written once, or once a layer.
    pub fn size_of_layers(&self, key: &str, layers: usize) -> Result<Option<usize>, ModelError> {
        let Some(value @ GgufValue::Integers(sizes)) = self.get(key) else { return self.size(key) };
        let Some(&first) = sizes.first().filter(|_| sizes.len() == layers) else {
            let reason = format!("key `{}` has {} entries for {layers} layers", self.name(key), sizes.len());
            return Err(ModelError::malformed(self.path, reason));
        };
        if let Some((layer, other)) = sizes.iter().enumerate().find(|(_, size)| **size != first) {
            let reason = format!(
                "key `{}` differs between layers: {first} in layer 0 and {other} in layer {layer}; only layers of one \
                 shape are supported",
                self.name(key)
            );
            return Err(ModelError::unsupported(self.path, reason));
        }
        match usize::try_from(first) {
            Ok(size) if size > 0 => Ok(Some(size)),
            _ => Err(self.wrong(key, value, "a list of whole numbers from 1")),
        }
    }

    /// A number that is finite and above 0.
    pub fn positive(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let positive = |value: &GgufValue| number(value).filter(|number| *number > 0.0 && number.is_finite());
        self.convert(key, "a finite number above 0", positive)
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        self.convert(key, "a text", |value| match value {
            GgufValue::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// What is needed, or that its key is missing.
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| self.missing(key))
    }

    /// Refuses a key that says another number than what is computed, unless the user lets it pass.
    pub fn must_be(&self, key: &str, computed: f64, why: &str) -> Result<(), ModelError> {
        let Some(value) = self.get(key) else { return Ok(()) };
        match number(value) {
            // Files hold numbers in f32.
            Some(number) if (number - computed).abs() <= 1e-6 * computed.abs() => Ok(()),
            Some(number) if number.is_finite() => {
                let known = Some(format!("only {computed} is known: {why}"));
                self.account.refuse(vec![UnknownKey { key: self.name(key), value: shown(value), known }])
            }
            _ => Err(self.wrong(key, value, &computed.to_string())),
        }
    }

    /// A value of another type than the key has, or that the key cannot have.
    pub fn wrong(&self, key: &str, value: &GgufValue, wanted: &str) -> ModelError {
        let (path, key, wanted) = (self.path.to_owned(), self.name(key), wanted.to_owned());
        ModelError::WrongValue { path, key, value: shown(value), wanted }
    }

    /// A value that the key can have and this program does not compute.
    pub fn unsupported(&self, key: &str, value: &GgufValue, why: &str) -> ModelError {
        ModelError::unsupported(self.path, format!("key `{}` is {}; {why}", self.name(key), shown(value)))
    }

    pub fn missing(&self, key: &str) -> ModelError {
        ModelError::malformed(self.path, format!("key `{}` is missing", self.name(key)))
    }

    /// Looks at every key that nothing looked at, and gives those that only the user lets pass.
    ///
    /// # Errors
    /// If a key is not known to change nothing, or not with its value.
    pub fn settle(self) -> Result<Vec<String>, ModelError> {
        let read = self.read.borrow();
        let unread = self.metadata.0.iter().filter(|(name, _)| !read.contains(*name) && !inert::is_stamp(name));
        let unknown = unread.filter_map(|(name, value)| {
            let own = name.strip_prefix(self.account.family).and_then(|rest| rest.strip_prefix('.'));
            accounting::unknown(name, &json(value), own.and_then(inert::find))
        });
        self.account.refuse(unknown.collect())?;
        drop(read);
        Ok(self.account.passed())
    }
}

fn whole(value: &GgufValue) -> Option<usize> {
    match value {
        GgufValue::Unsigned(number) => usize::try_from(*number).ok(),
        GgufValue::Signed(number) => usize::try_from(*number).ok(),
        _ => None,
    }
}

/// A number as its author wrote it: the shortest decimal of an f32, if it is one.
pub(super) fn number(value: &GgufValue) -> Option<f64> {
    match value {
        GgufValue::Float(number) if f64::from(*number as f32) == *number => (*number as f32).to_string().parse().ok(),
        GgufValue::Float(number) => Some(*number),
        GgufValue::Unsigned(number) => Some(*number as f64),
        GgufValue::Signed(number) => Some(*number as f64),
        _ => None,
    }
}

/// A value as JSON has it; numbers that are not finite, which JSON lacks, as texts.
fn json(value: &GgufValue) -> Value {
    match value {
        GgufValue::Float(float) if !float.is_finite() => Value::from(float.to_string()),
        GgufValue::Unsigned(number) => Value::from(*number),
        GgufValue::Signed(number) => Value::from(*number),
        GgufValue::Float(_) => Value::from(number(value)),
        GgufValue::Bool(flag) => Value::from(*flag),
        GgufValue::Text(text) => Value::from(text.as_str()),
        GgufValue::Integers(items) => Value::from(items.clone()),
        GgufValue::Floats(items) => Value::from(items.clone()),
        GgufValue::Bools(items) => Value::from(items.clone()),
        GgufValue::Texts(items) => Value::from(items.clone()),
    }
}

/// A value as an error shows it: long ones cut.
pub(super) fn shown(value: &GgufValue) -> String {
    const MOST: usize = 60;
    let text = match value {
        GgufValue::Float(float) => number(value).unwrap_or(*float).to_string(),
        _ => json(value).to_string(),
    };
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
