//! Recipes as TOML: unknown keys are refused with the nearest known one, keys without effect with the reason, and errors name
//! file, line and key. Studies are read in the same way.
//!
//! Recipe types derive `Deserialize` with `#[serde(deny_unknown_fields)]`; that is also where the known keys come from.
//! `#[serde(flatten)]` takes both away and has no place in a recipe.

use std::fmt::Display;
use std::path::Path;
use std::{fs, str};

use serde::de::DeserializeOwned;
use sinkscope_model::spelling::nearest;
use sinkscope_sources::byte_order_mark;
use toml::de::{DeTable, DeValue};

use crate::LabError;
use crate::recipe::{DataChoice, Recipe};

/// Reads a recipe. Its paths are relative to the file.
///
/// # Errors
/// [`LabError::Malformed`] if the file cannot be read, and as [`parse`].
pub fn read(path: &Path) -> Result<Recipe, LabError> {
    let mut recipe = parse(&text("recipe", path)?, path)?;
    if let DataChoice::Prepared { directory, .. } = &mut recipe.data {
        *directory = beside(path).join(&directory);
    }
    Ok(recipe)
}

/// The directory that paths in a file are relative to.
pub(crate) fn beside(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

/// Reads a file of another kind, such as `study`, in the same way.
pub(crate) fn read_as<File: DeserializeOwned>(kind: &str, path: &Path) -> Result<File, LabError> {
    parse_as(kind, &text(kind, path)?, path)
}

fn text(kind: &str, path: &Path) -> Result<String, LabError> {
    let unreadable = |error: &dyn Display| LabError::malformed(path, format!("is no {kind} that can be read: {error}"));
    let bytes = fs::read(path).map_err(|error| unreadable(&error))?;
    let bytes = byte_order_mark::strip(&bytes).map_err(|reason| LabError::malformed(path, reason))?;
    str::from_utf8(bytes).map(str::to_owned).map_err(|error| unreadable(&error))
}

/// Parses a recipe; `name` is what errors call it.
///
/// # Errors
/// [`LabError::Malformed`] with line and key if it is not TOML, a key is unknown, missing or without effect, or a value is of a
/// wrong type.
pub fn parse(text: &str, name: &Path) -> Result<Recipe, LabError> {
    let recipe: Recipe = parse_as("recipe", text, name)?;
    for idle in recipe.idle() {
        if let Some(byte) = place(text, idle.key) {
            return Err(LabError::malformed(name, format!("line {}: {}", line(text, byte), idle.refusal())));
        }
    }
    Ok(recipe)
}

/// The byte at which a key, tables and all, is written.
fn place(text: &str, key: &str) -> Option<usize> {
    let mut table = DeTable::parse(text).ok()?.into_inner();
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        let (name, value) = table.into_iter().find(|(name, _)| name.get_ref() == part)?;
        table = match value.into_inner() {
            _ if parts.peek().is_none() => return Some(name.span().start),
            DeValue::Table(table) => table,
            _ => return None,
        };
    }
    None
}

fn parse_as<File: DeserializeOwned>(kind: &str, text: &str, name: &Path) -> Result<File, LabError> {
    let located = |error: &toml::de::Error, what: String| {
        let reason = match error.span() {
            Some(span) => format!("line {}: {what}", line(text, span.start)),
            None => what,
        };
        LabError::malformed(name, reason)
    };
    let document = toml::Deserializer::parse(text).map_err(|error| located(&error, error.message().to_owned()))?;
    serde_path_to_error::deserialize(document)
        .map_err(|error| located(error.inner(), explain(kind, &error.path().to_string(), error.inner().message())))
}

/// A recipe from a table that was put together of several files.
///
/// # Errors
/// What is wrong with which key.
pub(crate) fn from_table<Recipe: DeserializeOwned>(table: toml::Table) -> Result<Recipe, String> {
    serde_path_to_error::deserialize(table)
        .map_err(|error| explain("recipe", &error.path().to_string(), error.inner().message()))
}

