//! Checkpoints that are wrong: status 2, one message that names what is at fault, and nothing on disk.

use std::fs;

use serde_json::json;

use crate::tiny::{Tiny, fixtures};
use crate::{refused, refused_without_trace, run_in};

/// What is said of a directory once it was spoilt.
fn refused_model(family: &str, spoil: impl FnOnce(&Tiny)) -> String {
    let tiny = Tiny::new(family);
    let tokens = tiny.tokens(2, 12);
    spoil(&tiny);
    refused_without_trace(&tiny, &["--tokens", &tokens])
}

/// What is said of a tensor of NaN.
fn with_nan(tensor: &str) -> String {
    refused_model("llama", |t| {
        t.replace_weights(|name, data| {
            if name == tensor {
                data.fill(0xff);
            }
            true
        });
    })
}

#[test]
fn directories() {
    let spoilt: Vec<(&str, String)> = vec![
        (
            "without weights",
            refused_model("llama", |t| fs::remove_file(t.model().join("model.safetensors")).expect("gone")),
        ),
        ("without a config", refused_model("llama", |t| fs::remove_file(t.model().join("config.json")).expect("gone"))),
        ("empty weights", refused_model("llama", |t| t.spoil(Vec::clear))),
        ("weights cut off", refused_model("llama", |t| t.spoil(|bytes| bytes.truncate(bytes.len() - 1)))),
        ("header cut off", refused_model("llama", |t| t.spoil(|bytes| bytes.truncate(100)))),
        ("not safetensors", refused_model("llama", |t| t.spoil(|bytes| bytes[..8].fill(0xff)))),
        (
            "beyond the data",
            refused_model("llama", |t| {
                t.spoil_header(|header| header["lm_head.weight"]["data_offsets"] = json!([0, 1_u64 << 40]));
            }),
        ),
        (
            "overlapping",
            refused_model("llama", |t| {
                t.spoil_header(|header| {
                    let other = &header["model.embed_tokens.weight"]["data_offsets"];
                    let shifted = [0, 1].map(|end| other[end].as_u64().expect("an offset") + 32);
                    header["lm_head.weight"]["data_offsets"] = json!(shifted);
                });
            }),
        ),
        (
            "overflowing",
            refused_model("llama", |t| {
                t.spoil_header(|header| header["lm_head.weight"]["shape"] = json!([1_u64 << 40, 1_u64 << 40]));
            }),
        ),
        (
            "a type of tensor",
            refused_model("llama", |t| {
                t.spoil_header(|header| header["lm_head.weight"]["dtype"] = json!("I16"));
            }),
        ),
        (
            "a missing tensor",
            refused_model("llama", |t| {
                t.replace_weights(|name, _| name != "model.layers.1.mlp.up_proj.weight");
            }),
        ),
        ("a shape", refused_model("llama", |t| t.configure(|config| config["intermediate_size"] = json!(25)))),
        ("heads", refused_model("llama", |t| t.configure(|config| config["num_key_value_heads"] = json!(3)))),
        ("a field", refused_model("llama", |t| t.configure(|config| config["hidden_size"] = json!("wide")))),
        (
            "no field",
            refused_model("llama", |t| {
                t.configure(|config| {
                    assert!(config.as_object_mut().is_some_and(|c| c.remove("hidden_size").is_some()));
                });
            }),
        ),
        ("a family", refused_model("llama", |t| t.configure(|config| config["model_type"] = json!("mamba")))),
        (
            "a rope",
            refused_model("llama", |t| {
                t.configure(|config| config["rope_scaling"] = json!({"rope_type": "proportional", "factor": 2.0}));
            }),
        ),
        (
            "a rope of nothing",
            refused_model("llama", |t| {
                t.configure(|config| config["rope_scaling"] = json!({"rope_type": "linear", "factor": 0.0}));
            }),
        ),
        ("layers", refused_model("llama", |t| t.configure(|config| config["num_hidden_layers"] = json!(1_u64 << 40)))),
        ("NaN", with_nan("model.layers.1.self_attn.v_proj.weight")),
        ("NaN in the embedding", with_nan("model.embed_tokens.weight")),
        ("NaN in a gamma", with_nan("model.norm.weight")),
    ];
    let lines: Vec<String> = spoilt.iter().map(|(what, message)| format!("{what}: {message}")).collect();
    insta::assert_snapshot!(lines.concat());
}

/// The place of a tensor's entry in the directory of a GGUF file.
fn entry(bytes: &[u8], tensor: &str) -> Entry {
    let name = [&(tensor.len() as u64).to_le_bytes()[..], tensor.as_bytes()].concat();
    let start = bytes.windows(name.len()).position(|window| window == name).expect(tensor) + name.len();
    let dimensions = u32::from_le_bytes(*bytes[start..].first_chunk().expect("a number")) as usize;
    let dtype = start + 4 + 8 * dimensions;
    Entry { dimensions: start + 4, dtype, offset: dtype + 4 }
}

