//! Families: from what a checkpoint says of itself to an [`Architecture`], and from the roles of its weights to the
//! tensors that hold them.
//!
//! A family is a point in the space of architectures plus a naming of tensors; nothing outside this module knows
//! families by name. Whatever a checkpoint says is accounted for ([`accounting`]): a model is either right or refused.

mod accounting;
mod fields;
mod gemma;
mod gguf;
mod gpt2;
mod gpt_neox;
mod inventory;
mod llama;
mod naming;
mod own;
mod phi3;
mod qwen;
mod rope;

use std::path::Path;

use serde_json::Value;

use self::accounting::{Inert, Tolerated};
use self::fields::Fields;
use crate::architecture::{Architecture, Uniform};
use crate::error::{ModelError, UnknownKey};
use sinkscope_sources::checkpoint::{Checkpoint, Metadata};

pub(crate) use accounting::{any_matches, matches};
pub(crate) use inventory::{Place, gate_inputs, inventory};
pub(crate) use naming::{BiasRule, Location, Naming, Role, RowOrder, rows};
pub(crate) use own::describe;

/// The families of Hugging Face directories.
const FAMILIES: &[Family] = &[
    llama::LLAMA,
    llama::MISTRAL,
    qwen::QWEN2,
    qwen::QWEN3,
    gemma::GEMMA2,
    gemma::GEMMA3,
    gemma::GEMMA3_TEXT,
    llama::OLMO2,
    phi3::PHI3,
    gpt2::GPT2,
    gpt_neox::GPT_NEOX,
    own::OWN,
];

/// A family as Hugging Face directories describe it.
struct Family {
    /// Its name in `model_type`.
    name: &'static str,
    /// What the names of its classes begin with in `architectures`; see [`Family::head_of_class`].
    classes: &'static [&'static str],
    /// Classes with other endings, and whether each has an output head.
    other_classes: &'static [(&'static str, bool)],
    /// What its publishers' `auto_map` names. Their code computes the same.
    published_code: &'static [&'static str],
    /// Its inert keys, beside the common ones.
    inert: &'static [Inert],
    /// Tensors that may stand beside those it uses, beside the common ones.
    leftovers: &'static [&'static str],
    /// Reads its configuration.
    identify: fn(&Fields<'_>, &Stored<'_>) -> Result<Identity, ModelError>,
}

/// What families ask of the stored tensors.
struct Stored<'a> {
    /// Whether there is a tensor of this name.
    has: &'a dyn Fn(&str) -> bool,
}

impl Stored<'_> {
    /// What stands before the names of a Llama's tensors.
    fn prefix(&self) -> &'static str {
        ["model.", "language_model.model.", "model.language_model.", ""]
            .into_iter()
            .find(|prefix| (self.has)(&format!("{prefix}embed_tokens.weight")))
            .unwrap_or("model.")
    }
}

/// What a family says of a model.
struct Identity {
    architecture: Architecture,
    naming: Naming,
}

impl Identity {
    /// A model whose layers are alike.
    fn new(fields: &Fields<'_>, uniform: Uniform, naming: Naming) -> Result<Self, ModelError> {
        let architecture = uniform.try_into().map_err(|reason: String| ModelError::malformed(fields.path, reason))?;
        Ok(Self { architecture, naming })
    }
}

/// What a checkpoint is: its architecture, how its tensors are named and laid out, and what is left over.
pub(crate) struct Identified {
    pub architecture: Architecture,
    pub naming: Naming,
    /// Whether it has an output head.
    pub has_head: bool,
    /// Patterns of names of tensors that may be stored beside those that are used.
    pub leftovers: Vec<&'static str>,
    /// Keys that only the user lets pass.
    pub passed: Vec<String>,
}

/// Reads the description of a checkpoint. `allowed`: patterns of keys that the user lets pass unknown.
pub(crate) fn identify(checkpoint: &Checkpoint, allowed: &[String]) -> Result<Identified, ModelError> {
    let path = checkpoint.path();
    let has = |name: &str| checkpoint.has(name);
    let stored = Stored { has: &has };
    let identified = match checkpoint.metadata() {
        Metadata::HuggingFace { config, folder } => from_config(config, &folder.join("config.json"), &stored, allowed)?,
        Metadata::Memory { config, .. } => from_config(config, path, &stored, allowed)?,
        Metadata::Gguf(metadata) => gguf::identify(metadata, path, checkpoint, allowed)?,
    };
    identified.architecture.validate().map_err(|reason| ModelError::malformed(description_path(checkpoint), reason))?;
    Ok(identified)
}

