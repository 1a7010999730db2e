//! Rotary embeddings: bases, widths and scalings.

use super::keys::Keys;
use crate::architecture::{LayerView, Rope, RopeScaling};
use crate::error::ModelError;
use sinkscope_sources::checkpoint::{Checkpoint, GgufValue, Tensor};

/// llama.cpp's base where the key is absent, and its base of Gemma 3's layers that slide.
const THETA: f64 = 10_000.0;

const TYPE: &str = "rope.scaling.type";
const FACTOR: &str = "rope.scaling.factor";
/// The factor in files before `rope.scaling.type`.
const OLD_FACTOR: &str = "rope.scale_linear";
const ORIGINAL: &str = "rope.scaling.original_context_length";
const MAGNITUDE: &str = "rope.scaling.attn_factor";

/// The tensor that holds a divisor per frequency.
pub(super) const DIVISORS: &str = "rope_freqs.weight";
/// The tensors of LongRope, short and long.
pub(super) const FACTORS: [&str; 2] = ["rope_factors_short.weight", "rope_factors_long.weight"];

/// The ropes that `layers` choose among.
pub(super) fn ropes(
    keys: &Keys<'_>,
    head_dim: usize,
    context: usize,
    layers: &[LayerView],
    checkpoint: &Checkpoint,
) -> Result<Vec<Rope>, ModelError> {
    let rotary_dim = rotary_dim(keys, head_dim)?;
    let theta = match keys.positive("rope.freq_base")? {
        Some(theta) => theta,
        // llama.cpp takes 10,000 and transformers 1,000,000.
        None if keys.family == "gemma3" => return Err(keys.missing("rope.freq_base")),
        None => THETA,
    };
    let mut ropes = vec![Rope { theta, rotary_dim, scaling: scaling(keys, rotary_dim, context, checkpoint)? }];
    if keys.family == "gemma3" {
        let theta = keys.positive("rope.freq_base_swa")?.unwrap_or(THETA);
        if layers.iter().any(|layer| layer.rope == 1) {
            ropes.push(Rope { theta, rotary_dim, scaling: RopeScaling::None });
        }
    } else {
        keys.must_be("rope.freq_base_swa", theta, "this family has one rotary base for all layers")?;
    }
    Ok(ropes)
}

fn rotary_dim(keys: &Keys<'_>, head_dim: usize) -> Result<usize, ModelError> {
    const WIDTH: &str = "rope.dimension_count";
    let width = keys.size(WIDTH)?.unwrap_or(head_dim);
    let value = GgufValue::Unsigned(width as u64);
    if width > head_dim || !width.is_multiple_of(2) {
        let wanted = format!("an even number up to the head's width of {head_dim}");
        return Err(keys.wrong(WIDTH, &value, &wanted));
    }
    if keys.family == "llama" && width != head_dim {
        let right = format!(
            "only the head's width, {head_dim}, is supported: this family's files interleave the rows of queries and keys, \
             and do not say how where only part of a head rotates"
        );
        return Err(keys.unsupported(WIDTH, &value, &right));
    }
    Ok(width)
}

fn scaling(
    keys: &Keys<'_>,
    rotary_dim: usize,
    context: usize,
    checkpoint: &Checkpoint,
) -> Result<RopeScaling, ModelError> {
    let kind = keys.text(TYPE)?;
    let kind_name = keys.name(TYPE);
    let factor = factor(keys)?;
    let original = keys.size(ORIGINAL)?;
    let has_factors = keys.family == "phi3" && FACTORS.iter().any(|tensor| checkpoint.tensor(tensor).is_some());
    let scaling = match (kind, factor) {
        (Some("longrope") | None, None) if has_factors => long_rope(keys, rotary_dim, original, checkpoint)?,
        _ if has_factors => return Err(twice(keys, kind.map_or(FACTOR, |_| TYPE), FACTORS[0])),
        (Some("none" | "linear") | None, None | Some(1.0)) => RopeScaling::None,
        // A factor without a type is linear, in llama.cpp too.
        (Some("linear") | None, Some(factor)) => RopeScaling::Linear { factor },
        (Some("none"), Some(factor)) => {
            let reason = format!("key `{kind_name}` is \"none\" and key `{}` is {factor}", keys.name(FACTOR));
            return Err(ModelError::malformed(keys.path, reason + "; only one of them can be right"));
        }
        (Some("yarn"), Some(factor)) if keys.family != "gemma3" => yarn(keys, factor, original.unwrap_or(context))?,
        (Some("yarn"), None) => return Err(keys.missing(FACTOR)),
        (Some(other), _) => {
            let reason = format!(
                "key `{kind_name}` is {other:?}; supported are \"none\", \"linear\", \"yarn\" (except in gemma3) and, in phi3 \
                 with its factors, \"longrope\""
            );
            return Err(ModelError::unsupported(keys.path, reason));
        }
    };
    if !matches!(scaling, RopeScaling::Yarn { .. }) {
        without_yarn(keys)?;
    }
    if !matches!(scaling, RopeScaling::Yarn { .. } | RopeScaling::LongRope { .. }) {
        keys.must_be(MAGNITUDE, 1.0, "cosines and sines are multiplied in YaRN and LongRope only")?;
    }
    match divisors(keys, rotary_dim, checkpoint)? {
        None => Ok(scaling),
        Some(divisors) if scaling == RopeScaling::None => Ok(RopeScaling::Divisors { divisors }),
        Some(_) => Err(twice(keys, kind.map_or(FACTOR, |_| TYPE), DIVISORS)),
    }
}

