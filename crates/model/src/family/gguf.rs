//! Families as GGUF files describe them: keys under the architecture's name, tensors as llama.cpp converts them.

use std::path::Path;

use super::naming::{Biases, Naming, Scheme};
use super::{Identity, unsupported_family};
use crate::architecture::{
    Activation, Architecture, FeedForward, FeedForwardKind, Layer, NormKind, NormPlacement, PositionEncoding, QkNorm,
    ResidualLayout, Rope, RopeScaling, Weighting, check_layer_count,
};
use crate::checkpoint::{Checkpoint, GgufMetadata, GgufValue};
use crate::error::ModelError;

/// Those whose conversion an independent implementation confirms. Others are refused rather than guessed at.
const SUPPORTED: &[&str] = &["llama", "qwen2", "qwen3", "phi3", "gemma2", "gemma3", "gpt2"];

/// Tensors that are read as part of the description.
pub(super) const LEFTOVERS: &[&str] = &["rope_freqs.weight"];

/// The keys of one architecture.
struct Keys<'a> {
    metadata: &'a GgufMetadata,
    family: &'a str,
    path: &'a Path,
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.family)
    }

    fn size(&self, key: &str) -> Option<usize> {
        self.metadata.unsigned(&self.key(key)).and_then(|v| usize::try_from(v).ok())
    }

    fn required_size(&self, key: &str) -> Result<usize, ModelError> {
        let key = self.key(key);
        match self.metadata.unsigned(&key).and_then(|v| usize::try_from(v).ok()) {
            Some(value) => Ok(value),
            None if self.metadata.0.contains_key(&key) => {
                Err(ModelError::unsupported(self.path, format!("key `{key}` is not one whole number for all layers")))
            }
            None => Err(ModelError::malformed(self.path, format!("key `{key}` is missing"))),
        }
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.metadata.float(&self.key(key))
    }
}

