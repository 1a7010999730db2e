//! The frame of every JSON file: what was run, on what, by which definitions, and how long it took.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ReportError;

/// The version that output files record.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A result and everything needed to read it years later. Fields are written in this order.
///
/// `R` is the command's own results, `A` the model's architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope<R, A> {
    /// Version of the program, [`VERSION`].
    pub sinkscope: Cow<'static, str>,
    /// The command line, word for word, beginning with the program's name.
    pub command: Vec<String>,
    /// The model examined; `None` of a study, which has many.
    pub model: Option<ModelIdentity<A>>,
    /// The tokens it was examined on; `None` if there were none, or many.
    pub data: Option<DataIdentity>,
    /// What each reported number means, by name.
    pub definitions: BTreeMap<String, String>,
    /// How long it took.
    pub timing: Timing,
    /// Seed of everything random; `None` of a study, which has several.
    pub seed: Option<u64>,
    /// The results of the command.
    pub results: R,
}

/// Which model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelIdentity<A> {
    /// Name of the file or directory, or the hub id.
    pub name: String,
    /// Its shape and design choices.
    pub architecture: A,
    /// SHA-256 of the weights, lower-case hexadecimal.
    pub sha256: String,
    /// Number of stored values in the tensors that the model uses.
    pub parameters: u64,
    /// Settings and tensors that were not understood and that --allow-unknown let pass: the model was computed as if they were
    /// not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_unknown: Vec<String>,
}

/// Which tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DataIdentity {
    /// The file, or what the text inside the binary is called.
    pub source: String,
    /// SHA-256 of the source, lower-case hexadecimal.
    pub sha256: String,
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens per sequence.
    pub seq_len: usize,
    /// Whether each sequence begins with the beginning-of-sequence token.
    pub bos: bool,
    /// How many tokens are special ones that the text spells out, such as `<|im_start|>`. Tokens that were put before sequences are
    /// not counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub special_tokens: usize,
    /// How conversations became tokens; only of conversations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatIdentity>,
}

/// How conversations became tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatIdentity {
    /// The file or the key of the model that holds the chat template.
    pub template: String,
    /// Conversations read, the last perhaps in part.
    pub conversations: usize,
    /// Whether a beginning-of-sequence token was put before sequences that begin with none. Otherwise all of them are those that the
    /// template writes.
    pub adds_bos: bool,
}

/// Serde asks of a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// How long it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// Everything, from start to just before writing, in seconds.
    pub seconds: f64,
    /// Each pass over the model.
    pub passes: Vec<PassTiming>,
    /// Of the streamed pass, decoding of weights included; `None` if there was none.
    pub tokens_per_second: Option<f64>,
    /// Share of the machine's f32 arithmetic bound that the streamed pass reached; `None` if unknown.
    pub fraction_of_bound: Option<f64>,
    /// Largest resident memory, mapped file pages included, in bytes; `None` where the system does not say.
    pub peak_rss_bytes: Option<u64>,
}

/// One pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PassTiming {
    /// What the pass was for.
    pub name: String,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl PassTiming {
    /// Passes by name and seconds.
    pub fn list<'a>(passes: impl IntoIterator<Item = (&'a str, f64)>) -> Vec<Self> {
        passes.into_iter().map(|(name, seconds)| Self { name: name.to_owned(), seconds }).collect()
    }
}

impl<R, A> Envelope<R, A> {
    /// The same with nothing in the architecture's place, as a page needs it.
    pub fn without_architecture(self) -> Envelope<R, Value> {
        let Self { sinkscope, command, model, data, definitions, timing, seed, results } = self;
        let model = model.map(|model| ModelIdentity {
            name: model.name,
            architecture: Value::Null,
            sha256: model.sha256,
            parameters: model.parameters,
            allowed_unknown: model.allowed_unknown,
        });
        Envelope { sinkscope, command, model, data, definitions, timing, seed, results }
    }
}

impl<R: Serialize, A: Serialize> Envelope<R, A> {
    /// The file's content: indented, ending in a newline. Floats print as the shortest digits that read back the same;
    /// values that are not finite become `null`.
    ///
    /// # Errors
    /// If the results or the architecture have no JSON form. `name` is the file's, for the message.
    pub fn to_json(&self, name: &str) -> Result<Vec<u8>, ReportError> {
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|source| ReportError::Json { name: name.to_owned(), source })?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope<Vec<f64>, BTreeMap<&'static str, f32>> {
        Envelope {
            sinkscope: VERSION.into(),
            command: vec!["sinkscope".into(), "anatomy".into(), "m.gguf".into()],
            model: Some(ModelIdentity {
                name: "m".into(),
                architecture: BTreeMap::from([("norm_epsilon", 0.1_f32)]),
                sha256: "ab".into(),
                parameters: 12,
                allowed_unknown: Vec::new(),
            }),
            data: Some(DataIdentity {
                source: "t".into(),
                sha256: "cd".into(),
                sequences: 1,
                seq_len: 2,
                bos: false,
                special_tokens: 0,
                chat: None,
            }),
            definitions: BTreeMap::from([("M_b".into(), "a median".into())]),
            timing: Timing {
                seconds: 0.5,
                passes: vec![PassTiming { name: "pass".into(), seconds: 0.25 }],
                tokens_per_second: Some(8.0),
                fraction_of_bound: None,
                peak_rss_bytes: Some(1024),
            },
            seed: Some(3),
            results: vec![0.1, 1e300, f64::NAN],
        }
    }

    /// The keys of one level of indentation, in the order of the text.
    fn keys(json: &str, indent: usize) -> Vec<String> {
        let start = format!("{}\"", " ".repeat(indent));
        json.lines()
            .filter_map(|line| line.strip_prefix(&start)?.split_once("\":").map(|(key, _)| key.to_owned()))
            .collect()
    }

    fn json() -> String {
        String::from_utf8(envelope().to_json("x.json").expect("plain data")).expect("JSON is UTF-8")
    }

    #[test]
    fn keys_come_in_the_contract_order() {
        let json = json();
        let outer = ["sinkscope", "command", "model", "data", "definitions", "timing", "seed", "results"];
        assert_eq!(keys(&json, 2), outer);
        let inner = [
            ["name", "architecture", "sha256", "parameters"].as_slice(),
            &["source", "sha256", "sequences", "seq_len", "bos"],
            &["M_b"],
            &["seconds", "passes", "tokens_per_second", "fraction_of_bound", "peak_rss_bytes"],
        ];
        assert_eq!(keys(&json, 4), inner.concat());
        assert!(json.ends_with("}\n"));
    }

    #[test]
    fn numbers_are_short_and_never_nan() {
        let json = json();
        assert!(json.contains("\"norm_epsilon\": 0.1\n"), "{json}");
        assert!(json.contains("    0.1,\n    1e+300,\n    null\n"), "{json}");
    }
}
