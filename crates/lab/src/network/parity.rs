//! Every variant against PyTorch: the streamed pass and the network in training say the NLL that modules written from the
//! definitions say, of weights that have moved.
//!
//! The models, and what PyTorch made of them, come from `scripts/make_variant_fixtures.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sinkscope_kernels::Float;
use sinkscope_model::architecture::{
    Activation, Architecture, Dense, FeedForward, GateSignal, Granularity, NormKind, NormPlacement, Position, QkNorm,
    ResidualLayout, Weighting,
};
use sinkscope_model::parameters::config;
use sinkscope_model::{Model, Parameters};
use sinkscope_sources::checkpoint::Checkpoint;
use sinkscope_sources::data::TokenBatch;

use super::{Initialisation, Network, initialise};
use crate::data::{Batch, IGNORED};
use crate::error::LabError;
use crate::recipe::{
    FeedForwardChoice, ModelChoice, NormChoice, PlacementChoice, PositionChoice, QkNormChoice, WeightingChoice,
};
use crate::recipe_file::parse;
use crate::watch::{HeldOut, look};

/// `expected.json`.
#[derive(Debug, Deserialize)]
struct Expected {
    /// Sequences, without registers.
    tokens: Vec<Vec<u32>>,
    variants: BTreeMap<String, Variant>,
}

#[derive(Debug, Deserialize)]
struct Variant {
    /// What `[model]` says beside the sizes, where a recipe can say it; `null` takes a size away.
    recipe: Option<Map<String, Value>>,
    /// Mean over all next tokens, in nats.
    nll: f64,
    /// Over those that positions 4 to 9 predict, from 1.
    nll_4_to_9: f64,
    /// Length of the gradient of `nll`.
    gradient_norm: f64,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/variants")
}

fn expected() -> Expected {
    let text = std::fs::read(folder().join("expected.json")).expect("expected.json");
    serde_json::from_slice(&text).expect("expected.json")
}

fn open(name: &str) -> Model {
    Model::open(&folder().join(name).display().to_string()).expect(name)
}

/// The model that a recipe with these words asks for, of the sizes that all variants have.
fn asked_for(words: &Map<String, Value>, tokens: &[Vec<u32>]) -> (ModelChoice, Architecture) {
    let mut model: Map<String, Value> = serde_json::from_str(
        r#"{"layers": 2, "d_model": 12, "heads": 4, "kv_heads": 2, "head_dim": 4, "d_ffn": 10, "rope_theta": 100.0,
            "norm_epsilon": 1e-5}"#,
    )
    .expect("sizes");
    if words.get("position").is_some_and(|position| position != "rotary") {
        model.remove("rope_theta");
    }
    for (key, value) in words {
        match value {
            Value::Null => model.remove(key),
            value => model.insert(key.clone(), value.clone()),
        };
    }
    let model = toml::to_string(&json!({ "model": model })).expect("TOML");
    let length = tokens[0].len();
    let text = format!(
        "{model}[data]\nsource = 'built-in'\nvocabulary = 11\n[training]\nsteps = 5\nsequences = 3\nseq_len = {length}\n\
         [watch]\nseq_len = {length}\n"
    );
    let recipe = parse(&text, Path::new("r.toml")).expect("a recipe");
    let architecture = recipe.architecture(11).expect("an architecture");
    (recipe.model, architecture)
}

