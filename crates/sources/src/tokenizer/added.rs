//! Tokens that only the files beside `tokenizer.json` name: `tokenizer_config.json`, `special_tokens_map.json` and
//! `added_tokens.json`.
//!
//! `transformers` adds them in an order that decides their ids: first those with a number, by it, then the named ones
//! (`bos_token` and its like), then the others. A token gets the id that the vocabulary has for it, or else the next free one;
//! the number itself is not used. Source: `PreTrainedTokenizerBase._from_pretrained` and the constructors of
//! `PreTrainedTokenizerFast` (4.57) and `TokenizersBackend` (5.24).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use super::class::{Class, Version};
use crate::error::SourceError;

/// Names of special tokens, in the order in which they are added.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What stands beside a `tokenizer.json`.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Where the files are.
    pub(super) folder: PathBuf,
    /// `tokenizer_config.json`.
    pub(super) settings: Map<String, Value>,
    /// `special_tokens_map.json`.
    pub(super) special_tokens_map: Map<String, Value>,
    /// `added_tokens.json`.
    pub(super) added_tokens: Map<String, Value>,
}

/// The special tokens that have a name.
#[derive(Debug)]
pub(super) struct Special {
    by_name: Vec<(String, AddedToken)>,
    others: Vec<AddedToken>,
    numbered: BTreeMap<u64, AddedToken>,
    /// Whether all but the numbered ones lose their flags, as version 5 does to those of Qwen 2.
    plain: bool,
}

impl Special {
    /// Reads the files as `version` does for a tokeniser of `class`. `present` has the tokens of `tokenizer.json` that are matched
    /// whole.
    ///
    /// # Errors
    /// If an entry is no token, named by file and key.
    pub(super) fn read(
        beside: &Beside,
        version: Version,
        class: Class,
        present: &BTreeMap<u64, AddedToken>,
    ) -> Result<Self, SourceError> {
        let settings_file = beside.folder.join("tokenizer_config.json");
        let map_file = beside.folder.join("special_tokens_map.json");
        let mut given: BTreeMap<String, Option<AddedToken>> = BTreeMap::new();
        let mut order: Vec<String> = NAMED.map(str::to_owned).into();
        let mut others = Others::default();
        let mut take = |fields: &Map<String, Value>, file: &Path| -> Result<(), SourceError> {
            for (key, value) in fields {
                let named = NAMED.contains(&key.as_str());
                let own_name = version == Version::Five
                    && key.ends_with("_token")
                    && (value.is_string() || is_token(value) && value.get("__type").is_some());
                if named || own_name {
                    if !order.contains(key) {
                        order.push(key.clone());
                    }
                    given.insert(key.clone(), optional(value, key, file)?);
                } else if key == "additional_special_tokens" || key == "extra_special_tokens" {
                    match value {
                        Value::Object(entries) if !is_token(value) => {
                            for (name, value) in entries {
                                order.retain(|known| known != name);
                                order.push(name.clone());
                                given.insert(name.clone(), optional(value, &format!("{key}.{name}"), file)?);
                            }
                        }
                        _ => others.take(key, list(value, key, file)?, version),
                    }
                }
            }
            Ok(())
        };
        take(&beside.settings, &settings_file)?;
        let mut numbered = BTreeMap::new();
        if let Some(entries) = beside.settings.get("added_tokens_decoder").filter(|entries| !entries.is_null()) {
            numbered = decoder(entries, &settings_file)?;
        } else {
            take(&beside.special_tokens_map, &map_file)?;
            let others = others.list();
            let is_special = |content: &str| {
                let named = NAMED.iter().filter_map(|name| given.get(*name)?.as_ref());
                named.chain(&others).any(|token| token.content == content)
            };
            for (content, number) in &beside.added_tokens {
                let number = number.as_u64().ok_or_else(|| {
                    let file = beside.folder.join("added_tokens.json");
                    SourceError::malformed(file, format!("{content:?} is {number}; expected the id of a token"))
                })?;
                let special = is_special(content);
                numbered.insert(number, AddedToken::from(content.as_str(), special).normalized(!special));
            }
            numbered.extend(present.iter().map(|(&id, token)| (id, token.clone())));
        }
        for (name, content) in class.defaults(version) {
            if !order.iter().any(|known| known == name) {
                order.push((*name).to_owned());
            }
            given.entry((*name).to_owned()).or_insert_with(|| Some(AddedToken::from(*content, true)));
        }
        let by_name =
            order.into_iter().filter_map(|name| given.remove(&name).flatten().map(|token| (name, token))).collect();
        let plain = (version, class) == (Version::Five, Class::Qwen2);
        Ok(Self { by_name, others: others.list(), numbered, plain })
    }

    /// The text of a named token.
    pub(super) fn named(&self, name: &str) -> Option<&str> {
        self.by_name.iter().find(|(known, _)| known == name).map(|(_, token)| token.content.as_str())
    }

    /// The names and texts of the named tokens.
    pub(super) fn all_named(&self) -> Vec<(String, String)> {
        self.by_name.iter().map(|(name, token)| (name.clone(), token.content.clone())).collect()
    }

