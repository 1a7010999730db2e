//! GPT-NeoX, Pythia and their descendants: both blocks of a layer read the same residual, and part of a head rotates.

use super::accounting::{DROPOUT, any};
use super::llama::{NO_WINDOW, NO_WINDOW_SWITCH, Plain, WINDOW_LAYERS, activation, layer_count};
use super::naming::{Biases, Naming, Scheme};
use super::rope::{Spelling, rope};
use super::{Family, Identity};
use crate::architecture::{NormKind, ResidualLayout, Uniform, UniformFeedForward};

/// `transformers/models/gpt_neox/configuration_gpt_neox.py`.
pub(super) const GPT_NEOX: Family = Family {
    name: "gpt_neox",
    classes: &["GPTNeoX"],
    other_classes: &[],
    published_code: &[],
    inert: &[NO_WINDOW, NO_WINDOW_SWITCH, WINDOW_LAYERS, any("attention_probs_dropout_prob", DROPOUT)],
    leftovers: &["*attention.bias", "*attention.masked_bias"],
    identify: |fields, stored| {
        let d_model: usize = fields.or("hidden_size", 6144)?;
        let heads: usize = fields.or("num_attention_heads", 64)?;
        let head_dim = d_model / heads.max(1);
        let max_positions = fields.or("max_position_embeddings", 2048)?;
        let spelling = Spelling { theta: "rotary_emb_base", share: Some(("rotary_pct", 0.25)), ..Spelling::default() };
        // Later versions of transformers wrote their own names of both beside these.
        fields.agreeing::<f64>(&["rotary_emb_base", "rope_theta"])?;
        fields.agreeing::<f64>(&["rotary_pct", "partial_rotary_factor"])?;
        let rope = rope(fields, &spelling, head_dim, max_positions)?;
        let plain = Plain {
            vocabulary: fields.or("vocab_size", 50_432)?,
            d_model,
            d_ffn: fields.or("intermediate_size", 24_576)?,
            layers: layer_count(fields, fields.or("num_hidden_layers", 44)?)?,
            heads,
            kv_heads: heads,
            head_dim,
            max_positions,
            norm_epsilon: fields.or("layer_norm_eps", 1e-5)?,
            activation: activation(fields, "hidden_act", "gelu")?,
            tied: fields.or("tie_word_embeddings", false)?,
        };
        let parallel = fields.or("use_parallel_residual", true)?;
        let llama = plain.uniform("gpt_neox", vec![rope]);
        let uniform = Uniform {
            norm: NormKind::LayerNorm,
            residual: if parallel { ResidualLayout::Parallel } else { ResidualLayout::Sequential },
            feed_forward: UniformFeedForward { gated: false, ..llama.feed_forward },
            ..llama
        };
        let biases = Biases::new(fields.or("attention_bias", true)?, true);
        let prefix = if (stored.has)("embed_in.weight") { "" } else { "gpt_neox." };
        Identity::new(fields, uniform, Naming::new(Scheme::GptNeoX, prefix).with_biases(biases))
    },
};
