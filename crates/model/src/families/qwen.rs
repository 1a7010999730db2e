//! Qwen 2, 2.5 and 3.

use super::accounting::{Inert, any, off};
use super::fields::Fields;
use super::gguf::{self, Gguf, Rotary};
use super::hugging_face::HuggingFace;
use super::llama::names;
use super::naming::{Biases, Naming};
use super::plain::{Defaults, Plain, layer_types, windows};
use super::rope::{Spelling, rope};
use super::{Family, Identity};
use crate::architecture::{Activation, LayerView, QkNorm, Uniform};
use crate::error::ModelError;

const DEFAULTS: Defaults =
    Defaults { vocabulary: 151_936, d_ffn: 22_016, kv_heads: Some(32), max_positions: 32_768, ..Defaults::LLAMA };

/// `transformers/models/qwen2/configuration_qwen2.py`: queries, keys and values always have biases.
pub(super) const QWEN2: Family = Family {
    name: "qwen2",
    hugging_face: &[HuggingFace {
        other_classes: &[("Qwen2ForRewardModel", false), ("Qwen2ForProcessRewardModel", false)],
        published_code: &[
            "configuration_qwen2_rm.Qwen2RMConfig",
            "modeling_qwen2_rm.Qwen2ForRewardModel",
            "modeling_qwen2_rm.Qwen2ForProcessRewardModel",
        ],
        inert: &[INERT[0], INERT[1], any("attention_bias", "queries, keys and values have biases, whatever it says")],
        ..HuggingFace::new("qwen2", &["Qwen2"], |fields, stored| {
            let plain = Plain::read(fields, &DEFAULTS)?;
            let rope = rope(fields, &Spelling::default(), plain.head_dim, plain.max_positions)?;
            let uniform = Uniform { layers: layers(fields, plain.layers)?, ..plain.uniform("qwen2", vec![rope]) };
            let naming = Naming { biases: Biases::QUERY_KEY_VALUE, ..Naming::new(names, stored.prefix()) };
            Identity::new(fields.path, uniform, naming)
        })
    }],
    gguf: Some(Gguf::new("qwen2", |keys| {
        let plain = gguf::plain(keys, gguf::RMS_NORM, Activation::Silu)?;
        let rope = gguf::only_rope(keys, &plain, Rotary::Yarn)?;
        let naming = Naming { biases: Biases::QUERY_KEY_VALUE, ..Naming::new(gguf::names, "") };
        Identity::new(keys.path, plain.uniform("qwen2", vec![rope]), naming)
    })),
};

/// `transformers/models/qwen3/configuration_qwen3.py`: a norm on the queries and keys of every head.
pub(super) const QWEN3: Family = Family {
    name: "qwen3",
    hugging_face: &[HuggingFace {
        inert: INERT,
        ..HuggingFace::new("qwen3", &["Qwen3"], |fields, stored| {
            let defaults = Defaults { head_dim: Some(128), null_head_dim: false, ..DEFAULTS };
            let plain = Plain::read(fields, &defaults)?;
            let rope = rope(fields, &Spelling::default(), plain.head_dim, plain.max_positions)?;
            let uniform = Uniform {
                layers: layers(fields, plain.layers)?,
                qk_norm: QkNorm::PerHead,
                ..plain.uniform("qwen3", vec![rope])
            };
            let biases = Biases::new(fields.or("attention_bias", false)?, false);
            Identity::new(fields.path, uniform, Naming { biases, ..Naming::new(names, stored.prefix()) })
        })
    }],
    gguf: Some(Gguf::new("qwen3", |keys| {
        let plain = gguf::plain(keys, gguf::RMS_NORM, Activation::Silu)?;
        let rope = gguf::only_rope(keys, &plain, Rotary::Yarn)?;
        let uniform = Uniform { qk_norm: QkNorm::PerHead, ..plain.uniform("qwen3", vec![rope]) };
        Identity::new(keys.path, uniform, Naming::new(gguf::names, ""))
    })),
};

const INERT: &[Inert] = &[
    off("use_mrope", "positions of text alone"),
    off("mlp_bias", "feed-forward blocks of this family have no biases"),
];

/// A window where `use_sliding_window` is on: in the layers that `layer_types` names, or from `max_window_layers` on.
fn layers(fields: &Fields<'_>, count: usize) -> Result<Vec<LayerView>, ModelError> {
    let window = fields.nullable("sliding_window", Some(4096))?;
    let window = if fields.or("use_sliding_window", false)? { window } else { None };
    let first = fields.or("max_window_layers", 28)?;
    match layer_types(fields, count)? {
        Some(slides) => windows(fields, window, slides),
        None => windows(fields, window, (0..count).map(|layer| window.is_some() && layer >= first)),
    }
}