fn line(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

/// What serde says, in the words of a recipe or another `kind` of file. `path` leads to the place, `.` at the top.
fn explain(kind: &str, path: &str, message: &str) -> String {
    let message = message.trim_end();
    if let Some((unknown, known)) = refused(message, "unknown field ") {
        // Known keys lead to themselves, unknown ones to themselves or to their table.
        let table = match path.strip_suffix(unknown) {
            Some(table) if table.is_empty() || table.ends_with('.') => table.trim_end_matches('.'),
            _ => path,
        };
        let within = |key: &str| if ["", "."].contains(&table) { key.to_owned() } else { format!("{table}.{key}") };
        let known: Vec<_> = known.into_iter().map(within).collect();
        return format!("{} is no key of a {kind}: {}", within(unknown), advice(&within(unknown), &known));
    }
    if let Some((unknown, known)) = refused(message, "unknown variant ") {
        let known: Vec<_> = known.into_iter().map(str::to_owned).collect();
        return format!("{path} cannot be {unknown}: {}", advice(unknown, &known));
    }
    if path == "." { message.to_owned() } else { format!("{path}: {message}") }
}

/// The name that serde did not know, and those that it does.
fn refused<'a>(message: &'a str, beginning: &str) -> Option<(&'a str, Vec<&'a str>)> {
    // unknown field `a`, expected one of `b`, `c`
    let mut quoted = message.strip_prefix(beginning)?.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// The nearest known name, or all of them.
pub(crate) fn advice(unknown: &str, known: &[String]) -> String {
    match nearest(last(unknown), known, |name| last(name)) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None if known.is_empty() => "there are none here".into(),
        None => format!("known are {}", known.join(", ")),
    }
}

/// The last part of a key.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SmallRecipe {
        steps: u64,
        model: Model,
        #[serde(default)]
        stages: Vec<Rate>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Model {
        head_dim: usize,
        heads: usize,
        norm: Norm,
        feed_forward: FeedForward,
    }

    impl Default for Model {
        fn default() -> Self {
            Self { head_dim: 64, heads: 4, norm: Norm::PreNorm, feed_forward: FeedForward::SwiGlu { hidden: 176 } }
        }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Norm {
        PreNorm,
        Sandwich,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
    enum FeedForward {
        SwiGlu { hidden: usize },
        Linear,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rate {
        rate: f32,
    }

    fn refusal(text: &str) -> String {
        parse_as::<SmallRecipe>("recipe", text, Path::new("r.toml")).expect_err("a wrong recipe").to_string()
    }

    #[test]
    fn defaults_fill_what_is_not_said() {
        let text = "steps = 5\n[model]\nnorm = \"sandwich\"\n";
        let recipe: SmallRecipe = parse_as("recipe", text, Path::new("r.toml")).expect("a recipe");
        assert_eq!(recipe.model, Model { norm: Norm::Sandwich, ..Model::default() });
    }

    #[test]
    fn refusals_name_line_and_key_and_what_would_be_right() {
        for (text, expected) in [
            (
                "steps = 5\n\n[model]\nhead_dims = 3",
                "r.toml: line 4: model.head_dims is no key of a recipe: did you mean model.head_dim?",
            ),
            ("step = 5\n[model]", "r.toml: line 1: step is no key of a recipe: did you mean steps?"),
            ("steps = 5\n[modle]", "r.toml: line 2: modle is no key of a recipe: did you mean model?"),
            (
                "steps = 5\nmodel.xyzzy = 1",
                "r.toml: line 2: model.xyzzy is no key of a recipe: known are model.head_dim, model.heads, model.norm, model.feed_forward",
            ),
            (
                "steps = 5\n[model]\n[[stages]]\nrate = 1\n[[stages]]\nrates = 1",
                "r.toml: line 6: stages[1].rates is no key of a recipe: did you mean stages[1].rate?",
            ),
            (
                "steps = 5\n[model]\nnorm = \"sandwhich\"",
                "r.toml: line 3: model.norm cannot be sandwhich: did you mean sandwich?",
            ),
            (
                "steps = 5\n[model]\nheads = \"four\"",
                "r.toml: line 3: model.heads: invalid type: string \"four\", expected usize",
            ),
            (
                "steps = 5\n[model]\nheads = -1",
                "r.toml: line 3: model.heads: invalid value: integer `-1`, expected usize",
            ),
            (
                "steps = 5\n[model.feed_forward]\nkind = \"swi-glu\"\nhiden = 5",
                "r.toml: line 2: model.feed_forward.hiden is no key of a recipe: did you mean model.feed_forward.hidden?",
            ),
            ("[model]", "r.toml: line 1: missing field `steps`"),
            ("steps = 5\nsteps = 6", "r.toml: line 2: duplicate key"),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
        }
        assert!(refusal("steps = 5\n[model\n").starts_with("r.toml: line 2: "), "{}", refusal("steps = 5\n[model\n"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nowhere/r.toml")).expect_err("no such file").to_string();
        assert!(error.contains("/nowhere/r.toml"), "{error}");
    }
}
