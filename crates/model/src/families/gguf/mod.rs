//! Families as GGUF files describe them: keys under the architecture's name, tensors as llama.cpp converts them. Every key
//! and every tensor of a file is understood, or known to change nothing, or the file is refused by naming it.

mod inert;
mod keys;
mod kind;
mod rope;
mod tensors;
mod windows;

use std::path::Path;

use super::naming::HeadRows;
use super::plain::Plain;
use super::{Identified, Identity};
use crate::architecture::{Activation, Architecture, check_layer_count};
use crate::error::ModelError;
use sinkscope_sources::checkpoint::{Checkpoint, GgufMetadata, GgufValue};

pub(super) use keys::Keys;
pub(super) use rope::{Rotary, THETA, only_rope, rope};
pub(super) use tensors::{fused_names, names};
pub(super) use windows::{WINDOW, window, windows};

/// A family as GGUF files describe it.
pub(super) struct Gguf {
    /// Its name in `general.architecture`.
    pub architecture: &'static str,
    read: fn(&Keys<'_>) -> Result<Identity, ModelError>,
}

impl Gguf {
    pub const fn new(architecture: &'static str, read: fn(&Keys<'_>) -> Result<Identity, ModelError>) -> Self {
        Self { architecture, read }
    }
}

/// The keys of the norms' epsilon.
pub(super) const LAYER_NORM: &str = "attention.layer_norm_epsilon";
pub(super) const RMS_NORM: &str = "attention.layer_norm_rms_epsilon";

/// The output head, unless it is the embedding.
const HEAD: &str = "output.weight";

/// `allowed`: patterns of keys and tensors that the user lets pass unknown.
pub(super) fn identify(
    metadata: &GgufMetadata,
    checkpoint: &Checkpoint,
    allowed: &[String],
) -> Result<Identified, ModelError> {
    let path = checkpoint.path();
    let family = kind::family(metadata, path)?;
    check_quantisation(metadata, path, checkpoint)?;
    let keys = Keys::new(metadata, checkpoint, family.architecture, allowed);
    let Identity { architecture, naming } = (family.read)(&keys)?;
    check_agreement(&keys, &architecture, naming.heads)?;
    let passed = keys.settle()?;
    tensors::refuse_other_kinds(&architecture, checkpoint, path, allowed)?;
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

/// What the files of all families say alike; `epsilon`: the key that the family reads.
pub(super) fn plain(keys: &Keys<'_>, epsilon: &str, activation: Activation) -> Result<Plain, ModelError> {
    let layers = keys.required("block_count", keys.size("block_count")?)?;
    check_layer_count(layers)
        .map_err(|reason| ModelError::malformed(keys.path, format!("key `{}`: {reason}", keys.name("block_count"))))?;
    let d_model = keys.required("embedding_length", keys.size("embedding_length")?)?;
    let max_positions = keys.required("context_length", keys.size("context_length")?)?;
    let (heads, kv_heads, head_dim) = heads(keys, layers, d_model)?;
    Ok(Plain {
        vocabulary: vocabulary(keys)?,
        d_model,
        d_ffn: keys.required("feed_forward_length", keys.size_of_layers("feed_forward_length", layers)?)?,
        layers,
        heads,
        kv_heads,
        head_dim,
        max_positions,
        norm_epsilon: norm_epsilon(keys, epsilon)?,
        activation,
        tied: has_tied_head(keys),
    })
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

fn norm_epsilon(keys: &Keys<'_>, key: &str) -> Result<f64, ModelError> {
    // Converters write both where a configuration has both; families read their own.
    keys.positive(LAYER_NORM)?;
    match keys.required(key, keys.positive(key)?)? {
        epsilon if epsilon < 1.0 => Ok(epsilon),
        epsilon => Err(keys.wrong(key, &GgufValue::Float(epsilon), "a number between 0 and 1")),
    }
}

/// The number of token ids: rows of the embedding.
fn vocabulary(keys: &Keys<'_>) -> Result<usize, ModelError> {
    const EMBEDDING: &str = "token_embd.weight";
    let Some(embedding) = keys.checkpoint.tensor(EMBEDDING) else {
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
fn has_tied_head(keys: &Keys<'_>) -> bool {
    let pooled = keys.peek("pooling_type").is_some_and(|value| keys::number(value) != Some(0.0));
    keys.checkpoint.tensor(HEAD).is_none() && !pooled
}

/// Keys that repeat, for models of other shapes, what is computed here in one way only.
fn check_agreement(keys: &Keys<'_>, a: &Architecture, heads: HeadRows) -> Result<(), ModelError> {
    const LAYOUT: &str = "tensor_data_layout";
    let attention = a.attention(0);
    keys.must_be("attention.scale", attention.scale, "it follows from the width of heads in this family")?;
    keys.must_be("embedding_scale", a.embedding_scale, "this family has this factor on the embedding")?;
    for key in ["attention.key_length_swa", "attention.value_length_swa"] {
        keys.must_be(key, attention.head_dim as f64, "heads of one width are supported")?;
    }
    if let Some(rope) = attention.rope() {
        if heads == HeadRows::Interleaved && rope.rotary_dim != attention.head_dim {
            let value = GgufValue::Unsigned(rope.rotary_dim as u64);
            let right = format!(
                "only the head's width, {}, is supported: this family's files interleave the rows of queries and keys, and do \
                 not say how where only part of a head rotates",
                attention.head_dim
            );
            return Err(keys.unsupported("rope.dimension_count", &value, &right));
        }
        keys.must_be("rope.dimension_count_swa", rope.rotary_dim as f64, "ropes of one width are supported")?;
    }
    match keys.text(LAYOUT)? {
        // Queries and keys with rotary pairs adjacent.
        Some("Meta AI original pth") if heads == HeadRows::Interleaved => Ok(()),
        None => Ok(()),
        Some(other) => {
            let value = GgufValue::Text(other.to_owned());
            Err(keys.unsupported(LAYOUT, &value, "orders of rows are known for this family's usual layout only"))
        }
    }
}
