//! The tokeniser of a Hugging Face directory against what `transformers` 4.57.3 and 5.24.0 make of it
//! (`scripts/make_tokenizer_fixtures.py --classes`).
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sinkscope_sources::SourceError;
use sinkscope_sources::checkpoint::Metadata;
use sinkscope_sources::tokenizer::Tokenizer;
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers").join(name)
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A directory with the tokeniser of a fixture, changed, and files beside it.
struct Folder(TempDir);

impl Folder {
    fn new(base: &str, changes: &Value) -> Self {
        let mut tokenizer = json_file(&fixture(base).join("tokenizer.json"));
        for (key, value) in changes.as_object().unwrap() {
            tokenizer[key] = value.clone();
        }
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("tokenizer.json", tokenizer.to_string());
        folder
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(name), content).unwrap();
    }

    fn open(&self, config: Value) -> Result<Tokenizer, SourceError> {
        let folder = self.0.path().to_owned();
        let metadata = Metadata::HuggingFace { folder: folder.clone(), config };
        Tokenizer::from_metadata(&metadata, &folder).map(Option::unwrap)
    }
}

#[test]
fn every_class_does_as_both_versions_of_transformers_do() {
    let fixture = json_file(&fixture("classes.json"));
    let texts: Vec<&str> = fixture["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let mut wrong = Vec::new();
    for entry in fixture["cases"].as_array().unwrap() {
        let case = &entry["case"];
        let changes = json!({"post_processor": case["post_processor"]});
        let folder = Folder::new(case["base"].as_str().unwrap(), &changes);
        for (name, content) in case["files"].as_object().unwrap() {
            folder.write(name, content.to_string());
        }
        for (version, saved) in [("4", "4.57.3"), ("5", "5.24.0")] {
            let expected = &entry["expected"][version];
            if expected.get("error").is_some() {
                continue;
            }
            let config = json!({"model_type": case["model_type"], "transformers_version": saved});
            let tokenizer = folder.open(config).unwrap();
            let ids: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
            let first: Vec<u32> = tokenizer.first().unwrap().into_iter().collect();
            if json!(first) != expected["first"] || json!(ids) != expected["ids"] {
                wrong.push(format!(
                    "{version}: {case}\n  expected {expected}\n  found {}",
                    json!({"first": first, "ids": ids})
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
}

#[test]
fn the_version_is_that_of_the_configuration_and_else_5() {
    let folder = Folder::new("sentencepiece", &json!({"post_processor": null}));
    folder.write("tokenizer_config.json", json!({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}).to_string());
    for (config, adds) in [
        (json!({"transformers_version": "4.31.0"}), true),
        (json!({"transformers_version": "4.57.0.dev0"}), true),
        (json!({"transformers_version": "5.0.0rc1"}), false),
        (json!({"transformers_version": null}), false),
        (json!({}), false),
    ] {
        assert_eq!(folder.open(config.clone()).unwrap().adds_bos(), adds, "{config}");
    }
}

#[test]
fn the_bos_token_has_a_name_or_is_that_of_the_configuration() {
    let bos = |settings: Option<Value>, config: Value| {
        let folder = Folder::new("gpt2", &json!({}));
        if let Some(settings) = settings {
            folder.write("tokenizer_config.json", settings.to_string());
        }
        folder.open(config).unwrap().bos()
    };
    assert_eq!(bos(None, json!({})), None);
    assert_eq!(bos(None, json!({"bos_token_id": 1})), Some(1));
    assert_eq!(bos(Some(json!({"bos_token": "<|im_end|>"})), json!({"bos_token_id": 1})), Some(2));
    assert_eq!(bos(Some(json!({"bos_token": {"content": "<|im_end|>"}})), json!({})), Some(2));
    assert_eq!(bos(Some(json!({"bos_token": null})), json!({"bos_token_id": 1})), Some(1));
    // Of a post-processor that puts one token before a text, whatever its name.
    let folder = Folder::new("llama3", &json!({}));
    let tokenizer = folder.open(json!({})).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.first().unwrap()), (Some(0), Some(0)));
}

#[test]
fn several_tokens_before_a_text_are_refused() {
    let special = |id: u32, name: &str| json!({"id": name, "ids": [id], "tokens": [name]});
    let place = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let template = json!({
        "type": "TemplateProcessing",
        "single": [place("<|im_start|>"), place("<|im_end|>"), text],
        "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": special(1, "<|im_start|>"), "<|im_end|>": special(2, "<|im_end|>")},
    });
    let tokenizer = Folder::new("gpt2", &json!({"post_processor": template})).open(json!({})).unwrap();
    let message = tokenizer.first().unwrap_err().to_string();
    assert!(message.contains(r#"("<|im_start|>", "<|im_end|>")"#) && message.contains("--bos"), "{message}");
}

#[test]
fn dropout_is_switched_off() {
    let mut model = json_file(&fixture("gpt2").join("tokenizer.json"))["model"].clone();
    let text = "The ships came down and he counted no more.";
    let without = Folder::new("gpt2", &json!({})).open(json!({})).unwrap().encode(text).unwrap();
    model["dropout"] = json!(0.9);
    for class in ["PreTrainedTokenizerFast", "GPT2Tokenizer"] {
        let folder = Folder::new("gpt2", &json!({"model": model}));
        folder.write("tokenizer_config.json", json!({"tokenizer_class": class}).to_string());
        let tokenizer = folder.open(json!({})).unwrap();
        for _ in 0..5 {
            assert_eq!(tokenizer.encode(text).unwrap(), without, "{class}");
        }
    }
}

#[test]
fn files_may_begin_with_a_byte_order_mark() {
    let plain = Folder::new("gpt2", &json!({}));
    let files = [
        ("tokenizer_config.json", json!({"additional_special_tokens": ["<tool>"], "sep_token": null})),
        ("special_tokens_map.json", json!({"bos_token": "<|im_start|>"})),
        ("added_tokens.json", json!({"<other>": 500})),
    ];
    for (name, content) in &files {
        plain.write(name, content.to_string());
    }
    let ids = |folder: &Folder| {
        let tokenizer = folder.open(json!({})).unwrap();
        (tokenizer.bos(), tokenizer.encode("a<tool>b<other>c").unwrap())
    };
    let expected = ids(&plain);
    assert_eq!(expected.0, Some(1));
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"] {
        let path = plain.0.path().join(name);
        let content = fs::read(&path).unwrap();
        fs::write(&path, [b"\xEF\xBB\xBF", &content[..]].concat()).unwrap();
        assert_eq!(ids(&plain), expected, "{name}");
        fs::write(&path, [b"\xFF\xFE", &content[..]].concat()).unwrap();
        let message = plain.open(json!({})).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("UTF-16"), "{message}");
        fs::write(&path, content).unwrap();
    }
}

#[test]
fn what_is_no_token_is_refused_by_name() {
    for (file, content, expected) in [
        ("tokenizer_config.json", json!({"bos_token": 3}), "bos_token is 3; expected a string"),
        ("tokenizer_config.json", json!({"bos_token": {"text": "<s>"}}), "bos_token is {\"text\":\"<s>\"}; expected"),
        ("tokenizer_config.json", json!({"add_bos_token": "yes"}), "add_bos_token is \"yes\"; expected true or false"),
        (
            "tokenizer_config.json",
            json!({"added_tokens_decoder": [1]}),
            "added_tokens_decoder is [1]; expected an object",
        ),
        (
            "tokenizer_config.json",
            json!({"added_tokens_decoder": {"5": "<tool>"}}),
            "added_tokens_decoder.5 is \"<tool>\"; expected an object with a string `content`",
        ),
        (
            "tokenizer_config.json",
            json!({"added_tokens_decoder": {"five": {"content": "<tool>"}}}),
            "added_tokens_decoder: \"five\" is no token id",
        ),
        (
            "tokenizer_config.json",
            json!({"added_tokens_decoder": {"5": {"content": "<tool>", "lstrip": 1}}}),
            "added_tokens_decoder.5.lstrip is 1; expected true or false",
        ),
        (
            "tokenizer_config.json",
            json!({"additional_special_tokens": ["<a>", 4]}),
            "additional_special_tokens[1] is 4; expected a string",
        ),
        (
            "tokenizer_config.json",
            json!({"extra_special_tokens": "<a>"}),
            "extra_special_tokens is \"<a>\"; expected a list",
        ),
        ("tokenizer_config.json", json!([1]), "is [1]; expected a JSON object"),
        ("special_tokens_map.json", json!({"eos_token": false}), "eos_token is false; expected a string"),
        ("added_tokens.json", json!({"<tool>": "x"}), "\"<tool>\" is \"x\"; expected the id of a token"),
    ] {
        let folder = Folder::new("gpt2", &json!({}));
        folder.write(file, content.to_string());
        let error = folder.open(json!({})).unwrap_err();
        assert!(matches!(error, SourceError::Malformed { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(file) && message.contains(expected), "{message}");
    }
}
