//! What a run tells of itself: every step, every look, and how it ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::watch::Watched;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Mean loss over the counted targets of its batch, in nats, before the step.
    pub loss: f64,
    /// Length of the gradient before it was shortened.
    pub gradient_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
}

/// Where a run came to something that is no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diverged {
    /// The step, from 0: so many were done before.
    pub step: u64,
    /// What is no number, and what it is instead.
    pub what: String,
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Look {
    /// Steps done before it.
    pub step: u64,
    /// What is the same whenever the run is repeated.
    #[serde(flatten)]
    pub record: Record,
    /// What is not.
    pub timing: Timing,
}

/// What a look at the model showed, and what the steps before it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Mean training loss over the steps since the last record; `None` before the first step.
    pub loss: Option<f64>,
    /// Of the last step.
    pub gradient_norm: Option<f64>,
    /// Of the last step.
    pub learning_rate: Option<f64>,
    /// The look.
    #[serde(flatten)]
    pub watched: Watched,
}

/// How fast a run is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// Of the steps since the look before; `None` if there were none.
    pub tokens_per_second: Option<f64>,
    /// Since this process began to train.
    pub seconds: f64,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A step was done.
    Step(&'a StepReport),
    /// The model was looked at, so many steps in.
    Look(u64, &'a Record),
    /// A checkpoint was written after so many steps.
    Saved(u64),
    /// A damaged checkpoint was passed over.
    Damaged(&'a LabError),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// All steps are done.
    Finished,
    /// It was asked to stop, and saved, after so many steps.
    Stopped(u64),
}
