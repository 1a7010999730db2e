//! SmolLM3: a Llama some of whose layers do not rotate.

use super::fields::Fields;
use super::hugging_face::HuggingFace;
use super::llama::{WINDOW_LAYERS, names};
use super::naming::{Biases, Naming};
use super::plain::{Defaults, Plain, layer_types, windows};
use super::rope::{Spelling, rope};
use super::{Family, Identity};
use crate::architecture::{Architecture, Position, Uniform};
use crate::error::ModelError;

/// `transformers/models/smollm3/configuration_smollm3.py`. Its GGUF files say nothing of the layers that do not rotate, and no
/// other implementation at hand reads them.
pub(super) const SMOLLM3: Family = Family {
    name: "smollm3",
    hugging_face: &[HuggingFace {
        inert: &[WINDOW_LAYERS],
        ..HuggingFace::new("smollm3", &["SmolLM3"], |fields, stored| {
            let defaults = Defaults {
                vocabulary: 128_256,
                d_model: 2048,
                layers: 36,
                heads: 16,
                kv_heads: Some(4),
                null_head_dim: false,
                max_positions: 32_768,
                tied: true,
                ..Defaults::LLAMA
            };
            let plain = Plain::read(fields, &defaults)?;
            let spelling = Spelling { default_theta: 2e6, ..Spelling::default() };
            let rope = rope(fields, &spelling, plain.head_dim, plain.max_positions)?;
            let rotates = rotates(fields, plain.layers)?;
            let window = fields.nullable("sliding_window", None)?;
            let window = if fields.or("use_sliding_window", false)? { window } else { None };
            let slides = match layer_types(fields, plain.layers)? {
                Some(slides) => slides,
                None => rotates.iter().map(|rotates| window.is_some() && !rotates).collect(),
            };
            let layers = windows(fields, window, slides)?;
            let biases = Biases::new(fields.or("attention_bias", false)?, fields.or("mlp_bias", false)?);
            let naming = Naming { biases, ..Naming::new(names, stored.prefix()) };
            let uniform = Uniform { layers, ..plain.uniform("smollm3", vec![rope]) };
            let mut identity = Identity::new(fields.path, uniform, naming)?;
            let a = &mut identity.architecture;
            let mut layers: Vec<_> = a.layers().cloned().collect();
            for (layer, _) in layers.iter_mut().zip(rotates).filter(|(_, rotates)| !rotates) {
                layer.mixer.attention_mut().position = Position::None;
            }
            (a.kinds, a.order) = Architecture::kinds_of(layers);
            Ok(identity)
        })
    }],
    gguf: None,
};

/// Which layers rotate: those that `no_rope_layers`, in spite of its name, marks with 1, or else all but every fourth.
fn rotates(fields: &Fields<'_>, count: usize) -> Result<Vec<bool>, ModelError> {
    const LAYERS: &str = "no_rope_layers";
    const INTERVAL: &str = "no_rope_layer_interval";
    let interval: usize = fields.or(INTERVAL, 4)?;
    if interval == 0 {
        return Err(fields.wrong_value(INTERVAL, "a number of at least 1"));
    }
    match fields.nullable::<Vec<f64>>(LAYERS, None)? {
        None => Ok((0..count).map(|layer| !(layer + 1).is_multiple_of(interval)).collect()),
        Some(marks) if marks.len() >= count && marks.iter().all(|mark| [0.0, 1.0].contains(mark)) => {
            Ok(marks[..count].iter().map(|mark| *mark == 1.0).collect())
        }
        Some(_) => Err(fields.wrong_value(LAYERS, format!("0 or 1 for each of {count} layers"))),
    }
}
