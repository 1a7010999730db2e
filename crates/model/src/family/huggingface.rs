//! Families as Hugging Face directories describe them: `config.json` in the form the hub's checkpoints have and in that
//! of transformers 5, where everything about rotary embeddings moved to `rope_parameters`.

use std::path::Path;

use serde_json::Value;

use super::fields::Fields;
use super::naming::{Naming, Scheme};
use super::own;
use super::{Identity, unsupported_family};
use crate::architecture::{
    Activation, Architecture, FeedForward, FeedForwardKind, Layer, NormKind, NormPlacement, PositionEncoding, QkNorm,
    ResidualLayout, Rope, RopeScaling, Weighting, check_layer_count,
};
use crate::error::ModelError;

const SUPPORTED: &[&str] = &[
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "olmo2",
    "phi3",
    "gpt2",
    "gpt_neox",
    own::FAMILY,
];

pub(super) fn identify(config: &Value, path: &Path, has_tensor: &dyn Fn(&str) -> bool) -> Result<Identity, ModelError> {
    let fields = Fields { value: config, path };
    let family = fields
        .text("model_type")?
        .ok_or_else(|| ModelError::malformed(path, "field `model_type` is missing; it names the family"))?;
    let fields = if family == "gemma3" { fields.object("text_config").unwrap_or(fields) } else { fields };
    match family {
        "gpt2" => gpt2(fields, has_tensor),
        "gpt_neox" => gpt_neox(fields),
        own::FAMILY => own::identify(config, path),
        family if SUPPORTED.contains(&family) => llama_like(family, fields, has_tensor),
        family => Err(unsupported_family(path, family, SUPPORTED)),
    }
}

/// Llama and what descends from it.
fn llama_like(family: &str, fields: Fields<'_>, has_tensor: &dyn Fn(&str) -> bool) -> Result<Identity, ModelError> {
    let gemma = family.starts_with("gemma");
    let d_model = fields.required_size("hidden_size")?;
    let size = |key| match fields.size(key)?.or_else(|| default_size(family, key)) {
        Some(size) => Ok(size),
        None => fields.required_size(key),
    };
    let heads = size("num_attention_heads")?;
    let kv_heads = match fields.value.get("num_key_value_heads") {
        None => default_size(family, "num_key_value_heads"),
        Some(_) => fields.size("num_key_value_heads")?,
    };
    let head_dim = fields.size("head_dim")?.or_else(|| default_size(family, "head_dim"));
    let head_dim = head_dim.unwrap_or(d_model / heads.max(1));
    let max_positions = size("max_position_embeddings")?;
    let (layers, ropes) = layers_and_ropes(family, fields, head_dim, max_positions)?;
    let scalar = if gemma { fields.number("query_pre_attn_scalar")?.unwrap_or(256.0) } else { head_dim as f64 };
    let soft_cap = |key, default| match fields.value.get(key) {
        None if family == "gemma2" => Ok(Some(default)),
        _ => fields.number(key),
    };
    let caps = if gemma {
        (soft_cap("attn_logit_softcapping", 50.0)?, soft_cap("final_logit_softcapping", 30.0)?)
    } else {
        (None, None)
    };
    let architecture = Architecture {
        family: family.to_owned(),
        d_model,
        heads,
        kv_heads: kv_heads.unwrap_or(heads),
        head_dim,
        d_ffn: fields.required_size("intermediate_size")?,
        vocabulary: size("vocab_size")?,
        max_positions,
        norm: NormKind::RmsNorm,
        norm_epsilon: fields.number("rms_norm_eps")?.unwrap_or(match family {
            "olmo2" | "phi3" => 1e-5,
            _ => 1e-6,
        }),
        norm_placement: match family {
            "olmo2" => NormPlacement::Output,
            _ if gemma => NormPlacement::Sandwich,
            _ => NormPlacement::Pre,
        },
        residual: ResidualLayout::Sequential,
        qk_norm: match family {
            "qwen3" | "gemma3" | "gemma3_text" => QkNorm::PerHead,
            "olmo2" => QkNorm::Projection,
            _ => QkNorm::None,
        },
        feed_forward: FeedForward {
            kind: FeedForwardKind::TwoLayer,
            activation: if gemma {
                activation(fields, "hidden_activation", "gelu_pytorch_tanh")?
            } else {
                activation(fields, "hidden_act", "silu")?
            },
            gated: true,
        },
        position: PositionEncoding::Rotary(ropes),
        layers,
        attention_scale: scalar.powf(-0.5),
        weighting: Weighting::Softmax,
        key_value_bias: false,
        gate: None,
        attention_soft_cap: caps.0,
        logit_soft_cap: caps.1,
        embedding_scale: if gemma { (d_model as f64).sqrt() } else { 1.0 },
        tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(gemma),
        registers: 0,
    };
    let scheme = match family {
        "gemma2" | "gemma3" | "gemma3_text" => Scheme::Gemma,
        "olmo2" => Scheme::Olmo2,
        "phi3" => Scheme::Phi3,
        _ => Scheme::Llama,
    };
    let prefix = ["model.", "language_model.model.", "model.language_model.", ""]
        .into_iter()
        .find(|prefix| has_tensor(&format!("{prefix}embed_tokens.weight")))
        .unwrap_or("model.");
    let naming = Naming::new(scheme, prefix)
        .with_gamma_offset(if gemma { 1.0 } else { 0.0 })
        .with_qkv_bias(fields.flag("attention_bias")?.unwrap_or(family == "qwen2"));
    Ok(Identity { architecture, naming })
}

