//! Families as GGUF files describe them: keys under the architecture's name, tensors as llama.cpp converts them.

use std::path::Path;

use super::naming::{Naming, Scheme};
use super::{Identity, unsupported_family};
use crate::architecture::{
    Activation, Architecture, FeedForward, Layer, NormKind, NormPlacement, PositionEncoding, QkNorm, ResidualLayout,
    Rope, RopeScaling,
};
use crate::checkpoint::{Checkpoint, GgufMetadata};
use crate::error::ModelError;

/// Those whose conversion an independent implementation confirms. Others are refused rather than guessed at.
const SUPPORTED: &[&str] = &["llama", "qwen2", "qwen3", "phi3", "gemma2", "gemma3", "gpt2"];

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
        return Err(unsupported_family(path, family, SUPPORTED));
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
            activation: if gemma || gpt2 { Activation::GeluTanh } else { Activation::Silu },
            gated: !gpt2,
        },
        position: if gpt2 {
            PositionEncoding::Learned
        } else {
            PositionEncoding::Rotary(ropes(&keys, head_dim, checkpoint)?)
        },
        layers: layers(&keys, layer_count),
        attention_scale: attention_scale(family, layer_count, d_model, heads, head_dim),
        attention_soft_cap: keys.number("attn_logit_softcapping").filter(|_| family == "gemma2"),
        logit_soft_cap: keys.number("final_logit_softcapping").filter(|_| gemma),
        embedding_scale: if gemma { (d_model as f64).sqrt() } else { 1.0 },
        tied_embeddings: checkpoint.tensor("output.weight").is_none(),
    };
    let scheme = if matches!(family, "phi3" | "gpt2") { Scheme::GgufFused } else { Scheme::Gguf };
    let naming = Naming::new(scheme, "")
        .with_qkv_bias(matches!(family, "qwen2" | "gpt2"))
        .with_interleaved_rotary(family == "llama");
    Ok(Identity { architecture, naming })
}

/// GGUF has no key for the factor on scores: llama.cpp knows Gemma 2's 27B by its depth.
fn attention_scale(family: &str, layers: usize, d_model: usize, heads: usize, head_dim: usize) -> f64 {
    let width = if family == "gemma2" && layers == 46 { d_model / heads.max(1) } else { head_dim };
    (width as f64).powf(-0.5)
}

fn layers(keys: &Keys<'_>, count: usize) -> Vec<Layer> {
    let window = keys.size("attention.sliding_window").filter(|&w| w > 0);
    let pattern = keys.size("attention.sliding_window_pattern").unwrap_or(6).max(1);
    (0..count)
        .map(|layer| {
            let slides = match keys.family {
                "gemma2" => layer % 2 == 0,
                "gemma3" => (layer + 1) % pattern != 0,
                "phi3" => true,
                _ => false,
            };
            Layer { window: window.filter(|_| slides), rope: usize::from(keys.family == "gemma3" && slides) }
        })
        .collect()
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
    let scaling = match (divisors("rope_freqs.weight")?, divisors("rope_factors_short.weight")?) {
        (Some(divisors), _) => RopeScaling::Divisors { divisors },
        (None, Some(short)) => RopeScaling::LongRope {
            short,
            long: divisors("rope_factors_long.weight")?
                .ok_or_else(|| ModelError::tensor(keys.path, "rope_factors_long.weight", "is missing"))?,
            original_positions: keys.required_size("rope.scaling.original_context_length")?,
            magnitude: keys.number("rope.scaling.attn_factor").unwrap_or(1.0),
        },
        (None, None) => match (kind, keys.number("rope.scaling.factor")) {
            (Some("linear"), Some(factor)) => RopeScaling::Linear { factor },
            (None | Some("none" | "linear"), _) => RopeScaling::None,
            (Some(other), _) => {
                return Err(ModelError::unsupported(
                    keys.path,
                    format!("rope scaling `{other}` is not supported; supported: linear, rope_freqs, rope_factors"),
                ));
            }
        },
    };
    let mut ropes = vec![Rope { theta, rotary_dim, scaling }];
    if keys.family == "gemma3" {
        let theta = keys.number("rope.freq_base_swa").unwrap_or(10_000.0);
        ropes.push(Rope { theta, rotary_dim, scaling: RopeScaling::None });
    }
    Ok(ropes)
}
