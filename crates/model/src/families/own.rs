//! The family of our own: models that no other family's description fits. `config.json` holds the whole architecture as
//! it is, and the number of the format, which says what the architecture means; tensors are named as Llama's and Gemma's are.

use std::fmt::Display;

use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::Fields;
use super::hugging_face::HuggingFace;
use super::naming::Naming;
use super::{Family, Identity, gemma, llama};
use crate::architecture::{
    Activation, Architecture, Attention, Dense, FeedForward, GateSignal, Layer, Mixer, NormKind, NormPlacement,
    Position, PositionEncoding, QkNorm, ResidualLayout, Rope, RopeScaling, Uniform, Weighting,
};
use crate::error::ModelError;

/// Its name in `model_type`.
const FAMILY: &str = "sinkscope";

/// What an architecture means. A configuration without a format is of the first; the first two say each choice once.
const FORMAT: usize = 3;

pub(super) const OWN: Family = Family {
    name: FAMILY,
    hugging_face: &[HuggingFace::new(FAMILY, &[], |fields, _| {
        let Some(description) = fields.value("architecture") else {
            return Err(ModelError::malformed(fields.path, "field `architecture` is missing; it describes the model"));
        };
        let wrong =
            |reason: &dyn Display| ModelError::malformed(fields.path, format!("field `architecture`: {reason}"));
        let format = fields.or("format", 1)?;
        let architecture = match format {
            1 | 2 => {
                let uniform = Uniform::deserialize(description).map_err(|error| wrong(&error))?;
                check_first_format(fields, format, &uniform)?;
                uniform.try_into().map_err(|reason: String| wrong(&reason))?
            }
            FORMAT => Architecture::deserialize(description).map_err(|error| wrong(&error))?,
            _ => return Err(fields.wrong_value("format", format!("a number from 1 to {FORMAT}"))),
        };
        architecture.validate().map_err(|reason| wrong(&reason))?;
        let (_, naming) = describe(&architecture);
        Ok(Identity { architecture, naming })
    })],
    gguf: None,
};

/// Refuses what the first format means otherwise than the second.
fn check_first_format(fields: &Fields<'_>, format: usize, a: &Uniform) -> Result<(), ModelError> {
    let meant = match () {
        () if format != 1 => return Ok(()),
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
        "is of format 1 (no `format`: 1), in which {meant}; this version computes it otherwise: train the model again"
    );
    Err(ModelError::unsupported(fields.path, reason))
}

/// The content of a `config.json` for an architecture, and how its tensors are named: as a Llama where that is what it is,
/// so that other programs read it too, else as this family.
pub fn describe(a: &Architecture) -> (Value, Naming) {
    match as_llama(a) {
        Some(config) => (config, Naming::new(llama::names, "model.")),
        // In Gemma's scheme every norm has a name of its own, wherever a block has it.
        None => {
            (json!({ "model_type": FAMILY, "format": FORMAT, "architecture": a }), Naming::new(gemma::names, "model."))
        }
    }
}

