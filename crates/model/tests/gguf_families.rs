//! Every key and every tensor of a GGUF model counts: what is not understood is refused by name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use sinkscope_model::architecture::{Architecture, Rope, RopeScaling};
use sinkscope_model::{Model, ModelError};
use sinkscope_sources::checkpoint::{Checkpoint, GgufValue, Metadata, Tensor};

#[path = "../../sources/tests/checkpoint/write.rs"]
#[allow(dead_code, reason = "shared with the tests of sources")]
mod write;

use self::write::{Gguf, f32_bytes, text};

const FAMILIES: [&str; 7] = ["llama", "qwen2", "qwen3", "phi3", "gemma2", "gemma3", "gpt2"];

/// A fixture whose keys and tensors can be changed.
#[derive(Clone)]
struct File {
    family: String,
    keys: BTreeMap<String, GgufValue>,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl File {
    fn read(name: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gguf");
        let checkpoint = Checkpoint::open_path(format!("{folder}/{name}.gguf").as_ref()).expect(name);
        let Metadata::Gguf(metadata) = checkpoint.metadata() else { panic!("{name} is a GGUF file") };
        let tensor =
            |tensor: &Tensor| (tensor.name().to_owned(), (tensor.shape().to_vec(), tensor.decode().expect("finite")));
        let family = metadata.text("general.architecture").expect("named").to_owned();
        Self { family, keys: metadata.0.clone(), tensors: checkpoint.tensors().map(tensor).collect() }
    }

    /// With a key of the architecture.
    fn with(mut self, key: &str, value: GgufValue) -> Self {
        self.keys.insert(format!("{}.{key}", self.family), value);
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.keys.remove(&format!("{}.{key}", self.family));
        self
    }

    fn with_tensor(mut self, name: &str, shape: &[usize]) -> Self {
        self.tensors.insert(name.to_owned(), (shape.to_vec(), vec![0.5; shape.iter().product()]));
        self
    }

    fn open(&self) -> Result<Architecture, ModelError> {
        Ok(self.model(&[])?.architecture().clone())
    }

    fn model(&self, allowed: &[String]) -> Result<Model, ModelError> {
        let mut file = Gguf::new();
        for (key, value) in &self.keys {
            let (kind, bytes) = encoded(value);
            file = file.pair(key, kind, &bytes);
        }
        for (name, (shape, values)) in &self.tensors {
            let dims: Vec<u64> = shape.iter().rev().map(|&dim| dim as u64).collect();
            file = file.tensor(name, &dims, 0, &f32_bytes(values));
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = file.write(folder.path());
        Model::from_checkpoint_allowing(Checkpoint::open_path(&path)?, allowed)
    }

    /// Asserts that the file is refused with a message that holds all of `parts`, and the file's name.
    fn refused(&self, parts: &[&str]) {
        let message = match self.open() {
            Ok(_) => panic!("{} is not refused for {parts:?}", self.family),
            Err(error) => error.to_string(),
        };
        for part in ["model.gguf"].iter().chain(parts) {
            assert!(message.contains(part), "{part:?} not in {message:?}");
        }
    }
}

/// The number of a value's type, and its bytes.
fn encoded(value: &GgufValue) -> (u32, Vec<u8>) {
    let array = |kind: u32, len: usize, items: Vec<u8>| {
        (9, [&kind.to_le_bytes()[..], &(len as u64).to_le_bytes(), &items].concat())
    };
    match value {
        GgufValue::Unsigned(v) => (10, v.to_le_bytes().to_vec()),
        GgufValue::Signed(v) => (11, v.to_le_bytes().to_vec()),
        GgufValue::Float(v) => (6, (*v as f32).to_le_bytes().to_vec()),
        GgufValue::Bool(v) => (7, vec![u8::from(*v)]),
        GgufValue::Text(v) => (8, text(v)),
        GgufValue::Integers(v) => array(11, v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        GgufValue::Floats(v) => array(12, v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        GgufValue::Bools(v) => array(7, v.len(), v.iter().map(|&v| u8::from(v)).collect()),
        GgufValue::Texts(v) => array(8, v.len(), v.iter().flat_map(|v| text(v)).collect()),
    }
}

fn number(value: u64) -> GgufValue {
    GgufValue::Unsigned(value)
}

fn word(value: &str) -> GgufValue {
    GgufValue::Text(value.to_owned())
}

/// Sizes that every family reads.
const SIZES: [&str; 6] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
];
/// Sizes that may be left out.
const OPTIONAL_SIZES: [&str; 3] = ["attention.key_length", "attention.value_length", "vocab_size"];
const ROTARY_SIZES: [&str; 2] = ["rope.dimension_count", "rope.scaling.original_context_length"];
const ROTARY_NUMBERS: [&str; 6] = [
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.factor",
    "rope.scale_linear",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
];
const WINDOW: &str = "attention.sliding_window";
const PATTERN: &str = "attention.sliding_window_pattern";

fn sizes_of(family: &str) -> Vec<&'static str> {
    let mut sizes = [&SIZES[..], &OPTIONAL_SIZES].concat();
    match family {
        "gpt2" => {}
        "gemma2" => sizes.extend([&ROTARY_SIZES[..], &[WINDOW, PATTERN]].concat()),
        "gemma3" => sizes.extend([&ROTARY_SIZES[..], &[PATTERN]].concat()),
        _ => sizes.extend(ROTARY_SIZES),
    }
    sizes
}

fn numbers_of(family: &str) -> Vec<&'static str> {
    match family {
        "gpt2" => vec!["attention.layer_norm_epsilon"],
        "gemma2" => {
            let caps = ["attn_logit_softcapping", "final_logit_softcapping"];
            [&ROTARY_NUMBERS[..], &caps, &["attention.layer_norm_rms_epsilon"]].concat()
        }
        "gemma3" => [&ROTARY_NUMBERS[..], &["final_logit_softcapping", "attention.layer_norm_rms_epsilon"]].concat(),
        _ => [&ROTARY_NUMBERS[..], &["attention.layer_norm_rms_epsilon"]].concat(),
    }
}

fn named(file: &File, key: &str) -> String {
    format!("`{}.{key}`", file.family)
}

#[test]
fn fixtures_written_anew_are_the_same_models() {
    for family in FAMILIES {
        let file = File::read(family);
        assert_eq!(file.open().expect(family).family, family);
        let mut inert = file
            .with("attention.causal", GgufValue::Bool(true))
            .with("expert_count", number(0))
            .with("use_parallel_residual", GgufValue::Bool(false))
            .with("pooling_type", number(0));
        inert.keys.insert("general.anything".to_owned(), number(3));
        inert.keys.insert("mradermacher.quantized_by".to_owned(), word("somebody"));
        inert.keys.insert("quantize.imatrix.entries_count".to_owned(), GgufValue::Signed(9));
        assert_eq!(inert.open().expect(family), File::read(family).open().expect(family));
    }
}

#[test]
fn an_unknown_key_is_refused_by_name_and_value() {
    for family in FAMILIES {
        let file = File::read(family);
        let key = format!("`{family}.some_new.mechanism`");
        file.clone().with("some_new.mechanism", number(37)).refused(&[&key, "37"]);
        let mut foreign = file.clone();
        foreign.keys.insert("xielu.alpha_p".to_owned(), GgufValue::Floats(vec![0.5, 0.25]));
        foreign.refused(&["`xielu.alpha_p`", "0.25]"]);
        let mut other = file;
        other.keys.insert("bert.block_count".to_owned(), number(2));
        other.refused(&["`bert.block_count`"]);
    }
}

#[test]
fn an_unknown_tensor_is_refused_by_name() {
    for family in FAMILIES {
        let file = File::read(family);
        let layers = file.open().expect(family).layer_count();
        let beyond = format!("blk.{layers}.attn_q.weight");
        let names = [
            "surprise.weight",
            "blk.0.surprise.weight",
            "blk.0.attn_sub_norm.weight",
            "blk.0.attn_q.scale",
            "blk.0.ffn_gate_inp.weight",
            "blk.1.ffn_down_exps.weight",
            "token_embd.bias",
            "blk.0.attn_sinks.weight",
            &beyond,
        ];
        for name in names {
            file.clone().with_tensor(name, &[4]).refused(&[&format!("tensor {name}:")]);
        }
        file.clone().with_tensor("blk.0.ffn_gate_inp.weight", &[4, 4]).refused(&["mixture of experts"]);
        file.clone().with_tensor("blk.0.ffn_up.7.weight", &[4, 4]).refused(&["mixture of experts"]);
        file.clone().with_tensor(&beyond, &[4]).refused(&[&format!("key `{family}.block_count` is {layers}")]);
        let norms = ["output_norm.bias", "blk.0.attn_norm.bias", "blk.1.ffn_norm.bias"];
        for name in norms.iter().filter(|_| family != "gpt2") {
            let width = file.open().expect(family).d_model;
            file.clone().with_tensor(name, &[width]).refused(&[&format!("tensor {name}:")]);
        }
        if family != "llama" && family != "gpt2" {
            let width = file.open().expect(family).d_model;
            let bias = "blk.0.ffn_down.bias";
            file.clone().with_tensor(bias, &[width]).refused(&[&format!("tensor {bias}:")]);
        }
        if family != "llama" {
            file.clone().with_tensor("rope_freqs.weight", &[4]).refused(&["tensor rope_freqs.weight"]);
        }
        file.with_tensor("blk.0.attn_rot_embd.weight", &[4]).open().expect("a known leftover");
    }
}

#[test]
fn a_size_of_another_type_or_without_sense_is_refused_by_name_and_value() {
    for family in FAMILIES {
        let file = File::read(family);
        for key in sizes_of(family) {
            let key_name = named(&file, key);
            let wrong = [
                (word("two"), "\"two\""),
                (GgufValue::Float(2.5), "2.5"),
                (GgufValue::Bool(true), "true"),
                (GgufValue::Signed(-2), "-2"),
                (number(0), "0"),
                (GgufValue::Floats(vec![2.0]), "[2.0]"),
            ];
            for (value, shown) in wrong {
                file.clone().with(key, value).refused(&[&format!("{key_name} is {shown}")]);
            }
        }
    }
}

#[test]
fn a_number_of_another_type_or_without_sense_is_refused_by_name_and_value() {
    for family in FAMILIES {
        let file = File::read(family);
        for key in numbers_of(family) {
            let key_name = named(&file, key);
            let wrong = [
                (word("0.5"), "\"0.5\""),
                (GgufValue::Bool(true), "true"),
                (GgufValue::Float(0.0), "0"),
                (GgufValue::Float(-1.0), "-1"),
                (GgufValue::Float(f64::NAN), "NaN"),
                (GgufValue::Float(f64::INFINITY), "inf"),
                (GgufValue::Integers(vec![1]), "[1]"),
            ];
            for (value, shown) in wrong {
                file.clone().with(key, value).refused(&[&format!("{key_name} is {shown}")]);
            }
        }
    }
}

#[test]
fn keys_that_may_have_one_value_are_refused_with_another() {
    let cases: [(&str, GgufValue, &str); 26] = [
        ("attention.causal", GgufValue::Bool(false), "attends both ways"),
        ("attention.causal", number(1), "attends both ways"),
        ("pooling_type", number(1), "attend both ways"),
        ("pooling_type", word("mean"), "\"mean\""),
        ("use_parallel_residual", GgufValue::Bool(true), "same residual"),
        ("expert_count", number(8), "mixture of experts"),
        ("expert_count", word("8"), "mixture of experts"),
        ("expert_used_count", number(2), "mixture of experts"),
        ("nextn_predict_layers", number(1), "ahead"),
        ("attention.clamp_kqv", GgufValue::Float(8.0), "bound"),
        ("attention.max_alibi_bias", GgufValue::Float(8.0), "distance"),
        ("attention.scale", GgufValue::Float(0.9), "width of heads"),
        ("attention.scale", GgufValue::Float(0.0), "width of heads"),
        ("attention.scale", GgufValue::Float(f64::NAN), "NaN"),
        ("logit_scale", GgufValue::Float(0.5), "logits"),
        ("residual_scale", GgufValue::Float(0.5), "blocks add"),
        ("embedding_scale", GgufValue::Float(0.5), "embedding"),
        ("embedding_scale", word("1"), "embedding"),
        ("attention.key_length", number(6), "attention.value_length"),
        ("attention.value_length", number(6), "width of keys"),
        ("attention.key_length_swa", number(6), "one width"),
        ("vocab_size", number(31), "token_embd.weight"),
        ("vocab_size", number(33), "token_embd.weight"),
        ("tensor_data_layout", word("reference"), "orders of rows"),
        ("attention.head_count_kv", number(3), "a divisor of the"),
        ("rope.scaling.alpha", GgufValue::Float(1000.0), "1000"),
    ];
    for family in FAMILIES {
        for (key, value, part) in &cases {
            let file =
                File::read(family).with("attention.value_length", number(8)).with("attention.key_length", number(8));
            let key_name = named(&file, key);
            file.with(key, value.clone()).refused(&[key_name.trim_matches('`'), part]);
        }
    }
    for (key, value) in [("rope.scaling.finetuned", number(1)), ("attention.layer_norm_epsilon", word("tiny"))] {
        File::read("llama").with(key, value).refused(&[&format!("`llama.{key}`")]);
    }
    File::read("llama").with("tensor_data_layout", word("Meta AI original pth")).open().expect("the usual layout");
}

#[test]
fn what_a_family_needs_is_missed_by_name() {
    for family in FAMILIES {
        let file = File::read(family);
        let epsilon =
            if family == "gpt2" { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
        let needed =
            ["block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"];
        for key in needed.into_iter().chain([epsilon]) {
            file.clone().without(key).refused(&[&format!("key {} is missing", named(&file, key))]);
        }
        let more = file.clone().with("block_count", number(file.open().expect(family).layer_count() as u64 + 1));
        more.refused(&["tensor blk.", "is missing"]);
        file.with(epsilon, number(5)).refused(&[&format!("`{family}.{epsilon}` is 5"), "between 0 and 1"]);
    }
    File::read("gemma3").without("rope.freq_base").refused(&["key `gemma3.rope.freq_base` is missing"]);
}

#[test]
fn a_list_of_one_number_for_all_layers_means_the_number() {
    for family in FAMILIES {
        let file = File::read(family);
        let plain = file.open().expect(family);
        let layers = plain.layer_count();
        let sizes = [
            ("attention.head_count", plain.attention(0).heads),
            ("attention.head_count_kv", plain.attention(0).kv_heads),
            ("feed_forward_length", plain.layer(0).feed_forward.dense().expect("dense").hidden),
        ];
        for (key, size) in sizes {
            let key_name = format!("{family}.{key}");
            let list = |change: &dyn Fn(&mut Vec<i64>)| {
                let mut list = vec![size as i64; layers];
                change(&mut list);
                file.clone().with(key, GgufValue::Integers(list))
            };
            assert_eq!(list(&|_| ()).open().expect(family), plain, "{key_name}");
            list(&|list| list[1] = 1).refused(&[&key_name, "differs between layers", "in layer 1"]);
            list(&|list| list.push(size as i64)).refused(&[&key_name, "entries for"]);
            list(&Vec::clear).refused(&[&key_name, "0 entries"]);
            list(&|list| list.fill(0)).refused(&[&key_name, "is [0"]);
            list(&|list| list.fill(-4)).refused(&[&key_name, "is [-4"]);
        }
    }
}

/// The rope of the layers that see everything.
fn rope(a: &Architecture) -> &Rope {
    let full = a.layers().find(|layer| layer.mixer.attention().window.is_none()).unwrap_or(a.layer(0));
    full.mixer.attention().rope().expect("rotary")
}

fn scaling(file: &File) -> RopeScaling {
    rope(&file.open().expect("sound")).scaling.clone()
}

#[test]
fn linear_scaling_needs_no_type_and_has_an_old_key() {
    let file = File::read("llama");
    let eight = GgufValue::Float(8.0);
    let linear = RopeScaling::Linear { factor: 8.0 };
    assert_eq!(scaling(&file.clone().with("rope.scaling.factor", eight.clone())), linear);
    assert_eq!(scaling(&file.clone().with("rope.scale_linear", eight.clone())), linear);
    let both = file.clone().with("rope.scaling.factor", eight.clone()).with("rope.scale_linear", eight.clone());
    assert_eq!(scaling(&both.clone().with("rope.scaling.type", word("linear"))), linear);
    both.with("rope.scale_linear", GgufValue::Float(4.0)).refused(&[
        "given twice",
        "llama.rope.scaling.factor` is 8",
        "llama.rope.scale_linear` is 4",
    ]);
    let one = file.clone().with("rope.scaling.factor", GgufValue::Float(1.0));
    assert_eq!(scaling(&one.with("rope.scaling.type", word("none"))), RopeScaling::None);
    let none = file.clone().with("rope.scaling.type", word("none")).with("rope.scaling.factor", eight.clone());
    none.refused(&["llama.rope.scaling.type` is \"none\"", "llama.rope.scaling.factor` is 8"]);
    for key in ["rope.scaling.factor", "rope.scale_linear"] {
        let twice = File::read("llama3").with(key, eight.clone());
        twice.refused(&["given twice", "rope_freqs.weight"]);
    }
    for (kind, part) in [("dynamic", "\"dynamic\""), ("longrope", "\"longrope\""), ("yarn", "factor` is missing")] {
        file.clone().with("rope.scaling.type", word(kind)).refused(&["llama.rope.scaling.", part]);
    }
    file.clone().with("rope.scaling.type", number(2)).refused(&["`llama.rope.scaling.type` is 2"]);
    file.with("rope.scaling.attn_factor", GgufValue::Float(1.19)).refused(&["llama.rope.scaling.attn_factor` is 1.19"]);
}

#[test]
fn yarn_is_read_with_its_ramp_and_its_magnitude() {
    let file = File::read("llama_yarn");
    let stretch = 0.1 * 4_f64.ln() + 1.0;
    let yarn = |beta_fast, beta_slow, original_positions, magnitude| RopeScaling::Yarn {
        factor: 4.0,
        beta_fast,
        beta_slow,
        truncate: true,
        original_positions,
        magnitude,
    };
    assert_eq!(scaling(&file), yarn(32.0, 1.0, 32, stretch));
    let without = file.clone().without("rope.scaling.original_context_length");
    assert_eq!(scaling(&without), yarn(32.0, 1.0, 64, stretch), "the context's length stands for it");
    let ramp = file.clone().with("rope.scaling.yarn_beta_fast", GgufValue::Float(16.0));
    let ramp = ramp.with("rope.scaling.yarn_beta_slow", GgufValue::Float(2.0));
    assert_eq!(scaling(&ramp), yarn(16.0, 2.0, 32, stretch));
    let stronger = file.clone().with("rope.scaling.attn_factor", GgufValue::Float(0.5));
    assert_eq!(scaling(&stronger), yarn(32.0, 1.0, 32, 0.5 * stretch));
    let said = file.clone().with("rope.scaling.yarn_attn_factor", GgufValue::Float(stretch));
    assert_eq!(scaling(&said.with("rope.scaling.yarn_ext_factor", GgufValue::Float(1.0))), scaling(&file));
    let refused = [
        ("rope.scaling.yarn_attn_factor", GgufValue::Float(1.0)),
        ("rope.scaling.yarn_ext_factor", GgufValue::Float(0.5)),
        ("rope.scaling.yarn_log_multiplier", GgufValue::Float(0.1)),
    ];
    for (key, value) in refused {
        file.clone().with(key, value).refused(&[&format!("`llama.{key}` is ")]);
    }
    let gemma = File::read("gemma3").with("rope.scaling.type", word("yarn"));
    gemma.refused(&["`gemma3.rope.scaling.type` is \"yarn\"", "except in gemma3"]);
    let low = file.with("rope.scaling.yarn_beta_fast", GgufValue::Float(0.5));
    low.refused(&["beta_fast, 0.5", "beta_slow, 1"]);
}

#[test]
fn part_of_a_head_rotates_only_where_rows_are_not_interleaved() {
    let half = |family: &str| File::read(family).with("rope.dimension_count", number(4));
    half("llama").refused(&["key `llama.rope.dimension_count` is 4", "interleave"]);
    assert_eq!(rope(&half("qwen3").open().expect("qwen3")).rotary_dim, 4);
    for family in ["llama", "qwen2", "gemma3"] {
        for width in [10, 3] {
            let key = format!("`{family}.rope.dimension_count` is {width};");
            File::read(family).with("rope.dimension_count", number(width)).refused(&[&key, "an even number up to"]);
        }
    }
}

#[test]
fn divisors_of_frequencies_are_looked_at() {
    let file = File::read("llama3");
    for bad in [0.0, -1.0] {
        let mut damaged = file.clone();
        damaged.tensors.get_mut("rope_freqs.weight").expect("there").1[1] = bad;
        damaged.refused(&["tensor rope_freqs.weight", "above 0"]);
    }
    let mut longer = file;
    longer.tensors.insert("rope_freqs.weight".to_owned(), (vec![8], vec![1.0; 8]));
    longer.refused(&["tensor rope_freqs.weight", "[8]", "4 frequencies"]);
}

#[test]
fn long_rope_has_two_lists_of_divisors_and_a_magnitude() {
    let file = File::read("phi3_longrope");
    let RopeScaling::LongRope { short, long, original_positions, magnitude } = scaling(&file) else {
        panic!("LongRope")
    };
    assert_eq!((short, long, original_positions), (vec![1.0, 1.5], vec![1.5, 6.5], 8));
    assert!((magnitude - 2_f64.sqrt()).abs() < 1e-7);
    let said = file.clone().with("rope.scaling.type", word("longrope"));
    assert_eq!(scaling(&said), scaling(&file));
    for kind in ["linear", "yarn", "none"] {
        let twice = file.clone().with("rope.scaling.type", word(kind));
        twice.refused(&["given twice", "`phi3.rope.scaling.type`", "rope_factors_short.weight"]);
    }
    for key in ["rope.scaling.original_context_length", "rope.scaling.attn_factor"] {
        file.clone().without(key).refused(&[&format!("key `phi3.{key}` is missing")]);
    }
    let mut half = file;
    half.tensors.remove("rope_factors_long.weight");
    half.refused(&["tensor rope_factors_long.weight", "is missing"]);
    for family in ["llama", "qwen2", "gemma3"] {
        let foreign = File::read(family).with_tensor("rope_factors_long.weight", &[4]);
        foreign.refused(&["tensor rope_factors_long.weight"]);
    }
}

#[test]
fn a_pooled_model_without_a_head_has_none() {
    let mut file = File::read("llama3").with("pooling_type", number(3));
    assert!(!file.tensors.contains_key("output.weight"));
    assert!(!file.model(&[]).expect("without a head").has_head());
    file = file.with_tensor("cls.output.weight", &[2, 24]);
    assert!(!file.model(&[]).expect("a head for documents").has_head());
    file.tensors.insert("output.weight".to_owned(), file.tensors["token_embd.weight"].clone());
    let model = file.model(&[]).expect("with a head");
    assert!(model.has_head() && !model.architecture().tied_embeddings);
}

#[test]
fn what_the_user_lets_pass_is_named() {
    let file = File::read("qwen3").with("some_new.mechanism", number(3)).with("logit_scale", GgufValue::Float(0.5));
    let file = file.with_tensor("blk.0.surprise.weight", &[4]).with("attention.causal", GgufValue::Bool(false));
    let allowed = ["qwen3.some_new.*", "qwen3.logit_scale", "blk.*.surprise.weight", "qwen3.attention.causal"];
    let allowed = allowed.map(str::to_owned);
    let mut passed = file.model(&allowed).expect("all are allowed").passed().to_vec();
    passed.sort();
    let names = ["blk.0.surprise.weight", "qwen3.attention.causal", "qwen3.logit_scale", "qwen3.some_new.mechanism"];
    assert_eq!(passed, names);
    for missing in 0..allowed.len() {
        let mut fewer = allowed.to_vec();
        fewer.remove(missing);
        assert!(file.model(&fewer).is_err(), "{}", allowed[missing]);
    }
}

#[test]
fn what_is_no_language_model_is_called_by_its_name() {
    let file = |pairs: &[(&str, GgufValue)], tensor: &str| {
        let keys = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        File { family: "none".to_owned(), keys, tensors: BTreeMap::new() }.with_tensor(tensor, &[4, 4])
    };
    let (kind, architecture) = ("general.type", "general.architecture");
    let llama = (architecture, word("llama"));
    file(&[(kind, word("adapter")), llama.clone()], "blk.0.attn_q.weight.lora_a").refused(&["adapter"]);
    file(&[("adapter.type", word("lora")), llama.clone()], "blk.0.attn_q.weight.lora_a").refused(&["adapter"]);
    file(&[(kind, word("imatrix"))], "blk.0.attn_q.weight.in_sum2").refused(&["importance matrix"]);
    file(&[("imatrix.chunk_count", number(3))], "blk.0.attn_q.weight.in_sum2").refused(&["importance matrix"]);
    file(&[(kind, word("mmproj")), (architecture, word("clip"))], "v.patch_embd.weight").refused(&["mmproj"]);
    file(&[(architecture, word("clip"))], "v.patch_embd.weight").refused(&["mmproj"]);
    file(&[(architecture, word("controlvector"))], "direction.1").refused(&["control vector"]);
    file(&[(kind, word("poem")), llama.clone()], "a").refused(&["`general.type` is \"poem\""]);
    file(&[(kind, number(1)), llama.clone()], "a").refused(&["`general.type` is 1"]);
    file(&[(architecture, number(1))], "a").refused(&["`general.architecture` is 1"]);
    file(&[(kind, word("model"))], "a").refused(&["`general.architecture` is missing"]);
    file(&[(architecture, word("mamba"))], "a").refused(&["family `mamba` is not supported"]);
    let experts = ("qwen3moe.expert_count", number(128));
    let mixture = file(&[(architecture, word("qwen3moe")), experts], "blk.0.ffn_gate_inp.weight");
    mixture.refused(&["`qwen3moe.expert_count` is 128", "mixture of experts"]);
    for (key, value) in [("split.count", number(3)), ("split.count", word("3"))] {
        file(&[llama.clone(), (key, value)], "a").refused(&["split"]);
    }
    let file = File { tensors: BTreeMap::new(), ..File::read("llama") };
    file.refused(&["no tensors", "vocabulary"]);
}
