//! What others write in configurations: published ones, and every key that transformers knows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::accounting::{COMMON, Inert};
use super::super::hugging_face;
use super::{architecture, asked, changed, fixtures, plain};

/// Published configurations that are refused, and the key that is the reason.
const REFUSED: &[(&str, &str)] = &[
    // Pruned with code of its own.
    ("Llama-2-7b-hf-P10 (pruned)", "sparsity"),
    ("shaojintian/complexFormer", "k_codes"),
    // Quantised when they are loaded.
    ("Rajesh-Nair/llm-text2sql-finetuning (merged, 4 bits)", "quantization_config"),
    ("unsloth/llama-3-8b-Instruct-bnb-4bit", "quantization_config"),
    ("ttotdev/slm-prototype (mlx, 4 bits)", "quantization"),
    ("pphothidaen/HoroConsultant (mlx, 4 bits)", "quantization"),
    ("Qwen/Qwen1.5-14B-Chat-GPTQ-Int4", "gptq"),
    // Runs code of its own.
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B (with remote code)", "auto_map"),
];

/// How many published configurations are read, by `model_type`, once each was either read or refused for its reason.
pub(crate) fn accepted_configurations() -> BTreeMap<String, usize> {
    let list = |name: &str| fixture(name).as_array().expect("a list").clone();
    let (found, recollected) = (list("published_configs.json"), list("recollected_configs.json"));
    assert!(found.len() >= 100, "{}", found.len());
    let mut accepted = BTreeMap::new();
    let mut refused = 0;
    let mut wrong = Vec::new();
    for (index, entry) in found.iter().chain(&recollected).enumerate() {
        let name = entry["name"].as_str().expect("a name");
        let expected = REFUSED.iter().find(|(refused, _)| *refused == name);
        match (architecture(&entry["config"]), expected) {
            (Ok(_), None) if index < found.len() => {
                let family = entry["config"]["model_type"].as_str().expect("a family");
                *accepted.entry(family.to_owned()).or_insert(0) += 1;
            }
            (Ok(_), None) => {}
            (Ok(_), Some(_)) => wrong.push(format!("{name} is not refused")),
            (Err(message), Some((_, named))) if message.contains(named) => refused += 1,
            (Err(message), _) => wrong.push(format!("{name}: {message}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(refused, REFUSED.len());
    accepted
}

#[test]
fn no_published_configuration_is_refused_for_junk() {
    accepted_configurations();
}

fn fixture(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join(name)).expect("a fixture")).expect("JSON")
}

/// Keys of transformers' configuration classes that are neither read nor inert: each is refused.
const REFUSED_KEYS: &[&str] = &["per_layer_config"];

/// `scripts/config_keys.py` lists the keys of the classes.
#[test]
fn every_key_of_transformers_classes_is_read_or_inert_or_refused() {
    let listed = fixture("config_keys.json");
    let names = |value: &Value| -> Vec<String> {
        match value {
            Value::Object(keys) => keys.keys().cloned().collect(),
            Value::Array(keys) => keys.iter().map(|key| key.as_str().expect("a name").to_owned()).collect(),
            other => panic!("{other}"),
        }
    };
    let common: Vec<String> = ["base", "also", "generation"].iter().flat_map(|part| names(&listed[*part])).collect();
    for (family, class) in listed["families"].as_object().expect("families") {
        let (config, prefix) = match &family[..] {
            "gemma3" => (json!({"model_type": "gemma3", "text_config": {}}), ""),
            family => {
                let mut config = plain(family);
                config["hidden_size"] = json!(256);
                (config, "")
            }
        };
        let read = asked(&config);
        let entry = hugging_face::find(family).expect("supported");
        for key in names(&class["keys"]).into_iter().chain(common.clone()) {
            let name = format!("{prefix}{key}");
            let inert = Inert::find(entry.inert.iter().chain(COMMON), &[&name]).is_some();
            let refused = REFUSED_KEYS.contains(&&key[..]);
            // Of no family with rotary embeddings of another form, or without any.
            let rotary = ["rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor"].contains(&&key[..])
                && ["gpt2", "gemma3"].contains(&&family[..]);
            assert!(read.contains(&name) || inert || refused || rotary, "{family}: {key}");
        }
    }
    for key in REFUSED_KEYS {
        assert!(changed("llama", json!({ *key: {} })).expect_err("refused").contains(key));
    }
}

/// `scripts/inert_keys.py` shows in transformers that these values change no likelihood.
#[test]
fn every_inert_key_is_tried_in_transformers() {
    let tried = fixture("inert_keys.json");
    for family in hugging_face::entries().filter(|family| family.model_type != "sinkscope") {
        let inert = family.inert.iter().chain(COMMON);
        for (inert, key) in inert.flat_map(|inert| inert.keys().map(move |key| (inert, key))) {
            let nested = key.contains('.') || ["architectures", "vision_config"].contains(&key);
            let entry = [&tried[family.model_type], &tried["*"]].into_iter().find_map(|keys| keys.get(key));
            let Some(entry) = entry else {
                assert!(nested, "{}: {} is not tried", family.model_type, key);
                continue;
            };
            let values = entry["values"].as_array().expect("values");
            let allowed = values.iter().filter(|value| inert.only.allows(value)).count();
            assert!(allowed >= 1, "{}: {} {:?} {values:?}", family.model_type, key, inert.only);
        }
    }
}
