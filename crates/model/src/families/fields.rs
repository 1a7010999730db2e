//! Typed look-ups in a `config.json`, which keep account of every key that was asked for.
//!
//! Absent, null and wrong are three things: a key that is absent has a default, a null has a meaning only where
//! [`Fields::nullable`] is asked, and a value of another type is an error that names key and value.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::error::ModelError;

/// What was asked of a configuration: the keys by their dotted names, and whether each was opened as an object.
type Account = BTreeMap<String, bool>;

/// An object of a configuration file.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// The file, for messages.
    pub path: &'a Path,
    /// What stands before the name of a key: nothing at the top, `text_config.` in that object.
    prefix: String,
    account: Rc<RefCell<Account>>,
}

/// A type of value that keys have.
pub(super) trait Kind<'a>: Sized {
    /// What is needed, as part of a message.
    const WANTED: &'static str;

    /// The value, if it is of this type.
    fn of(value: &'a Value) -> Option<Self>;
}

macro_rules! kinds {
    ($($life:lifetime $type:ty: $wanted:literal, $of:expr;)*) => {$(
        impl<$life> Kind<$life> for $type {
            const WANTED: &'static str = $wanted;

            fn of(value: &$life Value) -> Option<Self> {
                let of: fn(&$life Value) -> Option<Self> = $of;
                of(value)
            }
        }
    )*};
}

kinds! {
    'a usize: "a whole number", |value| value.as_u64().and_then(|value| Self::try_from(value).ok());
    'a f64: "a number", Value::as_f64;
    'a bool: "true or false", Value::as_bool;
    'a &'a str: "a string", Value::as_str;
    'a Vec<f64>: "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect();
    'a Vec<&'a str>: "a list of strings", |value| value.as_array()?.iter().map(Value::as_str).collect();
}

impl<'a> Fields<'a> {
    /// The top of the configuration in the file `path`.
    ///
    /// # Errors
    /// If it is not an object.
    pub fn new(config: &'a Value, path: &'a Path) -> Result<Self, ModelError> {
        let Some(object) = config.as_object() else {
            return Err(ModelError::malformed(path, "is not a JSON object; expected the settings of a model"));
        };
        Ok(Self { object, path, prefix: String::new(), account: Rc::default() })
    }