fn twice(keys: &Keys<'_>, key: &str, tensor: &str) -> ModelError {
    let reason = format!("rope scaling is given twice, by key `{}` and by tensor {tensor}", keys.name(key));
    ModelError::unsupported(keys.path, reason)
}

fn factor(keys: &Keys<'_>) -> Result<Option<f64>, ModelError> {
    let (new, old) = (keys.positive(FACTOR)?, keys.positive(OLD_FACTOR)?);
    match (new, old) {
        (Some(new), Some(old)) if new != old => {
            let (new_name, old_name) = (keys.name(FACTOR), keys.name(OLD_FACTOR));
            let reason =
                format!("rope scaling is given twice: key `{new_name}` is {new} and key `{old_name}` is {old}");
            Err(ModelError::malformed(keys.path, reason))
        }
        _ => Ok(new.or(old)),
    }
}

/// As llama.cpp and transformers compute it alike. Converters copy the ends of the ramp from the configuration;
/// transformers uses them, llama.cpp not in all of these families.
fn yarn(keys: &Keys<'_>, factor: f64, original_positions: usize) -> Result<RopeScaling, ModelError> {
    let stretch = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
    keys.must_be("rope.scaling.yarn_ext_factor", 1.0, "transformers has no such factor on the ramp")?;
    keys.must_be(
        "rope.scaling.yarn_attn_factor",
        stretch,
        "with another transformers would multiply cosines and sines by it, and llama.cpp would not",
    )?;
    keys.must_be("rope.scaling.yarn_log_multiplier", 0.0, "another is of DeepSeek's models")?;
    let scaling = RopeScaling::Yarn {
        factor,
        beta_fast: keys.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
        beta_slow: keys.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        truncate: true,
        original_positions,
        magnitude: stretch * keys.positive(MAGNITUDE)?.unwrap_or(1.0),
    };
    Ok(scaling)
}

/// LongRope as the converter of Phi-3 writes it. Sequences beyond the original length have the long factors, as in
/// transformers; llama.cpp goes by the length that its cache has room for.
fn long_rope(
    keys: &Keys<'_>,
    rotary_dim: usize,
    original: Option<usize>,
    checkpoint: &Checkpoint,
) -> Result<RopeScaling, ModelError> {
    let factors = |tensor| per_frequency(keys, tensor, rotary_dim, checkpoint.require(tensor)?);
    Ok(RopeScaling::LongRope {
        short: factors(FACTORS[0])?,
        long: factors(FACTORS[1])?,
        original_positions: keys.required(ORIGINAL, original)?,
        // Without the key llama.cpp takes 1, and transformers what follows from the two lengths.
        magnitude: keys.required(MAGNITUDE, keys.positive(MAGNITUDE)?)?,
    })
}

/// What YaRN alone gives a meaning; llama.cpp would apply the first without it.
fn without_yarn(keys: &Keys<'_>) -> Result<(), ModelError> {
    keys.must_be("rope.scaling.yarn_ext_factor", 0.0, "the scaling is not YaRN")?;
    keys.must_be("rope.scaling.yarn_attn_factor", 1.0, "the scaling is not YaRN")?;
    keys.must_be("rope.scaling.yarn_log_multiplier", 0.0, "the scaling is not YaRN")?;
    keys.positive("rope.scaling.yarn_beta_fast")?;
    keys.positive("rope.scaling.yarn_beta_slow")?;
    Ok(())
}

/// The divisors of a file of Llama 3. In other families llama.cpp does not read them, and the tensor is left over.
fn divisors(keys: &Keys<'_>, rotary_dim: usize, checkpoint: &Checkpoint) -> Result<Option<Vec<f64>>, ModelError> {
    let tensor = checkpoint.tensor(DIVISORS).filter(|_| keys.family == "llama");
    tensor.map(|tensor| per_frequency(keys, DIVISORS, rotary_dim, tensor)).transpose()
}

fn per_frequency(keys: &Keys<'_>, name: &str, rotary_dim: usize, tensor: &Tensor) -> Result<Vec<f64>, ModelError> {
    let frequencies = rotary_dim / 2;
    let wrong = |reason: String| Err(ModelError::tensor(keys.path, name, reason));
    if tensor.shape() != [frequencies] {
        let shape = tensor.shape();
        return wrong(format!("has shape {shape:?}; one divisor for each of {frequencies} frequencies is needed"));
    }
    let divisors: Vec<f64> = tensor.decode()?.into_iter().map(f64::from).collect();
    match divisors.iter().find(|divisor| **divisor <= 0.0) {
        Some(divisor) => wrong(format!("holds {divisor}; divisors must be above 0")),
        None => Ok(divisors),
    }
}
