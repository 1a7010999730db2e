//! Weights after ten steps, for every value of every choice in a recipe's model section. The choices come from its schema, so
//! that a new one cannot be forgotten.

use std::fs;
use std::path::Path;

use schemars::schema_for;
use serde_json::{Value, json};
use sinkscope_lab::checkpoint::Resume;
use sinkscope_lab::data::Source;
use sinkscope_lab::recipe::{ModelChoice, Recipe};
use sinkscope_lab::recipe_file;
use sinkscope_lab::trainer::{Ended, Trainer};

use crate::{Digests, digest};

/// Small, with sizes that are no multiple of a register. On bytes, as their batches depend on integers alone.
const BASE: &str = r#"
    [model]
    layers = 2
    d_model = 24
    heads = 4
    [data]
    source = "built-in"
    vocabulary = 257
    [training]
    steps = 10
    sequences = 6
    seq_len = 19
    [optimizer]
    learning_rate = 1e-2
    warmup = 3
    [watch]
    every = 10
    sequences = 2
    seq_len = 16
    checkpoint_every = 10
"#;

/// Values of what is no enum and no switch.
fn examples() -> Value {
    json!({
        "layers": [3],
        "d_model": [40],
        "heads": [3],
        "kv_heads": [1, 2],
        "head_dim": [10],
        "d_ffn": [37],
        "norm_epsilon": [0.1],
        "rope_theta": [50.0],
        "window": [5],
        "soft_cap": [0.02],
        "registers": [2],
        "initialisation": [{"deviation": 0.1, "embedding_deviation": 0.5}, {"scale_residual": true}],
    })
}

/// Choices that meet: what one of them computes depends on the other.
fn together() -> Vec<(&'static str, Value)> {
    vec![
        (
            "dynamic tanh, alpha",
            json!({"model": {"norm": "dynamic-tanh", "initialisation": {"dynamic_tanh_alpha": 2.0}}}),
        ),
        ("output norm, QK norm", json!({"model": {"placement": "output", "qk_norm": "projection"}})),
        ("post-norm, layer norm", json!({"model": {"placement": "post", "norm": "layer-norm"}})),
        ("sandwich, QK head, projection", json!({"model": {"placement": "sandwich-qk-head", "qk_norm": "projection"}})),
        ("key-value bias, learned", json!({"model": {"key_value_bias": true, "position": "learned"}})),
        ("key-value bias, none", json!({"model": {"key_value_bias": true, "position": "none"}})),
        ("key-value bias, GQA, window", json!({"model": {"key_value_bias": true, "kv_heads": 2, "window": 4}})),
        (
            "embedding gate, learned",
            json!({"model": {
            "gate": {"signal": "embedding", "granularity": "channel"}, "position": "learned"}}),
        ),
        (
            "scaled residual, linear",
            json!({"model": {
            "initialisation": {"scale_residual": true}, "feed_forward": "linear"}}),
        ),
        (
            "scaled residual, attention",
            json!({"model": {
            "initialisation": {"scale_residual": true}, "feed_forward": "attention"}}),
        ),
        ("registers, learned", json!({"model": {"registers": 2, "position": "learned"}})),
        ("accumulation", json!({"training": {"accumulation": 3}})),
        ("loss from 5 to 15", json!({"training": {"loss_from": 5, "loss_to": 15}})),
        ("whole sequences of several tiles", json!({"training": {"sequences": 3, "seq_len": 270}})),
        ("constant rate", json!({"optimizer": {"schedule": "constant"}})),
        ("all decay", json!({"optimizer": {"decay_all": true, "weight_decay": 1.0}})),
        ("no clipping", json!({"optimizer": {"clip": 0.0}})),
        (
            "Bigram-Backcopy",
            json!({"data": {
            "source": "bigram-backcopy", "vocabulary": null, "packing": null, "bos": null}}),
        ),
    ]
}