/// What `transformers` assumes where a field is left out, as released checkpoints do: those of Gemma 3 that also see
/// images leave out most.
fn default_size(family: &str, key: &str) -> Option<usize> {
    match (family, key) {
        ("gemma3" | "gemma3_text", "num_attention_heads") => Some(8),
        ("mistral", "num_key_value_heads") => Some(8),
        ("qwen2" | "qwen3", "num_key_value_heads") => Some(32),
        ("gemma2" | "gemma3" | "gemma3_text", "num_key_value_heads") => Some(4),
        ("gemma2" | "gemma3" | "gemma3_text", "head_dim") => Some(256),
        ("qwen3", "head_dim") => Some(128),
        ("gemma3" | "gemma3_text", "max_position_embeddings") => Some(131_072),
        ("gemma3" | "gemma3_text", "vocab_size") => Some(262_208),
        _ => None,
    }
}

fn activation(fields: Fields<'_>, key: &str, default: &str) -> Result<Activation, ModelError> {
    match fields.text(key)?.unwrap_or(default) {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => Err(ModelError::unsupported(
            fields.path,
            format!(
                "activation `{other}` in field `{key}` is not supported; supported: silu, gelu, gelu_new, gelu_pytorch_tanh, relu"
            ),
        )),
    }
}

fn layer_count(fields: Fields<'_>, key: &str) -> Result<usize, ModelError> {
    let count = fields.required_size(key)?;
    check_layer_count(count).map_err(|reason| ModelError::malformed(fields.path, reason))?;
    Ok(count)
}

