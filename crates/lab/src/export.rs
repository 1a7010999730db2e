//! What makes a checkpoint a model directory that others read, `transformers` among them: its configuration and its
//! tokeniser, which say the same as training did.

use serde_json::{Value, json};
use sinkscope_model::architecture::Architecture;
use sinkscope_model::parameters::config;

use crate::LabError;
use crate::data::Source;
use crate::data::bpe::BOS;
use crate::data::prepare::tokenizer_config;

/// The files beside the weights, by name; `bos`: whether sequences begin with BOS.
pub(crate) fn files(
    architecture: &Architecture,
    source: &Source,
    bos: bool,
) -> Result<Vec<(&'static str, Vec<u8>)>, LabError> {
    let mut config = config(architecture);
    let Some(tokenizer) = source.tokenizer() else { return Ok(vec![("config.json", written(&config)?)]) };
    // BOS begins documents, and so ends those before.
    config["bos_token_id"] = source.bos().into();
    config["eos_token_id"] = source.bos().into();
    let mut tokenizer: Value = serde_json::from_str(tokenizer).map_err(|error| unwritten(&error))?;
    if bos {
        tokenizer["post_processor"] = begins_with_bos(source.bos());
    }
    Ok(vec![
        ("config.json", written(&config)?),
        ("tokenizer.json", written(&tokenizer)?),
        ("tokenizer_config.json", tokenizer_config(Some(bos)).into_bytes()),
    ])
}

/// The post-processor of a `tokenizer.json` that puts BOS before every text.
fn begins_with_bos(id: u32) -> Value {
    let bos = |sequence: u32| json!({ "SpecialToken": { "id": BOS, "type_id": sequence } });
    let text = |name: &str, sequence: u32| json!({ "Sequence": { "id": name, "type_id": sequence } });
    json!({
        "type": "TemplateProcessing",
        "single": [bos(0), text("A", 0)],
        "pair": [bos(0), text("A", 0), bos(1), text("B", 1)],
        "special_tokens": { BOS: { "id": BOS, "ids": [id], "tokens": [BOS] } },
    })
}

fn written(value: &Value) -> Result<Vec<u8>, LabError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| unwritten(&error))?;
    text.push(b'\n');
    Ok(text)
}

fn unwritten(error: &serde_json::Error) -> LabError {
    LabError::Request(format!("the configuration cannot be written: {error}"))
}