    /// The dotted name of a key.
    pub fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The value of a key, null included. The key counts as read.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.account.borrow_mut().entry(self.name(key)).or_insert(false);
        self.object.get(key)
    }

    /// A key that may be left out.
    ///
    /// # Errors
    /// If its value is null or of another type.
    pub fn optional<T: Kind<'a>>(&self, key: &str) -> Result<Option<T>, ModelError> {
        self.value(key).map(|value| T::of(value).ok_or_else(|| self.wrong(key, value, T::WANTED))).transpose()
    }

    /// A key with a default.
    ///
    /// # Errors
    /// If its value is null or of another type.
    pub fn or<T: Kind<'a>>(&self, key: &str, default: T) -> Result<T, ModelError> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// A key for which null means none; `absent` is what leaving it out means.
    ///
    /// # Errors
    /// If its value is of another type.
    pub fn nullable<T: Kind<'a>>(&self, key: &str, absent: Option<T>) -> Result<Option<T>, ModelError> {
        match self.value(key) {
            None => Ok(absent),
            Some(Value::Null) => Ok(None),
            Some(_) => self.optional(key),
        }
    }

    /// A key that must be there.
    ///
    /// # Errors
    /// If it is missing, null or of another type.
    pub fn required<T: Kind<'a>>(&self, key: &str) -> Result<T, ModelError> {
        self.optional(key)?
            .ok_or_else(|| ModelError::malformed(self.path, format!("field `{}` is missing", self.name(key))))
    }

    /// One setting that has several names. Those that are given must agree.
    ///
    /// # Errors
    /// If a value is of another type, or two differ.
    pub fn agreeing<T: Kind<'a> + PartialEq>(&self, keys: &[&str]) -> Result<Option<T>, ModelError> {
        let mut first: Option<(&str, T)> = None;
        for key in keys {
            let Some(value) = self.optional::<T>(key)? else { continue };
            match &first {
                Some((other, same)) if *same != value => {
                    return Err(self.wrong_value(key, format!("the value of `{}`", self.name(other))));
                }
                _ => first = first.or(Some((key, value))),
            }
        }
        Ok(first.map(|(_, value)| value))
    }

    /// A nested object; `None` if it is absent or null.
    ///
    /// # Errors
    /// If it is no object.
    pub fn object(&self, key: &str) -> Result<Option<Self>, ModelError> {
        match self.value(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => {
                self.account.borrow_mut().insert(self.name(key), true);
                let prefix = format!("{}.", self.name(key));
                Ok(Some(Self { object, path: self.path, prefix, account: self.account.clone() }))
            }
            Some(value) => Err(self.wrong(key, value, "an object")),
        }
    }

    /// Whether the object has no keys.
    pub fn is_empty(&self) -> bool {
        self.object.is_empty()
    }

    /// That a key has a value which it must not have; `wanted` says what is needed.
    pub fn wrong_value(&self, key: &str, wanted: impl Into<String>) -> ModelError {
        self.wrong(key, self.object.get(key).unwrap_or(&Value::Null), wanted)
    }

    fn wrong(&self, key: &str, value: &Value, wanted: impl Into<String>) -> ModelError {
        ModelError::WrongValue {
            path: self.path.to_owned(),
            key: self.name(key),
            value: value.to_string(),
            wanted: wanted.into(),
        }
    }

    /// The dotted names of the keys that were asked for so far, absent ones included.
    #[cfg(test)]
    pub fn read(&self) -> Vec<String> {
        self.account.borrow().keys().cloned().collect()
    }

    /// The keys that nobody asked for, by their dotted names, with their values, in the order of the file.
    pub fn unread(&self) -> Vec<(String, &'a Value)> {
        let mut unread = Vec::new();
        collect_unread(self.object, "", &self.account.borrow(), &mut unread);
        unread
    }
}

fn collect_unread<'a>(
    object: &'a Map<String, Value>,
    prefix: &str,
    account: &Account,
    unread: &mut Vec<(String, &'a Value)>,
) {
    for (key, value) in object {
        let name = format!("{prefix}{key}");
        match (account.get(&name), value) {
            (None, _) => unread.push((name, value)),
            (Some(true), Value::Object(nested)) => collect_unread(nested, &format!("{name}."), account, unread),
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_null_and_wrong_are_three_things() {
        let config = json!({"null": null, "text": "7", "size": 7, "nested": {"a": 1, "b": {"c": 2}, "d": 3}});
        let fields = Fields::new(&config, Path::new("config.json")).expect("an object");
        let message = |error: ModelError| error.to_string();
        assert_eq!(fields.or("absent", 3).map_err(message), Ok(3));
        assert_eq!(
            fields.or("null", 3).map_err(message),
            Err("config.json: field `null` is null; a whole number is needed".into())
        );
        assert_eq!(fields.nullable("null", Some(3)).map_err(message), Ok(None));
        assert_eq!(fields.nullable("absent", Some(3)).map_err(message), Ok(Some(3)));
        let wrong = fields.nullable::<usize>("text", None).map_err(message);
        assert_eq!(wrong, Err("config.json: field `text` is \"7\"; a whole number is needed".into()));
        assert_eq!(fields.agreeing::<usize>(&["size", "absent"]).map_err(message), Ok(Some(7)));
        let nested = fields.object("nested").expect("an object").expect("there");
        let differs = nested.agreeing::<usize>(&["a", "d"]).map_err(message);
        assert_eq!(differs, Err("config.json: field `nested.d` is 3; the value of `nested.a` is needed".into()));
        let unread: Vec<String> = fields.unread().into_iter().map(|(name, _)| name).collect();
        assert_eq!(unread, ["nested.b"]);
    }
}
