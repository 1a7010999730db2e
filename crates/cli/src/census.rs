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

use crate::arguments::CensusArguments;
use crate::machine;
use crate::opened::open_model;
use crate::output::{Output, by_name, model_identity};
use crate::progress::Progress;
use crate::request::RunOptions;

/// Runs the command; `start` is when the program started.
pub fn run(arguments: &CensusArguments, run: &RunOptions, start: Instant) -> Result<()> {
    let output = Output::prepare(run, "census.json")?;
    let progress = Progress::new(run.process.verbosity);
    progress.stage("opening");
    let model = open_model(run, &progress)?;
    output.check(&model, None)?;
    progress.stage("census");
    let what = census::CensusRequest {
        channels: arguments.channels.clone(),
        full: arguments.full,
        blocks: None,
        first: first_token(&model)?,
        walk: census::Walk::Predict,
        seed: run.seed,
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
        command: run.process.command.clone(),
        model: Some(identity),
        data: None,
        definitions: by_name(&definitions::census()),
        timing: machine::timing(start, parts, None),
        seed: Some(run.seed),
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
