//! A model is either right or refused: every fixture of every family with one thing about it changed.

mod published;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::accounting::Account;
use super::fields::Fields;
use super::hugging_face::{self, Stored};
use crate::architecture::{Architecture, Attention, RopeScaling};
use crate::model::Model;
use sinkscope_sources::checkpoint::Checkpoint;
use sinkscope_sources::tokenizer::Tokenizer;

pub(crate) use published::accepted_configurations;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Files of weights, each with its name and its content.
type Files = Vec<(String, Vec<u8>)>;

/// The configuration and the weights of every Hugging Face fixture, by name.
fn families() -> Vec<(String, Value, Files)> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(fixtures().join("families"))
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    let read = |folder: &Path| {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
            .expect("a fixture")
            .map(|entry| entry.expect("an entry").path())
            .filter(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("model")))
            .filter(|file| file.extension().is_some_and(|extension| extension == "safetensors"))
            .collect();
        files.sort();
        files.iter().map(|file| (file.display().to_string(), std::fs::read(file).expect("weights"))).collect()
    };
    let config = |folder: &Path| {
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).expect("a configuration")).expect("JSON")
    };
    let name = |folder: &Path| folder.file_name().expect("a name").to_string_lossy().into_owned();
    folders.iter().map(|folder| (name(folder), config(folder), read(folder))).collect()
}

/// The tensors of some files in one, and one more.
fn with_tensor(files: &[(String, Vec<u8>)], extra: Option<&str>) -> Vec<u8> {
    let files: Vec<SafeTensors<'_>> =
        files.iter().map(|(_, bytes)| SafeTensors::deserialize(bytes).expect("safetensors")).collect();
    let mut tensors: BTreeMap<String, TensorView<'_>> = BTreeMap::new();
    for file in &files {
        tensors.extend(file.tensors());
    }
    let zeros = [0_u8; 8];
    if let Some(name) = extra {
        let view = TensorView::new(safetensors::Dtype::F32, vec![2], &zeros).expect("two zeros");
        tensors.insert(name.to_owned(), view);
    }
    safetensors::serialize(tensors, None).expect("tensors")
}

fn opened(config: &Value, weights: Vec<u8>) -> Result<Model, String> {
    let checkpoint = Checkpoint::from_memory("m", config.clone(), weights).map_err(|error| error.to_string())?;
    Model::from_checkpoint(checkpoint).map_err(|error| error.to_string())
}

fn refused(what: &str, config: &Value, weights: Vec<u8>, named: &str) {
    match opened(config, weights) {
        Ok(_) => panic!("{what}: not refused"),
        Err(message) => assert!(message.contains(named), "{what}: {message}"),
    }
}

/// The value at a dotted name. A piece may itself hold no dot, as no key that is read does.
fn set(config: &mut Value, name: &str, value: Value) {
    let mut place = config;
    for piece in name.split('.') {
        place = &mut place[piece];
    }
    *place = value;
}

/// The keys that are asked for, by their dotted names.
fn asked(config: &Value) -> Vec<String> {
    let path = Path::new("config.json");
    let fields = Fields::new(config, path).expect("an object");
    let name = config["model_type"].as_str().expect("a family");
    let family = hugging_face::find(name).expect("supported");
    let account = Account::new(path, name, &[]);
    family.check_classes(&fields, &account).expect("a class");
    family.check_code(&fields, &account).expect("no code");
    (family.read)(&fields, &Stored { has: &|_| false }).expect("an architecture");
    fields.read()
}

#[test]
fn every_fixture_accounts_for_what_it_holds() {
    for (name, config, files) in families() {
        let weights = with_tensor(&files, None);
        opened(&config, weights.clone()).unwrap_or_else(|message| panic!("{name}: {message}"));

        let mut unknown = config.clone();
        unknown["xyzzy"] = json!(7);
        refused(&name, &unknown, weights.clone(), "field `xyzzy` is 7");
        refused(&name, &config, with_tensor(&files, Some("model.layers.0.xyzzy")), "tensor model.layers.0.xyzzy");

        let keys = asked(&config);
        assert!(keys.len() >= 12, "{name}: {keys:?}");
        for key in keys.iter().filter(|key| *key != "model_type") {
            let mut wrong = config.clone();
            set(&mut wrong, key, json!([{}]));
            let last = key.rsplit('.').next().expect("a name");
            refused(&format!("{name}: {key}"), &wrong, weights.clone(), &format!("{last}` is [{{}}]"));
        }
    }
}

