//! Families as GGUF files describe them: keys under the architecture's name, tensors as llama.cpp converts them. Every key
//! and every tensor of a file is understood, or known to change nothing, or the file is refused by naming it.

mod inert;
mod keys;
mod kind;
mod layers;
mod rope;
mod tensors;

use std::path::Path;

use self::keys::Keys;
use super::Identified;
use super::naming::{Biases, Naming, Scheme};
use crate::architecture::{
    Activation, Architecture, FeedForwardKind, NormKind, NormPlacement, PositionEncoding, QkNorm, ResidualLayout,
    Uniform, UniformFeedForward, Weighting, check_layer_count,
};
use crate::error::ModelError;
use sinkscope_sources::checkpoint::{Checkpoint, GgufMetadata, GgufValue};

/// Those whose conversion an independent implementation confirms. Others are refused rather than guessed at.
const SUPPORTED: &[&str] = &["llama", "qwen2", "qwen3", "phi3", "gemma2", "gemma3", "gpt2"];

/// The output head, unless it is the embedding.
const HEAD: &str = "output.weight";

/// `allowed`: patterns of keys and tensors that the user lets pass unknown.
pub(super) fn identify(
    metadata: &GgufMetadata,
    path: &Path,
    checkpoint: &Checkpoint,
    allowed: &[String],
) -> Result<Identified, ModelError> {
    let family = kind::architecture(metadata, path)?;
    check_quantisation(metadata, path, checkpoint)?;
    let keys = Keys::new(metadata, family, path, allowed);
    let architecture = architecture(&keys, checkpoint)?;
    let passed = keys.settle()?;
    tensors::refuse_other_kinds(&architecture, checkpoint, path, allowed)?;
    let scheme = if matches!(family, "phi3" | "gpt2") { Scheme::GgufFused } else { Scheme::Gguf };
    let naming = Naming::new(scheme, "")
        .with_biases(match family {
            "qwen2" => Biases::QUERY_KEY_VALUE,
            "gpt2" => Biases::new(true, true),
            _ => Biases::default(),
        })
        // A Llama's configuration chooses, and GGUF has no key for the choice.
        .with_stored_biases(family == "llama")
        .with_interleaved_rotary(family == "llama");
    let has_head = architecture.tied_embeddings || checkpoint.tensor(HEAD).is_some();
    let leftovers = tensors::leftovers(&architecture);
    Ok(Identified { architecture, naming, has_head, leftovers, passed })
}

/// Version 2 made the blocks that are read today; 1 had others under the same numbers.
fn check_quantisation(metadata: &GgufMetadata, path: &Path, checkpoint: &Checkpoint) -> Result<(), ModelError> {
    const KEY: &str = "general.quantization_version";
    let quantised = checkpoint.tensors().any(|tensor| tensor.dtype().block_len() > 1);
    match metadata.0.get(KEY) {
        Some(value) if quantised && metadata.unsigned(KEY) != Some(2) => {
            Err(ModelError::unsupported(path, format!("key `{KEY}` is {}; 2 is supported", keys::shown(value))))
        }
        _ => Ok(()),
    }
}

