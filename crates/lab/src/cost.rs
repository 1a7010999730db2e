//! What a run will cost, before it starts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_model::architecture::{Architecture, Layer};

use crate::recipe::Recipe;

/// The size of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Weights.
    pub parameters: u64,
    /// Tokens trained on: steps times sequences times `seq_len`, what fills up short documents included.
    pub tokens: u64,
    /// Floating-point operations of its products, two per multiply-add: forward, and twice that backward.
    pub flops: f64,
    /// About how much memory it takes, in bytes: weights (plain, packed both ways and as files have them), gradients, two
    /// moments, what the backward needs of the forward, and what a look keeps.
    pub memory: u64,
}

impl Cost {
    /// Whether so many bytes are enough.
    ///
    /// # Errors
    /// How many would be, and what makes it fewer.
    pub fn fits(&self, memory: u64) -> Result<(), String> {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        if self.memory <= memory {
            return Ok(());
        }
        Err(format!(
            "the run needs about {:.0} GiB of memory, and this machine has {:.0} for it; make the model or the batch \
             smaller, or split the batch (training.accumulation)",
            gib(self.memory),
            gib(memory)
        ))
    }
}

/// Copies of every weight: itself, packed for products both ways, its gradient, two moments, and two as files have it while
/// the model is looked at.
const COPIES: u64 = 8;

/// The size of a run of this recipe.
pub fn cost(recipe: &Recipe, a: &Architecture) -> Cost {
    let (training, watch) = (&recipe.training, &recipe.watch);
    let product =
        |factors: &[usize]| factors.iter().fold(1, |product: u64, &factor| product.saturating_mul(factor as u64));
    let positions = training.seq_len.saturating_add(a.registers);
    let rows = product(&[training.sequences, positions]);
    let tokens = training.steps.saturating_mul(product(&[training.sequences, training.seq_len]));
    let parameters = sinkscope_model::parameters::count(a);
    let of_layer = |layer: &Layer| {
        let attention = layer.mixer.attention();
        let queries = attention.query_width() + attention.output_width();
        let hidden = layer.feed_forward.dense().map_or(0, |dense| dense.hidden);
        6 * a.d_model + queries + attention.key_width() + attention.value_width() + 2 * hidden
    };
    let of_layers: usize = a.layers().map(of_layer).sum();
    let part = (rows / training.accumulation as u64).saturating_mul(of_layers as u64);
    // Ids, and what is kept of every token after every block.
    let looked_at = product(&[watch.sequences, watch.seq_len.saturating_add(a.registers), a.blocks() + 2, 2]);
    Cost {
        parameters,
        tokens,
        flops: 3.0 * a.flops_per_token(positions, true) * training.steps as f64 * rows as f64,
        memory: (COPIES * parameters).saturating_add(part).saturating_add(looked_at).saturating_mul(4),
    }
}
