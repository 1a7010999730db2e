//! Typed look-ups among the keys of one architecture, with errors that name key and value. Every look-up is written down, so
//! that the keys that nothing looked at can be named.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use super::inert;
use crate::checkpoint::{GgufMetadata, GgufValue};
use crate::error::ModelError;

/// The keys of one architecture. They are named here without the architecture before them.
pub(super) struct Keys<'a> {
    metadata: &'a GgufMetadata,
    pub family: &'a str,
    pub path: &'a Path,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    pub fn new(metadata: &'a GgufMetadata, family: &'a str, path: &'a Path) -> Self {
        Self { metadata, family, path, read: RefCell::default() }
    }

    /// The key as the file has it.
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.family)
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
        right: &str,
        convert: impl Fn(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        self.get(key).map(|value| convert(value).ok_or_else(|| self.wrong(key, value, right))).transpose()
    }

    /// A whole number, 0 included.
    pub fn count(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.convert(key, "a whole number is needed", whole)
    }

    /// A whole number from 1.
    pub fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.convert(key, "a whole number from 1 is needed", |value| whole(value).filter(|&size| size > 0))
    }

    pub fn required_size(&self, key: &str) -> Result<usize, ModelError> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    /// A whole number from 1 that every one of `layers` layers has: written once, or once a layer.
    pub fn size_of_layers(&self, key: &str, layers: usize) -> Result<Option<usize>, ModelError> {
        let Some(GgufValue::Integers(sizes)) = self.get(key) else { return self.size(key) };
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
            _ => Err(self.wrong(key, &GgufValue::Integers(sizes.clone()), "whole numbers from 1 are needed")),
        }
    }

    /// A number that is finite and above 0.
    pub fn positive(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let positive = |value: &GgufValue| number(value).filter(|number| *number > 0.0 && number.is_finite());
        self.convert(key, "a finite number above 0 is needed", positive)
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        self.convert(key, "a text is needed", |value| match value {
            GgufValue::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Refuses a key that says another number than what is computed.
    pub fn must_be(&self, key: &str, computed: f64, why: &str) -> Result<(), ModelError> {
        let Some(value) = self.get(key) else { return Ok(()) };
        // Files hold numbers in f32.
        match number(value) {
            Some(number) if (number - computed).abs() <= 1e-6 * computed.abs() => Ok(()),
            _ => Err(self.unsupported(key, value, &format!("only {computed} is supported: {why}"))),
        }
    }

    /// A value of another type than the key has, or that the key cannot have.
    pub fn wrong(&self, key: &str, value: &GgufValue, right: &str) -> ModelError {
        ModelError::malformed(self.path, format!("key `{}` is {}; {right}", self.name(key), shown(value)))
    }

    /// A value that the key can have and this program does not compute.
    pub fn unsupported(&self, key: &str, value: &GgufValue, right: &str) -> ModelError {
        ModelError::unsupported(self.path, format!("key `{}` is {}; {right}", self.name(key), shown(value)))
    }

    pub fn missing(&self, key: &str) -> ModelError {
        ModelError::malformed(self.path, format!("key `{}` is missing", self.name(key)))
    }

    /// Every pair that was not looked at and is not known to change nothing, as `key = value`.
    ///
    /// # Errors
    /// If a key that changes nothing for some values has another.
    pub fn unread(&self) -> Result<Vec<(String, String)>, ModelError> {
        let read = self.read.borrow();
        let mut unread = Vec::new();
        for (name, value) in self.metadata.0.iter().filter(|(name, _)| !read.contains(*name)) {
            let own = name.strip_prefix(self.family).and_then(|rest| rest.strip_prefix('.'));
            match own.map(inert::find) {
                Some(Some(inert)) if inert.only.accepts(value) => {}
                Some(Some(inert)) => {
                    let right = format!("only {} is supported: {}", inert.only, inert.why);
                    return Err(self.unsupported(inert.key, value, &right));
                }
                None if inert::is_stamp(name) => {}
                _ => unread.push((name.clone(), shown(value))),
            }
        }
        Ok(unread)
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

/// A value as an error shows it: long ones cut.
pub(super) fn shown(value: &GgufValue) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        GgufValue::Unsigned(number) => number.to_string(),
        GgufValue::Signed(number) => number.to_string(),
        GgufValue::Float(float) => number(value).unwrap_or(*float).to_string(),
        GgufValue::Bool(flag) => flag.to_string(),
        GgufValue::Text(text) => format!("{text:?}"),
        GgufValue::Integers(items) => list(items),
        GgufValue::Floats(items) => list(items),
        GgufValue::Bools(items) => list(items),
        GgufValue::Texts(items) => list(items),
    };
    if text.chars().count() <= LONGEST {
        return text;
    }
    format!("{}...", text.chars().take(LONGEST).collect::<String>())
}

fn list(items: &[impl std::fmt::Debug]) -> String {
    format!("{:?}", &items[..items.len().min(20)])
}