struct Entry {
    dimensions: usize,
    dtype: usize,
    offset: usize,
}

#[test]
fn gguf_files() {
    const TENSOR: &str = "blk.0.attn_q.weight";
    let sound = fs::read(fixtures().join("gguf/llama.gguf")).expect("a fixture");
    let at = entry(&sound, TENSOR);
    let other = entry(&sound, "blk.0.attn_k.weight");
    let spoil = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        assert_ne!(bytes, sound);
        bytes
    };
    let put = |place: usize, value: &[u8]| spoil(&|bytes| bytes[place..place + value.len()].copy_from_slice(value));
    let spoilt: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("not GGUF", b"hello, this is not a model at all".to_vec()),
        ("big-endian magic", put(0, b"FUGG")),
        ("version", put(4, &1_u32.to_le_bytes())),
        ("cut off in the header", spoil(&|bytes| bytes.truncate(200))),
        ("cut off in the directory", spoil(&|bytes| bytes.truncate(at.offset))),
        ("cut off in the data", spoil(&|bytes| bytes.truncate(bytes.len() - 1))),
        ("beyond the data", put(at.offset, &(1_u64 << 40).to_le_bytes())),
        ("overflowing offset", put(at.offset, &(u64::MAX - 31).to_le_bytes())),
        ("unaligned", spoil(&|bytes| bytes[at.offset] += 1)),
        ("overlapping", put(at.offset, &sound[other.offset..other.offset + 8])),
        ("overflowing shape", put(at.dimensions, &(1_u64 << 62).to_le_bytes())),
        ("unknown type", put(at.dtype, &99_u32.to_le_bytes())),
        ("unsupported type", put(at.dtype, &16_u32.to_le_bytes())),
        ("missing tensor", spoil(&|bytes| bytes[at.dimensions - 4 - 1] = b'X')),
        (
            "unknown family",
            spoil(&|bytes| {
                let family =
                    [&20_u64.to_le_bytes()[..], b"general.architecture", &8_u32.to_le_bytes(), &5_u64.to_le_bytes()]
                        .concat();
                let place =
                    bytes.windows(family.len()).position(|window| window == family).expect("a family") + family.len();
                bytes[place..place + 5].copy_from_slice(b"mamba");
            }),
        ),
    ];
    let mut lines = Vec::new();
    for (what, bytes) in spoilt {
        let tiny = Tiny::new("llama");
        let (model, tokens) = (tiny.write("spoilt.gguf", bytes), tiny.tokens(2, 12));
        let out = tiny.path("out");
        let message = refused(&["anatomy", &model, "--tokens", &tokens, "--out", out.to_str().expect("UTF-8")]);
        assert!(!out.exists(), "{what}");
        lines.push(format!("{what}: {}", message.replace(tiny.path("").to_str().expect("UTF-8"), "")));
    }
    insta::assert_snapshot!(lines.concat());
}

#[test]
fn tokenizers_that_are_needed() {
    let tiny = Tiny::new("llama");
    fs::remove_file(tiny.model().join("tokenizer.json")).expect("gone");
    let missing = refused_without_trace(&tiny, &[]);
    fs::write(tiny.model().join("tokenizer.json"), "{").expect("written");
    let cut_off = refused_without_trace(&tiny, &[]);
    insta::assert_snapshot!(missing + &cut_off);
}

#[test]
fn a_tokeniser_cut_off_anywhere() {
    let tiny = Tiny::new("llama");
    let path = tiny.model().join("tokenizer.json");
    let whole = fs::read_to_string(&path).expect("there").replacen(
        '{',
        "{\"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},",
        1,
    );
    for end in (1..whole.len() - 1).step_by(11) {
        fs::write(&path, &whole[..end]).expect("written");
        let message = refused_without_trace(&tiny, &[]);
        assert!(message.contains("not a tokenizer.json that can be used"), "{end}: {message}");
    }
}

#[test]
fn arithmetic_that_overflows_is_found_out_whatever_was_asked_for() {
    let tiny = Tiny::new("llama");
    let tokens = tiny.tokens(2, 12);
    // Weights of 1e30: the numbers are finite, their products are not.
    tiny.replace_weights(|name, data| {
        if name.ends_with("proj.weight") {
            data.chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&1e30_f32.to_le_bytes()));
        }
        true
    });
    for part in ["lifecycle", "sinks", "nll", "tokens"] {
        let (status, _, stderr) = run_in(&tiny, &["--tokens", &tokens, "--only", part]);
        assert!(status == 1 && stderr.contains("the residual after block 1 is undefined (NaN)"), "{part}: {stderr}");
    }
    assert!(refused(&["census", tiny.model().to_str().expect("UTF-8")]).contains("weights are too large"));
}