    /// Adds to `library` the tokens that it does not have.
    pub(super) fn add_to(self, library: &mut Tokenizer) {
        let special = self.by_name.iter().map(|(_, token)| token).chain(&self.others);
        let plain: Vec<AddedToken> =
            special.filter(|_| self.plain).map(|token| AddedToken::from(token.content.as_str(), true)).collect();
        let present: Vec<AddedToken> = library.get_added_tokens_decoder().into_values().collect();
        let mut tokens: Vec<AddedToken> = self.numbered.into_values().collect();
        for token in &mut tokens {
            token.special |= self.by_name.iter().any(|(_, named)| named.content == token.content);
        }
        for mut token in self.by_name.into_iter().map(|(_, token)| token).chain(self.others) {
            let known = present.iter().chain(&tokens).any(|known| known.content == token.content);
            if !known {
                token.special = true;
                tokens.push(token);
            }
        }
        if tokens.iter().any(|token| !present.contains(token)) {
            library.add_tokens(&tokens);
        }
        if !plain.is_empty() {
            library.add_tokens(&plain);
        }
    }
}

/// Lists of special tokens without a name.
#[derive(Debug, Default)]
struct Others {
    additional: Option<Vec<AddedToken>>,
    extra: Option<Vec<AddedToken>>,
}

impl Others {
    fn take(&mut self, key: &str, tokens: Vec<AddedToken>, version: Version) {
        let list = if key == "extra_special_tokens" { &mut self.extra } else { &mut self.additional };
        match list {
            // Version 4 merges the lists of both files.
            Some(before) if version == Version::Four || key == "extra_special_tokens" => {
                before.extend(tokens);
            }
            // Version 5 takes the first.
            Some(_) => {}
            None => *list = Some(tokens),
        }
    }

    /// The extra tokens; where there are none, the additional ones.
    fn list(&self) -> Vec<AddedToken> {
        let list = self.extra.as_ref().filter(|list| !list.is_empty()).or(self.additional.as_ref());
        list.cloned().unwrap_or_default()
    }
}

/// The entries of `added_tokens_decoder`.
fn decoder(entries: &Value, file: &Path) -> Result<BTreeMap<u64, AddedToken>, SourceError> {
    let Value::Object(entries) = entries else {
        let reason = format!("added_tokens_decoder is {entries}; expected an object of tokens by id");
        return Err(SourceError::malformed(file, reason));
    };
    let entry = |(id, value): (&String, &Value)| {
        let number = id.trim().parse().map_err(|_| {
            SourceError::malformed(file, format!("added_tokens_decoder: {id:?} is no token id, a whole number from 0"))
        })?;
        let key = format!("added_tokens_decoder.{id}");
        let token = if is_token(value) { token(value, false, &key, file)? } else { None };
        let token = token.ok_or_else(|| wrong(value, &key, "an object with a string `content`", file))?;
        Ok((number, token))
    };
    entries.iter().map(entry).collect()
}

/// A named token; null says that there is none.
fn optional(value: &Value, key: &str, file: &Path) -> Result<Option<AddedToken>, SourceError> {
    if value.is_null() {
        return Ok(None);
    }
    let found = token(value, true, key, file)?;
    found.map(Some).ok_or_else(|| wrong(value, key, "a string, or an object with a string `content`", file))
}

fn list(value: &Value, key: &str, file: &Path) -> Result<Vec<AddedToken>, SourceError> {
    let entries = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(entries) => entries,
        other => return Err(wrong(other, key, "a list of tokens", file)),
    };
    let entry = |(index, value): (usize, &Value)| {
        let key = format!("{key}[{index}]");
        token(value, true, &key, file)?
            .ok_or_else(|| wrong(value, &key, "a string, or an object with a string `content`", file))
    };
    entries.iter().enumerate().map(entry).collect()
}

fn is_token(value: &Value) -> bool {
    value.get("content").is_some_and(Value::is_string)
}

/// A token as a string or as an object; `None` if it is neither.
fn token(value: &Value, special: bool, key: &str, file: &Path) -> Result<Option<AddedToken>, SourceError> {
    let flag = |name: &str| match value.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(wrong(other, &format!("{key}.{name}"), "true or false", file)),
    };
    match value {
        Value::String(content) => Ok(Some(AddedToken::from(content.as_str(), special))),
        Value::Object(fields) => {
            let Some(content) = fields.get("content").and_then(Value::as_str) else { return Ok(None) };
            let special = special || flag("special")?.unwrap_or(false);
            let token = AddedToken::from(content, special)
                .lstrip(flag("lstrip")?.unwrap_or(false))
                .rstrip(flag("rstrip")?.unwrap_or(false))
                .single_word(flag("single_word")?.unwrap_or(false));
            Ok(Some(match flag("normalized")? {
                Some(normalized) => token.normalized(normalized),
                None => token,
            }))
        }
        _ => Ok(None),
    }
}

fn wrong(value: &Value, key: &str, expected: &str, file: &Path) -> SourceError {
    SourceError::malformed(file, format!("{key} is {value}; expected {expected}"))
}
