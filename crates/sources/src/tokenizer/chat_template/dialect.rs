//! Jinja as `transformers` 5.24 sets it up for chat templates: white space around blocks removed, methods of Python's strings and
//! dictionaries, `break` and `continue`, and some functions of its own.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use regex::Regex;

use super::python_json;

/// The dialect; `now` is the time that `strftime_now` knows.
pub(super) fn environment(now: DateTime<Utc>) -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().unwrap_or_default());
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", python_json::filter);
    // In Python, strings and dictionaries have a length and items too.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    let said = AtomicBool::new(false);
    environment.add_function("strftime_now", move |format: String| -> Result<String, Error> {
        let mut date = String::new();
        write!(date, "{}", now.format(&format)).map_err(|_| {
            Error::new(ErrorKind::InvalidOperation, format!("strftime_now cannot write the format {format:?}"))
        })?;
        if !said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the chat template writes the date ({date}) into the text, so that other days give other tokens; \
                 SOURCE_DATE_EPOCH, in seconds since 1970, holds it still"
            );
        }
        Ok(date)
    });
    environment
}

/// A template without the tags that mark what the model wrote: the text between them has a scope of its own, and nothing else.
pub(super) fn without_generation(source: &str) -> Cow<'_, str> {
    match Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}") {
        Ok(tags) => tags.replace_all(source, "{%${1} ${2}with ${3}%}"),
        Err(_) => Cow::Borrowed(source),
    }
}