fn architecture(keys: &Keys<'_>, checkpoint: &Checkpoint) -> Result<Architecture, ModelError> {
    let family = keys.family;
    let gemma = family.starts_with("gemma");
    let gpt2 = family == "gpt2";
    let layer_count = keys.required("block_count", keys.size("block_count")?)?;
    check_layer_count(layer_count)
        .map_err(|reason| ModelError::malformed(keys.path, format!("key `{}`: {reason}", keys.name("block_count"))))?;
    let layers = layers::layers(keys, layer_count)?;
    let d_model = keys.required("embedding_length", keys.size("embedding_length")?)?;
    let max_positions = keys.required("context_length", keys.size("context_length")?)?;
    let (heads, kv_heads, head_dim) = heads(keys, layer_count, d_model)?;
    let uniform = Uniform {
        family: family.to_owned(),
        d_model,
        heads,
        kv_heads,
        head_dim,
        d_ffn: keys.required("feed_forward_length", keys.size_of_layers("feed_forward_length", layer_count)?)?,
        vocabulary: vocabulary(keys, checkpoint)?,
        max_positions,
        norm: if gpt2 { NormKind::LayerNorm } else { NormKind::RmsNorm },
        norm_epsilon: norm_epsilon(keys)?,
        norm_placement: if gemma { NormPlacement::Sandwich } else { NormPlacement::Pre },
        residual: ResidualLayout::Sequential,
        qk_norm: if matches!(family, "qwen3" | "gemma3") { QkNorm::PerHead } else { QkNorm::None },
        feed_forward: UniformFeedForward {
            kind: FeedForwardKind::TwoLayer,
            activation: if gemma || gpt2 { Activation::GeluTanh } else { Activation::Silu },
            gated: !gpt2,
        },
        position: if gpt2 {
            PositionEncoding::Learned
        } else {
            PositionEncoding::Rotary(rope::ropes(keys, head_dim, max_positions, &layers, checkpoint)?)
        },
        layers,
        attention_scale: attention_scale(family, layer_count, d_model, heads, head_dim),
        weighting: Weighting::Softmax,
        key_value_bias: false,
        gate: None,
        // Files of before these keys are Gemma 2's as released.
        attention_soft_cap: match family {
            "gemma2" => Some(keys.positive("attn_logit_softcapping")?.unwrap_or(50.0)),
            _ => None,
        },
        logit_soft_cap: match family {
            "gemma2" => Some(keys.positive("final_logit_softcapping")?.unwrap_or(30.0)),
            "gemma3" => keys.positive("final_logit_softcapping")?,
            _ => None,
        },
        embedding_scale: if gemma { (d_model as f64).sqrt() } else { 1.0 },
        tied_embeddings: has_tied_head(keys, checkpoint),
        registers: 0,
    };
    check_agreement(keys, &uniform)?;
    uniform.try_into().map_err(|reason: String| ModelError::malformed(keys.path, reason))
}

/// Query heads, key-value heads, and their width.
fn heads(keys: &Keys<'_>, layers: usize, d_model: usize) -> Result<(usize, usize, usize), ModelError> {
    const HEADS: &str = "attention.head_count";
    const KV_HEADS: &str = "attention.head_count_kv";
    let heads = keys.required(HEADS, keys.size_of_layers(HEADS, layers)?)?;
    let kv_heads = keys.size_of_layers(KV_HEADS, layers)?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let value = GgufValue::Unsigned(kv_heads as u64);
        return Err(keys.wrong(KV_HEADS, &value, &format!("a divisor of the {heads} heads")));
    }
    let (key_width, value_width) = (keys.size("attention.key_length")?, keys.size("attention.value_length")?);
    let default = || {
        if d_model.is_multiple_of(heads) {
            return Ok(d_model / heads);
        }
        let value = GgufValue::Unsigned(heads as u64);
        let width = keys.name("embedding_length");
        Err(keys.wrong(HEADS, &value, &format!("a divisor of {d_model} (`{width}`)")))
    };
    let head_dim = key_width.map_or_else(default, Ok)?;
    match value_width {
        Some(width) if width != head_dim => {
            let value = GgufValue::Unsigned(width as u64);
            let right = format!(
                "only the width of keys, {head_dim} (key `{}`), is supported",
                keys.name("attention.key_length")
            );
            Err(keys.unsupported("attention.value_length", &value, &right))
        }
        _ => Ok((heads, kv_heads, head_dim)),
    }
}

fn norm_epsilon(keys: &Keys<'_>) -> Result<f64, ModelError> {
    const LAYER_NORM: &str = "attention.layer_norm_epsilon";
    const RMS_NORM: &str = "attention.layer_norm_rms_epsilon";
    // Converters write both where a configuration has both; families read their own.
    let layer_norm = keys.positive(LAYER_NORM)?;
    let (key, epsilon) = match keys.family {
        "gpt2" => (LAYER_NORM, layer_norm),
        _ => (RMS_NORM, keys.positive(RMS_NORM)?),
    };
    match keys.required(key, epsilon)? {
        epsilon if epsilon < 1.0 => Ok(epsilon),
        epsilon => Err(keys.wrong(key, &GgufValue::Float(epsilon), "a number between 0 and 1")),
    }
}

