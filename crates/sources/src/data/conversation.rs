//! Conversations in JSON, one a line: an object with a list `messages`, or the list alone.

use std::io::BufRead;
use std::path::Path;

use serde_json::{Map, Value};

use super::compression::Compression;
use super::document::{Part, Take};
use super::json::{each_line, without_place};
use super::once::Once;
use crate::error::SourceError;

/// What makes a text of the messages of a conversation, or says why it cannot.
pub(super) type Render<'a> = dyn Fn(&[Map<String, Value>]) -> Result<String, String> + 'a;

const FORM: &str =
    "each line is a conversation, {\"messages\": [{\"role\": ..., \"content\": ...}, ...]} or the list alone";

/// Fields of a line that would change what a template writes.
const UNSUPPORTED: [&str; 6] =
    ["tools", "functions", "documents", "chat_template", "chat_template_kwargs", "continue_final_message"];

/// Names of what a model thought before it answered. Templates read the first; gpt-oss's reads the second.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Gives the text of each conversation to `take`; `mark` is the length of a byte order mark that was removed.
pub(super) fn read(
    reader: &mut dyn BufRead,
    mark: usize,
    path: &Path,
    compression: Compression,
    render: &Render<'_>,
    take: &mut Take<'_>,
) -> Result<(), SourceError> {
    each_line(reader, path, compression, (0, mark), &mut |number, line| {
        let wrong = |reason: String| SourceError::malformed(path, format!("line {number}{reason}"));
        let messages = parse(line).map_err(|reason| wrong(format!("{reason}; {FORM}")))?;
        let text = render(&messages).map_err(|reason| wrong(format!(": {reason}")))?;
        take(Part { text: &text, continues: false })
    })
}

/// The messages of a line, as `transformers` 5.24 gives them to a template.
///
/// # Errors
/// If the line is no conversation: where in it and why, to stand behind the number of the line.
pub fn parse(line: &str) -> Result<Vec<Map<String, Value>>, String> {
    let Once(value) = serde_json::from_str(line)
        .map_err(|error: serde_json::Error| format!(", column {}: {}", error.column(), without_place(&error)))?;
    messages(value).map_err(|reason| format!(": {reason}"))
}

fn messages(line: Value) -> Result<Vec<Map<String, Value>>, String> {
    let list = match line {
        Value::Array(list) => list,
        Value::Object(mut fields) => {
            let given =
                |name: &str| fields.get(name).is_some_and(|value| !value.is_null() && *value != Value::Array(vec![]));
            if let Some(name) = UNSUPPORTED.into_iter().find(|name| given(name)) {
                return Err(format!(
                    "field `{name}` is given, which is not supported: templates are told of messages alone"
                ));
            }
            match fields.remove("messages") {
                Some(Value::Array(list)) => list,
                Some(other) => return Err(format!("field `messages` is {}, not a list", kind(&other))),
                None => return Err("field `messages` is missing".to_owned()),
            }
        }
        other => return Err(format!("it is {}", kind(&other))),
    };
    if list.is_empty() {
        return Err("there are no messages".to_owned());
    }
    let numbered = list.into_iter().enumerate();
    numbered.map(|(index, value)| message(value).map_err(|reason| format!("message {index}: {reason}"))).collect()
}

fn message(value: Value) -> Result<Map<String, Value>, String> {
    let Value::Object(mut fields) = value else { return Err(format!("it is {}, not an object", kind(&value))) };
    fields.retain(|_, value| !value.is_null());
    match fields.get("role") {
        Some(Value::String(_)) => {}
        Some(other) => return Err(format!("field `role` is {}, not a string", kind(other))),
        None => return Err("field `role` is missing".to_owned()),
    }
    match fields.get("content") {
        Some(Value::String(_)) => {}
        Some(Value::Array(parts)) => {
            for (index, part) in parts.iter().enumerate() {
                let text = part.get("text").is_some_and(Value::is_string);
                if !text || part.get("type").and_then(Value::as_str) != Some("text") {
                    let form = "supported is {\"type\": \"text\", \"text\": ...}";
                    return Err(format!("field `content`: part {index} is no text; {form}"));
                }
            }
        }
        Some(other) => return Err(format!("field `content` is {}, not a string", kind(other))),
        // An answer may be calls of tools alone.
        None if fields.contains_key("tool_calls") => {}
        None => return Err("field `content` is missing".to_owned()),
    }
    let reasoning = REASONING.iter().find_map(|name| fields.get(*name)).cloned();
    if let Some(reasoning) = reasoning {
        if !fields.contains_key("thinking") {
            fields.shift_insert(0, "thinking".to_owned(), reasoning.clone());
        }
        fields.insert("reasoning_content".to_owned(), reasoning);
    }
    Ok(fields)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
