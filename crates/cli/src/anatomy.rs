//! `sinkscope anatomy`: examine, write the files, print the report.

use std::time::Instant;

use anyhow::Result;
use sinkscope_report::anatomy_tables::anatomy_tables;
use sinkscope_report::envelope::{Envelope, Timing, VERSION};
use sinkscope_report::terminal;

use crate::examine::examine;
use crate::machine;
use crate::output::Output;
use crate::progress::Progress;
use crate::request::AnatomyRequest;

/// Runs the command; `start` is when the program started.
///
/// # Errors
/// If the request or an input is wrong, or results cannot be written; no file is then left half-written.
pub fn run(request: &AnatomyRequest, start: Instant) -> Result<()> {
    let output = Output::prepare(&request.run)?;
    let progress = Progress::new(request.run.verbosity);
    let examination = examine(request, &progress)?;
    drop(progress);
    let envelope = Envelope {
        sinkscope: VERSION,
        command: request.run.command.clone(),
        model: examination.model,
        data: Some(examination.data),
        definitions: examination.definitions,
        timing: Timing {
            passes: examination.passes,
            tokens_per_second: Some(examination.tokens_per_second),
            fraction_of_bound: examination.fraction_of_bound,
            peak_rss_bytes: machine::peak_memory(),
            seconds: start.elapsed().as_secs_f64(),
        },
        seed: request.run.seed,
        results: examination.anatomy,
    };
    output.write("anatomy.json", &envelope, &anatomy_tables(&envelope.results)?)?;
    Output::print(|style| terminal::anatomy(&envelope, style))
}