#[test]
fn what_is_unknown_can_be_let_pass_by_name() {
    let (_, mut config, files) = families().into_iter().find(|(name, ..)| name == "llama").expect("a fixture");
    config["xyzzy"] = json!({"plugh": 1});
    let weights = with_tensor(&files, Some("model.layers.0.self_attn.q_proj.bias"));
    let open = |allowed: &[&str]| {
        let checkpoint = Checkpoint::from_memory("m", config.clone(), weights.clone()).expect("weights");
        let allowed: Vec<String> = allowed.iter().map(|&name| name.to_owned()).collect();
        Model::from_checkpoint_allowing(checkpoint, &allowed)
            .map(|model| model.passed().to_vec())
            .map_err(|error| error.to_string())
    };
    let message = open(&["xyzzy"]).expect_err("a tensor is left");
    assert!(message.contains("model.layers.0.self_attn.q_proj.bias"), "{message}");
    assert!(open(&["*.bias"]).expect_err("a key is left").contains("--allow-unknown xyzzy"));
    let passed = open(&["*.bias", "xyzzy"]).expect("both");
    assert_eq!(passed, ["xyzzy", "model.layers.0.self_attn.q_proj.bias"]);
}

fn architecture(config: &Value) -> Result<Architecture, String> {
    let identified = hugging_face::identify(config, Path::new("config.json"), &Stored { has: &|_| false }, &[]);
    identified.map(|identified| identified.architecture).map_err(|error| error.to_string())
}

fn plain(family: &str) -> Value {
    json!({"model_type": family, "hidden_size": 64, "intermediate_size": 64, "vocab_size": 9, "num_hidden_layers": 2,
        "num_attention_heads": 32, "max_position_embeddings": 64})
}

fn changed(family: &str, change: Value) -> Result<Architecture, String> {
    let mut config = plain(family);
    let (Value::Object(config_object), Value::Object(change)) = (&mut config, change) else { panic!("objects") };
    config_object.extend(change);
    architecture(&config)
}

