//! Families as Hugging Face directories describe them: `config.json`, and tensors named as transformers names them.

use std::path::Path;

use serde_json::Value;

use super::accounting::{self, Account, Inert};
use super::fields::Fields;
use super::naming::Role;
use super::{FAMILIES, Identified, Identity, unsupported_family};
use crate::error::{ModelError, UnknownKey};

/// A family under one of its names.
pub(super) struct HuggingFace {
    /// The name, in `model_type`.
    pub model_type: &'static str,
    /// What the names of its classes begin with in `architectures`; see [`HuggingFace::head_of_class`].
    pub classes: &'static [&'static str],
    /// Classes with other endings, and whether each has an output head.
    pub other_classes: &'static [(&'static str, bool)],
    /// What its publishers' `auto_map` names. Their code computes the same.
    pub published_code: &'static [&'static str],
    /// Its inert keys, beside the common ones.
    pub inert: &'static [Inert],
    /// Tensors that may stand beside those it uses, beside the common ones.
    pub leftovers: &'static [&'static str],
    /// Reads its configuration.
    pub read: fn(&Fields<'_>, &Stored<'_>) -> Result<Identity, ModelError>,
}

/// What families ask of the stored tensors.
pub(super) struct Stored<'a> {
    /// Whether there is a tensor of this name.
    pub has: &'a dyn Fn(&str) -> bool,
}

impl Stored<'_> {
    /// What stands before the names of a Llama's tensors.
    pub fn prefix(&self) -> &'static str {
        ["model.", "language_model.model.", "model.language_model.", ""]
            .into_iter()
            .find(|prefix| (self.has)(&format!("{prefix}embed_tokens.weight")))
            .unwrap_or("model.")
    }
}

/// The family of this `model_type`.
pub(super) fn find(model_type: &str) -> Option<&'static HuggingFace> {
    entries().find(|entry| entry.model_type == model_type)
}

pub(super) fn entries() -> impl Iterator<Item = &'static HuggingFace> {
    FAMILIES.iter().flat_map(|family| family.hugging_face)
}

/// Reads the configuration `config`, which stands in the file `path`.
pub(super) fn identify(
    config: &Value,
    path: &Path,
    stored: &Stored<'_>,
    allowed: &[String],
) -> Result<Identified, ModelError> {
    let fields = Fields::new(config, path)?;
    let Some(name) = fields.optional::<&str>("model_type")? else {
        return Err(ModelError::malformed(path, "field `model_type` is missing; it names the family"));
    };
    let Some(family) = find(name) else {
        let names = entries().map(|family| family.model_type);
        return Err(unsupported_family(path, &format!("`{name}`{}", kind_of_model(config)), names));
    };
    let account = Account::new(path, name, allowed);
    let class_has_head = family.check_classes(&fields, &account)?;
    family.check_code(&fields, &account)?;
    let Identity { mut architecture, naming } = (family.read)(&fields, stored)?;
    family.settle(&fields, &account)?;
    // A stored head is used whatever the configuration says, as in transformers: its values may differ from the embedding's.
    let own_head = (stored.has)(&naming.weight(Role::Head, 0, &architecture).tensor);
    architecture.tied_embeddings &= !own_head && class_has_head;
    let has_head = own_head || architecture.tied_embeddings;
    let leftovers = [accounting::COMMON_LEFTOVERS, family.leftovers].concat();
    Ok(Identified { architecture, naming, has_head, leftovers, passed: account.passed() })
}

