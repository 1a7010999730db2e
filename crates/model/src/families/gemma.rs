//! Gemma 2 and 3: norms on both sides of blocks, scaled embeddings, gammas stored as what they exceed 1 by.

use super::accounting::{Inert, any, only};
use super::fields::Fields;
use super::llama::{Defaults, Plain, layer_types, windows};
use super::naming::{Biases, Naming, Scheme};
use super::rope::{Spelling, rope, rope_of_kind};
use super::{Family, Identity, Stored};
use crate::architecture::{LayerView, NormPlacement, QkNorm, Rope, Uniform};
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
    norm_epsilon: 1e-6,
    activation: ("hidden_activation", "gelu_pytorch_tanh"),
    tied: true,
};

/// `transformers/models/gemma2/configuration_gemma2.py`: soft caps, and a window in every other layer.
pub(super) const GEMMA2: Family = Family {
    name: "gemma2",
    classes: &["Gemma2"],
    other_classes: &[],
    published_code: &[],
    inert: INERT,
    leftovers: &[],
    identify: |fields, stored| {
        let plain = Plain::read(fields, &DEFAULTS)?;
        let rope = rope(fields, &Spelling::default(), plain.head_dim, plain.max_positions)?;
        let layers = layers(fields, plain.layers, |layer| layer.is_multiple_of(2))?;
        gemma(fields, stored, &plain, vec![rope], (layers, QkNorm::None), (Some(50.0), Some(30.0)))
    },
};

/// `transformers/models/gemma3/configuration_gemma3.py`, the text model: two ropes, and norms on queries and keys.
pub(super) const GEMMA3_TEXT: Family = Family {
    name: "gemma3_text",
    classes: &["Gemma3"],
    other_classes: &[("Gemma3TextModel", true)],
    published_code: &[],
    inert: INERT,
    leftovers: &[],
    identify: |fields, stored| gemma3(fields, stored),
};

/// The same with a model that sees images around it.
pub(super) const GEMMA3: Family = Family {
    name: "gemma3",
    classes: &["Gemma3"],
    other_classes: &[("Gemma3ForConditionalGeneration", true)],
    published_code: &[],
    inert: &[
        any("vision_config", IMAGES),
        any("mm_tokens_per_image", IMAGES),
        any("image_token_index", IMAGES),
        any("boi_token_index", IMAGES),
        any("eoi_token_index", IMAGES),
        any("image_token_id", IMAGES),
        any("boi_token_id", IMAGES),
        any("eoi_token_id", IMAGES),
        any("hidden_size", WRAPPER),
        any("head_dim", WRAPPER),
        any("num_hidden_layers", WRAPPER),
        any("vocab_size", WRAPPER),
        any("sliding_window", WRAPPER),
        HIDDEN_ACT,
        OLD_PATTERN,
    ],
    leftovers: &["vision_tower.*", "model.vision_tower.*", "multi_modal_projector.*", "model.multi_modal_projector.*"],
    identify: |fields, stored| {
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
    },
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
    let identity = gemma(fields, stored, &plain, ropes, (layers, QkNorm::PerHead), (None, None))?;
    if identity.architecture.any(|layer| layer.mixer.attention().soft_cap.is_some()) {
        // Transformers reads the key and caps nothing.
        return Err(fields.wrong_value("attn_logit_softcapping", "null, as scores of this family are not capped,"));
    }
    Ok(identity)
}

/// A window in the layers that `layer_types` names, or else in those of the family's pattern.
fn layers(fields: &Fields<'_>, count: usize, slides: impl Fn(usize) -> bool) -> Result<Vec<LayerView>, ModelError> {
    let window = fields.nullable("sliding_window", Some(4096))?;
    match layer_types(fields, count)? {
        Some(types) => windows(fields, window, types),
        None => windows(fields, window, (0..count).map(slides)),
    }
}

/// What both have; soft caps as of attention and of logits, where a key is left out.
fn gemma(
    fields: &Fields<'_>,
    stored: &Stored<'_>,
    plain: &Plain,
    ropes: Vec<Rope>,
    (layers, qk_norm): (Vec<LayerView>, QkNorm),
    (attention_cap, logit_cap): (Option<f64>, Option<f64>),
) -> Result<Identity, ModelError> {
    let uniform = Uniform {
        norm_placement: NormPlacement::Sandwich,
        qk_norm,
        layers,
        attention_scale: fields.or("query_pre_attn_scalar", 256.0)?.powf(-0.5),
        attention_soft_cap: fields.nullable("attn_logit_softcapping", attention_cap)?,
        logit_soft_cap: fields.nullable("final_logit_softcapping", logit_cap)?,
        embedding_scale: (plain.d_model as f64).sqrt(),
        ..plain.uniform(fields.optional("model_type")?.unwrap_or("gemma3_text"), ropes)
    };
    let biases = Biases::new(fields.or("attention_bias", false)?, false);
    let naming = Naming::new(Scheme::Gemma, stored.prefix()).with_gamma_offset(1.0).with_biases(biases);
    Identity::new(fields, uniform, naming)
}
