//! Gemma 2 and 3: norms on both sides of blocks, scaled embeddings, gammas stored as what they exceed 1 by.

use super::accounting::{Inert, any, only};
use super::fields::Fields;
use super::gguf::{self, Gguf, Keys, Rotary};
use super::hugging_face::{HuggingFace, Stored};
use super::naming::{Biases, Naming, Role};
use super::plain::{Defaults, Plain, layer_types, windows};
use super::rope::{Spelling, rope, rope_of_kind};
use super::{Family, Identity, llama};
use crate::architecture::{Activation, LayerView, NormPlacement, QkNorm, Rope, RopeScaling, Uniform};
use crate::error::ModelError;

const DEFAULTS: Defaults = Defaults {
    vocabulary: 256_000,
    d_model: 2304,
    d_ffn: 9216,
    layers: 26,
    heads: 8,
    kv_heads: Some(4),
    null_kv_heads: false,
    head_dim: Some(256),
    null_head_dim: false,
    max_positions: 8192,
    activation: ("hidden_activation", "gelu_pytorch_tanh"),
    tied: true,
    ..Defaults::LLAMA
};

/// `transformers/models/gemma2/configuration_gemma2.py`: soft caps, and a window in every other layer.
pub(super) const GEMMA2: Family = Family {
    name: "gemma2",
    hugging_face: &[HuggingFace {
        inert: INERT,
        ..HuggingFace::new("gemma2", &["Gemma2"], |fields, stored| {
            let plain = Plain::read(fields, &DEFAULTS)?;
            let rope = rope(fields, &Spelling::default(), plain.head_dim, plain.max_positions)?;
            let layers = layers(fields, plain.layers, |layer| layer.is_multiple_of(2))?;
            let uniform = Uniform { layers, ..gemma(fields, &plain, vec![rope], (Some(50.0), Some(30.0)))? };
            identity(fields, stored, uniform)
        })
    }],
    gguf: Some(Gguf::new("gemma2", |keys| {
        let plain = gguf::plain(keys, gguf::RMS_NORM, Activation::GeluTanh)?;
        let rope = gguf::only_rope(keys, &plain, Rotary::Yarn)?;
        // In llama.cpp as in transformers.
        let window = keys.size(gguf::WINDOW)?.unwrap_or(4096);
        let uniform = Uniform {
            layers: gguf::windows(keys, plain.layers, 2, Some(window))?,
            attention_scale: attention_scale(&plain, 46),
            // Files of before these keys are Gemma 2's as released.
            attention_soft_cap: Some(keys.positive("attn_logit_softcapping")?.unwrap_or(50.0)),
            logit_soft_cap: Some(keys.positive("final_logit_softcapping")?.unwrap_or(30.0)),
            ..both("gemma2", &plain, vec![rope])
        };
        Identity::new(keys.path, uniform, Naming::new(gguf::names, ""))
    })),
};

/// `transformers/models/gemma3/configuration_gemma3.py`: two ropes, and norms on queries and keys. As a model of text, and with
/// a model that sees images around it.
pub(super) const GEMMA3: Family = Family {
    name: "gemma3",
    hugging_face: &[
        WITH_IMAGES,
        HuggingFace {
            other_classes: &[("Gemma3TextModel", true)],
            inert: INERT,
            ..HuggingFace::new("gemma3_text", &["Gemma3"], gemma3)
        },
    ],
    gguf: Some(Gguf::new("gemma3", gemma3_gguf)),
};

