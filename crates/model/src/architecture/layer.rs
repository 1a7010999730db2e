//! A layer: a mixer of tokens, a feed-forward block, and how the two are wired into the residual.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FeedForward, Mixer, NormPlacement};

/// What a layer is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// What carries information between tokens.
    pub mixer: Mixer,
    /// What works on each token alone.
    pub feed_forward: FeedForward,
    /// Where both blocks normalise.
    pub norm_placement: NormPlacement,
    /// Whether both blocks read the same residual.
    pub residual: ResidualLayout,
}

/// How the two blocks of a layer are wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResidualLayout {
    /// Feed-forward reads the residual after attention.
    Sequential,
    /// Both read the residual before the layer (GPT-J, GPT-NeoX).
    Parallel,
}