fn from_config(config: &Value, path: &Path, stored: &Stored<'_>, allowed: &[String]) -> Result<Identified, ModelError> {
    let fields = Fields::new(config, path)?;
    let Some(name) = fields.optional::<&str>("model_type")? else {
        return Err(ModelError::malformed(path, "field `model_type` is missing; it names the family"));
    };
    let Some(family) = FAMILIES.iter().find(|family| family.name == name) else {
        let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        return Err(unsupported_family(path, &format!("`{name}`{}", kind_of_model(config)), &names));
    };
    let mut passed = Vec::new();
    let class_has_head = family.check_classes(&fields, allowed, &mut passed)?;
    family.check_code(&fields, allowed, &mut passed)?;
    let Identity { mut architecture, naming } = (family.identify)(&fields, stored)?;
    passed.extend(Tolerated { family: family.name, inert: family.inert, allowed }.settle(&fields)?);
    // A stored head is used whatever the configuration says, as in transformers: its values may differ from the embedding's.
    let own_head = (stored.has)(&naming.weight(Role::Head, 0, &architecture).tensor);
    architecture.tied_embeddings &= !own_head && class_has_head;
    let has_head = own_head || architecture.tied_embeddings;
    let leftovers = [accounting::COMMON_LEFTOVERS, family.leftovers].concat();
    Ok(Identified { architecture, naming, has_head, leftovers, passed })
}

impl Family {
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
    fn check_classes(
        &self,
        fields: &Fields<'_>,
        allowed: &[String],
        passed: &mut Vec<String>,
    ) -> Result<bool, ModelError> {
        const KEY: &str = "architectures";
        let Some(classes) = fields.nullable::<Vec<&str>>(KEY, None)? else { return Ok(true) };
        let heads: Option<Vec<bool>> = classes.iter().map(|class| self.head_of_class(class)).collect();
        match heads {
            Some(heads) => Ok(heads.is_empty() || heads.contains(&true)),
            None if any_matches(allowed, KEY) => {
                passed.push(KEY.to_owned());
                Ok(true)
            }
            None => {
                let known = format!("known are {}ForCausalLM and its like", self.classes.join("ForCausalLM, "));
                Err(self.unknown(fields, KEY, Some(known)))
            }
        }
    }

    /// Looks at `auto_map`: code of others may compute something else.
    fn check_code(&self, fields: &Fields<'_>, allowed: &[String], passed: &mut Vec<String>) -> Result<(), ModelError> {
        const KEY: &str = "auto_map";
        let Some(map) = fields.value(KEY) else { return Ok(()) };
        let known = |(key, value): (&String, &Value)| {
            let class = value.as_str().map(|class| class.rsplit_once("--").map_or(class, |(_, class)| class));
            key == "AutoTokenizer" || key == "AutoProcessor" || class.is_some_and(|c| self.published_code.contains(&c))
        };
        let fine = map.is_null() || map.as_object().is_some_and(|map| map.iter().all(known));
        if fine {
            return Ok(());
        }
        if any_matches(allowed, KEY) {
            passed.push(KEY.to_owned());
            return Ok(());
        }
        Err(self.unknown(fields, KEY, Some("code of its own may compute something else".into())))
    }

    fn unknown(&self, fields: &Fields<'_>, key: &str, known: Option<String>) -> ModelError {
        let value = fields.value(key).unwrap_or(&Value::Null).to_string();
        let keys = vec![UnknownKey { key: key.to_owned(), value, known }];
        ModelError::UnknownKeys { path: fields.path.to_owned(), family: self.name.to_owned(), keys }
    }
}

/// The file that describes the model.
fn description_path(checkpoint: &Checkpoint) -> std::path::PathBuf {
    match checkpoint.metadata() {
        Metadata::HuggingFace { folder, .. } => folder.join("config.json"),
        Metadata::Gguf(_) | Metadata::Memory { .. } => checkpoint.path().to_owned(),
    }
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

fn unsupported_family(path: &Path, family: &str, supported: &[&str]) -> ModelError {
    ModelError::unsupported(path, format!("family {family} is not supported; supported: {}", supported.join(", ")))
}

#[cfg(test)]
mod tests;
