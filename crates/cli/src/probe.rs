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

use crate::arguments::ProbeArguments;
use crate::machine;
use crate::opened::{Opened, show};
use crate::output::{Output, by_name, model_identity};
use crate::progress::Progress;
use crate::request::RunOptions;

/// Runs the command; `start` is when the program started.
pub fn run(arguments: &ProbeArguments, run: &RunOptions, start: Instant) -> Result<()> {
    let output = Output::prepare(run, "probe.json")?;
    let progress = Progress::new(run.process.verbosity);
    let opened = Opened::new(run, &arguments.text, &progress)?;
    output.check(&opened.model, Some(&opened.data))?;
    let prefix = prefix(arguments, &opened)?;
    opened.model.check_length(prefix.len() + 1)?;
    let text = |id| opened.text(id);
    let around = Surroundings { memory: run.memory, text: &text, progress: &|step| show(&progress, step) };
    let wanted = examination::AnatomyRequest {
        lifecycle: true,
        spikes: true,
        spike_ratio: arguments.text.spike_ratio,
        seed: run.seed,
        ..examination::AnatomyRequest::nothing()
    };
    let calibrated = examine(&opened.model, &opened.batch, &wanted, around)?;
    let (spikes, lifecycle) = (calibrated.anatomy.spikes, calibrated.anatomy.lifecycle);
    let calibration = spikes.zip(lifecycle).and_then(|(spikes, lifecycle)| Calibration::new(&spikes, &lifecycle));
    progress.stage("probing the vocabulary");
    let begin = Instant::now();
    let report = |done, total| progress.set(done, total);
    let results = probe(&opened.model, calibration.as_ref(), &prefix, run.memory, &text, &report)?;
    let seconds = begin.elapsed().as_secs_f64();
    progress.stage("hashing");
    let identity = model_identity(&opened.model)?;
    drop(progress);
    let mut passes = calibrated.passes;
    passes.push(("probe", seconds));
    let envelope = Envelope {
        sinkscope: VERSION.into(),
        command: run.process.command.clone(),
        model: Some(identity),
        data: Some(opened.data),
        definitions: by_name(&definitions::probe(arguments.text.spike_ratio)),
        timing: Timing {
            tokens_per_second: results.block.map(|_| results.vocabulary as f64 / seconds),
            ..machine::timing(start, passes, None)
        },
        seed: Some(run.seed),
        results,
    };
    output.write("probe.json", &envelope, &probe_tables(Some(&envelope.results))?)?;
    Output::print(|style| terminal::probe(&envelope, style))
}

/// What the items stand behind.
fn prefix(arguments: &ProbeArguments, opened: &Opened) -> Result<Vec<u32>, ModelError> {
    let wrong = |reason: String| Err(ModelError::Request(reason));
    let registers = &opened.batch.tokens[..opened.model.architecture().registers];
    let Some(text) = &arguments.prefix else {
        let position = registers.len() + arguments.position.unwrap_or(0);
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
    match arguments.position {
        Some(position) if position != prefix.len() => wrong(format!(
            "--position {position} does not follow the prefix, which has {} tokens; leave it out",
            prefix.len()
        )),
        _ => Ok([registers, &prefix].concat()),
    }
}