const WITH_IMAGES: HuggingFace = HuggingFace {
    other_classes: &[("Gemma3ForConditionalGeneration", true)],
    inert: &[
        any(
            "vision_config mm_tokens_per_image image_token_index boi_token_index eoi_token_index image_token_id \
         boi_token_id eoi_token_id",
            IMAGES,
        ),
        any("hidden_size head_dim num_hidden_layers vocab_size sliding_window", WRAPPER),
        HIDDEN_ACT,
        OLD_PATTERN,
    ],
    leftovers: &["vision_tower.*", "model.vision_tower.*", "multi_modal_projector.*", "model.multi_modal_projector.*"],
    ..HuggingFace::new("gemma3", &["Gemma3"], |fields, stored| {
        let Some(text) = fields.object("text_config")? else {
            return Err(ModelError::malformed(
                fields.path,
                "field `text_config` is missing; it describes the model of text",
            ));
        };
        if let Some(kind) = text.optional::<&str>("model_type")?
            && kind != "gemma3_text"
        {
            return Err(text.wrong_value("model_type", "gemma3_text"));
        }
        let mut identity = gemma3(&text, stored)?;
        // The wrapper has a head of its own, and decides.
        identity.architecture.tied_embeddings = fields.nullable("tie_word_embeddings", Some(true))?.unwrap_or(false);
        if identity.architecture.logit_soft_cap.is_some() {
            // Transformers caps the logits of the model of text alone, and those of the wrapper not.
            return Err(text.wrong_value("final_logit_softcapping", "null inside a wrapper"));
        }
        Ok(identity)
    })
};

const WRAPPER: &str = "what text_config says of the model of text decides";
const IMAGES: &str = "about images, of which there are none in a text";

const HIDDEN_ACT: Inert =
    only("hidden_act", &["\"gelu_pytorch_tanh\""], "an earlier name of hidden_activation, no longer read");

const OLD_PATTERN: Inert =
    only("_sliding_window_pattern", &["6"], "not read; layer_types is, and 6 is what is taken without it");

const INERT: &[Inert] =
    &[HIDDEN_ACT, OLD_PATTERN, any("sliding_window_size", "an earlier name of sliding_window, no longer read")];

fn gemma3(fields: &Fields<'_>, stored: &Stored<'_>) -> Result<Identity, ModelError> {
    let defaults = Defaults { vocabulary: 262_208, max_positions: 131_072, ..DEFAULTS };
    let plain = Plain::read(fields, &defaults)?;
    let pattern: usize = fields.or("sliding_window_pattern", 6)?;
    if pattern == 0 {
        return Err(fields.wrong_value("sliding_window_pattern", "a number of at least 1"));
    }
    let mut layers = layers(fields, plain.layers, |layer| !(layer + 1).is_multiple_of(pattern))?;
    for layer in &mut layers {
        layer.rope = usize::from(layer.window.is_some());
    }
    let rope = |kind, theta| rope_of_kind(fields, kind, theta, plain.head_dim, plain.max_positions);
    let ropes =
        vec![rope("full_attention", ("rope_theta", 1e6))?, rope("sliding_attention", ("rope_local_base_freq", 1e4))?];
    let uniform = Uniform { layers, qk_norm: QkNorm::PerHead, ..gemma(fields, &plain, ropes, (None, None))? };
    if uniform.attention_soft_cap.is_some() {
        // Transformers reads the key and caps nothing.
        return Err(fields.wrong_value("attn_logit_softcapping", "null, as scores of this family are not capped,"));
    }
    identity(fields, stored, uniform)
}

fn gemma3_gguf(keys: &Keys<'_>) -> Result<Identity, ModelError> {
    const THETA: &str = "rope.freq_base";
    let plain = gguf::plain(keys, gguf::RMS_NORM, Activation::GeluTanh)?;
    let window = gguf::window(keys)?;
    let mut layers = gguf::windows(keys, plain.layers, 6, window)?;
    // Where it is absent, llama.cpp takes 10,000 and transformers 1,000,000.
    keys.required(THETA, keys.positive(THETA)?)?;
    let full = gguf::rope(keys, &plain, Rotary::Linear)?;
    let theta = keys.positive("rope.freq_base_swa")?.unwrap_or(gguf::THETA);
    let sliding = Rope { theta, scaling: RopeScaling::None, ..full };
    for layer in &mut layers {
        layer.rope = usize::from(layer.window.is_some());
    }
    let uniform = Uniform {
        layers,
        qk_norm: QkNorm::PerHead,
        attention_scale: attention_scale(&plain, 62),
        logit_soft_cap: keys.positive("final_logit_softcapping")?,
        ..both("gemma3", &plain, vec![full, sliding])
    };
    Identity::new(keys.path, uniform, Naming::new(gguf::names, ""))
}

