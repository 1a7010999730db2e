//! `sinkscope train`: one run by a recipe.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use sinkscope_anatomy::definitions;
use sinkscope_lab::checkpoint::Resume;
use sinkscope_lab::cost::cost;
use sinkscope_lab::data::Source;
use sinkscope_lab::interrupt::Interrupt;
use sinkscope_lab::recipe::{DataChoice, Recipe};
use sinkscope_lab::recipe_file;
use sinkscope_lab::trained::Trained;
use sinkscope_lab::trainer::{Ended, Event, Look, Trainer};
use sinkscope_lab::{LabError, metrics};
use sinkscope_model::Model;
use sinkscope_report::envelope::{DataIdentity, Envelope, Timing, VERSION};
use sinkscope_report::files::OutputDirectory;
use sinkscope_report::terminal;

use crate::arguments::TrainArguments;
use crate::failure::Interrupted;
use crate::logging::Verbosity;
use crate::machine;
use crate::output::{Output, by_name, model_identity};
use crate::process::Process;
use crate::progress::{Progress, after_loss};

/// Runs the command; `start` is when the program started.
///
/// # Errors
/// If the recipe, its data or the directory is wrong, the run diverges or is interrupted, or files cannot be written. What
/// was saved before stays.
pub fn run(
    arguments: &TrainArguments,
    (file, directory): (&Path, &Path),
    process: &Process,
    start: Instant,
) -> Result<()> {
    let mut out = OutputDirectory::prepare(directory)?;
    let mut recipe: Recipe = recipe_file::read(file)?;
    recipe.training.steps = arguments.steps.unwrap_or(recipe.training.steps);
    let source = Source::open(&recipe.source())?;
    let architecture = recipe.architecture(source.vocabulary())?;
    let cost = cost(&recipe, &architecture);
    let progress = Progress::of_steps(process.verbosity);
    if process.verbosity != Verbosity::Quiet {
        progress.line(&terminal::cost(&cost, machine::operations_per_second()));
    }
    cost.fits(2 * machine::default_memory())
        .map_err(|reason| LabError::Request(format!("{}: {reason}", file.display())))?;
    let interrupt = Interrupt::install()?;
    let mut trainer = Trainer::new(recipe.clone(), source)?;
    let resume = if arguments.resume { Resume::Yes } else { Resume::No };
    let steps = recipe.training.steps;
    let mut last_look = String::new();
    let ended = trainer.run(directory, resume, &|| interrupt.requested().is_some(), &mut |event| match event {
        Event::Step(report) => {
            progress.stage(format!("loss {:.3}{last_look}", report.loss));
            progress.set(report.step, steps);
        }
        Event::Look(step, record) => {
            last_look = after_loss(record);
            tracing::info!("step {step}: perplexity {:.2}{last_look}", record.watched.perplexity);
        }
        Event::Saved(step) => tracing::info!("step {step}: saved"),
        Event::Damaged(error) => tracing::warn!("a damaged checkpoint was passed over: {error}"),
    })?;
    drop(progress);
    if let (Ended::Stopped(step), Some(signal)) = (&ended, interrupt.requested()) {
        let done = format!("after {step} steps");
        return Err(Interrupted { run: directory.to_owned(), done, how: "--resume goes on", signal }.into());
    }
    let looks: Vec<Look> = metrics::read(directory)?;
    let model = Model::open(&directory.join("last").display().to_string())?;
    let identity = trainer.source().identity().clone();
    let envelope = Envelope {
        sinkscope: VERSION.into(),
        command: process.command.clone(),
        model: Some(model_identity(&model)?),
        data: Some(DataIdentity {
            source: identity.source,
            sha256: identity.sha256,
            sequences: recipe.watch.sequences,
            seq_len: recipe.watch.seq_len,
            bos: match recipe.data {
                DataChoice::Prepared { bos, .. } | DataChoice::BuiltIn { bos, .. } => bos,
                DataChoice::BigramBackcopy { .. } => true,
            },
            special_tokens: 0,
            chat: None,
        }),
        definitions: by_name(&definitions::all(definitions::SPIKE_RATIO, definitions::SINK_EPSILON)),
        timing: Timing {
            tokens_per_second: looks.last().and_then(|look| look.timing.tokens_per_second),
            ..machine::timing(start, [], None)
        },
        seed: Some(recipe.seed),
        results: Trained { recipe, cost, steps, looks },
    };
    out.stage("train.json", &envelope.to_json("train.json")?)?;
    out.commit()?;
    let name = directory.display().to_string();
    Output::print(|style| terminal::train(&name, &envelope.results.looks, style))
}