/// A network of a fixture's weights.
fn network<F: Float>(name: &str, a: &Architecture) -> Result<Network<F>, LabError> {
    let bytes = std::fs::read(folder().join(name).join("model.safetensors")).expect("weights");
    let stored = SafeTensors::deserialize(&bytes).expect("weights");
    let values: BTreeMap<String, (Vec<usize>, Vec<f32>)> = stored
        .iter()
        .map(|(name, tensor)| {
            let floats = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            (name.to_owned(), (tensor.shape().to_vec(), floats))
        })
        .collect();
    let mut single: Parameters<f32> = initialise(a, &Initialisation::default(), 0).expect("an architecture");
    single.set_tensors(a, |name| values.get(name).map(|(shape, floats)| (&shape[..], &floats[..]))).expect(name);
    assert_eq!(single.values_mut().len(), values.len(), "{name}: a tensor has no place");
    let mut parameters: Parameters<F> = initialise(a, &Initialisation::default(), 0).expect("an architecture");
    for (to, from) in parameters.values_mut().into_iter().zip(single.values_mut()) {
        for (to, &mut from) in to.iter_mut().zip(from) {
            *to = F::from_f64(f64::from(from));
        }
    }
    parameters.repack();
    Network::new(a.clone(), parameters)
}

/// What a step would be trained on.
fn batch(tokens: &[Vec<u32>], a: &Architecture, (from, to): (usize, usize)) -> Batch {
    let seq_len = tokens[0].len();
    let targets = tokens.iter().flat_map(|ids| ids[1..].iter().copied().chain([IGNORED])).collect();
    let mut batch = Batch { sequences: tokens.len(), seq_len, inputs: tokens.concat(), targets };
    batch.restrict(from, to);
    batch.after_registers(a)
}

/// Measured, at most: NLL of the pass apart by 7.7e-8, of training in f64 by 8.9e-16, lengths of gradients by 7.8e-15 of them.
#[test]
fn every_variant_has_pytorchs_nll() {
    let Expected { tokens, variants } = expected();
    let mut largest = [0.0_f64; 3];
    for (name, variant) in &variants {
        let model = open(name);
        let a = model.architecture();
        let (sequences, seq_len) = (tokens.len(), tokens[0].len());
        let held_out = TokenBatch { sequences, seq_len, tokens: tokens.concat() }.with_first(a.register_ids());
        let of_pass = (look(&model, &HeldOut::plain(held_out), 0).expect("finite").nll - variant.nll).abs();
        assert!(of_pass < 1e-6, "{name}: the pass is off by {of_pass:e}");
        largest[0] = largest[0].max(of_pass);

        let network = match network::<f64>(name, a) {
            Ok(network) => network,
            Err(error) => {
                let untrainable =
                    a.any(|layer| layer.residual == ResidualLayout::Parallel) || a.logit_soft_cap.is_some();
                assert!(untrainable && error.to_string().contains("no backward"), "{name}: {error}");
                continue;
            }
        };
        for (range, expected) in [((1, seq_len), variant.nll), ((4, 9), variant.nll_4_to_9)] {
            let batch = batch(&tokens, a, range);
            let mut workspace = network.workspace(batch.sequences, batch.seq_len);
            let loss = network.loss(&batch, &mut workspace).expect("a batch that fits");
            let of_training = (loss.mean() - expected).abs();
            assert!(of_training < 1e-12, "{name}, {range:?}: training is off by {of_training:e}");
            largest[1] = largest[1].max(of_training);
        }
        let batch = batch(&tokens, a, (1, seq_len));
        let mut workspace = network.workspace(batch.sequences, batch.seq_len);
        let weight = (batch.predicted() as f64).recip();
        network.add_gradient(&batch, weight, &mut workspace).expect("a batch that fits");
        let square: f64 = workspace.gradient.values_mut().iter().flat_map(|values| values.iter()).map(|g| g * g).sum();
        let of_gradient = (square.sqrt() / variant.gradient_norm - 1.0).abs();
        assert!(of_gradient < 1e-10, "{name}: the gradient is off by {of_gradient:e}");
        largest[2] = largest[2].max(of_gradient);
    }
    println!("NLL of the pass, of training, and the gradient's length are off by at most {largest:?}");
}

