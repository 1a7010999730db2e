//! Training what a study has not trained yet, several runs at a time.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::Summary;
use super::plan::{Plan, Run};
use super::summary::{Summaries, find};
use crate::LabError;
use crate::checkpoint::Resume;
use crate::cost::cost;
use crate::data::Source;
use crate::files;
use crate::metrics;
use crate::recipe::DataChoice;
use crate::trainer::{Diverged, Ended, Event, Look, Trainer};

/// How to run a study.
#[derive(Clone, Copy)]
pub struct RunRequest<'a> {
    /// The study's name.
    pub study: &'a str,
    /// Recipes go to `recipes/ROW-SEED.toml` in it, runs to `runs/ROW-SEED-KEY`.
    pub directory: &'a Path,
    /// Where summaries go.
    pub results: &'a Path,
    /// Runs at a time, at least 1.
    pub jobs: usize,
    /// Threads of all of them together; each has at least one.
    pub threads: usize,
    /// Bytes for all of them together.
    pub memory: u64,
    /// Whether all are to stop.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Hears how each goes.
    pub tell: &'a (dyn Fn(&Run, Progress<'_>) + Sync),
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// It begins or goes on.
    Begun,
    /// Something happened in it.
    Training(Event<'a>),
    /// It is done, or has diverged.
    Finished(&'a Summary),
    /// It cannot go on.
    Failed(&'a LabError),
}

/// A run that could not be finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The name of its row.
    pub row: String,
    /// Its seed.
    pub seed: u64,
    /// Why.
    pub reason: String,
}

/// How a study ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Runs that were finished before.
    pub found: usize,
    /// Runs finished now, those that diverged among them.
    pub finished: usize,
    /// Runs that failed, in the order of the plan.
    pub failures: Vec<Failure>,
    /// Whether runs are left because a stop was asked for.
    pub stopped: bool,
}

/// What became of one run.
enum End {
    Finished,
    Stopped,
    Failed(Failure),
}

/// Trains every run of the plan that has no summary, each in its own threads and from its own newest checkpoint, and
/// writes a summary of each. A run that fails keeps none of the others from going on.
///
/// # Errors
/// If recipes cannot be written, or threads not be started.
pub fn run(plan: &Plan, summaries: &Summaries, request: RunRequest<'_>) -> Result<Outcome, LabError> {
    let missing = plan.missing(summaries);
    let found = plan.runs.iter().filter(|run| summaries.of_run(run).is_some()).count();
    for run in &plan.runs {
        let mut recipe = run.recipe.clone();
        if let DataChoice::Prepared { directory, .. } = &mut recipe.data {
            // What is relative here is not where the recipe will lie.
            *directory = std::path::absolute(&*directory).map_err(|error| LabError::io(&*directory, error))?;
        }
        let text = recipe.to_toml().map_err(|error| LabError::Request(format!("{}: {error}", run.slug)))?;
        files::write(&request.directory.join("recipes"), &format!("{}.toml", run.slug), text.as_bytes())?;
    }
    if !missing.is_empty() {
        files::try_directory(request.results)?;
    }
    let jobs = request.jobs.clamp(1, missing.len().max(1));
    let pools = (0..jobs).map(|job| {
        let threads = (request.threads / jobs + usize::from(job < request.threads % jobs)).max(1);
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|error| LabError::Request(format!("{threads} threads cannot be started: {error}")))
    });
    let pools: Vec<rayon::ThreadPool> = pools.collect::<Result<_, _>>()?;
    let next = AtomicUsize::new(0);
    let ends: Vec<Mutex<Option<End>>> = missing.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for pool in &pools {
            scope.spawn(|| {
                while !(request.stop)() {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    let Some(run) = missing.get(at) else { break };
                    let end = pool.install(|| one(run, jobs, request));
                    *ends[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
                }
            });
        }
    });
    let mut outcome = Outcome { found, finished: 0, failures: Vec::new(), stopped: false };
    for end in ends {
        match end.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(End::Finished) => outcome.finished += 1,
            Some(End::Failed(failure)) => outcome.failures.push(failure),
            Some(End::Stopped) | None => outcome.stopped = true,
        }
    }
    Ok(outcome)
}

/// One run, to its end.
fn one(run: &Run, jobs: usize, request: RunRequest<'_>) -> End {
    (request.tell)(run, Progress::Begun);
    match train(run, jobs, request) {
        Ok(None) => End::Stopped,
        Ok(Some(summary)) => {
            (request.tell)(run, Progress::Finished(&summary));
            End::Finished
        }
        Err(error) => {
            (request.tell)(run, Progress::Failed(&error));
            End::Failed(Failure { row: run.name.clone(), seed: run.seed, reason: error.to_string() })
        }
    }
}

/// Trains and writes the summary; `None` if it was stopped before its end. A run that another study has finished, or
/// another process meanwhile, is not repeated.
fn train(run: &Run, jobs: usize, request: RunRequest<'_>) -> Result<Option<Summary>, LabError> {
    if let Some(found) = find(request.results, &run.key) {
        let summary = Summary { study: request.study.to_owned(), row: run.name.clone(), ..found };
        summary.write(request.results)?;
        return Ok(Some(summary));
    }
    let source = Source::open(&run.recipe.source())?;
    let architecture = run.recipe.architecture(source.vocabulary())?;
    let cost = cost(&run.recipe, &architecture);
    cost.fits(request.memory / jobs as u64).map_err(LabError::Request)?;
    let mut trainer = Trainer::new(run.recipe.clone(), source)?;
    // With the key, so that a recipe that was changed begins anew beside what it was.
    let place = request.directory.join("runs").join(format!("{}-{}", run.slug, run.key));
    let mut tell = |event: Event<'_>| (request.tell)(run, Progress::Training(event));
    let diverged = match trainer.run(&place, Resume::Yes, &|| (request.stop)(), &mut tell) {
        Ok(Ended::Stopped(_)) => return Ok(None),
        Ok(Ended::Finished) => None,
        // It would come to the same again.
        Err(LabError::Diverged(diverged)) => Some(diverged),
        Err(error) => return Err(error),
    };
    // As recorded: a run that was resumed at its last step no longer knows how it went there.
    let looks: Vec<Look> = metrics::read(&place)?;
    if let (Some(Diverged { step, what }), true) = (&diverged, looks.is_empty()) {
        return Err(LabError::Diverged(Diverged { step: *step, what: what.clone() }));
    }
    let summary = Summary::new(request.study, run, cost.parameters, &looks, diverged)?;
    summary.write(request.results)?;
    Ok(Some(summary))
}
