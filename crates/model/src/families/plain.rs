//! What the descriptions of most families have in common, in either format.

use super::fields::Fields;
use crate::architecture::{
    Activation, FeedForwardKind, LayerView, NormKind, NormPlacement, PositionEncoding, QkNorm, ResidualLayout, Rope,
    Uniform, UniformFeedForward, Weighting, check_layer_count,
};
use crate::error::ModelError;

/// What a family takes for keys that are left out.
pub(super) struct Defaults {
    pub vocabulary: usize,
    pub d_model: usize,
    pub d_ffn: usize,
    pub layers: usize,
    pub heads: usize,
    /// As many as query heads if `None`.
    pub kv_heads: Option<usize>,
    /// Whether null stands for as many as query heads.
    pub null_kv_heads: bool,
    /// The width of the residual divided among the heads if `None`.
    pub head_dim: Option<usize>,
    /// Whether null stands for that.
    pub null_head_dim: bool,
    pub max_positions: usize,
    pub norm_epsilon: f64,
    /// The key of the nonlinearity, and its default.
    pub activation: (&'static str, &'static str),
    pub tied: bool,
}

impl Defaults {
    pub const LLAMA: Self = Self {
        vocabulary: 32_000,
        d_model: 4096,
        d_ffn: 11_008,
        layers: 32,
        heads: 32,
        kv_heads: None,
        null_kv_heads: true,
        head_dim: None,
        null_head_dim: true,
        max_positions: 2048,
        norm_epsilon: 1e-6,
        activation: ("hidden_act", "silu"),
        tied: false,
    };
}

/// The sizes of a model, and what else nearly every family has.
pub(super) struct Plain {
    pub vocabulary: usize,
    pub d_model: usize,
    pub d_ffn: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub max_positions: usize,
    pub norm_epsilon: f64,
    pub activation: Activation,
    pub tied: bool,
}

impl Plain {
    /// Reads the keys of Llama and its descendants in a Hugging Face configuration.
    ///
    /// # Errors
    /// If a key has a value that it cannot have.
    pub fn read(fields: &Fields<'_>, defaults: &Defaults) -> Result<Self, ModelError> {
        let d_model: usize = fields.or("hidden_size", defaults.d_model)?;
        let heads: usize = fields.or("num_attention_heads", defaults.heads)?;
        let nullable = |key, null_is_allowed: bool, default: Option<usize>| {
            if null_is_allowed { fields.nullable(key, default) } else { Ok(fields.optional(key)?.or(default)) }
        };
        let kv_heads = nullable("num_key_value_heads", defaults.null_kv_heads, defaults.kv_heads)?;
        let head_dim = nullable("head_dim", defaults.null_head_dim, defaults.head_dim)?;
        let (key, default) = defaults.activation;
        Ok(Self {
            vocabulary: fields.or("vocab_size", defaults.vocabulary)?,
            d_model,
            d_ffn: fields.or("intermediate_size", defaults.d_ffn)?,
            layers: layer_count(fields, fields.or("num_hidden_layers", defaults.layers)?)?,
            heads,
            kv_heads: kv_heads.unwrap_or(heads),
            head_dim: head_dim.unwrap_or(d_model / heads.max(1)),
            max_positions: fields.or("max_position_embeddings", defaults.max_positions)?,
            norm_epsilon: fields.or("rms_norm_eps", defaults.norm_epsilon)?,
            activation: activation(fields, key, default)?,
            tied: fields.or("tie_word_embeddings", defaults.tied)?,
        })
    }

    /// A Llama of this shape whose layers see everything.
    pub fn uniform(&self, family: &str, ropes: Vec<Rope>) -> Uniform {
        Uniform {
            family: family.to_owned(),
            d_model: self.d_model,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            d_ffn: self.d_ffn,
            vocabulary: self.vocabulary,
            max_positions: self.max_positions,
            norm: NormKind::RmsNorm,
            norm_epsilon: self.norm_epsilon,
            norm_placement: NormPlacement::Pre,
            residual: ResidualLayout::Sequential,
            qk_norm: QkNorm::None,
            feed_forward: UniformFeedForward {
                kind: FeedForwardKind::TwoLayer,
                activation: self.activation,
                gated: true,
            },
            position: PositionEncoding::Rotary(ropes),
            layers: vec![LayerView { window: None, rope: 0 }; self.layers],
            attention_scale: (self.head_dim as f64).powf(-0.5),
            weighting: Weighting::Softmax,
            key_value_bias: false,
            gate: None,
            attention_soft_cap: None,
            logit_soft_cap: None,
            embedding_scale: 1.0,
            tied_embeddings: self.tied,
            registers: 0,
        }
    }
}

/// The number of layers, once it is one that a model can have.
///
/// # Errors
/// If there are none, or more than any model has.
pub(super) fn layer_count(fields: &Fields<'_>, count: usize) -> Result<usize, ModelError> {
    check_layer_count(count).map_err(|reason| ModelError::malformed(fields.path, reason))?;
    Ok(count)
}

/// A nonlinearity by its name in transformers, `activations.py`.
///
/// # Errors
/// If it is not supported.
pub(super) fn activation(fields: &Fields<'_>, key: &str, default: &'static str) -> Result<Activation, ModelError> {
    let name = fields.optional::<&str>(key)?.unwrap_or(default);
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        _ => Err(fields.wrong_value(key, "one of silu, gelu, gelu_new, gelu_pytorch_tanh and relu")),
    }
}

/// Which layers slide, as `layer_types` says; `None` if it is absent or null.
///
/// # Errors
/// If it has another number of entries, or one of another kind.
pub(super) fn layer_types(fields: &Fields<'_>, count: usize) -> Result<Option<Vec<bool>>, ModelError> {
    let Some(types) = fields.nullable::<Vec<&str>>("layer_types", None)? else { return Ok(None) };
    if types.len() != count {
        let reason = format!("field `{}` has {} entries for {count} layers", fields.name("layer_types"), types.len());
        return Err(ModelError::malformed(fields.path, reason));
    }
    let slides = |kind: &&str| match *kind {
        "sliding_attention" => Ok(true),
        "full_attention" => Ok(false),
        other => Err(ModelError::unsupported(
            fields.path,
            format!("layer type `{other}` is not supported; supported: full_attention, sliding_attention"),
        )),
    };
    types.iter().map(slides).collect::<Result<_, _>>().map(Some)
}

/// Layers of which those slide that `slides` says.
///
/// # Errors
/// If one slides and there is no window.
pub(super) fn windows(
    fields: &Fields<'_>,
    window: Option<usize>,
    slides: impl IntoIterator<Item = bool>,
) -> Result<Vec<LayerView>, ModelError> {
    let layer = |slides: bool| match (slides, window) {
        (true, None) => Err(fields.wrong_value("layer_types", "a window for the layers that slide")),
        _ => Ok(LayerView { window: window.filter(|_| slides), rope: 0 }),
    };
    slides.into_iter().map(layer).collect()
}

/// Layers with one window for all, or none: `layer_types`, which such a family does not read, must not say otherwise.
///
/// # Errors
/// If it does.
pub(super) fn one_window(
    fields: &Fields<'_>,
    count: usize,
    window: Option<usize>,
) -> Result<Vec<LayerView>, ModelError> {
    if let Some(types) = layer_types(fields, count)?
        && types.iter().any(|&slides| slides != window.is_some())
    {
        let wanted = if window.is_some() { "sliding_attention" } else { "full_attention" };
        return Err(fields.wrong_value("layer_types", format!("{wanted} in every layer, as `sliding_window` has it,")));
    }
    Ok(vec![LayerView { window, rope: 0 }; count])
}
