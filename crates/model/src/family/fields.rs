//! Typed look-ups in a `config.json`, with errors that name the field.

use std::path::Path;

use serde_json::Value;

use crate::error::ModelError;

/// An object of a configuration file.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub value: &'a Value,
    pub path: &'a Path,
}

impl<'a> Fields<'a> {
    /// A field that is present and not null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|v| !v.is_null())
    }

    /// A nested object.
    pub fn object(&self, key: &str) -> Option<Self> {
        self.get(key).filter(|v| v.is_object()).map(|value| Self { value, ..*self })
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> ModelError {
        ModelError::malformed(self.path, format!("field `{key}` is {value}; {wanted} is needed"))
    }

    fn missing(&self, key: &str) -> ModelError {
        ModelError::malformed(self.path, format!("field `{key}` is missing"))
    }

    fn convert<T>(&self, key: &str, wanted: &str, f: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, ModelError> {
        self.get(key).map(|value| f(value).ok_or_else(|| self.wrong(key, value, wanted))).transpose()
    }

    pub fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.convert(key, "a whole number", |v| v.as_u64().and_then(|v| usize::try_from(v).ok()))
    }

    pub fn required_size(&self, key: &str) -> Result<usize, ModelError> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.convert(key, "a number", Value::as_f64)
    }

    pub fn required_number(&self, key: &str) -> Result<f64, ModelError> {
        self.number(key)?.ok_or_else(|| self.missing(key))
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.convert(key, "true or false", Value::as_bool)
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        self.convert(key, "a string", Value::as_str)
    }

    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, ModelError> {
        self.convert(key, "a list of numbers", |v| v.as_array()?.iter().map(Value::as_f64).collect())
    }

    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, ModelError> {
        self.convert(key, "a list of strings", |v| v.as_array()?.iter().map(Value::as_str).collect())
    }

    pub fn required_numbers(&self, key: &str) -> Result<Vec<f64>, ModelError> {
        self.numbers(key)?.ok_or_else(|| self.missing(key))
    }
}
