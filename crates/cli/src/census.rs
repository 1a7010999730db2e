//! `sinkscope census`: what the weights say of spikes.

use std::time::Instant;

use anyhow::Result;
use sinkscope_anatomy::census::{self, census};
use sinkscope_anatomy::definitions;
use sinkscope_model::Model;
use sinkscope_report::census_tables::census_tables;
use sinkscope_report::envelope::{Envelope, VERSION};
use sinkscope_report::terminal;
use sinkscope_sources::SourceError;
use sinkscope_sources::tokenizer::Tokenizer;

use crate::machine;
use crate::opened::open_model;
use crate::output::{Output, by_name, model_identity};
use crate::progress::Progress;
use crate::request::CensusRequest;

/// Runs the command; `start` is when the program started.
///
/// # Errors
/// If the request or an input is wrong, or results cannot be written; no file is then left half-written.
pub fn run(request: &CensusRequest, start: Instant) -> Result<()> {
    let output = Output::prepare(&request.run)?;
    let progress = Progress::new(request.run.process.verbosity);
    progress.stage("opening");
    let model = open_model(&request.run, &progress)?;
    progress.stage("census");
    let what = census::CensusRequest {
        channels: request.channels.clone(),
        full: request.full,
        blocks: None,
        first: first_token(&model)?,
        walk: census::Walk::Predict,
        seed: request.run.seed,
    };
    let results = census(&model, &what, &|done, total| progress.set(done, total))?;
    progress.stage("hashing");
    let identity = model_identity(&model)?;
    drop(progress);
    let timing = results.timing;
    let parts = [
        ("decode", timing.decode),
        ("norms", timing.norms),
        ("spectra", timing.spectra),
        ("steering", timing.steering),
    ];
    let envelope = Envelope {
        sinkscope: VERSION.into(),
        command: request.run.process.command.clone(),
        model: Some(identity),
        data: None,
        definitions: by_name(&definitions::census()),
        timing: machine::timing(start, parts, None),
        seed: Some(request.run.seed),
        results,
    };
    output.write("census.json", &envelope, &census_tables(Some(&envelope.results))?)?;
    Output::print(|style| terminal::census(&envelope, style))
}

/// The token that the model's tokeniser puts first, if it puts one there.
fn first_token(model: &Model) -> Result<Option<u32>, SourceError> {
    let checkpoint = model.checkpoint();
    let tokenizer = match Tokenizer::from_metadata(checkpoint.metadata(), checkpoint.path()) {
        Err(SourceError::Unsupported { .. }) => None,
        tokenizer => tokenizer?,
    };
    tokenizer.map_or(Ok(None), |tokenizer| tokenizer.first())
}
