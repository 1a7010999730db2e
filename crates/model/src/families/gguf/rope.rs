//! Rotary embeddings: bases, widths and scalings.

use super::keys::Keys;
use crate::architecture::{Rope, RopeScaling};
use crate::error::ModelError;
use crate::families::plain::Plain;
use sinkscope_sources::checkpoint::{GgufValue, Tensor};

/// llama.cpp's base where a key is absent.
pub(in crate::families) const THETA: f64 = 10_000.0;

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

/// How the rope of a family can be scaled, beside none and linear.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::families) enum Rotary {
    Linear,
    Yarn,
    /// YaRN, or a divisor per frequency in a tensor. llama.cpp does not read the tensor in other families.
    Divisors,
    /// YaRN, or LongRope in two tensors.
    LongRope,
}

pub(in crate::families) fn only_rope(keys: &Keys<'_>, plain: &Plain, rotary: Rotary) -> Result<Rope, ModelError> {
    let rope = rope(keys, plain, rotary)?;
    keys.must_be("rope.freq_base_swa", rope.theta, "this family has one rotary base for all layers")?;
    Ok(rope)
}

/// The rope of the layers that see everything.
pub(in crate::families) fn rope(keys: &Keys<'_>, plain: &Plain, rotary: Rotary) -> Result<Rope, ModelError> {
    let rotary_dim = rotary_dim(keys, plain.head_dim)?;
    let theta = keys.positive("rope.freq_base")?.unwrap_or(THETA);
    let scaling = Reader { keys, rotary, rotary_dim, context: plain.max_positions }.scaling()?;
    Ok(Rope { theta, rotary_dim, scaling })
}

fn rotary_dim(keys: &Keys<'_>, head_dim: usize) -> Result<usize, ModelError> {
    const WIDTH: &str = "rope.dimension_count";
    let width = keys.size(WIDTH)?.unwrap_or(head_dim);
    let value = GgufValue::Unsigned(width as u64);
    if width > head_dim || !width.is_multiple_of(2) {
        let wanted = format!("an even number up to the head's width of {head_dim}");
        return Err(keys.wrong(WIDTH, &value, &wanted));
    }
    Ok(width)
}

/// What scalings are read from.
struct Reader<'a> {
    keys: &'a Keys<'a>,
    rotary: Rotary,
    rotary_dim: usize,
    /// Positions that the model was made for.
    context: usize,
}

impl Reader<'_> {
    fn scaling(&self) -> Result<RopeScaling, ModelError> {
        let keys = self.keys;
        let kind = keys.text(TYPE)?;
        let factor = factor(keys)?;
        let original = keys.size(ORIGINAL)?;
        let has_factors = self.rotary == Rotary::LongRope
            && FACTORS.iter().any(|tensor| self.keys.checkpoint.tensor(tensor).is_some());
        let scaling = match (kind, factor) {
            (Some("longrope") | None, None) if has_factors => self.long_rope(original)?,
            _ if has_factors => return Err(twice(keys, kind.map_or(FACTOR, |_| TYPE), FACTORS[0])),
            (Some("none" | "linear") | None, None | Some(1.0)) => RopeScaling::None,
            // A factor without a type is linear, in llama.cpp too.
            (Some("linear") | None, Some(factor)) => RopeScaling::Linear { factor },
            (Some("none"), Some(factor)) => {
                let (kind, key) = (keys.name(TYPE), keys.name(FACTOR));
                let reason = format!("key `{kind}` is \"none\" and key `{key}` is {factor}");
                return Err(ModelError::malformed(keys.path, reason + "; only one of them can be right"));
            }
            (Some("yarn"), factor) if self.rotary != Rotary::Linear => {
                yarn(keys, keys.required(FACTOR, factor)?, original.unwrap_or(self.context))?
            }
            (Some(other), _) => return Err(self.unsupported(other)),
        };
        if !matches!(scaling, RopeScaling::Yarn { .. }) {
            without_yarn(keys)?;
        }
        if !matches!(scaling, RopeScaling::Yarn { .. } | RopeScaling::LongRope { .. }) {
            keys.must_be(MAGNITUDE, 1.0, "cosines and sines are multiplied in YaRN and LongRope only")?;
        }
        match self.divisors()? {
            None => Ok(scaling),
            Some(divisors) if scaling == RopeScaling::None => Ok(RopeScaling::Divisors { divisors }),
            Some(_) => Err(twice(keys, kind.map_or(FACTOR, |_| TYPE), DIVISORS)),
        }
    }

    fn unsupported(&self, kind: &str) -> ModelError {
        let yarn = if self.rotary == Rotary::Linear { "" } else { ", \"yarn\"" };
        let long_rope = if self.rotary == Rotary::LongRope { " and, with its factors, \"longrope\"" } else { "" };
        let key = self.keys.name(TYPE);
        let reason =
            format!("key `{key}` is {kind:?}; supported in this family are \"none\", \"linear\"{yarn}{long_rope}");
        ModelError::unsupported(self.keys.path, reason)
    }

    /// LongRope as the converter of Phi-3 writes it. Sequences beyond the original length have the long factors, as in
    /// transformers; llama.cpp goes by the length that its cache has room for.
    fn long_rope(&self, original: Option<usize>) -> Result<RopeScaling, ModelError> {
        let factors = |tensor| self.per_frequency(tensor, self.keys.checkpoint.require(tensor)?);
        Ok(RopeScaling::LongRope {
            short: factors(FACTORS[0])?,
            long: factors(FACTORS[1])?,
            original_positions: self.keys.required(ORIGINAL, original)?,
            // Without the key llama.cpp takes 1, and transformers what follows from the two lengths.
            magnitude: self.keys.required(MAGNITUDE, self.keys.positive(MAGNITUDE)?)?,
        })
    }

    /// The divisors of a file of Llama 3. In other families the tensor is left over.
    fn divisors(&self) -> Result<Option<Vec<f64>>, ModelError> {
        let tensor = self.keys.checkpoint.tensor(DIVISORS).filter(|_| self.rotary == Rotary::Divisors);
        tensor.map(|tensor| self.per_frequency(DIVISORS, tensor)).transpose()
    }

    fn per_frequency(&self, name: &str, tensor: &Tensor) -> Result<Vec<f64>, ModelError> {
        let frequencies = self.rotary_dim / 2;
        let wrong = |reason: String| Err(ModelError::tensor(self.keys.path, name, reason));
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

/// What YaRN alone gives a meaning; llama.cpp would apply the first without it.
fn without_yarn(keys: &Keys<'_>) -> Result<(), ModelError> {
    keys.must_be("rope.scaling.yarn_ext_factor", 0.0, "the scaling is not YaRN")?;
    keys.must_be("rope.scaling.yarn_attn_factor", 1.0, "the scaling is not YaRN")?;
    keys.must_be("rope.scaling.yarn_log_multiplier", 0.0, "the scaling is not YaRN")?;
    keys.positive("rope.scaling.yarn_beta_fast")?;
    keys.positive("rope.scaling.yarn_beta_slow")?;
    Ok(())
}
