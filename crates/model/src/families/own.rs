//! The family of our own: models that no other family's description fits. `config.json` holds the whole architecture as
//! it is, and the number of the format, which says what the architecture means; tensors are named as Llama's and Gemma's are.

use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::Fields;
use super::naming::{Naming, Scheme};
use super::{Family, Identity};
use crate::architecture::{
    Activation, Architecture, FeedForward, FeedForwardKind, GateSignal, Layer, NormKind, NormPlacement,
    PositionEncoding, QkNorm, ResidualLayout, Rope, RopeScaling, Weighting,
};
use crate::error::ModelError;

/// Its name in `model_type`.
const FAMILY: &str = "sinkscope";

/// What an architecture means. A configuration without a format is of the first.
const FORMAT: usize = 2;

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
        check_format(fields, &architecture)?;
        let (_, naming) = describe(&architecture);
        Ok(Identity { architecture, naming })
    },
};

/// Refuses what another format means otherwise.
fn check_format(fields: &Fields<'_>, a: &Architecture) -> Result<(), ModelError> {
    let format = fields.or("format", 1)?;
    if !(1..=FORMAT).contains(&format) {
        return Err(fields.wrong_value("format", format!("a number from 1 to {FORMAT}")));
    }
    let meant = match () {
        () if format == FORMAT => return Ok(()),
        () if a.key_value_bias && matches!(a.position, PositionEncoding::Rotary(_)) => {
            "`key_value_bias` met queries before their rotation"
        }
        () if a.norm_placement == NormPlacement::Post => {
            "`norm_placement` \"post\" had one more norm before the output head"
        }
        () if a.gate.is_some_and(|gate| gate.signal == GateSignal::Embedding)
            && a.position == PositionEncoding::Learned =>
        {
            "`gate` of signal \"embedding\" read positions too"
        }
        () => return Ok(()),
    };
    let reason = format!(
        "is of format {format} (no `format`: 1), in which {meant}; this version computes it otherwise: train the model again"
    );
    Err(ModelError::unsupported(fields.path, reason))
}

/// The content of a `config.json` for an architecture, and how its tensors are named: as a Llama where that is what it is,
/// so that other programs read it too, else as this family.
pub fn describe(a: &Architecture) -> (Value, Naming) {
    match llama(a) {
        Some(config) => (config, Naming::new(Scheme::Llama, "model.")),
        // In Gemma's scheme every norm has a name of its own, wherever a block has it.
        None => {
            (json!({ "model_type": FAMILY, "format": FORMAT, "architecture": a }), Naming::new(Scheme::Gemma, "model."))
        }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Stored;
    use super::*;
    use crate::architecture::{AttentionGate, Granularity};

    fn identify(config: &Value) -> Result<Identity, ModelError> {
        let fields = Fields::new(config, Path::new("config.json"))?;
        (OWN.identify)(&fields, &Stored { has: &|_| true })
    }

    fn architecture() -> Architecture {
        let config = json!({
            "model_type": FAMILY,
            "architecture": {
                "family": FAMILY, "d_model": 8, "heads": 2, "kv_heads": 2, "head_dim": 4, "d_ffn": 8, "vocabulary": 5,
                "max_positions": 6, "norm": "rms-norm", "norm_epsilon": 1e-5, "norm_placement": "pre",
                "residual": "sequential", "qk_norm": "none",
                "feed_forward": { "kind": "two-layer", "activation": "gelu", "gated": false }, "position": "learned",
                "layers": [{ "window": null, "rope": 0 }], "attention_scale": 0.5, "weighting": "softmax",
                "key_value_bias": false, "gate": null, "attention_soft_cap": null, "logit_soft_cap": null,
                "embedding_scale": 1.0, "tied_embeddings": false
            }
        });
        identify(&config).expect("the first format, which says the same").architecture
    }

    #[test]
    fn what_the_first_format_meant_otherwise_is_refused_by_name() {
        let rope = Rope { theta: 100.0, rotary_dim: 4, scaling: RopeScaling::None };
        let gate = AttentionGate { signal: GateSignal::Embedding, granularity: Granularity::Head };
        let rotary = PositionEncoding::Rotary(vec![rope]);
        for (a, said) in [
            (Architecture { key_value_bias: true, position: rotary.clone(), ..architecture() }, "key_value_bias"),
            (Architecture { norm_placement: NormPlacement::Post, ..architecture() }, "norm_placement"),
            (Architecture { gate: Some(gate), ..architecture() }, "gate"),
        ] {
            let (mut config, _) = describe(&a);
            assert_eq!(identify(&config).expect("as it is written").architecture, a);
            config.as_object_mut().expect("an object").remove("format");
            let error = identify(&config).map(|_| ()).expect_err("the first format").to_string();
            assert!(error.contains(&format!("`{said}`")) && error.contains("config.json"), "{error}");
        }
        for a in [
            Architecture { key_value_bias: true, ..architecture() },
            Architecture { gate: Some(gate), position: rotary, ..architecture() },
        ] {
            let (mut config, _) = describe(&a);
            config.as_object_mut().expect("an object").remove("format");
            assert_eq!(identify(&config).expect("means the same").architecture, a);
        }
    }

    #[test]
    fn a_format_of_a_later_version_is_refused() {
        let (mut config, _) = describe(&architecture());
        for format in [json!(0), json!(FORMAT + 1), json!("2"), json!(1.5)] {
            config["format"] = format.clone();
            let error = identify(&config).map(|_| ()).expect_err("unknown").to_string();
            assert!(error.contains(&format!("`format` is {format}")), "{error}");
        }
    }
}
