//! Phi-3, 3.5, 4 and 4-mini: fused projections, and LongRope.

use super::accounting::{off, only};
use super::llama::{Defaults, Plain, one_window};
use super::naming::{Naming, Scheme};
use super::rope::{Spelling, rope};
use super::{Family, Identity};
use crate::architecture::Uniform;

/// `transformers/models/phi3/configuration_phi3.py`.
pub(super) const PHI3: Family = Family {
    name: "phi3",
    classes: &["Phi3"],
    other_classes: &[],
    published_code: &["configuration_phi3.Phi3Config", "modeling_phi3.Phi3ForCausalLM"],
    inert: &[
        off("attention_bias", "projections of this family have no biases"),
        off("mlp_bias", "projections of this family have no biases"),
        off("lm_head_bias", "heads of this family have no biases"),
        only("full_attn_mod", &["1"], "every layer is alike"),
        only("interpolate_factor", &["1"], "positions are not interpolated"),
    ],
    leftovers: &[],
    identify: |fields, stored| {
        let defaults = Defaults {
            vocabulary: 32_064,
            d_model: 3072,
            d_ffn: 8192,
            max_positions: 4096,
            norm_epsilon: 1e-5,
            ..Defaults::default()
        };
        let plain = Plain::read(fields, &defaults)?;
        let spelling = Spelling {
            share: Some(("partial_rotary_factor", 1.0)),
            default_original: Some(4096),
            only_longrope: true,
            ..Spelling::default()
        };
        let rope = rope(fields, &spelling, plain.head_dim, plain.max_positions)?;
        let layers = one_window(fields, plain.layers, fields.nullable("sliding_window", None)?)?;
        let uniform = Uniform { layers, ..plain.uniform("phi3", vec![rope]) };
        Identity::new(fields, uniform, Naming::new(Scheme::Phi3, stored.prefix()))
    },
};