/// GGUF has no key for the factor on scores: llama.cpp knows the 27B of Gemma 2 and of Gemma 3 by their depth.
fn attention_scale(plain: &Plain, largest: usize) -> f64 {
    let width = if plain.layers == largest { plain.d_model / plain.heads.max(1) } else { plain.head_dim };
    (width as f64).powf(-0.5)
}

/// A window in the layers that `layer_types` names, or else in those of the family's pattern.
fn layers(fields: &Fields<'_>, count: usize, slides: impl Fn(usize) -> bool) -> Result<Vec<LayerView>, ModelError> {
    let window = fields.nullable("sliding_window", Some(4096))?;
    match layer_types(fields, count)? {
        Some(types) => windows(fields, window, types),
        None => windows(fields, window, (0..count).map(slides)),
    }
}

/// What the configurations of both have; soft caps as of attention and of logits, where a key is left out.
fn gemma(
    fields: &Fields<'_>,
    plain: &Plain,
    ropes: Vec<Rope>,
    (attention_cap, logit_cap): (Option<f64>, Option<f64>),
) -> Result<Uniform, ModelError> {
    Ok(Uniform {
        attention_scale: fields.or("query_pre_attn_scalar", 256.0)?.powf(-0.5),
        attention_soft_cap: fields.nullable("attn_logit_softcapping", attention_cap)?,
        logit_soft_cap: fields.nullable("final_logit_softcapping", logit_cap)?,
        ..both(fields.optional("model_type")?.unwrap_or("gemma3_text"), plain, ropes)
    })
}

/// What both have in either format.
fn both(family: &str, plain: &Plain, ropes: Vec<Rope>) -> Uniform {
    Uniform {
        norm_placement: NormPlacement::Sandwich,
        embedding_scale: (plain.d_model as f64).sqrt(),
        ..plain.uniform(family, ropes)
    }
}

fn identity(fields: &Fields<'_>, stored: &Stored<'_>, uniform: Uniform) -> Result<Identity, ModelError> {
    let biases = Biases::new(fields.or("attention_bias", false)?, false);
    Identity::new(fields.path, uniform, Naming { gamma_offset: 1.0, biases, ..Naming::new(names, stored.prefix()) })
}

/// Every norm has a name of its own, wherever a block has it.
pub(super) fn names(role: Role) -> &'static str {
    match role {
        Role::FeedForwardInputNorm => "layers.*.pre_feedforward_layernorm",
        role => llama::names(role),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Depth, width, heads and head_dim as released.
    #[test]
    fn the_largest_gemmas_scale_by_width_per_head() {
        let scale = |largest, (layers, d_model, heads, head_dim)| {
            let (vocabulary, d_ffn, max_positions) = (8, 8, 8);
            let (kv_heads, norm_epsilon, activation, tied) = (heads, 1e-6, Activation::GeluTanh, true);
            let plain = Plain {
                vocabulary,
                d_model,
                d_ffn,
                layers,
                heads,
                kv_heads,
                head_dim,
                max_positions,
                norm_epsilon,
                activation,
                tied,
            };
            attention_scale(&plain, largest)
        };
        assert_eq!(scale(46, (46, 4608, 32, 128)), 144_f64.powf(-0.5));
        assert_eq!(scale(62, (62, 5376, 32, 128)), 168_f64.powf(-0.5));
        assert_eq!(scale(46, (26, 2304, 8, 256)), 1.0 / 16.0);
        assert_eq!(scale(62, (26, 1152, 4, 256)), 1.0 / 16.0);
    }
}
