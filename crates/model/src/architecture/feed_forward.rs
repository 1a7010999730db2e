//! What feed-forward blocks are made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use sinkscope_kernels::activation::Activation;

/// The feed-forward block of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForward {
    /// Two layers with a nonlinearity between them.
    Dense(Dense),
    /// One matrix.
    Linear,
    /// Nothing: even blocks add zero. Attention in place of every feed-forward block is twice as many layers of this kind.
    None,
}

/// Two layers with a nonlinearity between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// Hidden units, d_ffn.
    pub hidden: usize,
    /// The nonlinearity.
    #[schemars(with = "String")]
    pub activation: Activation,
    /// Whether a second, linear branch multiplies it (SwiGLU, GeGLU).
    pub gated: bool,
}

impl FeedForward {
    /// The two layers, if it has them.
    pub fn dense(&self) -> Option<&Dense> {
        match self {
            Self::Dense(dense) => Some(dense),
            Self::Linear | Self::None => None,
        }
    }

    /// Whether the block adds something to the residual.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// What its last matrix reads: hidden units, or the residual if it is the only one; 0 if there is none.
    pub fn down_inputs(&self, d_model: usize) -> usize {
        match self {
            Self::Dense(dense) => dense.hidden,
            Self::Linear => d_model,
            Self::None => 0,
        }
    }

    /// Multiply-adds of its matrices, a token.
    pub(super) fn multiplications(&self, d_model: usize) -> f64 {
        let d = d_model as f64;
        match self {
            Self::Dense(dense) => {
                let matrices = if dense.gated { 3.0 } else { 2.0 };
                matrices * d * dense.hidden as f64
            }
            Self::Linear => d * d,
            Self::None => 0.0,
        }
    }
}