/// Puts the values of `change` into `recipe`; `null` takes a key away.
fn merge(recipe: &mut Value, change: &Value) {
    match (recipe, change) {
        (Value::Object(recipe), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    recipe.remove(key);
                } else {
                    merge(recipe.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (recipe, change) => *recipe = change.clone(),
    }
}

/// The names that a schema allows, of an enum; empty of anything else.
fn arms(schema: &Value, definitions: &Value) -> Vec<Value> {
    if let Some(path) = schema["$ref"].as_str() {
        return arms(&definitions[path.rsplit('/').next().unwrap_or(path)], definitions);
    }
    if let Some(names) = schema["enum"].as_array() {
        return names.clone();
    }
    if !schema["const"].is_null() {
        return vec![schema["const"].clone()];
    }
    let either = ["oneOf", "anyOf", "allOf"].iter().filter_map(|kind| schema[kind].as_array());
    either.flatten().flat_map(|schema| arms(schema, definitions)).collect()
}

/// What each value of each choice changes in the base, by name.
fn changes() -> Vec<(String, Value)> {
    let schema = schema_for!(ModelChoice).to_value();
    let definitions = &schema["$defs"];
    let examples = examples();
    let mut changes = vec![("base".to_owned(), json!({}))];
    for (key, of_key) in schema["properties"].as_object().expect("choices") {
        let values = if let Some(values) = examples[key].as_array() {
            values.clone()
        } else if key == "gate" {
            let of_gate = &definitions["GateChoice"]["properties"];
            let granularities = arms(&of_gate["granularity"], definitions);
            let signals = arms(&of_gate["signal"], definitions);
            let pair = |signal: &Value| {
                let signal = signal.clone();
                let of = move |granularity: &Value| json!({"signal": signal, "granularity": granularity});
                granularities.iter().map(of).collect::<Vec<_>>()
            };
            signals.iter().flat_map(pair).collect()
        } else if of_key["type"] == "boolean" {
            vec![Value::Bool(true)]
        } else {
            arms(of_key, definitions)
        };
        assert!(!values.is_empty(), "model.{key} is new: give it an example here");
        for value in values {
            let mut change = json!({"model": {}});
            change["model"][key] = value.clone();
            changes.push((format!("{key} = {value}").replace('"', ""), change));
        }
    }
    changes.extend(together().into_iter().map(|(name, change)| (name.to_owned(), change)));
    changes
}

/// The weights after a run.
fn weights(recipe: Recipe, source: Source, run: &Path) -> String {
    let mut trainer = Trainer::new(recipe, source).expect("a model");
    let ended = trainer.run(run, Resume::No, &|| false, &mut |_| {}).expect("a run");
    assert_eq!(ended, Ended::Finished);
    let file = fs::read(run.join("last/model.safetensors")).expect("weights");
    // Values follow a header, whose length is said first.
    let header: [u8; 8] = file[..8].try_into().expect("a length");
    let values: Vec<f32> = file[8 + u64::from_le_bytes(header) as usize..]
        .as_chunks()
        .0
        .iter()
        .map(|word| f32::from_le_bytes(*word))
        .collect();
    digest([values.as_slice()])
}

pub fn of_all() -> Digests {
    let base: Recipe = recipe_file::parse(BASE, Path::new("the base")).expect("a recipe");
    let base = serde_json::to_value(base).expect("JSON");
    let place = tempfile::tempdir().expect("a directory");
    let mut digests = Digests::new();
    for (number, (name, change)) in changes().into_iter().enumerate() {
        let mut recipe = base.clone();
        merge(&mut recipe, &change);
        let recipe: Recipe = serde_json::from_value(recipe).unwrap_or_else(|error| panic!("{name}: {error}"));
        let source = Source::open(&recipe.source()).expect("data");
        match recipe.architecture(source.vocabulary()) {
            Ok(_) => {
                digests.insert(name, weights(recipe, source, &place.path().join(number.to_string())));
            }
            // Not every signal of a gate goes with every granularity.
            Err(error) => assert!(name.starts_with("gate = "), "{name}: {error}"),
        }
    }
    digests
}
