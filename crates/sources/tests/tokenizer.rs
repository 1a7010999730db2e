//! Tokenisers against the ids that the Python libraries give (`scripts/make_tokenizer_fixtures.py`).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sinkscope_sources::SourceError;
use sinkscope_sources::checkpoint::{GgufMetadata, GgufValue, Metadata};
use sinkscope_sources::tokenizer::Tokenizer;

const BYTE_LEVEL: [&str; 4] = ["gpt2", "llama3", "qwen2", "smollm"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers").join(name)
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn gguf_value(value: &Value) -> GgufValue {
    match value {
        Value::String(text) => GgufValue::Text(text.clone()),
        Value::Bool(flag) => GgufValue::Bool(*flag),
        Value::Number(number) => GgufValue::Unsigned(number.as_u64().unwrap()),
        Value::Array(items) if items[0].is_string() => {
            GgufValue::Texts(items.iter().map(|item| item.as_str().unwrap().to_owned()).collect())
        }
        Value::Array(items) if items.iter().all(Value::is_i64) => {
            GgufValue::Integers(items.iter().map(|item| item.as_i64().unwrap()).collect())
        }
        Value::Array(items) => GgufValue::Floats(items.iter().map(|item| item.as_f64().unwrap()).collect()),
        other => unreachable!("no GGUF value for {other}"),
    }
}

fn gguf_keys(name: &str) -> BTreeMap<String, GgufValue> {
    let keys = json_file(&fixture(name).join("gguf.json"));
    keys.as_object().unwrap().iter().map(|(key, value)| (key.clone(), gguf_value(value))).collect()
}

fn from_keys(keys: BTreeMap<String, GgufValue>) -> Result<Option<Tokenizer>, SourceError> {
    Tokenizer::from_metadata(&Metadata::Gguf(GgufMetadata(keys)), Path::new("model.gguf"))
}

fn gguf(name: &str) -> Tokenizer {
    from_keys(gguf_keys(name)).unwrap().unwrap()
}

fn from_folder(folder: &Path, config: Value) -> Result<Option<Tokenizer>, SourceError> {
    Tokenizer::from_metadata(&Metadata::HuggingFace { folder: folder.to_owned(), config }, folder)
}

fn folder(name: &str) -> Tokenizer {
    from_folder(&fixture(name), json!({})).unwrap().unwrap()
}

fn check(tokenizer: &Tokenizer, expected: &Path) {
    let cases = json_file(expected);
    for case in cases.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u32> = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let found = tokenizer.encode(text).unwrap();
        let shown = |ids: &[u32]| ids.iter().map(|&id| tokenizer.decode_token(id)).collect::<Vec<_>>();
        assert_eq!(found, ids, "{text:?} in {}: {:?} and {:?}", expected.display(), shown(&found), shown(&ids));
    }
}

#[test]
fn tokenizer_json_gives_the_expected_ids() {
    for name in BYTE_LEVEL {
        check(&folder(name), &fixture(name).join("expected.json"));
    }
}

#[test]
fn gguf_keys_give_the_expected_ids() {
    for name in BYTE_LEVEL {
        check(&gguf(name), &fixture(name).join("expected.json"));
    }
}

#[test]
fn gguf_pieces_give_the_ids_of_sentencepiece() {
    for name in ["sentencepiece", "sentencepiece-unknown"] {
        check(&gguf(name), &fixture(name).join("expected.json"));
    }
    check(&gguf("sentencepiece"), &fixture("sentencepiece").join("special.json"));
}

#[test]
fn pieces_in_a_tokenizer_json_give_the_ids_of_transformers() {
    let tokenizer = folder("sentencepiece");
    check(&tokenizer, &fixture("sentencepiece").join("folder.json"));
    let pieces = gguf("sentencepiece");
    assert_eq!(tokenizer.vocabulary_size(), pieces.vocabulary_size());
    for id in 0..pieces.vocabulary_size() as u32 {
        assert_eq!(tokenizer.decode_token(id), pieces.decode_token(id));
    }
}

#[test]
fn every_mechanism_matters() {
    // What differs between two pre-tokenisers is seen by the expected ids, so a wrong choice cannot pass.
    for name in BYTE_LEVEL {
        for pre in ["gpt-2", "llama-bpe", "dbrx", "qwen2", "deepseek-r1-qwen", "smollm"] {
            let mut keys = gguf_keys(name);
            let own = keys.insert("tokenizer.ggml.pre".into(), GgufValue::Text(pre.into())).unwrap();
            if own == GgufValue::Text(pre.into()) {
                continue;
            }
            let tokenizer = from_keys(keys).unwrap().unwrap();
            let cases = json_file(&fixture(name).join("expected.json"));
            let agree = cases.as_array().unwrap().iter().all(|case| {
                let ids = tokenizer.encode(case["text"].as_str().unwrap()).unwrap();
                json!(ids) == case["ids"]
            });
            assert!(!agree, "{name} encoded with {pre} gives the same ids");
        }
    }
}

#[test]
fn long_runs_of_one_character_are_encoded() {
    for tokenizer in BYTE_LEVEL.map(gguf).into_iter().chain([gguf("sentencepiece")]) {
        for filler in [" ", "\n", "a", "7", "!"] {
            let text = format!("{}b", filler.repeat(100_000));
            let ids = tokenizer.encode(&text).unwrap();
            let shown: String = ids.iter().map(|&id| tokenizer.decode_token(id)).collect();
            assert_eq!(shown.trim_start_matches(' '), text.trim_start_matches(' '));
        }
    }
}

