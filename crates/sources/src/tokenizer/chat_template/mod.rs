//! A model's chat template, which makes one text of the messages of a conversation.
//!
//! Templates are Jinja in the dialect of `transformers` 5.24 (`dialect`). A directory has its template in `chat_template.jinja` or
//! in `tokenizer_config.json`, a GGUF file under `tokenizer.chat_template`. Of several templates, `default` is taken.

mod dialect;
mod python_json;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde_json::{Map, Value as Json};

use super::{Tokenizer, folder};
use crate::byte_order_mark;
use crate::checkpoint::{GgufMetadata, GgufValue, Metadata};
use crate::error::SourceError;

const FILE: &str = "chat_template.jinja";
const SETTINGS: &str = "tokenizer_config.json";
const KEY: &str = "chat_template";
const GGUF_KEY: &str = "tokenizer.chat_template";

/// The template of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatTemplate {
    source: String,
    origin: &'static str,
    path: PathBuf,
    now: DateTime<Utc>,
}

impl ChatTemplate {
    /// Reads the template of the checkpoint at `path`. If it asks for the date, it is told that of the clock (UTC), or of
    /// `SOURCE_DATE_EPOCH`.
    ///
    /// # Errors
    /// If there is none, if several are there and none is called `default`, or if a file cannot be read.
    pub fn from_metadata(metadata: &Metadata, path: &Path) -> Result<Self, SourceError> {
        let (found, looked) = match metadata {
            Metadata::HuggingFace { folder, .. } => {
                (of_folder(folder)?, format!("no {FILE}, and no `{KEY}` in {SETTINGS}"))
            }
            Metadata::Memory { tokenizer_config, .. } => {
                (of_settings(tokenizer_config.get(KEY), path)?, format!("no `{KEY}` in its {SETTINGS}"))
            }
            Metadata::Gguf(keys) => (of_gguf(keys, path)?, format!("no key {GGUF_KEY}")),
        };
        let (source, origin, path) = found.ok_or_else(|| {
            let reason =
                format!("has no chat template ({looked}), so it takes no conversations; give text with --text");
            SourceError::unsupported(path, reason)
        })?;
        Ok(Self { source, origin, path, now: now()? })
    }

    /// The same template at another time.
    #[must_use]
    pub fn at(self, now: DateTime<Utc>) -> Self {
        Self { now, ..self }
    }

    /// The file or the key that holds the template.
    pub fn origin(&self) -> &'static str {
        self.origin
    }

    /// Makes the template ready for conversations with the special tokens of `tokenizer`.
    ///
    /// # Errors
    /// If the template is not Jinja, or has a statement that is not supported.
    pub fn compile(&self, tokenizer: &Tokenizer) -> Result<CompiledTemplate, SourceError> {
        let mut environment = dialect::environment(self.now);
        environment.add_template_owned(self.origin, dialect::without_generation(&self.source).into_owned()).map_err(
            |error| SourceError::unsupported(&self.path, format!("the chat template cannot be read: {error}")),
        )?;
        Ok(CompiledTemplate {
            environment,
            name: self.origin,
            special: Value::from_pairs(tokenizer.named.iter().cloned()),
        })
    }
}

/// A template that conversations can be put through.
#[derive(Debug)]
pub struct CompiledTemplate {
    environment: Environment<'static>,
    name: &'static str,
    special: Value,
}

impl CompiledTemplate {
    /// The text of a conversation, without a prompt for another answer.
    ///
    /// # Errors
    /// If the template refuses the conversation, or asks for what there is not.
    pub fn render(&self, messages: &[Map<String, Json>]) -> Result<String, String> {
        let given = context! {
            messages => Value::from(Serde(messages)),
            tools => Value::from(()),
            documents => Value::from(()),
            add_generation_prompt => false,
            ..self.special.clone()
        };
        let rendered = self.environment.get_template(self.name).and_then(|template| template.render(given));
        rendered.map_err(|error| format!("the chat template does not take this conversation: {error}"))
    }
}

/// A template, the file or key that holds it, and the path for errors.
type Found = Option<(String, &'static str, PathBuf)>;

fn of_folder(folder: &Path) -> Result<Found, SourceError> {
    let path = folder.join(FILE);
    let Some(bytes) = folder::read_if_present(&path)? else {
        let path = folder.join(SETTINGS);
        return of_settings(folder::object(&path)?.get(KEY), &path);
    };
    let bytes = byte_order_mark::strip(&bytes).map_err(|reason| SourceError::malformed(&path, reason))?;
    let source = str::from_utf8(bytes).map_err(|error| {
        let reason = format!("not UTF-8 text: the byte at offset {} cannot stand there", error.valid_up_to());
        SourceError::malformed(&path, reason)
    })?;
    // Python reads text with every kind of line end as `\n`.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    Ok(Some((source, FILE, path)))
}

/// The value of `chat_template`: a template, or a list of templates with names.
fn of_settings(value: Option<&Json>, path: &Path) -> Result<Found, SourceError> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let named = |entry: &Json| Some((text(entry.get("name")?)?, text(entry.get("template")?)?));
    let templates = match value {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::String(source)) => Some(vec![("default".to_owned(), source.clone())]),
        Some(Json::Array(entries)) => entries.iter().map(named).collect(),
        Some(Json::Object(fields)) => fields.iter().map(|(name, source)| Some((name.clone(), text(source)?))).collect(),
        Some(_) => None,
    };
    let templates: Vec<(String, String)> = templates.ok_or_else(|| {
        let reason = format!("`{KEY}` is neither a string nor a list of objects with strings `name` and `template`");
        SourceError::malformed(path, reason)
    })?;
    let names: Vec<String> = templates.iter().map(|(name, _)| name.clone()).collect();
    let default = templates.into_iter().rev().find(|(name, _)| name == "default");
    match default {
        Some((_, source)) => Ok(Some((source, SETTINGS, path.to_owned()))),
        None => Err(without_default(&names, path)),
    }
}

fn of_gguf(keys: &GgufMetadata, path: &Path) -> Result<Found, SourceError> {
    match keys.0.get(GGUF_KEY) {
        Some(GgufValue::Text(source)) => Ok(Some((source.clone(), GGUF_KEY, path.to_owned()))),
        Some(_) => Err(SourceError::malformed(path, format!("{GGUF_KEY} is not text"))),
        None => {
            let named = keys.0.keys().filter_map(|key| key.strip_prefix(GGUF_KEY)?.strip_prefix('.'));
            let names: Vec<String> = named.map(str::to_owned).collect();
            if names.is_empty() { Ok(None) } else { Err(without_default(&names, path)) }
        }
    }
}

fn without_default(names: &[String], path: &Path) -> SourceError {
    let reason = format!("has chat templates ({}), but none that is called `default`", names.join(", "));
    SourceError::unsupported(path, reason)
}

/// The time that a template is told. `SOURCE_DATE_EPOCH` holds it still, as it does for other programs.
fn now() -> Result<DateTime<Utc>, SourceError> {
    let Some(held) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|held| !held.is_empty()) else {
        return Ok(SystemTime::now().into());
    };
    let seconds = held.to_str().and_then(|held| held.trim().parse().ok());
    seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0)).ok_or_else(|| {
        SourceError::Request(format!(
            "SOURCE_DATE_EPOCH is {}; expected a whole number of seconds since 1970",
            held.display()
        ))
    })
}
