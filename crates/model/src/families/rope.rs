//! Rotary embeddings as configurations describe them: `rope_theta` and `rope_scaling` in the form of transformers 4,
//! `rope_parameters` in that of 5. A setting that is given in both must be the same in both.
//!
//! The meaning of every key is that of transformers 5.24, `modeling_rope_utils.py`.

use super::fields::Fields;
use crate::architecture::{Rope, RopeScaling};
use crate::error::ModelError;

/// How a family spells its rotary embedding.
pub(super) struct Spelling {
    /// The key of the base beside the scaling.
    pub theta: &'static str,
    /// The base if no key says it.
    pub default_theta: f64,
    /// The key of the share of a head that rotates, and its default; `None` where all of it does.
    pub share: Option<(&'static str, f64)>,
    /// The original length if no key says it: Phi-3 has one of its own, others take `max_position_embeddings`.
    pub default_original: Option<usize>,
    /// Whether the scaling is longrope or none, and `su` and `yarn` are earlier names of longrope, as in Phi-3.
    pub only_longrope: bool,
}

impl Default for Spelling {
    fn default() -> Self {
        Self { theta: "rope_theta", default_theta: 10_000.0, share: None, default_original: None, only_longrope: false }
    }
}

/// The one rotary embedding of a model.
///
/// # Errors
/// If a key has a value that it cannot have, two contradict each other, or the scaling is not supported.
pub(super) fn rope(
    fields: &Fields<'_>,
    spelling: &Spelling,
    head_dim: usize,
    max_positions: usize,
) -> Result<Rope, ModelError> {
    let scaling = given(fields, "rope_scaling")?;
    let parameters = given(fields, "rope_parameters")?;
    if scaling.is_some() && parameters.is_some() {
        return Err(fields.wrong_value("rope_scaling", "either it or `rope_parameters`, and not both,"));
    }
    let nested = parameters.or(scaling);
    let theta = one_of(fields, spelling.theta, nested.as_ref(), "rope_theta")?.unwrap_or(spelling.default_theta);
    let share = match spelling.share {
        Some((key, default)) => one_of(fields, key, nested.as_ref(), "partial_rotary_factor")?.unwrap_or(default),
        None => whole_head(fields, nested.as_ref())?,
    };
    let original = match spelling.default_original {
        Some(default) => Some(fields.or("original_max_position_embeddings", default)?),
        None => fields.optional("original_max_position_embeddings")?,
    };
    let scaling = match nested {
        Some(nested) => read_scaling(&nested, &Lengths { original, max_positions }, spelling.only_longrope)?,
        None => RopeScaling::None,
    };
    let rotary_dim = (head_dim as f64 * share) as usize;
    Ok(Rope { theta, rotary_dim, scaling })
}

/// One of two rotary embeddings, for layers of `kind`: `rope_parameters` is nested by kind of layer, and in the form of
/// transformers 4 the base has a key of its own, and `rope_scaling` is of the layers that see everything.
///
/// # Errors
/// As [`rope`].
pub(super) fn rope_of_kind(
    fields: &Fields<'_>,
    kind: &str,
    (theta_key, default_theta): (&str, f64),
    head_dim: usize,
    max_positions: usize,
) -> Result<Rope, ModelError> {
    let nested = match given(fields, "rope_parameters")? {
        Some(parameters) => given(&parameters, kind)?,
        None => None,
    };
    let scaled = if kind == "full_attention" { given(fields, "rope_scaling")? } else { None };
    if scaled.is_some() && nested.is_some() {
        return Err(fields.wrong_value("rope_scaling", "either it or `rope_parameters`, and not both,"));
    }
    let theta = one_of(fields, theta_key, nested.as_ref(), "rope_theta")?.unwrap_or(default_theta);
    if let Some(scaled) = &scaled
        && scaled.value("rope_type").is_none()
    {
        // Transformers 4 follows `type` here, and 5 does not.
        return Err(fields.wrong_value("rope_scaling", "a `rope_type` in it"));
    }
    whole_head(fields, nested.as_ref())?;
    let scaling = match nested.or(scaled) {
        Some(nested) => read_scaling(&nested, &Lengths { original: None, max_positions }, false)?,
        None => RopeScaling::None,
    };
    Ok(Rope { theta, rotary_dim: head_dim, scaling })
}

/// An object that says something.
fn given<'a>(fields: &Fields<'a>, key: &str) -> Result<Option<Fields<'a>>, ModelError> {
    Ok(fields.object(key)?.filter(|object| !object.is_empty()))
}

/// A number that stands in the object, beside it, or in both alike.
fn one_of(
    fields: &Fields<'_>,
    beside: &str,
    nested: Option<&Fields<'_>>,
    within: &str,
) -> Result<Option<f64>, ModelError> {
    let outer = fields.optional::<f64>(beside)?;
    let inner = nested.map(|nested| nested.optional::<f64>(within)).transpose()?.flatten();
    match (outer, inner, nested) {
        (Some(outer), Some(inner), Some(nested)) if outer != inner => {
            Err(nested.wrong_value(within, format!("the value of `{}`, {outer},", fields.name(beside))))
        }
        _ => Ok(inner.or(outer)),
    }
}

