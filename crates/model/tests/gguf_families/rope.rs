//! Rotary embeddings: widths and scalings.

use sinkscope_model::architecture::{Architecture, Rope, RopeScaling};
use sinkscope_sources::checkpoint::GgufValue;

use crate::file::{File, number, word};

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
    gemma.refused(&["`gemma3.rope.scaling.type` is \"yarn\"", "in this family are \"none\", \"linear\""]);
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