pub(super) fn identify(metadata: &GgufMetadata, path: &Path, checkpoint: &Checkpoint) -> Result<Identity, ModelError> {
    let family = metadata
        .text("general.architecture")
        .ok_or_else(|| ModelError::malformed(path, "key `general.architecture` is missing; it names the family"))?;
    if !SUPPORTED.contains(&family) {
        return Err(unsupported_family(path, &format!("`{family}`"), SUPPORTED));
    }
    let keys = Keys { metadata, family, path };
    let gemma = family.starts_with("gemma");
    let gpt2 = family == "gpt2";
    let d_model = keys.required_size("embedding_length")?;
    let heads = keys.required_size("attention.head_count")?;
    let head_dim = keys.size("attention.key_length").unwrap_or(d_model / heads.max(1));
    if let Some(value) = keys.size("attention.value_length").filter(|&v| v != head_dim) {
        return Err(ModelError::unsupported(path, format!("values of {value} and keys of {head_dim} differ in width")));
    }
    let layer_count = keys.required_size("block_count")?;
    check_layer_count(layer_count).map_err(|reason| ModelError::malformed(path, reason))?;
    let epsilon = if gpt2 { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
    let norm_epsilon = keys
        .number(epsilon)
        .ok_or_else(|| ModelError::malformed(path, format!("key `{}` is missing", keys.key(epsilon))))?;
    let vocabulary = match checkpoint.tensor("token_embd.weight") {
        Some(embedding) => embedding.rows(),
        None => return Err(ModelError::tensor(path, "token_embd.weight", "is missing")),
    };
    let architecture = Architecture {
        family: family.to_owned(),
        d_model,
        heads,
        kv_heads: keys.size("attention.head_count_kv").unwrap_or(heads),
        head_dim,
        d_ffn: keys.required_size("feed_forward_length")?,
        vocabulary,
        max_positions: keys.required_size("context_length")?,
        norm: if gpt2 { NormKind::LayerNorm } else { NormKind::RmsNorm },
        // Stored in f32, as is; the shortest decimal of that f32 is what its author wrote.
        norm_epsilon: (norm_epsilon as f32).to_string().parse().unwrap_or(norm_epsilon),
        norm_placement: if gemma { NormPlacement::Sandwich } else { NormPlacement::Pre },
        residual: ResidualLayout::Sequential,
        qk_norm: if matches!(family, "qwen3" | "gemma3") { QkNorm::PerHead } else { QkNorm::None },
        feed_forward: FeedForward {
            kind: FeedForwardKind::TwoLayer,
            activation: if gemma || gpt2 { Activation::GeluTanh } else { Activation::Silu },
            gated: !gpt2,
        },
        position: if gpt2 {
            PositionEncoding::Learned
        } else {
            PositionEncoding::Rotary(ropes(&keys, head_dim, checkpoint)?)
        },
        layers: layers(&keys, layer_count)?,
        attention_scale: attention_scale(family, layer_count, d_model, heads, head_dim),
        // Files of before these keys are Gemma 2's as released.
        weighting: Weighting::Softmax,
        key_value_bias: false,
        gate: None,
        attention_soft_cap: (family == "gemma2").then(|| keys.number("attn_logit_softcapping").unwrap_or(50.0)),
        logit_soft_cap: match family {
            "gemma2" => Some(keys.number("final_logit_softcapping").unwrap_or(30.0)),
            "gemma3" => keys.number("final_logit_softcapping"),
            _ => None,
        },
        embedding_scale: if gemma { (d_model as f64).sqrt() } else { 1.0 },
        tied_embeddings: checkpoint.tensor("output.weight").is_none(),
        registers: 0,
    };
    let scheme = if matches!(family, "phi3" | "gpt2") { Scheme::GgufFused } else { Scheme::Gguf };
    let naming = Naming::new(scheme, "")
        .with_biases(match family {
            "qwen2" => Biases::QUERY_KEY_VALUE,
            "gpt2" => Biases::new(true, true),
            _ => Biases::default(),
        })
        .with_interleaved_rotary(family == "llama");
    Ok(Identity { architecture, naming })
}

/// GGUF has no key for the factor on scores: llama.cpp knows the 27B of Gemma 2 and of Gemma 3 by their depth.
fn attention_scale(family: &str, layers: usize, d_model: usize, heads: usize, head_dim: usize) -> f64 {
    let width = match (family, layers) {
        ("gemma2", 46) | ("gemma3", 62) => d_model / heads.max(1),
        _ => head_dim,
    };
    (width as f64).powf(-0.5)
}

/// Windows of the layers, and which rope each has. The pattern is a period, whose last layer sees everything, or says for
/// each layer whether it slides.
fn layers(keys: &Keys<'_>, count: usize) -> Result<Vec<Layer>, ModelError> {
    let default_window = if keys.family == "gemma2" { Some(4096) } else { None };
    let window = keys.size("attention.sliding_window").or(default_window).filter(|&w| w > 0);
    let pattern = keys.key("attention.sliding_window_pattern");
    let period = |default: usize| keys.size("attention.sliding_window_pattern").unwrap_or(default).max(1);
    let slides: Vec<bool> = match (keys.family, keys.metadata.0.get(&pattern)) {
        ("gemma2" | "gemma3", Some(GgufValue::Bools(slides))) if slides.len() == count => slides.clone(),
        ("gemma2" | "gemma3", Some(GgufValue::Bools(slides))) => {
            let reason = format!("key `{pattern}` has {} entries for {count} layers", slides.len());
            return Err(ModelError::malformed(keys.path, reason));
        }
        ("gemma2", _) => (0..count).map(|layer| !(layer + 1).is_multiple_of(period(2))).collect(),
        ("gemma3", _) => (0..count).map(|layer| !(layer + 1).is_multiple_of(period(6))).collect(),
        ("phi3", _) => vec![true; count],
        _ => vec![false; count],
    };
    let rope = |slides: bool| usize::from(keys.family == "gemma3" && slides);
    Ok(slides.into_iter().map(|slides| Layer { window: window.filter(|_| slides), rope: rope(slides) }).collect())
}

fn ropes(keys: &Keys<'_>, head_dim: usize, checkpoint: &Checkpoint) -> Result<Vec<Rope>, ModelError> {
    let rotary_dim = keys.size("rope.dimension_count").unwrap_or(head_dim);
    let default_theta = if keys.family == "gemma3" { 1e6 } else { 1e4 };
    let theta = keys.number("rope.freq_base").unwrap_or(default_theta);
    let divisors = |name: &str| -> Result<Option<Vec<f64>>, ModelError> {
        let Some(tensor) = checkpoint.tensor(name) else { return Ok(None) };
        let mut values = vec![0.0; tensor.row_len()];
        tensor.decode_rows(0..1, &mut values)?;
        Ok(Some(values.into_iter().map(f64::from).collect()))
    };
    let kind = keys.metadata.text(&keys.key("rope.scaling.type"));
    // Nothing independent reads LongRope from GGUF.
    let kind = if checkpoint.tensor("rope_factors_short.weight").is_some() { Some("longrope") } else { kind };
    let scaling = match (divisors("rope_freqs.weight")?, kind, keys.number("rope.scaling.factor")) {
        (Some(divisors), ..) => RopeScaling::Divisors { divisors },
        (None, Some("linear"), Some(factor)) => RopeScaling::Linear { factor },
        (None, None | Some("none" | "linear"), _) => RopeScaling::None,
        (None, Some(other), _) => {
            return Err(ModelError::unsupported(
                keys.path,
                format!("rope scaling `{other}` is not supported in GGUF; supported: linear, rope_freqs"),
            ));
        }
    };
    let mut ropes = vec![Rope { theta, rotary_dim, scaling }];
    if keys.family == "gemma3" {
        let theta = keys.number("rope.freq_base_swa").unwrap_or(10_000.0);
        ropes.push(Rope { theta, rotary_dim, scaling: RopeScaling::None });
    }
    Ok(ropes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(family: &str, pairs: &[(&str, GgufValue)], count: usize) -> Result<Vec<Option<usize>>, String> {
        let named = pairs.iter().map(|(key, value)| (format!("{family}.{key}"), value.clone()));
        let metadata = GgufMetadata(named.collect());
        let keys = Keys { metadata: &metadata, family, path: Path::new("m.gguf") };
        let layers = layers(&keys, count).map_err(|error| error.to_string())?;
        Ok(layers.into_iter().map(|layer| layer.window).collect())
    }

    #[test]
    fn windows_alternate_as_the_file_or_else_the_family_says() {
        let window = ("attention.sliding_window", GgufValue::Unsigned(8));
        let (w, n) = (Some(8), None);
        assert_eq!(windows("gemma2", std::slice::from_ref(&window), 4), Ok(vec![w, n, w, n]));
        assert_eq!(windows("gemma2", &[], 3), Ok(vec![Some(4096), n, Some(4096)]));
        assert_eq!(windows("gemma3", std::slice::from_ref(&window), 7), Ok(vec![w, w, w, w, w, n, w]));
        assert_eq!(windows("gemma3", &[], 7), Ok(vec![n; 7]));
        assert_eq!(windows("phi3", std::slice::from_ref(&window), 2), Ok(vec![w, w]));
        assert_eq!(windows("llama", std::slice::from_ref(&window), 2), Ok(vec![n, n]));
        let key = "attention.sliding_window_pattern";
        let every_third = [window.clone(), (key, GgufValue::Unsigned(3))];
        assert_eq!(windows("gemma3", &every_third, 4), Ok(vec![w, w, n, w]));
        let listed = [window, (key, GgufValue::Bools(vec![false, true, true]))];
        assert_eq!(windows("gemma2", &listed, 3), Ok(vec![n, w, w]));
        let message = windows("gemma2", &listed, 4).expect_err("one entry is missing");
        assert!(message.contains("gemma2.attention.sliding_window_pattern` has 3 entries for 4 layers"), "{message}");
    }

    /// Depth, width, heads and head_dim as released.
    #[test]
    fn the_largest_gemmas_scale_by_width_per_head() {
        assert_eq!(attention_scale("gemma2", 46, 4608, 32, 128), 144_f64.powf(-0.5));
        assert_eq!(attention_scale("gemma3", 62, 5376, 32, 128), 168_f64.powf(-0.5));
        assert_eq!(attention_scale("gemma2", 26, 2304, 8, 256), 1.0 / 16.0);
        assert_eq!(attention_scale("gemma3", 26, 1152, 4, 256), 1.0 / 16.0);
        assert_eq!(attention_scale("llama", 46, 4096, 64, 128), 128_f64.powf(-0.5));
    }
}