/// Families whose heads rotate whole do not look at the share in transformers, so only 1 is right.
fn whole_head(fields: &Fields<'_>, nested: Option<&Fields<'_>>) -> Result<f64, ModelError> {
    for fields in [Some(fields), nested].into_iter().flatten() {
        if fields.or("partial_rotary_factor", 1.0)? != 1.0 {
            return Err(fields.wrong_value("partial_rotary_factor", "1, as heads of this family rotate whole,"));
        }
    }
    Ok(1.0)
}

struct Lengths {
    /// What the configuration says of the original length beside the scaling.
    original: Option<usize>,
    max_positions: usize,
}

impl Lengths {
    /// The original length: beside the scaling, in it, in both alike, or else the whole length.
    fn original(&self, scaling: &Fields<'_>) -> Result<usize, ModelError> {
        const KEY: &str = "original_max_position_embeddings";
        match (self.original, scaling.optional::<usize>(KEY)?) {
            (Some(outer), Some(inner)) if outer != inner => {
                Err(scaling.wrong_value(KEY, format!("{outer}, which stands beside it or is the family's own,")))
            }
            (outer, inner) => Ok(outer.or(inner).unwrap_or(self.max_positions)),
        }
    }
}

fn read_scaling(scaling: &Fields<'_>, lengths: &Lengths, only_longrope: bool) -> Result<RopeScaling, ModelError> {
    let kind = scaling.agreeing::<&str>(&["rope_type", "type"])?.unwrap_or("default");
    let kind = match kind {
        "su" | "yarn" | "longrope" if only_longrope => "longrope",
        "default" => "default",
        _ if only_longrope => {
            let key = if scaling.value("rope_type").is_some() { "rope_type" } else { "type" };
            return Err(scaling.wrong_value(key, "longrope or default"));
        }
        kind => kind,
    };
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: scaling.required("factor")? }),
        "dynamic" => {
            Ok(RopeScaling::Dynamic { factor: scaling.required("factor")?, original_positions: lengths.max_positions })
        }
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: scaling.required("factor")?,
            low_frequency_factor: scaling.required("low_freq_factor")?,
            high_frequency_factor: scaling.required("high_freq_factor")?,
            original_positions: lengths.original(scaling)?,
        }),
        "yarn" => yarn(scaling, lengths),
        "longrope" => longrope(scaling, lengths),
        other => Err(ModelError::unsupported(
            scaling.path,
            format!(
                "rope scaling `{other}` is not supported; supported: default, linear, dynamic, llama3, yarn, longrope"
            ),
        )),
    }
}

fn yarn(scaling: &Fields<'_>, lengths: &Lengths) -> Result<RopeScaling, ModelError> {
    let original_positions = lengths.original(scaling)?;
    if scaling.value("factor").is_none() {
        // Null stands for the ratio of the lengths; absent, the key is missed.
        scaling.required::<f64>("factor")?;
    }
    let factor = factor(scaling, lengths, original_positions)?;
    let growth = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    // A scale of 0 counts as absent.
    let scale = |key| Ok::<_, ModelError>(scaling.nullable::<f64>(key, None)?.filter(|&scale| scale != 0.0));
    let (scale, scale_of_all) = (scale("mscale")?, scale("mscale_all_dim")?);
    let magnitude = match (scaling.nullable("attention_factor", None)?, scale, scale_of_all) {
        (Some(magnitude), ..) => magnitude,
        (None, Some(scale), Some(scale_of_all)) => growth(scale) / growth(scale_of_all),
        (None, ..) => growth(1.0),
    };
    let beta = |key, default| {
        let given = scaling.nullable::<f64>(key, None)?.filter(|&beta| beta != 0.0);
        Ok::<_, ModelError>(given.unwrap_or(default))
    };
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: beta("beta_fast", 32.0)?,
        beta_slow: beta("beta_slow", 1.0)?,
        truncate: scaling.or("truncate", true)?,
        original_positions,
        magnitude,
    })
}

fn longrope(scaling: &Fields<'_>, lengths: &Lengths) -> Result<RopeScaling, ModelError> {
    let original_positions = lengths.original(scaling)?;
    let factor = factor(scaling, lengths, original_positions)?;
    let magnitude = match scaling.nullable("attention_factor", None)? {
        Some(magnitude) => magnitude,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / (original_positions as f64).ln()).sqrt(),
    };
    Ok(RopeScaling::LongRope {
        short: scaling.required("short_factor")?,
        long: scaling.required("long_factor")?,
        original_positions,
        magnitude,
    })
}

/// The factor, or else how many times longer the model became.
fn factor(scaling: &Fields<'_>, lengths: &Lengths, original_positions: usize) -> Result<f64, ModelError> {
    let ratio = lengths.max_positions as f64 / original_positions.max(1) as f64;
    Ok(scaling.nullable("factor", None)?.unwrap_or(ratio))
}
