//! The typed results of `sinkscope train`, field for field what `train.json` holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cost::Cost;
use crate::recipe::Recipe;
use crate::trainer::Look;

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trained {
    /// What was asked for.
    pub recipe: Recipe,
    /// How large it is.
    pub cost: Cost,
    /// Steps done.
    pub steps: u64,
    /// Every look at the model, as `metrics.jsonl` has it.
    pub looks: Vec<Look>,
}