/// Windows of the layers, and which rope each has.
fn layers_and_ropes(
    family: &str,
    fields: Fields<'_>,
    head_dim: usize,
    max_positions: usize,
) -> Result<(Vec<Layer>, Vec<Rope>), ModelError> {
    let count = layer_count(fields, "num_hidden_layers")?;
    let window = match family {
        "mistral" | "phi3" => fields.size("sliding_window")?,
        "qwen2" | "qwen3" if fields.flag("use_sliding_window")?.unwrap_or(false) => fields.size("sliding_window")?,
        "gemma2" | "gemma3" | "gemma3_text" => Some(fields.size("sliding_window")?.unwrap_or(4096)),
        _ => None,
    };
    let pattern = fields.size("sliding_window_pattern")?.unwrap_or(6).max(1);
    let all_full_before = fields.size("max_window_layers")?.unwrap_or(28);
    let types = fields.texts("layer_types")?;
    if let Some(types) = &types {
        if types.len() != count {
            return Err(ModelError::malformed(
                fields.path,
                format!("field `layer_types` has {} entries for {count} layers", types.len()),
            ));
        }
        if let Some(other) = types.iter().find(|t| !["full_attention", "sliding_attention"].contains(t)) {
            return Err(ModelError::unsupported(fields.path, format!("layer type `{other}` is not supported")));
        }
    }
    let slides = |layer: usize| match &types {
        Some(types) => types[layer] == "sliding_attention",
        None => match family {
            "gemma2" => layer.is_multiple_of(2),
            "gemma3" | "gemma3_text" => !(layer + 1).is_multiple_of(pattern),
            "qwen2" | "qwen3" => layer >= all_full_before,
            _ => true,
        },
    };
    let two_ropes = family.starts_with("gemma3");
    let layers = (0..count)
        .map(|layer| Layer { window: window.filter(|_| slides(layer)), rope: usize::from(two_ropes && slides(layer)) })
        .collect();
    let ropes = if two_ropes {
        vec![
            gemma3_rope(fields, "full_attention", "rope_theta", 1e6, head_dim)?,
            gemma3_rope(fields, "sliding_attention", "rope_local_base_freq", 1e4, head_dim)?,
        ]
    } else {
        let parameters = fields.object("rope_parameters");
        let theta = match parameters.map(|p| p.number("rope_theta")).transpose()?.flatten() {
            Some(theta) => theta,
            None => fields.number("rope_theta")?.unwrap_or(10_000.0),
        };
        let partial = match parameters.map(|p| p.number("partial_rotary_factor")).transpose()?.flatten() {
            Some(partial) => partial,
            None => fields.number("partial_rotary_factor")?.unwrap_or(1.0),
        };
        let rotary_dim = (head_dim as f64 * partial) as usize;
        let scaling = rope_scaling(fields, parameters.or_else(|| fields.object("rope_scaling")), max_positions)?;
        vec![Rope { theta, rotary_dim, scaling }]
    };
    Ok((layers, ropes))
}

/// Gemma 3 has a rope for its windowed layers, never scaled in the hub's form, and one for the others.
fn gemma3_rope(fields: Fields<'_>, kind: &str, key: &str, default: f64, head_dim: usize) -> Result<Rope, ModelError> {
    if let Some(parameters) = fields.object("rope_parameters").and_then(|p| p.object(kind)) {
        let theta = parameters.number("rope_theta")?.unwrap_or(default);
        return Ok(Rope { theta, rotary_dim: head_dim, scaling: rope_scaling(fields, Some(parameters), 0)? });
    }
    let theta = fields.number(key)?.unwrap_or(default);
    let scaled = fields.object("rope_scaling").filter(|_| kind == "full_attention");
    Ok(Rope { theta, rotary_dim: head_dim, scaling: rope_scaling(fields, scaled, 0)? })
}