impl HuggingFace {
    /// A family without peculiarities.
    pub const fn new(
        model_type: &'static str,
        classes: &'static [&'static str],
        read: fn(&Fields<'_>, &Stored<'_>) -> Result<Identity, ModelError>,
    ) -> Self {
        Self { model_type, classes, other_classes: &[], published_code: &[], inert: &[], leftovers: &[], read }
    }

    /// Whether models of a class can have an output head; `None` if it is no class of this family.
    fn head_of_class(&self, class: &str) -> Option<bool> {
        if let Some((_, head)) = self.other_classes.iter().find(|(other, _)| *other == class) {
            return Some(*head);
        }
        let ending = self.classes.iter().find_map(|start| class.strip_prefix(start))?;
        match ending {
            // A bare model predicts with its embedding where the two are tied, as transformers lets it.
            "ForCausalLM" | "Model" => Some(true),
            "ForSequenceClassification" | "ForTokenClassification" | "ForQuestionAnswering" => Some(false),
            _ => None,
        }
    }

    /// Looks at `architectures`, and says whether the class has an output head.
    pub fn check_classes(&self, fields: &Fields<'_>, account: &Account<'_>) -> Result<bool, ModelError> {
        const KEY: &str = "architectures";
        let Some(classes) = fields.nullable::<Vec<&str>>(KEY, None)? else { return Ok(true) };
        let heads: Option<Vec<bool>> = classes.iter().map(|class| self.head_of_class(class)).collect();
        let Some(heads) = heads else {
            let known = format!("known are {}ForCausalLM and its like", self.classes.join("ForCausalLM, "));
            refuse(fields, KEY, known, account)?;
            return Ok(true);
        };
        Ok(heads.is_empty() || heads.contains(&true))
    }

    /// Looks at `auto_map`: code of others may compute something else.
    pub fn check_code(&self, fields: &Fields<'_>, account: &Account<'_>) -> Result<(), ModelError> {
        const KEY: &str = "auto_map";
        let Some(map) = fields.value(KEY) else { return Ok(()) };
        let known = |(key, value): (&String, &Value)| {
            let class = value.as_str().map(|class| class.rsplit_once("--").map_or(class, |(_, class)| class));
            key == "AutoTokenizer" || key == "AutoProcessor" || class.is_some_and(|c| self.published_code.contains(&c))
        };
        if !map.is_null() && !map.as_object().is_some_and(|map| map.iter().all(known)) {
            let known = "code of its own may compute something else".to_owned();
            return refuse(fields, KEY, known, account);
        }
        Ok(())
    }

    /// Looks at every key that was not read.
    fn settle(&self, fields: &Fields<'_>, account: &Account<'_>) -> Result<(), ModelError> {
        let mut unknown = Vec::new();
        for (key, value) in fields.unread() {
            let last = key.rsplit_once("text_config.").map_or(&key[..], |(_, nested)| nested);
            let listed = Inert::find(self.inert.iter().chain(accounting::COMMON), &[&key, last]);
            let Some(unknown_key) = accounting::unknown(&key, value, listed) else { continue };
            if !account.allows(&key) {
                refuse_quantised(&key, value, fields.path)?;
            }
            unknown.push(unknown_key);
        }
        account.refuse(unknown)
    }
}

/// Refuses a key's value, unless the user lets it pass.
fn refuse(fields: &Fields<'_>, key: &str, known: String, account: &Account<'_>) -> Result<(), ModelError> {
    let value = fields.value(key).unwrap_or(&Value::Null).to_string();
    account.refuse(vec![UnknownKey { key: key.to_owned(), value, known: Some(known) }])
}

/// A model that is to be quantised when it is loaded computes something else than its float tensors do.
fn refuse_quantised(key: &str, value: &Value, path: &Path) -> Result<(), ModelError> {
    if !["quantization_config", "compression_config", "quantization"].contains(&key) {
        return Ok(());
    }
    let method = match value.get("quant_method").and_then(Value::as_str) {
        Some(method) => format!("by {method}"),
        None => "by a method that is not named".into(),
    };
    Err(ModelError::unsupported(
        path,
        format!(
            "field `{key}` says that the model is quantised {method}, so its tensors as stored are not what it computes with; \
             supported are F32, F16 and BF16 weights without `{key}`, or a quantised GGUF file"
        ),
    ))
}

/// What a model of another family is, where its configuration tells, as part of a message.
fn kind_of_model(config: &Value) -> &'static str {
    let experts = ["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"];
    let has_experts = |config: &Value| experts.iter().any(|key| config.get(key).and_then(Value::as_u64) > Some(0));
    let text = config.get("text_config").unwrap_or(&Value::Null);
    match () {
        () if has_experts(config) || has_experts(text) => ", a mixture of experts,",
        () if config.get("is_encoder_decoder") == Some(&Value::Bool(true)) => ", an encoder with a decoder,",
        () => "",
    }
}