/// The configuration of a `LlamaForCausalLM`, if that says everything.
fn as_llama(a: &Architecture) -> Option<Value> {
    let [layer] = &a.kinds[..] else { return None };
    let (attention, dense) = (layer.mixer.attention(), layer.feed_forward.dense()?);
    let rope = attention.rope()?;
    let plain = Layer {
        mixer: Mixer::Attention(Attention {
            value_dim: attention.head_dim,
            window: None,
            position: Position::Rotary(Rope {
                theta: rope.theta,
                rotary_dim: attention.head_dim,
                scaling: RopeScaling::None,
            }),
            qk_norm: QkNorm::None,
            scale: (attention.head_dim as f64).powf(-0.5),
            soft_cap: None,
            weighting: Weighting::Softmax,
            key_value_bias: false,
            gate: None,
            ..*attention
        }),
        feed_forward: FeedForward::Dense(Dense { activation: Activation::Silu, gated: true, ..*dense }),
        norm_placement: NormPlacement::Pre,
        residual: ResidualLayout::Sequential,
    };
    let global = a.norm == NormKind::RmsNorm
        && a.final_norm
        && !a.learned_positions
        && a.logit_soft_cap.is_none()
        && a.embedding_scale == 1.0
        && a.registers == 0;
    (global && *layer == plain).then(|| {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": a.d_model,
            "intermediate_size": dense.hidden,
            "num_hidden_layers": a.layer_count(),
            "num_attention_heads": attention.heads,
            "num_key_value_heads": attention.kv_heads,
            "head_dim": attention.head_dim,
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

    use super::super::hugging_face::Stored;
    use super::*;
    use crate::architecture::{AttentionGate, Granularity};

    fn identify(config: &Value) -> Result<Identity, ModelError> {
        let fields = Fields::new(config, Path::new("config.json"))?;
        (OWN.hugging_face[0].read)(&fields, &Stored { has: &|_| true })
    }

    /// A configuration of one of the formats that say each choice once.
    fn config(format: Option<usize>, a: &Uniform) -> Value {
        let mut config = json!({ "model_type": FAMILY, "architecture": a });
        if let Some(format) = format {
            config["format"] = json!(format);
        }
        config
    }

    fn uniform() -> Uniform {
        let description = json!({
            "family": FAMILY, "d_model": 8, "heads": 2, "kv_heads": 2, "head_dim": 4, "d_ffn": 8, "vocabulary": 5,
            "max_positions": 6, "norm": "rms-norm", "norm_epsilon": 1e-5, "norm_placement": "pre",
            "residual": "sequential", "qk_norm": "none",
            "feed_forward": { "kind": "two-layer", "activation": "gelu", "gated": false }, "position": "learned",
            "layers": [{ "window": null, "rope": 0 }], "attention_scale": 0.5, "weighting": "softmax",
            "key_value_bias": false, "gate": null, "attention_soft_cap": null, "logit_soft_cap": null,
            "embedding_scale": 1.0, "tied_embeddings": false
        });
        serde_json::from_value(description).expect("as it was written")
    }

    #[test]
    fn what_the_first_format_meant_otherwise_is_refused_by_name() {
        let rope = Rope { theta: 100.0, rotary_dim: 4, scaling: RopeScaling::None };
        let gate = AttentionGate { signal: GateSignal::Embedding, granularity: Granularity::Head };
        let rotary = PositionEncoding::Rotary(vec![rope]);
        for (a, said) in [
            (Uniform { key_value_bias: true, position: rotary.clone(), ..uniform() }, "key_value_bias"),
            (Uniform { norm_placement: NormPlacement::Post, ..uniform() }, "norm_placement"),
            (Uniform { gate: Some(gate), ..uniform() }, "gate"),
        ] {
            let second = identify(&config(Some(2), &a)).expect("as it was written").architecture;
            assert_eq!(Ok(&second), Architecture::try_from(a.clone()).as_ref());
            assert_eq!(identify(&describe(&second).0).expect("as it is written").architecture, second);
            let error = identify(&config(None, &a)).map(|_| ()).expect_err("the first format").to_string();
            assert!(error.contains(&format!("`{said}`")) && error.contains("config.json"), "{error}");
        }
        for a in [
            uniform(),
            Uniform { key_value_bias: true, ..uniform() },
            Uniform { gate: Some(gate), position: rotary, ..uniform() },
        ] {
            let first = identify(&config(None, &a)).expect("means the same").architecture;
            assert_eq!(Ok(first), Architecture::try_from(a));
        }
    }

    #[test]
    fn an_architecture_that_contradicts_itself_is_refused() {
        let a = Architecture::try_from(uniform()).expect("one rope");
        let changed = |change: &dyn Fn(&mut Attention)| {
            let mut a = Architecture { kinds: vec![a.kinds[0].clone(); 2], order: vec![0, 1], ..a.clone() };
            change(a.kinds[1].mixer.attention_mut());
            a
        };
        for (a, part) in [
            (Architecture { order: vec![1], ..a.clone() }, "a layer is of kind 1, of 1"),
            (Architecture { order: Vec::new(), ..a.clone() }, "the number of layers is 0"),
            (Architecture { d_model: 0, ..a.clone() }, "the hidden size is 0"),
            (changed(&|attention| attention.value_dim = 2), "values of width 2 beside keys of width 4"),
            (changed(&|attention| (attention.heads, attention.kv_heads) = (4, 2)), "layers have 2 and 4 heads"),
        ] {
            let error = identify(&describe(&a).0).map(|_| ()).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        let rotary = PositionEncoding::Rotary(Vec::new());
        let error = identify(&config(Some(2), &Uniform { position: rotary, ..uniform() })).map(|_| ());
        assert!(error.expect_err("no rope").to_string().contains("layer 0 names rope 0, of 0"));
    }

    #[test]
    fn a_key_that_may_be_null_must_be_there() {
        let (third, _) = describe(&Architecture::try_from(uniform()).expect("one rope"));
        let attention = "/architecture/kinds/0/mixer/attention";
        for (config, place, key) in [
            (&third, attention, "window"),
            (&third, attention, "soft_cap"),
            (&third, attention, "gate"),
            (&third, "/architecture", "logit_soft_cap"),
            (&config(Some(2), &uniform()), "/architecture", "attention_soft_cap"),
            (&config(Some(2), &uniform()), "/architecture/layers/0", "window"),
        ] {
            let mut config = config.clone();
            let object = config.pointer_mut(place).and_then(Value::as_object_mut).expect("an object");
            object.remove(key).expect("it was there");
            let error = identify(&config).map(|_| ()).expect_err(key).to_string();
            assert!(error.contains(&format!("missing field `{key}`")), "{error}");
        }
    }

    #[test]
    fn a_format_of_a_later_version_is_refused() {
        let (mut config, _) = describe(&Architecture::try_from(uniform()).expect("one rope"));
        for format in [json!(0), json!(FORMAT + 1), json!("2"), json!(1.5)] {
            config["format"] = format.clone();
            let error = identify(&config).map(|_| ()).expect_err("unknown").to_string();
            assert!(error.contains(&format!("`format` is {format}")), "{error}");
        }
    }
}
