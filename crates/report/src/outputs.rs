//! What commands left in directories, read back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use sinkscope_anatomy::census::Census;
use sinkscope_anatomy::probe::Probe;
use sinkscope_anatomy::results::Anatomy;
use sinkscope_lab::metrics::{self, METRICS_FILE};
use sinkscope_lab::study::StudyResults;
use sinkscope_lab::trained::Trained;
use sinkscope_lab::trainer::Look;
use sinkscope_surgery::results::Comparison;

use crate::ReportError;
use crate::envelope::{DataIdentity, Envelope, ModelIdentity, Timing};

/// A result in its frame; a model's architecture as it stands in the file.
pub type Framed<R> = Envelope<R, Value>;

/// The output of one command.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// `anatomy.json`.
    Anatomy(Box<Framed<Anatomy>>),
    /// `census.json`.
    Census(Box<Framed<Census>>),
    /// `probe.json`.
    Probe(Box<Framed<Probe>>),
    /// `operate.json`.
    Operate(Box<Framed<Comparison>>),
    /// `train.json`.
    Train(Box<Framed<Trained>>),
    /// `metrics.jsonl` of a run that has not finished.
    Training(Vec<Look>),
    /// `study.json`.
    Study(Box<Framed<StudyResults>>),
}

/// An output and where it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its directory.
    pub directory: PathBuf,
    /// What it is.
    pub output: Output,
}

/// What made an output, on which model.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The command line.
    pub command: &'a [String],
    /// The model, if there is one.
    pub model: Option<&'a ModelIdentity<Value>>,
    /// Its tokens.
    pub data: Option<&'a DataIdentity>,
    /// What its numbers mean.
    pub definitions: &'a BTreeMap<String, String>,
    /// How long it took.
    pub timing: &'a Timing,
    /// Seed of everything random.
    pub seed: Option<u64>,
}

impl<'a, R> From<&'a Framed<R>> for Origin<'a> {
    fn from(Envelope { command, model, data, definitions, timing, seed, .. }: &'a Framed<R>) -> Self {
        Self { command, model: model.as_ref(), data: data.as_ref(), definitions, timing, seed: *seed }
    }
}

impl Output {
    /// What made it; `None` of a run that has not finished.
    pub fn origin(&self) -> Option<Origin<'_>> {
        Some(match self {
            Self::Anatomy(framed) => (&**framed).into(),
            Self::Census(framed) => (&**framed).into(),
            Self::Probe(framed) => (&**framed).into(),
            Self::Operate(framed) => (&**framed).into(),
            Self::Train(framed) => (&**framed).into(),
            Self::Study(framed) => (&**framed).into(),
            Self::Training(_) => return None,
        })
    }
}

/// The outputs in these directories, in their order and, within one, in the order of [`Output`]. A directory that is named
/// twice counts once.
///
/// # Errors
/// [`ReportError::Unreadable`] if a directory or a file cannot be read, [`ReportError::Nothing`] if a directory holds no output,
/// [`ReportError::Malformed`] or [`ReportError::Records`] if an output is not what this version writes.
pub fn read(directories: &[PathBuf]) -> Result<Vec<Found>, ReportError> {
    let mut all = Vec::new();
    for (index, directory) in directories.iter().enumerate() {
        let place = fs::canonicalize(directory).ok();
        if place.is_some() && directories[..index].iter().any(|other| fs::canonicalize(other).ok() == place) {
            continue;
        }
        let before = all.len();
        let mut add = |output: Option<Output>| {
            all.extend(output.map(|output| Found { directory: directory.clone(), output }));
        };
        if !directory.is_dir() {
            let kind = if directory.exists() { io::ErrorKind::NotADirectory } else { io::ErrorKind::NotFound };
            return Err(ReportError::Unreadable { path: directory.clone(), source: kind.into() });
        }
        add(framed(directory, "anatomy.json")?.map(|found| Output::Anatomy(Box::new(found))));
        add(framed(directory, "census.json")?.map(|found| Output::Census(Box::new(found))));
        add(framed(directory, "probe.json")?.map(|found| Output::Probe(Box::new(found))));
        add(framed(directory, "operate.json")?.map(|found| Output::Operate(Box::new(found))));
        match framed(directory, "train.json")? {
            Some(found) => add(Some(Output::Train(Box::new(found)))),
            None if directory.join(METRICS_FILE).exists() => add(Some(Output::Training(metrics::read(directory)?))),
            None => {}
        }
        add(framed(directory, "study.json")?.map(|found| Output::Study(Box::new(found))));
        if all.len() == before {
            return Err(ReportError::Nothing { path: directory.clone() });
        }
    }
    Ok(all)
}

fn framed<R: DeserializeOwned>(directory: &Path, name: &str) -> Result<Option<Framed<R>>, ReportError> {
    let path = directory.join(name);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ReportError::Unreadable { path, source }),
        Ok(text) => text,
    };
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
    serde_json::from_str(text).map(Some).map_err(|source| {
        // What wrote it says whether it is damaged or of another version.
        let writer = serde_json::from_str::<Value>(text)
            .ok()
            .and_then(|value| Some(value.get("sinkscope")?.as_str()?.to_owned()));
        ReportError::Malformed { path, writer, source }
    })
}