#[test]
fn tokens_are_shown_as_text() {
    for tokenizer in [gguf("gpt2"), folder("gpt2")] {
        let shown = |text: &str| -> Vec<String> {
            tokenizer.encode(text).unwrap().into_iter().map(|id| tokenizer.decode_token(id)).collect()
        };
        assert_eq!(shown(" the"), [" the"]);
        assert_eq!(shown("<|im_start|>"), ["<|im_start|>"]);
        assert_eq!(shown("<think>"), ["<think>"]);
        assert_eq!(shown("\n"), ["\n"]);
        assert_eq!(shown("\u{2603}").concat(), r"\xE2\x98\x83");
        assert_eq!(tokenizer.decode_token(4_000_000), "<id 4000000>");
    }
    let pieces = gguf("sentencepiece");
    let shown = |text: &str| -> Vec<String> {
        pieces.encode(text).unwrap().into_iter().map(|id| pieces.decode_token(id)).collect()
    };
    assert_eq!(shown("the"), [" the"]);
    assert_eq!(shown("a\nb").concat(), " a\nb");
    assert_eq!(shown("\u{2603}"), [" ", r"\xE2", r"\x98", r"\x83"]);
}

#[test]
fn both_ways_agree_on_the_vocabulary() {
    for name in BYTE_LEVEL {
        let (gguf, folder) = (gguf(name), folder(name));
        assert_eq!(gguf.vocabulary_size(), folder.vocabulary_size());
        for id in 0..gguf.vocabulary_size() as u32 {
            assert_eq!(gguf.decode_token(id), folder.decode_token(id));
        }
    }
}

#[test]
fn bos_of_a_gguf_file() {
    assert_eq!((gguf("llama3").bos(), gguf("llama3").adds_bos()), (Some(0), true));
    assert_eq!((gguf("gpt2").bos(), gguf("gpt2").adds_bos()), (Some(0), false));
    assert_eq!((gguf("sentencepiece").bos(), gguf("sentencepiece").adds_bos()), (Some(1), true));
    for (name, flag) in [("llama3", false), ("gpt2", true), ("sentencepiece", false)] {
        let mut keys = gguf_keys(name);
        keys.insert("tokenizer.ggml.add_bos_token".into(), GgufValue::Bool(flag));
        assert_eq!(from_keys(keys.clone()).unwrap().unwrap().adds_bos(), flag);
        keys.remove("tokenizer.ggml.bos_token_id");
        let tokenizer = from_keys(keys).unwrap().unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (None, false));
    }
}

#[test]
fn a_checkpoint_without_a_tokeniser_has_none() {
    let empty = tempfile::tempdir().unwrap();
    assert!(from_folder(empty.path(), json!({})).unwrap().is_none());
    assert!(from_keys(BTreeMap::new()).unwrap().is_none());
}

#[test]
fn what_is_not_supported_is_named() {
    for (key, value) in [
        ("tokenizer.ggml.model", "t5"),
        ("tokenizer.ggml.model", "bert"),
        ("tokenizer.ggml.model", "rwkv"),
        ("tokenizer.ggml.pre", "tekken"),
    ] {
        let mut keys = gguf_keys("gpt2");
        keys.insert(key.into(), GgufValue::Text(value.into()));
        let error = from_keys(keys).unwrap_err();
        assert!(matches!(error, SourceError::Unsupported { .. }), "{error}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("model.gguf: {key} is {value},")), "{message}");
        assert!(message.contains("supported are"), "{message}");
    }
}

#[test]
fn what_contradicts_itself_is_named() {
    let texts = |items: &[&str]| GgufValue::Texts(items.iter().map(|&item| item.to_owned()).collect());
    let cases: [(&str, Option<GgufValue>, &str); 8] = [
        ("tokenizer.ggml.tokens", None, "tokenizer.ggml.tokens is missing"),
        ("tokenizer.ggml.tokens", Some(GgufValue::Unsigned(3)), "tokenizer.ggml.tokens is missing or is not a list"),
        ("tokenizer.ggml.merges", None, "tokenizer.ggml.merges is missing"),
        ("tokenizer.ggml.merges", Some(texts(&["i n", "th"])), "entry 1 is \"th\", not two tokens"),
        ("tokenizer.ggml.merges", Some(texts(&["q z"])), "entry 0 (\"q z\") needs the token \"qz\""),
        ("tokenizer.ggml.token_type", Some(GgufValue::Integers(vec![1])), "tokenizer.ggml.token_type has 1 entries"),
        ("tokenizer.ggml.scores", Some(GgufValue::Floats(vec![0.0])), "tokenizer.ggml.scores has 1 entries"),
        ("tokenizer.ggml.bos_token_id", Some(GgufValue::Unsigned(9999)), "tokenizer.ggml.bos_token_id is 9999"),
    ];
    for (key, value, message) in cases {
        let mut keys = gguf_keys("gpt2");
        match value {
            Some(value) => keys.insert(key.into(), value),
            None => keys.remove(key),
        };
        let error = from_keys(keys).unwrap_err();
        assert!(matches!(error, SourceError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), "{\"model\": 3}").unwrap();
    let error = from_folder(folder.path(), json!({})).unwrap_err();
    assert!(matches!(error, SourceError::Malformed { .. }), "{error}");
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}

#[test]
fn text_that_no_token_can_write_is_an_error() {
    let mut keys = gguf_keys("sentencepiece-unknown");
    keys.remove("tokenizer.ggml.unknown_token_id");
    keys.remove("tokenizer.ggml.token_type");
    let error = from_keys(keys).unwrap().unwrap().encode("a \u{2603}").unwrap_err();
    assert!(error.to_string().contains("no token for '\u{2603}'"), "{error}");
}
