//! `sinkscope anatomy`: examine, write the files, print the report.

use std::time::Instant;

use anyhow::Result;
use sinkscope_anatomy::definitions;
use sinkscope_anatomy::examination::{AnatomyRequest, Examined, Surroundings, examine};
use sinkscope_report::anatomy_tables::anatomy_tables;
use sinkscope_report::envelope::{Envelope, VERSION};
use sinkscope_report::outputs::{self, Found};
use sinkscope_report::terminal;

use crate::arguments::AnatomyArguments;
use crate::machine;
use crate::opened::{Opened, show};
use crate::output::{Output, by_name, model_identity};
use crate::progress::Progress;
use crate::request::RunOptions;

/// Runs the command; `start` is when the program started.
pub fn run(arguments: &AnatomyArguments, mut wanted: AnatomyRequest, run: &RunOptions, start: Instant) -> Result<()> {
    let mut output = Output::prepare(run, "anatomy.json")?;
    let progress = Progress::new(run.process.verbosity);
    let opened = Opened::new(run, &arguments.text, &progress)?;
    output.check(&opened.model, Some(&opened.data))?;
    let around =
        Surroundings { memory: run.memory, text: &|id| opened.text(id), progress: &|step| show(&progress, step) };
    if arguments.only.is_empty() && !opened.model.has_head() {
        tracing::warn!(
            "{} has no output head: the likelihood of the text is left out",
            opened.model.checkpoint().name()
        );
        wanted.nll = false;
    }
    let Examined { anatomy, first, passes } = examine(&opened.model, &opened.batch, &wanted, around)?;
    progress.stage("hashing");
    let identity = model_identity(&opened.model)?;
    drop(progress);
    let envelope = Envelope {
        sinkscope: VERSION.into(),
        command: run.process.command.clone(),
        model: Some(identity),
        data: Some(opened.data),
        definitions: by_name(&definitions::all(arguments.text.spike_ratio, arguments.epsilon)),
        timing: machine::timing(start, passes, first.as_ref()),
        seed: Some(run.seed),
        results: anatomy,
    };
    let is_there = |name: &str| run.out.as_ref().is_some_and(|out| out.join(name).exists());
    output.stage("anatomy.json", &envelope, &anatomy_tables(&envelope.results, is_there)?)?;
    let framed = Box::new(envelope.without_architecture());
    let found = Found { directory: run.out.clone().unwrap_or_default(), output: outputs::Output::Anatomy(framed) };
    output.stage_page(&found)?;
    output.commit()?;
    let outputs::Output::Anatomy(envelope) = &found.output else { return Ok(()) };
    Output::print(|style| terminal::anatomy(envelope, style))
}