/// The fixtures, in a format of before, are what recipes ask for, and what training would write beside its weights means the
/// same.
#[test]
fn a_recipe_of_each_variant_asks_for_its_fixture() {
    let Expected { tokens, variants } = expected();
    for (name, variant) in &variants {
        let read = open(name).architecture().clone();
        let asked = variant.recipe.as_ref().map(|words| asked_for(words, &tokens).1);
        if let Some(asked) = &asked {
            assert_eq!(Architecture { family: asked.family.clone(), ..read.clone() }, *asked, "{name}");
        }
        let weights = std::fs::read(folder().join(name).join("model.safetensors")).expect("weights");
        let written = config(asked.as_ref().unwrap_or(&read));
        let checkpoint = Checkpoint::from_memory(name, written, weights).expect("sound");
        assert_eq!(*Model::from_checkpoint(checkpoint).expect("a model").architecture(), read, "{name}");
    }
}

/// The arms that an architecture stands on. An arm that is added here has to be one of `ARMS`, and so of a fixture.
fn arms(a: &Architecture) -> Vec<&'static str> {
    let norm = match a.norm {
        NormKind::RmsNorm => "RMSNorm",
        NormKind::LayerNorm => "LayerNorm",
        NormKind::DynamicTanh => "dynamic tanh",
    };
    let layer = a.layer(0);
    let attention = layer.mixer.attention();
    let placement = match layer.norm_placement {
        NormPlacement::Pre => "pre",
        NormPlacement::Sandwich => "sandwich",
        NormPlacement::Output => "output",
        NormPlacement::SandwichQkInput => "sandwich, QK input",
        NormPlacement::Post => "post",
    };
    let residual = match layer.residual {
        ResidualLayout::Sequential => "sequential",
        ResidualLayout::Parallel => "parallel",
    };
    let qk_norm = match attention.qk_norm {
        QkNorm::None => "no QK-norm",
        QkNorm::PerHead => "QK-norm per head",
        QkNorm::Projection => "QK-norm of the projection",
    };
    let feed_forward = match layer.feed_forward {
        FeedForward::Linear => "linear",
        FeedForward::None => "absent",
        FeedForward::Dense(Dense { gated, activation, .. }) => match (gated, activation) {
            (true, Activation::Silu) => "SwiGLU",
            (true, Activation::Gelu | Activation::GeluTanh | Activation::Relu) => "GeGLU",
            (false, Activation::Gelu) => "GeLU",
            (false, Activation::Silu | Activation::GeluTanh | Activation::Relu) => "ReLU",
        },
    };
    let position = match &attention.position {
        Position::None if a.learned_positions => "learned",
        Position::Rotary(_) => "rotary",
        Position::Alibi => "ALiBi",
        Position::None => "no positions",
    };
    let weighting = match attention.weighting {
        Weighting::Softmax => "softmax",
        Weighting::SoftmaxPlusOne => "softmax plus one",
        Weighting::SinkLogit => "sink logit",
        Weighting::Sigmoid { .. } => "sigmoid",
    };
    let mut arms = vec![norm, placement, residual, qk_norm, feed_forward, position, weighting];
    if let Some(gate) = attention.gate {
        arms.push(match (gate.signal, gate.granularity) {
            (GateSignal::Input, Granularity::Channel) => "gate: input, channel",
            (GateSignal::Input, Granularity::Head) => "gate: input, head",
            (GateSignal::Input, Granularity::Single) => "gate: input, single",
            (GateSignal::Free, Granularity::Channel) => "gate: free, channel",
            (GateSignal::Free, Granularity::Head) => "gate: free, head",
            (GateSignal::Free, Granularity::Single) => "gate: free, single",
            (GateSignal::Position, Granularity::Channel) => "gate: position, channel",
            (GateSignal::Position, Granularity::Head) => "gate: position, head",
            (GateSignal::Position, Granularity::Single) => "gate: position, single",
            (GateSignal::Embedding, Granularity::Channel) => "gate: embedding, channel",
            (GateSignal::Embedding, Granularity::Head) => "gate: embedding, head",
            (GateSignal::Embedding, Granularity::Single) => "gate: embedding, single",
        });
    }
    let beside = [
        ("key-value bias", attention.key_value_bias),
        ("registers", a.registers > 0),
        ("window", a.any(|layer| layer.mixer.attention().window.is_some())),
        ("several ropes", a.any(|layer| layer.mixer.attention().position != attention.position)),
        ("fewer key-value heads", attention.kv_heads < attention.heads),
        ("as many key-value heads", attention.kv_heads == attention.heads),
        ("tied", a.tied_embeddings),
        ("embedding scale", a.embedding_scale != 1.0),
        ("cap on scores", attention.soft_cap.is_some()),
        ("cap on logits", a.logit_soft_cap.is_some()),
    ];
    arms.extend(beside.into_iter().filter(|(_, there)| *there).map(|(name, _)| name));
    arms
}

