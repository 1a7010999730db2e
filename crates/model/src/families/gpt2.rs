//! GPT-2: learned positions, LayerNorm, weights stored inputs x outputs, keys with names of its own.

use super::accounting::{OUTPUT, any, off};
use super::gguf::{self, Gguf};
use super::hugging_face::HuggingFace;
use super::naming::{Biases, Naming, Role};
use super::plain::{Plain, activation, layer_count};
use super::{Family, Identity};
use crate::architecture::{Activation, NormKind, PositionEncoding, Uniform, UniformFeedForward};

const SUMMARY: &str = "about the head that chooses among answers";

/// `transformers/models/gpt2/configuration_gpt2.py`.
pub(super) const GPT2: Family = Family {
    name: "gpt2",
    hugging_face: &[HuggingFace {
        other_classes: &[("GPT2LMHeadModel", true), ("GPT2DoubleHeadsModel", true)],
        inert: &[
            any("n_ctx", "an earlier name of n_positions, no longer read"),
            any("n_special predict_special_tokens", "of the first library, about special tokens"),
            any("line_by_line", "how a text was cut for training"),
            any("output_past", OUTPUT),
            any("hidden_act", "activation_function, which is read, decides"),
            any("rope_theta", "positions are learned"),
            off("rope_scaling", "positions are learned"),
            any(
                "summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout",
                SUMMARY,
            ),
            off("scale_attn_by_inverse_layer_idx", "scores of every layer are scaled alike"),
            off("reorder_and_upcast_attn", "for training in 16 bits with scores scaled by layer"),
        ],
        leftovers: &["*h.*.attn.bias", "*h.*.attn.masked_bias", "multiple_choice_head.*"],
        ..HuggingFace::new("gpt2", &["GPT2"], |fields, stored| {
            let d_model: usize = fields.agreeing(&["n_embd", "hidden_size"])?.unwrap_or(768);
            let heads: usize = fields.agreeing(&["n_head", "num_attention_heads"])?.unwrap_or(12);
            let layers = layer_count(fields, fields.agreeing(&["n_layer", "num_hidden_layers"])?.unwrap_or(12))?;
            let plain = Plain {
                vocabulary: fields.or("vocab_size", 50_257)?,
                d_model,
                d_ffn: fields.nullable("n_inner", None)?.unwrap_or(4 * d_model),
                layers,
                heads,
                kv_heads: heads,
                head_dim: d_model / heads.max(1),
                max_positions: fields.agreeing(&["n_positions", "max_position_embeddings"])?.unwrap_or(1024),
                norm_epsilon: fields.or("layer_norm_epsilon", 1e-5)?,
                activation: activation(fields, "activation_function", "gelu_new")?,
                tied: fields.or("tie_word_embeddings", true)?,
            };
            let scale = if fields.or("scale_attn_weights", true)? { (plain.head_dim as f64).powf(-0.5) } else { 1.0 };
            let uniform = Uniform { attention_scale: scale, ..uniform(&plain) };
            // The hub's first checkpoints were saved from the bare model, without a prefix.
            let prefix = if (stored.has)("wte.weight") { "" } else { "transformer." };
            let biases = Biases::new(true, true);
            Identity::new(fields.path, uniform, Naming { biases, transposed: true, ..Naming::new(names, prefix) })
        })
    }],
    gguf: Some(Gguf::new("gpt2", |keys| {
        let plain = gguf::plain(keys, gguf::LAYER_NORM, Activation::GeluTanh)?;
        let naming = Naming { biases: Biases::new(true, true), ..Naming::new(gguf::fused_names, "") };
        Identity::new(keys.path, uniform(&plain), naming)
    })),
};

fn uniform(plain: &Plain) -> Uniform {
    let llama = plain.uniform("gpt2", Vec::new());
    Uniform {
        norm: NormKind::LayerNorm,
        feed_forward: UniformFeedForward { gated: false, ..llama.feed_forward },
        position: PositionEncoding::Learned,
        ..llama
    }
}

fn names(role: Role) -> &'static str {
    use Role as R;
    match role {
        R::Embedding => "wte",
        R::Positions => "wpe",
        R::FinalNorm => "ln_f",
        R::Head => "lm_head",
        R::AttentionInputNorm => "h.*.ln_1",
        R::AttentionOutput => "h.*.attn.c_proj",
        R::FeedForwardInputNorm => "h.*.ln_2",
        R::Gate => "h.*.mlp.c_fc",
        R::Down => "h.*.mlp.c_proj",
        _ => "h.*.attn.c_attn",
    }
}
