//! How attention scores become weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How attention scores become weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// Softmax over the visible keys.
    Softmax,
    /// Softmax over the visible keys and one more score of 0 that stands for no key.
    SoftmaxPlusOne,
    /// The same with a learned score a head, as gpt-oss has it.
    SinkLogit,
    /// The sigmoid of every score plus a bias; weights need not sum to 1 (Ramapuram et al. 2024).
    Sigmoid {
        /// Added to every score, usually `-ln` of the context length.
        bias: f64,
    },
}
