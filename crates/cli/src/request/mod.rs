//! The command line resolved: every value checked, every default filled in.

mod resolve;

use std::path::PathBuf;

use sinkscope_anatomy::pictures::Pictures;
use sinkscope_lab::data::PrepareRequest;
use sinkscope_lab::study::Selection;
use sinkscope_surgery::operation::Operation;

pub use self::resolve::wrong;
use crate::arguments::{Launcher, TextArguments};
use crate::part::Part;
use crate::process::Process;

/// A request to examine a model.
#[derive(Debug, Clone, PartialEq)]
pub struct AnatomyRequest {
    /// How to run, on which model.
    pub run: RunOptions,
    /// What to run on it.
    pub text: TextArguments,
    /// What to measure.
    pub parts: Vec<Part>,
    /// Whether the parts were named.
    pub named: bool,
    /// From 0 to below 1.
    pub epsilon: f64,
    /// Of which heads pictures are wanted, with the geometry.
    pub pictures: Pictures,
}

/// A request to probe the vocabulary of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeRequest {
    /// How to run, on which model.
    pub run: RunOptions,
    /// What says which value is a spike.
    pub text: TextArguments,
    /// Where the items stand.
    pub position: Option<usize>,
    /// What they stand behind.
    pub prefix: Option<String>,
}

/// A request to take the census of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CensusRequest {
    /// How to run, on which model.
    pub run: RunOptions,
    /// Channels whose spectra are wanted in every block.
    pub channels: Vec<usize>,
    /// Whether all eigenvalues are wanted.
    pub full: bool,
}

/// A request to operate on a model.
#[derive(Debug, Clone, PartialEq)]
pub struct OperateRequest {
    /// How to run, on which model.
    pub run: RunOptions,
    /// What to run on it.
    pub text: TextArguments,
    /// What to do to it; at least one.
    pub operations: Vec<Operation>,
    /// Where means come from; from the other sequences if `None`.
    pub calibration: Option<PathBuf>,
    /// Where the changed model goes, if it is kept.
    pub save: Option<PathBuf>,
    /// Whether advice is given untried.
    pub no_trials: bool,
    /// From 0 to below 1.
    pub epsilon: f64,
}

/// A request to prepare data.
#[derive(Debug, Clone)]
pub struct DataRequest {
    /// What to prepare.
    pub prepare: PrepareRequest,
    /// The process that runs it.
    pub process: Process,
}

/// A request to train a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainRequest {
    /// The recipe's file.
    pub recipe: PathBuf,
    /// The directory of the run.
    pub out: PathBuf,
    /// Whether what is there is to be continued.
    pub resume: bool,
    /// The process that runs it.
    pub process: Process,
}

/// A request to run a study, or to tabulate it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StudyRequest {
    /// The study's file.
    pub study: PathBuf,
    /// Where runs and tables go; may be left out if nothing is run.
    pub out: Option<PathBuf>,
    /// Where summaries are, if not beside the study.
    pub results: Option<PathBuf>,
    /// What is run.
    pub selection: Selection,
    /// Whether nothing is run.
    pub tables_only: bool,
    /// Who runs.
    pub launcher: Launcher,
    /// Runs at a time, 1 to `process::MOST_THREADS`.
    pub jobs: usize,
    /// The process that runs it.
    pub process: Process,
}

/// How to run, on which model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// The model: a path or a hub id.
    pub model: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Bytes for activations and weights.
    pub memory: u64,
    /// Where results go.
    pub out: Option<PathBuf>,
    /// Patterns of settings and tensors that may be unknown.
    pub allow_unknown: Vec<String>,
    /// The process that runs it.
    pub process: Process,
}
