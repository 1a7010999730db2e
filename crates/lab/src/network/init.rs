//! Weights to begin with.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_kernels::Float;
use sinkscope_model::architecture::Architecture;
use sinkscope_model::{ParameterKind, Parameters};

use crate::error::LabError;

/// How weights begin: matrices and tables normal, norms at 1, biases, unconditional gates and sink logits at 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Initialisation {
    /// Standard deviation of matrices and tables.
    pub deviation: f64,
    /// That of the embedding; as of the others if left out.
    pub embedding_deviation: Option<f64>,
    /// Whether matrices that write to the residual begin smaller, by the root of the number of blocks that write (GPT-2).
    /// Absent blocks do not count.
    pub scale_residual: bool,
    /// Alpha of every dynamic tanh.
    pub dynamic_tanh_alpha: f64,
}

impl Default for Initialisation {
    fn default() -> Self {
        Self { deviation: 0.02, embedding_deviation: None, scale_residual: false, dynamic_tanh_alpha: 0.5 }
    }
}

/// Weights of this architecture, drawn with a seed: each parameter from a stream of its own, in f64, so that no draw depends
/// on another parameter's size.
///
/// # Errors
/// [`LabError::Request`] if the architecture contradicts itself or the deviation is no positive number.
pub fn initialise<F: Float>(a: &Architecture, how: &Initialisation, seed: u64) -> Result<Parameters<F>, LabError> {
    a.validate().map_err(LabError::Request)?;
    let embedding_deviation = how.embedding_deviation.unwrap_or(how.deviation);
    for deviation in [how.deviation, embedding_deviation] {
        if !(deviation > 0.0 && deviation.is_finite()) {
            return Err(LabError::Request(format!("a deviation of {deviation} is not a positive number")));
        }
    }
    let mut parameters = Parameters::blank(a, how.dynamic_tanh_alpha)?;
    let inventory = parameters.inventory(a);
    let smaller = (a.writing_blocks() as f64).sqrt().recip();
    for (stream, (values, info)) in parameters.values_mut().into_iter().zip(inventory).enumerate() {
        let factor = match info.kind {
            ParameterKind::Matrix { writes_residual: true, .. } if how.scale_residual => smaller * how.deviation,
            ParameterKind::Table { .. } if info.name.ends_with("embed_tokens.weight") => embedding_deviation,
            ParameterKind::Matrix { .. } | ParameterKind::Table { .. } => how.deviation,
            ParameterKind::Vector if info.name.contains(".bias_") => how.deviation,
            ParameterKind::Vector | ParameterKind::Scale | ParameterKind::Alpha => continue,
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream as u64 + 1);
        for value in values {
            let drawn: f64 = StandardNormal.sample(&mut random);
            *value = F::from_f64(factor * drawn);
        }
    }
    parameters.repack();
    Ok(parameters)
}
