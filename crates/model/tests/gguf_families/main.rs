//! Every key and every tensor of a GGUF model counts: what is not understood is refused by name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod file;
mod rope;
#[path = "../../../sources/tests/checkpoint/write.rs"]
#[allow(dead_code, reason = "shared with the tests of sources")]
mod write;

use std::collections::BTreeMap;

use sinkscope_sources::checkpoint::GgufValue;

use self::file::{File, number, word};

const FAMILIES: [&str; 7] = ["llama", "qwen2", "qwen3", "phi3", "gemma2", "gemma3", "gpt2"];

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

#[test]
fn windows_of_families_that_have_none_or_need_one() {
    File::read("llama").with(WINDOW, number(4096)).refused(&["`llama.attention.sliding_window` is 4096", "only 0"]);
    File::read("llama").with(WINDOW, number(0)).open().expect("no window");
    let windows = |file: File| {
        let a = file.open().expect("sound");
        a.layers().map(|layer| layer.mixer.attention().window).collect::<Vec<_>>()
    };
    assert_eq!(windows(File::read("gemma2").without(WINDOW)), [Some(4096), None]);
    let without = File::read("gemma3").without(WINDOW);
    assert_eq!(windows(without.clone()), [None; 7]);
    let a = without.open().expect("no window");
    assert_eq!(a.kinds.len(), 1, "one rope");
}
