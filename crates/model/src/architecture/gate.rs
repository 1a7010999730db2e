//! Gates on the heads' outputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use sinkscope_kernels::gate::Granularity;

/// A gate on the heads' outputs: they are multiplied by a sigmoid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttentionGate {
    /// What the sigmoid is of.
    pub signal: GateSignal,
    /// How many gates there are.
    pub granularity: Granularity,
}

/// What a gate depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GateSignal {
    /// A projection of the block's normalised input: conditional.
    Input,
    /// Free parameters: unconditional.
    Free,
    /// A matrix of parameters by position, which begins and decays as other matrices do: static.
    Position,
    /// A projection of the token's embedding, times `embedding_scale`, without its position: static.
    Embedding,
}

impl GateSignal {
    /// Whether the gates are a product with their matrix, and not a row of it that is looked up.
    pub fn is_product(self) -> bool {
        matches!(self, Self::Input | Self::Embedding)
    }
}