/// The number of token ids: rows of the embedding.
fn vocabulary(keys: &Keys<'_>, checkpoint: &Checkpoint) -> Result<usize, ModelError> {
    const EMBEDDING: &str = "token_embd.weight";
    let Some(embedding) = checkpoint.tensor(EMBEDDING) else {
        return Err(ModelError::tensor(keys.path, EMBEDDING, "is missing"));
    };
    let rows = embedding.rows();
    match keys.size("vocab_size")? {
        Some(size) if size != rows => {
            let value = GgufValue::Unsigned(size as u64);
            Err(keys.wrong("vocab_size", &value, &format!("{rows}, the rows of tensor {EMBEDDING},")))
        }
        _ => Ok(rows),
    }
}

/// A file without an output head uses its embedding, unless it was made to end in a vector of the whole text: then nobody
/// knows whether its model's head was the embedding.
fn has_tied_head(keys: &Keys<'_>, checkpoint: &Checkpoint) -> bool {
    let pooled = keys.peek("pooling_type").is_some_and(|value| keys::number(value) != Some(0.0));
    checkpoint.tensor(HEAD).is_none() && !pooled
}

/// Keys that repeat, for models of other shapes, what is computed here in one way only.
fn check_agreement(keys: &Keys<'_>, a: &Uniform) -> Result<(), ModelError> {
    const LAYOUT: &str = "tensor_data_layout";
    keys.must_be("attention.scale", a.attention_scale, "it follows from the width of heads in this family")?;
    keys.must_be("embedding_scale", a.embedding_scale, "this family has this factor on the embedding")?;
    keys.must_be("logit_scale", 1.0, "this family has no factor on the logits")?;
    keys.must_be("residual_scale", 1.0, "this family has no factor on what blocks add")?;
    for key in ["attention.key_length_swa", "attention.value_length_swa"] {
        keys.must_be(key, a.head_dim as f64, "heads of one width are supported")?;
    }
    if let PositionEncoding::Rotary(ropes) = &a.position {
        let width = ropes.first().map_or(0, |rope| rope.rotary_dim);
        keys.must_be("rope.dimension_count_swa", width as f64, "ropes of one width are supported")?;
    }
    match keys.text(LAYOUT)? {
        // Queries and keys with rotary pairs adjacent.
        Some("Meta AI original pth") if a.family == "llama" => Ok(()),
        None => Ok(()),
        Some(other) => {
            let value = GgufValue::Text(other.to_owned());
            Err(keys.unsupported(LAYOUT, &value, "orders of rows are known for this family's usual layout only"))
        }
    }
}

/// GGUF has no key for the factor on scores: llama.cpp knows the 27B of Gemma 2 and of Gemma 3 by their depth.
fn attention_scale(family: &str, layers: usize, d_model: usize, heads: usize, head_dim: usize) -> f64 {
    let width = match (family, layers) {
        ("gemma2", 46) | ("gemma3", 62) => d_model / heads.max(1),
        _ => head_dim,
    };
    (width as f64).powf(-0.5)
}

#[cfg(test)]
mod testing {
    //! Keys without a file.

    use std::path::Path;

    use super::keys::Keys;
    use crate::error::ModelError;
    use sinkscope_sources::checkpoint::{GgufMetadata, GgufValue};

    /// What `read` makes of the keys of `family`, or the message of its error.
    pub fn with_keys<T>(
        family: &str,
        pairs: &[(&str, GgufValue)],
        read: impl FnOnce(&Keys<'_>) -> Result<T, ModelError>,
    ) -> Result<T, String> {
        let named = pairs.iter().map(|(key, value)| (format!("{family}.{key}"), value.clone()));
        let metadata = GgufMetadata(named.collect());
        read(&Keys::new(&metadata, family, Path::new("m.gguf"), &[])).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::attention_scale;

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
