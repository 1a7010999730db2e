//! `sinkscope anatomy`: examine, write the files, print the report.

use std::time::Instant;

use anyhow::Result;
use sinkscope_anatomy::definitions;
use sinkscope_anatomy::examination::{self, CensusScope, Examined, Surroundings, examine};
use sinkscope_anatomy::sinks::SinkDefinition;
use sinkscope_report::anatomy_tables::anatomy_tables;
use sinkscope_report::envelope::{Envelope, VERSION};
use sinkscope_report::outputs::{self, Found};
use sinkscope_report::terminal;

use crate::machine;
use crate::opened::{Opened, show};
use crate::output::{Output, by_name, model_identity};
use crate::part::Part;
use crate::progress::Progress;
use crate::request::AnatomyRequest;

/// Runs the command; `start` is when the program started.
///
/// # Errors
/// If the request or an input is wrong, or results cannot be written; no file is then left half-written.
pub fn run(request: &AnatomyRequest, start: Instant) -> Result<()> {
    let mut output = Output::prepare(&request.run)?;
    let progress = Progress::new(request.run.process.verbosity);
    let opened = Opened::new(&request.run, &request.text, &progress)?;
    let around = Surroundings {
        memory: request.run.memory,
        text: &|id| opened.text(id),
        progress: &|step| show(&progress, step),
    };
    let mut wanted = examination_request(request);
    if !request.named && !opened.model.has_head() {
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
        command: request.run.process.command.clone(),
        model: Some(identity),
        data: Some(opened.data),
        definitions: by_name(&definitions::all(request.text.spike_ratio, request.epsilon)),
        timing: machine::timing(start, passes, first.as_ref()),
        seed: Some(request.run.seed),
        results: anatomy,
    };
    let is_there = |name: &str| request.run.out.as_ref().is_some_and(|out| out.join(name).exists());
    output.stage("anatomy.json", &envelope, &anatomy_tables(&envelope.results, is_there)?)?;
    let framed = Box::new(envelope.without_architecture());
    let found =
        Found { directory: request.run.out.clone().unwrap_or_default(), output: outputs::Output::Anatomy(framed) };
    output.stage_page(&found)?;
    output.commit()?;
    let outputs::Output::Anatomy(envelope) = &found.output else { return Ok(()) };
    Output::print(|style| terminal::anatomy(envelope, style))
}

fn examination_request(request: &AnatomyRequest) -> examination::AnatomyRequest {
    let asked = |part| request.parts.contains(&part);
    // Whoever names the census wants all of it.
    let scope = if asked(Part::Census) && request.named { CensusScope::All } else { CensusScope::Steps };
    examination::AnatomyRequest {
        lifecycle: asked(Part::Lifecycle),
        spikes: asked(Part::Spikes),
        sinks: asked(Part::Sinks),
        nll: asked(Part::Nll),
        tokens: asked(Part::Tokens),
        silu: asked(Part::Silu),
        normalisation: asked(Part::Normalisation),
        geometry: asked(Part::Geometry),
        census: asked(Part::Census).then_some(scope),
        probe: asked(Part::Probe),
        pictures: request.pictures.clone(),
        spike_ratio: request.text.spike_ratio,
        epsilon: request.epsilon,
        definition: SinkDefinition::Paper,
        seed: request.run.seed,
    }
}