/// With only what `gemma-3-4b` writes down.
#[test]
fn what_gemma_3_leaves_out() {
    let text = json!({"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
        "num_hidden_layers": 34, "sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}});
    let a = architecture(&json!({"model_type": "gemma3", "text_config": text})).expect("complete");
    let (windowed, full) = (a.attention(4), a.attention(5));
    let sizes = (full.heads, full.kv_heads, full.head_dim, a.vocabulary, a.max_positions);
    assert_eq!(sizes, (8, 4, 256, 262_208, 131_072));
    assert_eq!((full.scale, a.logit_soft_cap, a.tied_embeddings), (1.0 / 16.0, None, true));
    assert_eq!((windowed.window, full.window), (Some(1024), None));
    let of = |attention: &Attention| attention.rope().map(|rope| (rope.theta, rope.scaling.clone()));
    assert_eq!(of(full), Some((1e6, RopeScaling::Linear { factor: 8.0 })));
    assert_eq!(of(windowed), Some((1e4, RopeScaling::None)));
}

#[test]
fn key_value_heads_left_out_or_null() {
    let config = |family: &str, kv_heads: Option<Value>| {
        let change = kv_heads.map_or_else(|| json!({}), |kv_heads| json!({ "num_key_value_heads": kv_heads }));
        changed(family, change).map(|a| (a.attention(0).kv_heads, a.norm_epsilon))
    };
    assert_eq!(config("llama", None), Ok((32, 1e-6)));
    assert_eq!(config("mistral", None), Ok((8, 1e-6)));
    assert_eq!(config("mistral", Some(Value::Null)), Ok((32, 1e-6)));
    assert_eq!(config("gemma2", None), Ok((4, 1e-6)));
    assert_eq!(config("olmo2", Some(json!(16))), Ok((16, 1e-5)));
    assert_eq!(config("phi3", None), Ok((32, 1e-5)));
    let message = config("llama", Some(json!("many"))).expect_err("not a number");
    assert!(message.contains("`num_key_value_heads` is \"many\""), "{message}");
    assert!(config("gemma2", Some(Value::Null)).is_err());
}

/// Settings that would make a model compute something else, in every spelling seen.
#[test]
fn models_that_attend_both_ways_are_refused() {
    for (family, key, value) in [
        ("llama", "is_causal", json!(false)),
        ("gemma3_text", "use_bidirectional_attention", json!(true)),
        ("gemma2", "use_bidirectional_attention", json!(true)),
        ("llama", "architectures", json!(["LlamaBidirectionalModel"])),
        ("llama", "architectures", json!(["BitnetForCausalLM"])),
        ("qwen2", "add_cross_attention", json!(true)),
        ("llama", "quantization_config", json!({"quant_method": "bitsandbytes", "load_in_4bit": true})),
        ("llama", "auto_map", json!({"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"})),
        ("phi3", "attention_bias", json!(true)),
        ("phi3", "full_attn_mod", json!(2)),
        ("gpt2", "scale_attn_by_inverse_layer_idx", json!(true)),
        ("llama", "sliding_window", json!(4096)),
        ("mistral", "partial_rotary_factor", json!(0.5)),
        ("llama", "partial_rotary_factor", json!(0.5)),
        ("mistral", "layer_types", json!(["full_attention", "sliding_attention"])),
        ("qwen2", "layer_types", json!(["full_attention", "sliding_attention"])),
        ("olmo2", "clip_qkv", json!(8.0)),
        ("llama", "rope_theta", Value::Null),
        ("llama", "rms_norm_eps", json!(0)),
        ("llama", "rms_norm_eps", json!(-1e-5)),
        ("gemma2", "query_pre_attn_scalar", json!(0)),
        ("gemma2", "query_pre_attn_scalar", json!(-1)),
        ("gemma2", "final_logit_softcapping", json!(0)),
        ("gemma3_text", "attn_logit_softcapping", json!(50.0)),
        ("llama", "head_dim", json!(0)),
    ] {
        let message = changed(family, json!({ key: value })).expect_err(key);
        // Numbers that only together make no sense are called by what they are.
        let called = match key {
            "rms_norm_eps" => "the norm's epsilon",
            "head_dim" => "the head size",
            "query_pre_attn_scalar" => "the factor on attention scores",
            "final_logit_softcapping" => "a soft cap",
            key => key,
        };
        assert!(message.contains(called), "{family} {key}: {message}");
    }
    let message = changed("llama", json!({"quantization_config": {"quant_method": "gptq"}})).expect_err("quantised");
    assert!(message.contains("gptq"), "{message}");
}

#[test]
fn what_changes_nothing_is_let_pass() {
    for (family, change) in [
        ("llama", json!({"is_causal": true, "architectures": ["LlamaForCausalLM"], "unsloth_version": "2025.3"})),
        ("llama", json!({"rope_scaling": null, "pretraining_tp": 2, "sliding_window": null, "torch_dtype": "float16"})),
        ("llama", json!({"quantization_config": null, "auto_map": {"AutoTokenizer": "own.Tokenizer"}})),
        ("phi3", json!({"auto_map": {"AutoConfig": "microsoft/Phi-3-mini--configuration_phi3.Phi3Config"}})),
        ("mistral", json!({"layer_types": ["sliding_attention", "sliding_attention"], "sliding_window": 8})),
        ("qwen2", json!({"layer_types": ["full_attention", "full_attention"], "use_sliding_window": false})),
        ("gemma2", json!({"hidden_act": "gelu_pytorch_tanh", "layer_types": null})),
    ] {
        changed(family, change).unwrap_or_else(|message| panic!("{family}: {message}"));
    }
}

#[test]
fn rope_scaling_in_one_form_or_the_other() {
    let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32});
    let scaling = |family: &str, change: Value| {
        changed(family, change).map(|a| {
            let rope = a.attention(0).rope().expect("rotary");
            (rope.theta, rope.scaling.clone())
        })
    };
    let expected = RopeScaling::Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        original_positions: 32,
        magnitude: 0.1 * 4_f64.ln() + 1.0,
    };
    assert_eq!(scaling("qwen3", json!({"rope_scaling": yarn, "rope_theta": 1e6})), Ok((1e6, expected.clone())));
    let mut parameters = yarn.clone();
    parameters["rope_theta"] = json!(1e6);
    assert_eq!(scaling("qwen3", json!({ "rope_parameters": parameters })), Ok((1e6, expected)));
    let dynamic = RopeScaling::Dynamic { factor: 2.0, original_positions: 64 };
    let typed = json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "num_attention_heads": 16});
    assert_eq!(scaling("llama", typed), Ok((1e4, dynamic)));
    // Not before both are known to be one: which is meant, nobody can tell.
    for (family, change, named) in [
        ("llama", json!({"rope_scaling": yarn, "rope_parameters": parameters}), "rope_scaling"),
        ("llama", json!({"rope_parameters": parameters, "rope_theta": 1e4}), "rope_parameters.rope_theta"),
        ("llama", json!({"rope_parameters": {"full_attention": parameters}}), "rope_parameters.full_attention"),
        ("qwen3", json!({"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2.0}}), "rope_scaling.type"),
        ("qwen3", json!({"rope_scaling": {"type": "mrope", "mrope_section": [1]}}), "mrope"),
        ("llama", json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.factor"),
        (
            "llama",
            json!({"rope_scaling": {"type": "yarn", "original_max_position_embeddings": 32}}),
            "rope_scaling.factor",
        ),
        ("llama", json!({"rope_scaling": {"type": "linear", "factor": "2"}}), "rope_scaling.factor"),
        ("llama", json!({"rope_scaling": {"type": "linear", "factor": 0}}), "rope scaling holds 0"),
        ("llama", json!({"rope_scaling": {"type": "linear", "factor": 2, "xyzzy": 1}}), "rope_scaling.xyzzy"),
        ("llama", json!({"rope_scaling": "linear"}), "rope_scaling"),
        ("gemma3_text", json!({"rope_scaling": {"type": "linear", "factor": 8.0}, "hidden_size": 64}), "rope_type"),
        ("gemma3_text", json!({"rope_parameters": {"rope_type": "linear", "factor": 8.0}}), "rope_parameters.factor"),
        ("phi3", json!({"rope_scaling": {"type": "linear", "factor": 8.0}}), "rope_scaling"),
    ] {
        let message = changed(family, change.clone()).expect_err(named);
        assert!(message.contains(named), "{change}: {message}");
    }
}

#[test]
fn other_families_are_called_what_they_are() {
    let mixture = architecture(&json!({"model_type": "mixtral", "num_local_experts": 8})).expect_err("a mixture");
    assert!(mixture.contains("family `mixtral`, a mixture of experts, is not supported"), "{mixture}");
    let other = architecture(&json!({"model_type": "mamba"})).expect_err("another family");
    assert!(other.contains("family `mamba` is not supported; supported: llama, mistral"), "{other}");
}

#[test]
fn whoever_judges_texts_has_no_head_and_a_bare_model_has_its_tied_embedding() {
    let (_, mut config, files) = families().into_iter().find(|(name, ..)| name == "smollm").expect("a tied fixture");
    for (class, has_head) in
        [("LlamaForCausalLM", true), ("LlamaModel", true), ("LlamaForSequenceClassification", false)]
    {
        config["architectures"] = json!([class]);
        let model = opened(&config, with_tensor(&files, Some("score.weight"))).expect(class);
        assert_eq!(model.has_head(), has_head, "{class}");
        assert_eq!(model.head::<f32>(0..1).is_ok(), has_head, "{class}");
    }
}

#[test]
fn the_built_in_model_and_its_tokeniser_have_the_same_vocabulary() {
    let model = Model::open(sinkscope_sources::checkpoint::DEMO).expect("whole");
    let checkpoint = model.checkpoint();
    let tokenizer =
        Tokenizer::from_metadata(checkpoint.metadata(), checkpoint.path()).expect("whole").expect("it has one");
    assert_eq!(tokenizer.vocabulary_size(), model.architecture().vocabulary);
}
