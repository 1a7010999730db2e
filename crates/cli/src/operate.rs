//! `sinkscope operate`: change a model and compare.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use sinkscope_anatomy::definitions;
use sinkscope_anatomy::examination::Surroundings;
use sinkscope_model::ModelError;
use sinkscope_report::envelope::{Envelope, VERSION};
use sinkscope_report::escape_control;
use sinkscope_report::operate_tables::operate_tables;
use sinkscope_report::terminal;
use sinkscope_sources::data::{self, TextRequest, TokenBatch};
use sinkscope_sources::tokenizer::Tokenizer;
use sinkscope_surgery::compare::{Request, compare};
use sinkscope_surgery::operation::Operation;
use sinkscope_surgery::plan::Planner;
use sinkscope_surgery::save::ChangedWeights;

use crate::arguments::OperateArguments;
use crate::machine;
use crate::opened::{Opened, show, text_request};
use crate::output::{Output, by_name, model_identity};
use crate::progress::Progress;
use crate::request::RunOptions;

/// Runs the command; `start` is when the program started.
pub fn run(arguments: &OperateArguments, operations: Vec<Operation>, run: &RunOptions, start: Instant) -> Result<()> {
    let output = Output::prepare(run, "operate.json")?;
    let progress = Progress::new(run.process.verbosity);
    let opened = Opened::new(run, &arguments.text, &progress)?;
    output.check(&opened.model, Some(&opened.data))?;
    let calibration = arguments.calibration.as_deref().map(|file| calibration(file, arguments, &opened)).transpose()?;
    let wanted = Request {
        operations,
        spike_ratio: arguments.text.spike_ratio,
        epsilon: arguments.epsilon,
        seed: run.seed,
        bos: opened.tokenizer.as_ref().and_then(Tokenizer::bos),
        calibration,
        trials: !arguments.no_trials,
    };
    let planner = Planner::new(&opened.model, &opened.batch, &wanted);
    let changed =
        arguments.save.as_deref().map(|to| ChangedWeights::new(&planner, &wanted.operations, to)).transpose()?;
    let text = |id| opened.text(id);
    let around = Surroundings { memory: run.memory, text: &text, progress: &|step| show(&progress, step) };
    let compared = compare(&opened.model, &opened.batch, &wanted, around)?;
    progress.stage("hashing");
    let identity = model_identity(&opened.model)?;
    if let Some(changed) = &changed {
        progress.stage("saving the model");
        changed.write()?;
    }
    drop(progress);
    let passes = compared.passes.iter().map(|(name, seconds)| (name.as_str(), *seconds));
    let mut defined = definitions::all(arguments.text.spike_ratio, arguments.epsilon);
    defined.extend(sinkscope_surgery::definitions::definitions());
    let envelope = Envelope {
        sinkscope: VERSION.into(),
        command: run.process.command.clone(),
        model: Some(identity),
        data: Some(opened.data),
        definitions: by_name(&defined),
        timing: machine::timing(start, passes, Some(&compared.first)),
        seed: Some(run.seed),
        results: compared.comparison,
    };
    output.write("operate.json", &envelope, &operate_tables(&envelope.results)?)?;
    let saved = changed.map_or_else(String::new, |changed| format!("\n{}\n", escape_control(&changed.said())));
    Output::print(|style| terminal::operate(&envelope, style) + &saved)
}

/// The tokens that means are taken of; a `.json` file holds token ids, any other text.
fn calibration(file: &Path, arguments: &OperateArguments, opened: &Opened) -> Result<TokenBatch, ModelError> {
    let architecture = opened.model.architecture();
    let ids = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let (text, tokens) = if ids { (None, Some(file)) } else { (Some(file), None) };
    let seq_len = if ids { None } else { Some(opened.batch.seq_len - architecture.registers) };
    let wanted = TextRequest { text, tokens, seq_len, sequences: None, ..text_request(&arguments.text) };
    let data = data::load(&wanted, opened.tokenizer.as_ref(), architecture.vocabulary)?;
    Ok(data.batch.with_first(architecture.register_ids()))
}
