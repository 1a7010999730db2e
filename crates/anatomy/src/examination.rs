//! An examination: what is asked for, the taps it takes, and how they become one result.
//!
//! ```
//! use sinkscope_anatomy::examination::{AnatomyRequest, AnatomyTaps, Finished, ModelSize};
//! use sinkscope_model::data::TokenBatch;
//!
//! let batch = TokenBatch { tokens: vec![5, 7, 7, 1], sequences: 2, seq_len: 2 };
//! let request = AnatomyRequest { lifecycle: false, spikes: false, sinks: false, ..AnatomyRequest::default() };
//! let taps = AnatomyTaps::new(&request, ModelSize { layers: 2, heads: 4 }, &batch);
//! // A pass over the batch drives `taps.residual`, `taps.sinks` and `taps.prediction` here.
//! match taps.finish(&batch, &|_id| String::new())? {
//!     Finished::Complete(anatomy) => assert!(anatomy.sinks.is_none()),
//!     // Another pass over the same batch drives `look.tap` first.
//!     Finished::SecondLook(look) => drop(look.finish(&batch, &|_id| String::new())),
//! }
//! # Ok::<(), sinkscope_anatomy::error::AnatomyError>(())
//! ```

use sinkscope_model::data::TokenBatch;

use crate::definitions::{SINK_EPSILON, SPIKE_RATIO};
use crate::error::AnatomyError;
use crate::lifecycle::lifecycle;
use crate::prediction::PredictionTap;
use crate::residual::{ResidualTap, StageSearch};
use crate::results::Anatomy;
use crate::sinks::{SinkDefinition, SinkTap};
use crate::spikes::look::StageLook;
use crate::spikes::outline::StageOutline;
use crate::spikes::spikes;
use crate::spikes::stage::StageValues;
use crate::tokens::Tokens;

/// What to examine, and with which thresholds. The default is everything with those of [`crate::definitions`].
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "four parts that are asked for independently")]
pub struct AnatomyRequest {
    /// The life cycle of the largest channels.
    pub lifecycle: bool,
    /// Spike tokens and stages.
    pub spikes: bool,
    /// Attention sinks.
    pub sinks: bool,
    /// Negative log-likelihood and perplexity.
    pub nll: bool,
    /// R.
    pub spike_ratio: f64,
    /// The threshold on alpha.
    pub epsilon: f64,
    /// The sink ratio's variant.
    pub definition: SinkDefinition,
    /// Of the bootstrap.
    pub seed: u64,
}

impl Default for AnatomyRequest {
    fn default() -> Self {
        Self {
            lifecycle: true,
            spikes: true,
            sinks: true,
            nll: true,
            spike_ratio: SPIKE_RATIO,
            epsilon: SINK_EPSILON,
            definition: SinkDefinition::Paper,
            seed: 0,
        }
    }
}

/// The sizes of a model that the taps depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelSize {
    /// Layers, L.
    pub layers: usize,
    /// Query heads per layer.
    pub heads: usize,
}

/// The taps of an examination; those not asked for are absent.
#[derive(Debug)]
pub struct AnatomyTaps {
    /// For life cycle and spikes.
    pub residual: Option<ResidualTap>,
    /// For sinks.
    pub sinks: Option<SinkTap>,
    /// For the negative log-likelihood.
    pub prediction: Option<PredictionTap>,
    request: AnatomyRequest,
}

/// What a pass led to.
#[derive(Debug)]
pub enum Finished {
    /// The result.
    Complete(Box<Anatomy>),
    /// Some values of the stages were not recorded, as can happen when the batch is processed in several groups.
    SecondLook(Box<SecondLook>),
}

/// All but the stages' values: run the pass over the same batch once more with [`Self::tap`], then call
/// [`Self::finish`].
#[derive(Debug)]
pub struct SecondLook {
    /// The only tap of that pass.
    pub tap: StageLook,
    residual: ResidualTap,
    rest: Anatomy,
    request: AnatomyRequest,
}

impl AnatomyTaps {
    /// The taps for `request` on a model of this size and this batch.
    pub fn new(request: &AnatomyRequest, size: ModelSize, batch: &TokenBatch) -> Self {
        let (sequences, seq_len) = (batch.sequences, batch.seq_len);
        let residual = || ResidualTap::new(size.layers, sequences, seq_len, request.spike_ratio);
        Self {
            residual: (request.lifecycle || request.spikes).then(residual),
            sinks: request.sinks.then(|| SinkTap::new(size.layers, size.heads, sequences, seq_len)),
            prediction: request.nll.then(|| PredictionTap::new(size.layers, sequences)),
            request: request.clone(),
        }
    }

    /// Puts the result together; `text` gives the text of a token id, empty if there is no tokeniser.
    ///
    /// # Errors
    ///
    /// [`AnatomyError::NonFiniteResidual`] if the residual was observed and holds infinities or NaNs.
    pub fn finish(self, batch: &TokenBatch, text: &dyn Fn(u32) -> String) -> Result<Finished, AnatomyError> {
        let Self { residual, sinks, prediction, request } = self;
        let mut anatomy = Anatomy {
            lifecycle: None,
            spikes: None,
            sinks: sinks.map(|tap| tap.finish(request.definition, request.epsilon, request.seed)),
            perplexity: prediction.as_ref().and_then(PredictionTap::perplexity),
            nll: prediction.as_ref().and_then(PredictionTap::nll),
            predicted_tokens: prediction.as_ref().map(PredictionTap::predicted_tokens),
        };
        let Some(residual) = residual else { return Ok(Finished::Complete(Box::new(anatomy))) };
        if let Some(broken) = residual.non_finite() {
            return Err(AnatomyError::NonFiniteResidual { block: broken.block, values: broken.values });
        }
        match residual.stages() {
            StageSearch::Found(stages) => {
                add_residual(&mut anatomy, &residual, &stages, &request, Tokens::new(batch, text));
                Ok(Finished::Complete(Box::new(anatomy)))
            }
            StageSearch::SecondLook(tap) => {
                Ok(Finished::SecondLook(Box::new(SecondLook { tap, residual, rest: anatomy, request })))
            }
        }
    }
}

impl SecondLook {
    /// Puts the result together after the second pass.
    pub fn finish(self, batch: &TokenBatch, text: &dyn Fn(u32) -> String) -> Anatomy {
        let Self { tap, residual, rest: mut anatomy, request } = self;
        add_residual(&mut anatomy, &residual, &tap.finish(), &request, Tokens::new(batch, text));
        anatomy
    }
}

fn add_residual(
    anatomy: &mut Anatomy,
    residual: &ResidualTap,
    stages: &[(StageOutline, StageValues)],
    request: &AnatomyRequest,
    tokens: Tokens<'_>,
) {
    let spikes = spikes(residual, stages, tokens);
    anatomy.lifecycle = request.lifecycle.then(|| lifecycle(residual, &spikes.stages, tokens));
    anatomy.spikes = request.spikes.then_some(spikes);
}