fn rope_scaling(
    config: Fields<'_>,
    scaling: Option<Fields<'_>>,
    max_positions: usize,
) -> Result<RopeScaling, ModelError> {
    let Some(scaling) = scaling else { return Ok(RopeScaling::None) };
    let kind = match scaling.text("rope_type")? {
        Some(kind) => kind,
        None => scaling.text("type")?.unwrap_or("default"),
    };
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: scaling.required_number("factor")? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: scaling.required_number("factor")?,
            low_frequency_factor: scaling.required_number("low_freq_factor")?,
            high_frequency_factor: scaling.required_number("high_freq_factor")?,
            original_positions: scaling.required_size("original_max_position_embeddings")?,
        }),
        "longrope" | "su" => {
            let original_positions = match config.size("original_max_position_embeddings")? {
                Some(original) => original,
                None => scaling.required_size("original_max_position_embeddings")?,
            };
            let factor = match config
                .get("original_max_position_embeddings")
                .or_else(|| scaling.get("factor").is_none().then_some(&Value::Null))
            {
                Some(_) => max_positions as f64 / original_positions.max(1) as f64,
                None => scaling.required_number("factor")?,
            };
            let magnitude = match scaling.number("attention_factor")? {
                Some(magnitude) => magnitude,
                None if factor <= 1.0 => 1.0,
                None => (1.0 + factor.ln() / (original_positions as f64).ln()).sqrt(),
            };
            Ok(RopeScaling::LongRope {
                short: scaling.required_numbers("short_factor")?,
                long: scaling.required_numbers("long_factor")?,
                original_positions,
                magnitude,
            })
        }
        other => Err(ModelError::unsupported(
            config.path,
            format!("rope scaling `{other}` is not supported; supported: default, linear, llama3, longrope"),
        )),
    }
}

fn gpt2(fields: Fields<'_>, has_tensor: &dyn Fn(&str) -> bool) -> Result<Identity, ModelError> {
    let d_model = fields.required_size("n_embd")?;
    let heads = fields.required_size("n_head")?;
    let head_dim = d_model / heads.max(1);
    for key in ["scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"] {
        if fields.flag(key)? == Some(true) {
            return Err(ModelError::unsupported(fields.path, format!("`{key}` is not supported")));
        }
    }
    let scaled = fields.flag("scale_attn_weights")?.unwrap_or(true);
    let architecture = Architecture {
        family: "gpt2".into(),
        d_model,
        heads,
        kv_heads: heads,
        head_dim,
        d_ffn: fields.size("n_inner")?.unwrap_or(4 * d_model),
        vocabulary: fields.required_size("vocab_size")?,
        max_positions: fields.required_size("n_positions")?,
        norm: NormKind::LayerNorm,
        norm_epsilon: fields.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        norm_placement: NormPlacement::Pre,
        residual: ResidualLayout::Sequential,
        qk_norm: QkNorm::None,
        feed_forward: FeedForward {
            kind: FeedForwardKind::TwoLayer,
            activation: activation(fields, "activation_function", "gelu_new")?,
            gated: false,
        },
        position: PositionEncoding::Learned,
        layers: vec![Layer { window: None, rope: 0 }; layer_count(fields, "n_layer")?],
        attention_scale: if scaled { (head_dim as f64).powf(-0.5) } else { 1.0 },
        weighting: Weighting::Softmax,
        key_value_bias: false,
        gate: None,
        attention_soft_cap: None,
        logit_soft_cap: None,
        embedding_scale: 1.0,
        tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        registers: 0,
    };
    // The hub's first checkpoints were saved from the bare model, without a prefix.
    let prefix = if has_tensor("wte.weight") { "" } else { "transformer." };
    Ok(Identity { architecture, naming: Naming::new(Scheme::Gpt2, prefix) })
}

