//! Norms: their kind, and where a block has them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// RMSNorm (eq. 5) with a scale.
    RmsNorm,
    /// LayerNorm with scale and bias.
    LayerNorm,
    /// `tanh(alpha x) * gamma + beta` in place of a norm (Zhu et al. 2025).
    DynamicTanh,
}

/// Where a block normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NormPlacement {
    /// On its input (eq. 4).
    Pre,
    /// On its input and on its output.
    Sandwich,
    /// On its output only, as OLMo 2 does.
    Output,
    /// On its output, and on what queries and keys are made of; values and feed-forward blocks read the residual as it is.
    SandwichQkInput,
    /// On the residual after the block's output was added, as the first transformers did. The last block's norm is the last of
    /// all: the output head reads what it gives.
    Post,
}

impl NormPlacement {
    /// Whether a block (attention if `attention`) normalises its input, or part of it.
    pub fn on_input(self, attention: bool) -> bool {
        match self {
            Self::Pre | Self::Sandwich => true,
            Self::SandwichQkInput => attention,
            Self::Output | Self::Post => false,
        }
    }

    /// Whether a block has a norm behind it: of what it adds, or of the residual after it.
    pub fn has_output_norm(self) -> bool {
        matches!(self, Self::Sandwich | Self::Output | Self::SandwichQkInput | Self::Post)
    }

    /// Whether the output head has a norm of its own before it.
    pub fn has_final_norm(self) -> bool {
        self != Self::Post
    }
}

/// RMSNorm on queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QkNorm {
    /// None.
    None,
    /// Each head on its own, with one scale of `head_dim` for all (Qwen3, Gemma 3).
    PerHead,
    /// The whole projection at once (OLMo 2).
    Projection,
}
