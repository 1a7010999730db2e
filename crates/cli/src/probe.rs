//! `sinkscope probe`: which vocabulary items spike at one position.

use std::time::Instant;

use anyhow::Result;
use sinkscope_anatomy::definitions;
use sinkscope_anatomy::examination::{self, Surroundings, examine};
use sinkscope_anatomy::probe::{Calibration, probe};
use sinkscope_model::ModelError;
use sinkscope_report::envelope::{Envelope, Timing, VERSION};
use sinkscope_report::probe_tables::probe_tables;
use sinkscope_report::terminal;

use crate::machine;
use crate::opened::{Opened, show};
use crate::output::{Output, by_name, model_identity};
use crate::progress::Progress;
use crate::request::ProbeRequest;

/// Runs the command; `start` is when the program started.
///
/// # Errors
/// If the request or an input is wrong, or results cannot be written; no file is then left half-written.
pub fn run(request: &ProbeRequest, start: Instant) -> Result<()> {
    let output = Output::prepare(&request.run)?;
    let progress = Progress::new(request.run.process.verbosity);
    let opened = Opened::new(&request.run, &request.text, &progress)?;
    let prefix = prefix(request, &opened)?;
    opened.model.check_length(prefix.len() + 1)?;
    let text = |id| opened.text(id);
    let around = Surroundings { memory: request.run.memory, text: &text, progress: &|step| show(&progress, step) };
    let wanted = examination::AnatomyRequest {
        lifecycle: true,
        spikes: true,
        spike_ratio: request.text.spike_ratio,
        seed: request.run.seed,
        ..examination::AnatomyRequest::nothing()
    };
    let calibrated = examine(&opened.model, &opened.batch, &wanted, around)?;
    let (spikes, lifecycle) = (calibrated.anatomy.spikes, calibrated.anatomy.lifecycle);
    let calibration = spikes.zip(lifecycle).and_then(|(spikes, lifecycle)| Calibration::new(&spikes, &lifecycle));
    progress.stage("probing the vocabulary");
    let begin = Instant::now();
    let report = |done, total| progress.set(done, total);
    let results = probe(&opened.model, calibration.as_ref(), &prefix, request.run.memory, &text, &report)?;
    let seconds = begin.elapsed().as_secs_f64();
    progress.stage("hashing");
    let identity = model_identity(&opened.model)?;
    drop(progress);
    let mut passes = calibrated.passes;
    passes.push(("probe", seconds));
    let envelope = Envelope {
        sinkscope: VERSION.into(),
        command: request.run.process.command.clone(),
        model: Some(identity),
        data: Some(opened.data),
        definitions: by_name(&definitions::probe(request.text.spike_ratio)),
        timing: Timing {
            tokens_per_second: results.block.map(|_| results.vocabulary as f64 / seconds),
            ..machine::timing(start, passes, None)
        },
        seed: Some(request.run.seed),
        results,
    };
    output.write("probe.json", &envelope, &probe_tables(Some(&envelope.results))?)?;
    Output::print(|style| terminal::probe(&envelope, style))
}

/// What the items stand behind.
fn prefix(request: &ProbeRequest, opened: &Opened) -> Result<Vec<u32>, ModelError> {
    let wrong = |reason: String| Err(ModelError::Request(reason));
    let registers = &opened.batch.tokens[..opened.model.architecture().registers];
    let Some(text) = &request.prefix else {
        let position = registers.len() + request.position.unwrap_or(0);
        let first = &opened.batch.tokens[..opened.batch.seq_len];
        return match first.get(..position) {
            Some(prefix) => Ok(prefix.to_vec()),
            None => wrong(format!(
                "--position {} is beyond the text's first sequence of {} tokens; give a larger --seq-len, or a --prefix",
                position - registers.len(),
                first.len() - registers.len()
            )),
        };
    };
    let Some(tokenizer) = &opened.tokenizer else {
        return wrong(
            "--prefix needs a tokeniser, and the checkpoint has none that can be read; give --position".into(),
        );
    };
    let prefix = tokenizer.encode(text)?;
    match request.position {
        Some(position) if position != prefix.len() => wrong(format!(
            "--position {position} does not follow the prefix, which has {} tokens; leave it out",
            prefix.len()
        )),
        _ => Ok([registers, &prefix].concat()),
    }
}