/// All that [`arms`] can give.
const ARMS: [&str; 49] = [
    "RMSNorm",
    "LayerNorm",
    "dynamic tanh",
    "pre",
    "sandwich",
    "output",
    "sandwich, QK input",
    "post",
    "sequential",
    "parallel",
    "no QK-norm",
    "QK-norm per head",
    "QK-norm of the projection",
    "linear",
    "absent",
    "SwiGLU",
    "GeGLU",
    "GeLU",
    "ReLU",
    "learned",
    "rotary",
    "ALiBi",
    "no positions",
    "softmax",
    "softmax plus one",
    "sink logit",
    "sigmoid",
    "gate: input, channel",
    "gate: input, head",
    "gate: input, single",
    "gate: free, channel",
    "gate: free, head",
    "gate: free, single",
    "gate: position, channel",
    "gate: position, head",
    "gate: position, single",
    "gate: embedding, channel",
    "gate: embedding, head",
    "gate: embedding, single",
    "key-value bias",
    "registers",
    "window",
    "several ropes",
    "fewer key-value heads",
    "as many key-value heads",
    "tied",
    "embedding scale",
    "cap on scores",
    "cap on logits",
];

#[test]
fn every_arm_has_a_fixture() {
    let Expected { tokens, variants } = expected();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut choices: BTreeSet<&str> = BTreeSet::new();
    for (name, variant) in &variants {
        seen.extend(arms(open(name).architecture()));
        let Some(words) = &variant.recipe else { continue };
        choices.extend(choice_names(&asked_for(words, &tokens).0));
    }
    let missing: Vec<_> = ARMS.iter().filter(|arm| !seen.contains(**arm)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(choices.len(), 24, "{choices:?}");
}

/// The arms of a recipe's choices, whose number is above.
fn choice_names(model: &ModelChoice) -> [&'static str; 6] {
    [
        match model.feed_forward {
            FeedForwardChoice::Swiglu => "swiglu",
            FeedForwardChoice::Gelu => "gelu",
            FeedForwardChoice::Linear => "linear",
            FeedForwardChoice::Attention => "attention",
        },
        match model.norm {
            NormChoice::RmsNorm => "rms-norm",
            NormChoice::LayerNorm => "layer-norm",
            NormChoice::DynamicTanh => "dynamic-tanh",
        },
        match model.placement {
            PlacementChoice::Pre => "pre",
            PlacementChoice::Sandwich => "sandwich",
            PlacementChoice::SandwichQkInput => "sandwich-qk-input",
            PlacementChoice::SandwichQkHead => "sandwich-qk-head",
            PlacementChoice::Output => "output",
            PlacementChoice::Post => "post",
        },
        match model.qk_norm {
            QkNormChoice::None => "none",
            QkNormChoice::PerHead => "per-head",
            QkNormChoice::Projection => "projection",
        },
        match model.position {
            PositionChoice::Rotary => "rotary",
            PositionChoice::Learned => "learned",
            PositionChoice::Alibi => "alibi",
            PositionChoice::None => "no positions",
        },
        match model.weighting {
            WeightingChoice::Softmax => "softmax",
            WeightingChoice::SoftmaxPlusOne => "softmax-plus-one",
            WeightingChoice::SinkLogit => "sink-logit",
            WeightingChoice::Sigmoid => "sigmoid",
        },
    ]
}