fn gpt_neox(fields: Fields<'_>) -> Result<Identity, ModelError> {
    let d_model = fields.required_size("hidden_size")?;
    let heads = fields.required_size("num_attention_heads")?;
    let head_dim = d_model / heads.max(1);
    let max_positions = fields.required_size("max_position_embeddings")?;
    let parameters = fields.object("rope_parameters");
    let theta = match parameters.map(|p| p.number("rope_theta")).transpose()?.flatten() {
        Some(theta) => theta,
        None => fields.number("rotary_emb_base")?.unwrap_or(10_000.0),
    };
    let share = match parameters.map(|p| p.number("partial_rotary_factor")).transpose()?.flatten() {
        Some(share) => share,
        None => fields.number("rotary_pct")?.unwrap_or(0.25),
    };
    let scaling = rope_scaling(fields, parameters.or_else(|| fields.object("rope_scaling")), max_positions)?;
    let architecture = Architecture {
        family: "gpt_neox".into(),
        d_model,
        heads,
        kv_heads: heads,
        head_dim,
        d_ffn: fields.required_size("intermediate_size")?,
        vocabulary: fields.required_size("vocab_size")?,
        max_positions,
        norm: NormKind::LayerNorm,
        norm_epsilon: fields.number("layer_norm_eps")?.unwrap_or(1e-5),
        norm_placement: NormPlacement::Pre,
        residual: if fields.flag("use_parallel_residual")?.unwrap_or(true) {
            ResidualLayout::Parallel
        } else {
            ResidualLayout::Sequential
        },
        qk_norm: QkNorm::None,
        feed_forward: FeedForward {
            kind: FeedForwardKind::TwoLayer,
            activation: activation(fields, "hidden_act", "gelu")?,
            gated: false,
        },
        position: PositionEncoding::Rotary(vec![Rope {
            theta,
            rotary_dim: (head_dim as f64 * share) as usize,
            scaling,
        }]),
        layers: vec![Layer { window: None, rope: 0 }; layer_count(fields, "num_hidden_layers")?],
        attention_scale: (head_dim as f64).powf(-0.5),
        weighting: Weighting::Softmax,
        key_value_bias: false,
        gate: None,
        attention_soft_cap: None,
        logit_soft_cap: None,
        embedding_scale: 1.0,
        tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        registers: 0,
    };
    Ok(Identity { architecture, naming: Naming::new(Scheme::GptNeoX, "gpt_neox.") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn architecture(config: &Value) -> Result<Architecture, String> {
        match identify(config, Path::new("config.json"), &|_| false) {
            Ok(identity) => Ok(identity.architecture),
            Err(error) => Err(error.to_string()),
        }
    }

    /// With only what `gemma-3-4b` writes down.
    #[test]
    fn what_gemma_3_leaves_out() {
        let text = json!({"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
            "num_hidden_layers": 34, "sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}});
        let a = architecture(&json!({"model_type": "gemma3", "text_config": text})).expect("complete");
        assert_eq!((a.heads, a.kv_heads, a.head_dim, a.vocabulary, a.max_positions), (8, 4, 256, 262_208, 131_072));
        assert_eq!((a.attention_scale, a.logit_soft_cap, a.tied_embeddings), (1.0 / 16.0, None, true));
        assert_eq!((a.layers[4].window, a.layers[5].window), (Some(1024), None));
        let PositionEncoding::Rotary(ropes) = a.position else { panic!("rotary") };
        assert_eq!((ropes[0].theta, &ropes[0].scaling), (1e6, &RopeScaling::Linear { factor: 8.0 }));
        assert_eq!((ropes[1].theta, &ropes[1].scaling), (1e4, &RopeScaling::None));
    }

    #[test]
    fn key_value_heads_left_out_or_null() {
        let config = |family: &str, kv_heads: Option<Value>| {
            let mut config = json!({"model_type": family, "hidden_size": 64, "intermediate_size": 64, "vocab_size": 9,
                "num_hidden_layers": 1, "num_attention_heads": 32, "max_position_embeddings": 8});
            if let Some(kv_heads) = kv_heads {
                config["num_key_value_heads"] = kv_heads;
            }
            architecture(&config).map(|a| (a.kv_heads, a.norm_epsilon))
        };
        assert_eq!(config("llama", None), Ok((32, 1e-6)));
        assert_eq!(config("mistral", None), Ok((8, 1e-6)));
        assert_eq!(config("mistral", Some(Value::Null)), Ok((32, 1e-6)));
        assert_eq!(config("gemma2", None), Ok((4, 1e-6)));
        assert_eq!(config("olmo2", Some(json!(16))), Ok((16, 1e-5)));
        assert_eq!(config("phi3", None), Ok((32, 1e-5)));
        let message = config("llama", Some(json!("many"))).expect_err("not a number");
        assert!(message.contains("`num_key_value_heads` is \"many\""), "{message}");
    }
}
