//! Whether fp16 could hold the activations, and with how much room: its largest number is 65,504, and a larger one becomes
//! infinite there.
//!
//! Residuals and what blocks add to them are looked at. Values inside a block (hidden activations, scores) are not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definitions::FP16_LARGEST;
use crate::residual::ResidualTap;
use crate::tokens::Tokens;

/// How the activations compare with the largest number of fp16.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeadRoom {
    /// The largest number of fp16.
    pub limit: f64,
    /// The activation of largest magnitude; `None` if all are 0.
    pub largest: Option<Activation>,
    /// `limit` over its magnitude: below 1, fp16 overflows.
    pub factor: Option<f64>,
    /// The largest activation of the first block that has one beyond the limit; `None` if fp16 holds all.
    pub overflow: Option<Activation>,
}

/// One activation, and where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Activation {
    /// Whether it is one of the residual or of what a block adds to it.
    pub of: ActivationKind,
    /// Block, 0 for the embedding.
    pub block: usize,
    /// Channel.
    pub channel: usize,
    /// Sequence.
    pub sequence: usize,
    /// Position.
    pub position: usize,
    /// Token id.
    pub id: u32,
    /// Token text (empty if no tokeniser is at hand).
    pub text: String,
    /// The activation, sign kept.
    pub value: f32,
}

/// Where an activation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivationKind {
    /// In the residual after the block.
    Residual,
    /// In what the block adds to it.
    Output,
}

/// What the tap saw, held against fp16.
pub fn head_room(tap: &ResidualTap, tokens: Tokens<'_>) -> HeadRoom {
    let activation = |of: ActivationKind, block: usize| {
        let top = match of {
            ActivationKind::Residual => tap.residual_top(block),
            ActivationKind::Output => tap.output_top(block),
        };
        let extreme = top.extremes().first()?;
        let (sequence, position) = tokens.place(extreme.token);
        Some(Activation {
            of,
            block,
            channel: extreme.channel,
            sequence,
            position,
            id: tokens.id(extreme.token),
            text: tokens.text(extreme.token),
            value: extreme.value,
        })
    };
    // What a block adds is there before the residual that it is added to.
    let all = tap.blocks().flat_map(|block| {
        [activation(ActivationKind::Output, block), activation(ActivationKind::Residual, block)].into_iter().flatten()
    });
    let mut found = HeadRoom { limit: FP16_LARGEST, largest: None, factor: None, overflow: None };
    for activation in all {
        let magnitude = |activation: &Activation| f64::from(activation.value.abs());
        if found.overflow.is_none() && magnitude(&activation) > FP16_LARGEST {
            found.overflow = Some(activation.clone());
        }
        if magnitude(&activation) > found.largest.as_ref().map_or(0.0, magnitude) {
            found.factor = Some(FP16_LARGEST / magnitude(&activation));
            found.largest = Some(activation);
        }
    }
    found
}
