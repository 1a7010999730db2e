//! Phi-3, 3.5, 4 and 4-mini: fused projections, and LongRope.

use super::accounting::{off, only};
use super::gguf::{self, Gguf, Rotary};
use super::hugging_face::HuggingFace;
use super::llama;
use super::naming::{Naming, Role};
use super::plain::{Defaults, Plain, one_window};
use super::rope::{Spelling, rope};
use super::{Family, Identity};
use crate::architecture::{Activation, LayerView, Uniform};

/// `transformers/models/phi3/configuration_phi3.py`.
pub(super) const PHI3: Family = Family {
    name: "phi3",
    hugging_face: &[HuggingFace {
        published_code: &["configuration_phi3.Phi3Config", "modeling_phi3.Phi3ForCausalLM"],
        inert: &[
            off("attention_bias mlp_bias", "projections of this family have no biases"),
            off("lm_head_bias", "heads of this family have no biases"),
            only("full_attn_mod", &["1"], "every layer is alike"),
            only("interpolate_factor", &["1"], "positions are not interpolated"),
        ],
        ..HuggingFace::new("phi3", &["Phi3"], |fields, stored| {
            let defaults = Defaults {
                vocabulary: 32_064,
                d_model: 3072,
                d_ffn: 8192,
                max_positions: 4096,
                norm_epsilon: 1e-5,
                ..Defaults::LLAMA
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
            Identity::new(fields.path, uniform, Naming::new(names, stored.prefix()))
        })
    }],
    gguf: Some(Gguf::new("phi3", |keys| {
        let plain = gguf::plain(keys, gguf::RMS_NORM, Activation::Silu)?;
        let rope = gguf::only_rope(keys, &plain, Rotary::LongRope)?;
        let layers = vec![LayerView { window: gguf::window(keys)?, rope: 0 }; plain.layers];
        let uniform = Uniform { layers, ..plain.uniform("phi3", vec![rope]) };
        Identity::new(keys.path, uniform, Naming::new(gguf::fused_names, ""))
    })),
};

/// Queries, keys and values in one tensor, gate and up in another.
fn names(role: Role) -> &'static str {
    match role {
        Role::Query | Role::Key | Role::Value => "layers.*.self_attn.qkv_proj",
        Role::Gate | Role::Up => "layers.*.mlp.gate_up_proj",
        role => llama::names(role),
    }
}
