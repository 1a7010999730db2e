//! Llama, all generations, and what else descends from it with one setting changed.

use super::accounting::{Inert, STAMP, any, off, only};
use super::gguf::{self, Gguf, Rotary};
use super::hugging_face::HuggingFace;
use super::naming::{Biases, HeadRows, Naming, Role};
use super::plain::{Defaults, Plain, one_window};
use super::rope::{Spelling, rope};
use super::{Family, Identity};
use crate::architecture::{Activation, NormPlacement, QkNorm, Uniform};

/// `transformers/models/llama/configuration_llama.py`.
pub(super) const LLAMA: Family = Family {
    name: "llama",
    hugging_face: &[HuggingFace {
        inert: &[
            any("max_sequence_length", "of the first generation, never read"),
            NO_WINDOW,
            WINDOW_LAYERS,
            off("qkv_bias", "attention_bias, which is read, decides"),
            any("internal_version", STAMP),
            only("is_llama_config", &["true"], STAMP),
            off("rope_interleaved", "rotary pairs are the halves of a head"),
        ],
        ..HuggingFace::new("llama", &["Llama", "LLaMA"], |fields, stored| {
            let plain = Plain::read(fields, &Defaults::LLAMA)?;
            let rope = rope(fields, &Spelling::default(), plain.head_dim, plain.max_positions)?;
            let biases = Biases::new(fields.or("attention_bias", false)?, fields.or("mlp_bias", false)?);
            let naming = Naming { biases, ..Naming::new(names, stored.prefix()) };
            Identity::new(fields.path, plain.uniform("llama", vec![rope]), naming)
        })
    }],
    gguf: Some(Gguf::new("llama", |keys| {
        let plain = gguf::plain(keys, gguf::RMS_NORM, Activation::Silu)?;
        let rope = gguf::only_rope(keys, &plain, Rotary::Divisors)?;
        // A Llama's configuration chooses biases, and GGUF has no key for the choice.
        let naming = Naming { heads: HeadRows::Interleaved, stored_biases: true, ..Naming::new(gguf::names, "") };
        Identity::new(keys.path, plain.uniform("llama", vec![rope]), naming)
    })),
};

/// Of families whose layers see everything before them.
pub(super) const NO_WINDOW: Inert =
    off("sliding_window use_sliding_window", "layers of this family see everything before them");
/// Of families that do not choose layers for windows by it.
pub(super) const WINDOW_LAYERS: Inert =
    any("max_window_layers", "which layers slide is not chosen by number in this family");

/// `transformers/models/mistral/configuration_mistral.py`: a window on every layer. llama.cpp converts it to a `llama`.
pub(super) const MISTRAL: Family = Family {
    name: "mistral",
    hugging_face: &[HuggingFace {
        inert: &[
            WINDOW_LAYERS,
            any("use_sliding_window", "sliding_window alone decides in this family, in transformers too"),
            off("attention_bias mlp_bias", "projections of this family have no biases"),
            any("document_attention", "how documents were packed in training"),
        ],
        ..HuggingFace::new("mistral", &["Mistral"], |fields, stored| {
            let defaults = Defaults { d_ffn: 14_336, kv_heads: Some(8), max_positions: 131_072, ..Defaults::LLAMA };
            let plain = Plain::read(fields, &defaults)?;
            let rope = rope(fields, &Spelling::default(), plain.head_dim, plain.max_positions)?;
            let window = fields.nullable("sliding_window", Some(4096))?;
            let layers = one_window(fields, plain.layers, window)?;
            let uniform = Uniform { layers, ..plain.uniform("mistral", vec![rope]) };
            Identity::new(fields.path, uniform, Naming::new(names, stored.prefix()))
        })
    }],
    gguf: None,
};

/// `transformers/models/olmo2/configuration_olmo2.py`: norms on the outputs of blocks, and on whole projections.
pub(super) const OLMO2: Family = Family {
    name: "olmo2",
    hugging_face: &[HuggingFace {
        inert: &[NO_WINDOW, WINDOW_LAYERS],
        ..HuggingFace::new("olmo2", &["Olmo2"], |fields, stored| {
            let defaults = Defaults { vocabulary: 50_304, norm_epsilon: 1e-5, ..Defaults::LLAMA };
            let plain = Plain::read(fields, &defaults)?;
            let rope = rope(fields, &Spelling::default(), plain.head_dim, plain.max_positions)?;
            let biases = Biases::new(fields.or("attention_bias", false)?, false);
            let uniform = Uniform {
                norm_placement: NormPlacement::Output,
                qk_norm: QkNorm::Projection,
                ..plain.uniform("olmo2", vec![rope])
            };
            Identity::new(fields.path, uniform, Naming { biases, ..Naming::new(names, stored.prefix()) })
        })
    }],
    gguf: None,
};

/// Llama's tensors, and those that its descendants have beside them.
pub(super) fn names(role: Role) -> &'static str {
    use Role as R;
    match role {
        R::Embedding => "embed_tokens",
        R::Positions => "embed_positions",
        R::FinalNorm => "norm",
        R::Head => "lm_head",
        R::AttentionInputNorm => "layers.*.input_layernorm",
        R::Query => "layers.*.self_attn.q_proj",
        R::Key => "layers.*.self_attn.k_proj",
        R::Value => "layers.*.self_attn.v_proj",
        R::QueryNorm => "layers.*.self_attn.q_norm",
        R::KeyNorm => "layers.*.self_attn.k_norm",
        R::SinkLogit => "layers.*.self_attn.sinks",
        R::BiasKey => "layers.*.self_attn.bias_k",
        R::BiasValue => "layers.*.self_attn.bias_v",
        R::AttentionGate => "layers.*.self_attn.gate",
        R::AttentionOutput => "layers.*.self_attn.o_proj",
        // Before feed-forward blocks in Llama, after attention blocks in OLMo 2.
        R::AttentionOutputNorm | R::FeedForwardInputNorm => "layers.*.post_attention_layernorm",
        R::Gate => "layers.*.mlp.gate_proj",
        R::Up => "layers.*.mlp.up_proj",
        R::Down => "layers.*.mlp.down_proj",
        R::FeedForwardOutputNorm => "layers.*.post_feedforward_layernorm",
    }
}
