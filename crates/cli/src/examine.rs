//! From a request to what was measured: the one place where the command meets the model and its measurements.

use std::collections::BTreeMap;

use anyhow::Result;
use sinkscope_anatomy::results::Anatomy;
use sinkscope_model::Model;
use sinkscope_model::architecture::Architecture;
use sinkscope_model::checkpoint::Checkpoint;
use sinkscope_report::envelope::{DataIdentity, ModelIdentity, PassTiming};

use crate::progress::Progress;
use crate::request::AnatomyRequest;

/// What an examination gives.
#[derive(Debug)]
pub struct Examination {
    /// The model.
    pub model: ModelIdentity<Architecture>,
    /// The tokens.
    pub data: DataIdentity,
    /// What each number means.
    pub definitions: BTreeMap<String, String>,
    /// Each pass over the model.
    pub passes: Vec<PassTiming>,
    /// Of the streamed pass, decoding of weights included.
    pub tokens_per_second: f64,
    /// Share of the f32 arithmetic bound that the streamed pass reached; `None` if unknown.
    pub fraction_of_bound: Option<f64>,
    /// What was measured.
    pub anatomy: Anatomy,
}

/// Examines a model on a text. Runs on the current thread pool.
///
/// # Errors
/// If the model, the text or the request is wrong.
pub fn examine(request: &AnatomyRequest, progress: &Progress) -> Result<Examination> {
    progress.stage("opening");
    let checkpoint = Checkpoint::open(&request.subject.model)?;
    let model = Model::from_checkpoint(checkpoint)?;
    measure(request, &model, progress)
}

/// INTEGRATION POINT: load the tokeniser and the tokens, run the streamed pass past the taps of `request.parts`, and
/// fill in an [`Examination`]. Until then it says so, and nothing is measured.
fn measure(request: &AnatomyRequest, model: &Model, progress: &Progress) -> Result<Examination> {
    let _ = &request.parts;
    progress.stage("examining");
    progress.set(0, model.architecture().blocks() as u64);
    anyhow::bail!("{}: the measurements are not connected to the command in this build", model.checkpoint().name())
}
