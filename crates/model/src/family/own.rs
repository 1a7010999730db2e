//! The family of our own: models that no other family's description fits. `config.json` holds the whole architecture as
//! it is, and tensors are named as Llama's and Gemma's are.

use serde::Deserialize;
use serde_json::{Value, json};

use super::naming::{Naming, Scheme};
use super::{Family, Identity};
use crate::architecture::{
    Activation, Architecture, FeedForward, FeedForwardKind, Layer, NormKind, NormPlacement, PositionEncoding, QkNorm,
    ResidualLayout, Rope, RopeScaling, Weighting,
};
use crate::error::ModelError;

/// Its name in `model_type`.
const FAMILY: &str = "sinkscope";

pub(super) const OWN: Family = Family {
    name: FAMILY,
    classes: &[],
    other_classes: &[],
    published_code: &[],
    inert: &[],
    leftovers: &[],
    identify: |fields, _| {
        let Some(description) = fields.value("architecture") else {
            return Err(ModelError::malformed(fields.path, "field `architecture` is missing; it describes the model"));
        };
        let architecture = Architecture::deserialize(description)
            .map_err(|error| ModelError::malformed(fields.path, format!("field `architecture`: {error}")))?;
        let (_, naming) = describe(&architecture);
        Ok(Identity { architecture, naming })
    },
};

/// The content of a `config.json` for an architecture, and how its tensors are named: as a Llama where that is what it is,
/// so that other programs read it too, else as this family.
pub fn describe(a: &Architecture) -> (Value, Naming) {
    match llama(a) {
        Some(config) => (config, Naming::new(Scheme::Llama, "model.")),
        // In Gemma's scheme every norm has a name of its own, wherever a block has it.
        None => (json!({ "model_type": FAMILY, "architecture": a }), Naming::new(Scheme::Gemma, "model.")),
    }
}

/// The configuration of a `LlamaForCausalLM`, if that says everything.
fn llama(a: &Architecture) -> Option<Value> {
    let PositionEncoding::Rotary(ropes) = &a.position else { return None };
    let [rope] = &ropes[..] else { return None };
    let plain = Architecture {
        family: "llama".to_owned(),
        norm: NormKind::RmsNorm,
        norm_placement: NormPlacement::Pre,
        residual: ResidualLayout::Sequential,
        qk_norm: QkNorm::None,
        feed_forward: FeedForward { kind: FeedForwardKind::TwoLayer, activation: Activation::Silu, gated: true },
        position: PositionEncoding::Rotary(vec![Rope {
            theta: rope.theta,
            rotary_dim: a.head_dim,
            scaling: RopeScaling::None,
        }]),
        layers: vec![Layer { window: None, rope: 0 }; a.layers.len()],
        attention_scale: (a.head_dim as f64).powf(-0.5),
        weighting: Weighting::Softmax,
        key_value_bias: false,
        gate: None,
        attention_soft_cap: None,
        logit_soft_cap: None,
        embedding_scale: 1.0,
        registers: 0,
        ..a.clone()
    };
    (Architecture { family: "llama".to_owned(), ..a.clone() } == plain).then(|| {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": a.d_model,
            "intermediate_size": a.d_ffn,
            "num_hidden_layers": a.layers.len(),
            "num_attention_heads": a.heads,
            "num_key_value_heads": a.kv_heads,
            "head_dim": a.head_dim,
            "vocab_size": a.vocabulary,
            "max_position_embeddings": a.max_positions,
            "rms_norm_eps": a.norm_epsilon,
            "rope_theta": rope.theta,
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "tie_word_embeddings": a.tied_embeddings,
            "torch_dtype": "float32",
        })
    })
}
