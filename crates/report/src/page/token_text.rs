//! The text itself, each token with what the page shades it by.

use serde::Serialize;
use sinkscope_anatomy::median::upper_median;
use sinkscope_anatomy::results::Lifecycle;
use sinkscope_anatomy::token_page::TokenPage;

/// A text for the page's program.
#[derive(Debug, Serialize)]
pub struct TokenText {
    /// Its anchor.
    pub id: String,
    /// Layers and heads that can be picked.
    pub layers: usize,
    /// Heads of a layer.
    pub heads: usize,
    /// Positions of a sequence that are shown.
    pub positions: usize,
    /// Token texts, sequence by sequence.
    pub texts: Vec<String>,
    /// Largest activation of each, sign kept.
    pub largest: Vec<f32>,
    /// Where that is.
    pub blocks: Vec<usize>,
    /// Likewise.
    pub channels: Vec<usize>,
    /// The typical token's largest magnitude in the block where it is largest, or the median over the tokens shown: where
    /// shading begins.
    pub typical: f64,
    /// By token, layer and head: a byte q in base64, for an alpha of (q/255)^2.
    pub received: String,
}

impl TokenText {
    /// Of an examination.
    pub fn new(id: String, page: &TokenPage, lifecycle: Option<&Lifecycle>) -> Self {
        let blocks = lifecycle.map_or(&[][..], |lifecycle| &lifecycle.blocks);
        let magnitudes: Vec<f32> = page.tokens.iter().map(|token| token.largest.abs()).collect();
        // Without a life cycle, that of the tokens shown.
        let typical = blocks.iter().map(|block| block.residual.typical_token_largest).fold(0.0, f64::max);
        let typical = if typical > 0.0 { typical } else { upper_median(&magnitudes).max(f64::MIN_POSITIVE) };
        Self {
            id,
            layers: page.layers,
            heads: page.heads,
            positions: page.positions,
            texts: page.tokens.iter().map(|token| token.text.clone()).collect(),
            largest: page.tokens.iter().map(|token| token.largest).collect(),
            blocks: page.tokens.iter().map(|token| token.block).collect(),
            channels: page.tokens.iter().map(|token| token.channel).collect(),
            typical,
            received: page.received.clone(),
        }
    }
}
