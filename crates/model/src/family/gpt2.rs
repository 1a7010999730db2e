//! GPT-2: learned positions, LayerNorm, weights stored inputs x outputs, keys with names of its own.

use super::accounting::{Inert, Only};
use super::llama::{activation, layer_count};
use super::naming::{Biases, Naming, Scheme};
use super::{Family, Identity};
use crate::architecture::{
    Architecture, FeedForward, FeedForwardKind, Layer, NormKind, NormPlacement, PositionEncoding, QkNorm,
    ResidualLayout, Weighting,
};

const SUMMARY: &str = "about the head that chooses among answers";

/// `transformers/models/gpt2/configuration_gpt2.py`.
pub(super) const GPT2: Family = Family {
    name: "gpt2",
    classes: &["GPT2"],
    other_classes: &[("GPT2LMHeadModel", true), ("GPT2DoubleHeadsModel", true)],
    published_code: &[],
    inert: &[
        Inert { key: "n_ctx", only: Only::Any, why: "an earlier name of n_positions, no longer read" },
        Inert { key: "n_special", only: Only::Any, why: "of the first library, about special tokens" },
        Inert { key: "predict_special_tokens", only: Only::Any, why: "of the first library, about special tokens" },
        Inert { key: "line_by_line", only: Only::Any, why: "how a text was cut for training" },
        Inert { key: "output_past", only: Only::Any, why: "what a call returns, not what it computes" },
        Inert { key: "hidden_act", only: Only::Any, why: "activation_function, which is read, decides" },
        Inert { key: "rope_theta", only: Only::Any, why: "positions are learned" },
        Inert { key: "rope_scaling", only: Only::Off, why: "positions are learned" },
        Inert { key: "summary_type", only: Only::Any, why: SUMMARY },
        Inert { key: "summary_use_proj", only: Only::Any, why: SUMMARY },
        Inert { key: "summary_activation", only: Only::Any, why: SUMMARY },
        Inert { key: "summary_proj_to_labels", only: Only::Any, why: SUMMARY },
        Inert { key: "summary_first_dropout", only: Only::Any, why: SUMMARY },
        Inert {
            key: "scale_attn_by_inverse_layer_idx",
            only: Only::Off,
            why: "scores of every layer are scaled alike",
        },
        Inert {
            key: "reorder_and_upcast_attn",
            only: Only::Off,
            why: "for training in 16 bits with scores scaled by layer",
        },
    ],
    leftovers: &["*h.*.attn.bias", "*h.*.attn.masked_bias", "multiple_choice_head.*"],
    identify: |fields, stored| {
        let d_model: usize = fields.agreeing(&["n_embd", "hidden_size"])?.unwrap_or(768);
        let heads: usize = fields.agreeing(&["n_head", "num_attention_heads"])?.unwrap_or(12);
        let layers_key = if fields.value("n_layer").is_some() { "n_layer" } else { "num_hidden_layers" };
        let layers = layer_count(fields, layers_key, 12)?;
        fields.agreeing::<usize>(&["n_layer", "num_hidden_layers"])?;
        let head_dim = d_model / heads.max(1);
        let scaled = fields.or("scale_attn_weights", true)?;
        let architecture = Architecture {
            family: "gpt2".into(),
            d_model,
            heads,
            kv_heads: heads,
            head_dim,
            d_ffn: fields.nullable("n_inner", None)?.unwrap_or(4 * d_model),
            vocabulary: fields.or("vocab_size", 50_257)?,
            max_positions: fields.agreeing(&["n_positions", "max_position_embeddings"])?.unwrap_or(1024),
            norm: NormKind::LayerNorm,
            norm_epsilon: fields.or("layer_norm_epsilon", 1e-5)?,
            norm_placement: NormPlacement::Pre,
            residual: ResidualLayout::Sequential,
            qk_norm: QkNorm::None,
            feed_forward: FeedForward {
                kind: FeedForwardKind::TwoLayer,
                activation: activation(fields, "activation_function", "gelu_new")?,
                gated: false,
            },
            position: PositionEncoding::Learned,
            layers: vec![Layer { window: None, rope: 0 }; layers],
            attention_scale: if scaled { (head_dim as f64).powf(-0.5) } else { 1.0 },
            weighting: Weighting::Softmax,
            key_value_bias: false,
            gate: None,
            attention_soft_cap: None,
            logit_soft_cap: None,
            embedding_scale: 1.0,
            tied_embeddings: fields.or("tie_word_embeddings", true)?,
            registers: 0,
        };
        // The hub's first checkpoints were saved from the bare model, without a prefix.
        let prefix = if (stored.has)("wte.weight") { "" } else { "transformer." };
        Ok(Identity { architecture, naming: Naming::new(Scheme::Gpt2, prefix).with_biases(Biases::new(true, true)) })
    },
};
