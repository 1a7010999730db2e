//! GPT-NeoX, Pythia and their descendants: both blocks of a layer read the same residual, and part of a head rotates.

use super::accounting::{DROPOUT, any};
use super::hugging_face::HuggingFace;
use super::llama::{NO_WINDOW, WINDOW_LAYERS};
use super::naming::{Biases, HeadRows, Naming, Role};
use super::plain::{Plain, activation, layer_count};
use super::rope::{Spelling, rope};
use super::{Family, Identity};
use crate::architecture::{NormKind, ResidualLayout, Uniform, UniformFeedForward};

/// `transformers/models/gpt_neox/configuration_gpt_neox.py`.
pub(super) const GPT_NEOX: Family = Family {
    name: "gpt_neox",
    hugging_face: &[HuggingFace {
        inert: &[NO_WINDOW, WINDOW_LAYERS, any("attention_probs_dropout_prob", DROPOUT)],
        leftovers: &["*attention.bias", "*attention.masked_bias"],
        ..HuggingFace::new("gpt_neox", &["GPTNeoX"], |fields, stored| {
            let d_model: usize = fields.or("hidden_size", 6144)?;
            let heads: usize = fields.or("num_attention_heads", 64)?;
            let head_dim = d_model / heads.max(1);
            let max_positions = fields.or("max_position_embeddings", 2048)?;
            let spelling =
                Spelling { theta: "rotary_emb_base", share: Some(("rotary_pct", 0.25)), ..Spelling::default() };
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
            let naming = Naming { biases, heads: HeadRows::Together, ..Naming::new(names, prefix) };
            Identity::new(fields.path, uniform, naming)
        })
    }],
    gguf: None,
};

fn names(role: Role) -> &'static str {
    use Role as R;
    match role {
        R::Embedding | R::Positions => "embed_in",
        R::FinalNorm => "final_layer_norm",
        R::Head => "embed_out",
        R::AttentionInputNorm => "layers.*.input_layernorm",
        R::AttentionOutput => "layers.*.attention.dense",
        R::FeedForwardInputNorm => "layers.*.post_attention_layernorm",
        R::Gate => "layers.*.mlp.dense_h_to_4h",
        R::Down => "layers.*.mlp.dense_4h_to_h",
        _ => "layers.*.attention.query_key_value",
    }
}
