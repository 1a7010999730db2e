//! GPT-2: learned positions, LayerNorm, weights stored inputs x outputs, keys with names of its own.

use super::accounting::{OUTPUT, any, off};
use super::llama::{Plain, activation, layer_count};
use super::naming::{Biases, Naming, Scheme};
use super::{Family, Identity};
use crate::architecture::{NormKind, PositionEncoding, Uniform, UniformFeedForward};

const SUMMARY: &str = "about the head that chooses among answers";

/// `transformers/models/gpt2/configuration_gpt2.py`.
pub(super) const GPT2: Family = Family {
    name: "gpt2",
    classes: &["GPT2"],
    other_classes: &[("GPT2LMHeadModel", true), ("GPT2DoubleHeadsModel", true)],
    published_code: &[],
    inert: &[
        any("n_ctx", "an earlier name of n_positions, no longer read"),
        any("n_special", "of the first library, about special tokens"),
        any("predict_special_tokens", "of the first library, about special tokens"),
        any("line_by_line", "how a text was cut for training"),
        any("output_past", OUTPUT),
        any("hidden_act", "activation_function, which is read, decides"),
        any("rope_theta", "positions are learned"),
        off("rope_scaling", "positions are learned"),
        any("summary_type", SUMMARY),
        any("summary_use_proj", SUMMARY),
        any("summary_activation", SUMMARY),
        any("summary_proj_to_labels", SUMMARY),
        any("summary_first_dropout", SUMMARY),
        off("scale_attn_by_inverse_layer_idx", "scores of every layer are scaled alike"),
        off("reorder_and_upcast_attn", "for training in 16 bits with scores scaled by layer"),
    ],
    leftovers: &["*h.*.attn.bias", "*h.*.attn.masked_bias", "multiple_choice_head.*"],
    identify: |fields, stored| {
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
        let llama = plain.uniform("gpt2", Vec::new());
        let uniform = Uniform {
            norm: NormKind::LayerNorm,
            feed_forward: UniformFeedForward { gated: false, ..llama.feed_forward },
            position: PositionEncoding::Learned,
            attention_scale: if fields.or("scale_attn_weights", true)? { llama.attention_scale } else { 1.0 },
            ..llama
        };
        // The hub's first checkpoints were saved from the bare model, without a prefix.
        let prefix = if (stored.has)("wte.weight") { "" } else { "transformer." };
        Identity::new(fields, uniform, Naming::new(Scheme::Gpt2, prefix).with_biases(Biases::new(true, true)))
    },
};
