//! `sinkscope study`: a grid of runs, its tables, and the verdicts on its claims.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use sinkscope_anatomy::definitions;
use sinkscope_lab::interrupt::Interrupt;
use sinkscope_lab::study::{
    self, Outcome, Plan, Progress, Run, RunRequest, Selection, Study, StudyResults, Summaries, Summary, run as train,
    slurm, tabulate,
};
use sinkscope_lab::trainer::{Diverged, Event};
use sinkscope_model::architecture::Architecture;
use sinkscope_report::envelope::{Envelope, VERSION};
use sinkscope_report::files::OutputDirectory;
use sinkscope_report::study_tables::study_tables;
use sinkscope_report::{markdown, terminal};

use crate::arguments::{Launcher, StudyArguments};
use crate::failure::{Interrupted, RunsFailed};
use crate::output::{Output, by_name};
use crate::process::Process;
use crate::progress::StudyProgress;
use crate::{earlier, machine};

/// Runs the command; `start` is when the program started.
///
/// # Errors
/// If the study, its data or the directory is wrong, runs fail or are interrupted, or files cannot be written. What was
/// finished before stays.
pub fn run(arguments: &StudyArguments, file: &Path, process: &Process, start: Instant) -> Result<()> {
    let study = Study::read(file)?;
    let kept = arguments.results.join(&study.name);
    let out = arguments.out.as_deref().map(OutputDirectory::prepare).transpose()?;
    if let Some(out) = arguments.out.as_ref().filter(|_| !arguments.force) {
        earlier::check_study(&out.join("study.json"), &study.name)?;
    }
    if arguments.launcher == Launcher::Slurm {
        return submit(arguments, file, &study, &kept);
    }
    let (plan, failures) = if arguments.tables {
        (None, Vec::new())
    } else {
        let plan = Plan::new(&study)?;
        let chosen = plan.select(&study, &selection(arguments))?;
        OutputDirectory::prepare(&kept)?;
        let outcome = train_missing(arguments, process, &study, &chosen, &kept)?;
        (Some(plan), outcome.failures)
    };
    let summaries = Summaries::read(&kept)?;
    let results = tabulate(&study, &summaries, plan.as_ref())?;
    for (name, reason) in summaries.damaged() {
        tracing::warn!("{}: is no summary that can be read: {reason}", kept.join(name).display());
    }
    for name in &results.unused {
        tracing::warn!("{}: belongs to no run of the study as it is now", kept.join(name).display());
    }
    if let Some(out) = out {
        write(out, process, &results, start)?;
    }
    Output::print(|style| terminal::study(&results, style))?;
    if failures.is_empty() { Ok(()) } else { Err(RunsFailed(failures).into()) }
}

/// What is to be run.
fn selection(arguments: &StudyArguments) -> Selection {
    Selection { rows: arguments.rows.clone(), seeds: arguments.seeds.clone() }
}

/// Submits the chosen runs that have no summary to a cluster.
fn submit(arguments: &StudyArguments, file: &Path, study: &Study, kept: &Path) -> Result<()> {
    let Some(directory) = &arguments.out else { anyhow::bail!("--out: a study that is run needs a directory") };
    let chosen = Plan::new(study)?.select(study, &selection(arguments))?;
    let summaries = Summaries::read(kept)?;
    let missing = chosen.missing(&summaries);
    // Jobs begin in other places.
    let absolute = |path: &Path| std::path::absolute(path);
    let jobs = slurm::Jobs {
        study: &study.name,
        program: &std::env::current_exe()?,
        file: &absolute(file)?,
        directory: &absolute(directory)?,
        results: &absolute(kept.parent().unwrap_or(kept))?,
        threads: rayon::current_num_threads(),
    };
    let submitted = slurm::submit(&jobs, &missing)?;
    Output::print(|_| {
        let line = |job: &slurm::Submitted| format!("  {}  {}\n", job.job, job.slug);
        let done = chosen.runs.len() - missing.len();
        let lines: String = submitted.iter().map(line).collect();
        format!(
            "{} jobs submitted, {done} of {} runs were finished before\n{lines}",
            submitted.len(),
            chosen.runs.len()
        )
    })
}

/// Trains the chosen runs that have no summary.
fn train_missing(
    arguments: &StudyArguments,
    process: &Process,
    study: &Study,
    chosen: &Plan,
    kept: &Path,
) -> Result<Outcome> {
    let Some(directory) = &arguments.out else { anyhow::bail!("--out: a study that is run needs a directory") };
    let interrupt = Interrupt::install()?;
    let summaries = Summaries::read(kept)?;
    let progress = StudyProgress::new(process.verbosity, chosen, &summaries);
    let tell = |run: &Run, how: Progress<'_>| match how {
        Progress::Begun => progress.begin(run),
        Progress::Training(Event::Step(report)) => progress.step(run, report),
        Progress::Training(Event::Look(_, record)) => progress.look(run, record),
        Progress::Training(Event::Damaged(error)) => {
            tracing::warn!("{}: a damaged checkpoint was passed over: {error}", run.slug);
        }
        Progress::Training(Event::Saved(step)) => tracing::info!("{}: step {step}: saved", run.slug),
        Progress::Finished(Summary { diverged: Some(Diverged { step, what }), .. }) => {
            tracing::warn!("{}: diverged at step {step}: {what}", run.slug);
            progress.end(run, &format!("diverged at step {step}: {what}"));
        }
        Progress::Finished(summary) => progress.end(
            run,
            &format!(
                "perplexity {:.2}, sinks {:.1} %, spike {:.1}",
                summary.last.watched.perplexity,
                100.0 * summary.last.watched.sink_ratio,
                summary.last.watched.spike
            ),
        ),
        Progress::Failed(error) => progress.end(run, &format!("failed: {error}")),
    };
    let outcome = train(
        chosen,
        &summaries,
        RunRequest {
            study: &study.name,
            directory,
            results: kept,
            jobs: arguments.jobs,
            threads: rayon::current_num_threads(),
            memory: 2 * machine::default_memory(),
            stop: &|| interrupt.requested().is_some(),
            tell: &tell,
        },
    )?;
    drop(progress);
    if let (true, Some(signal)) = (outcome.stopped, interrupt.requested()) {
        let done = format!("with {} of {} runs finished", outcome.found + outcome.finished, chosen.runs.len());
        return Err(Interrupted { run: directory.clone(), done, how: "run it again to go on", signal }.into());
    }
    Ok(outcome)
}

/// Writes the files of a study, all or none.
fn write(mut out: OutputDirectory, process: &Process, results: &StudyResults, start: Instant) -> Result<()> {
    let timing = machine::timing(start, [], None);
    let mut definitions = by_name(&definitions::all(definitions::SPIKE_RATIO, definitions::SINK_EPSILON));
    definitions.extend(study::definitions().map(|(name, text)| (name.to_owned(), text.to_owned())));
    let envelope = Envelope::<_, Architecture> {
        sinkscope: VERSION.into(),
        command: process.command.clone(),
        model: None,
        data: None,
        definitions,
        timing,
        seed: None,
        results,
    };
    out.stage("study.json", &envelope.to_json("study.json")?)?;
    out.stage("study.md", markdown::study(results).as_bytes())?;
    for table in study_tables(results)? {
        table.stage(&mut out)?;
    }
    Ok(out.commit()?)
}
