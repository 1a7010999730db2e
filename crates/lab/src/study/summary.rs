//! What is kept of a run that is finished or has diverged: `results/STUDY/KEY.json`, small, and the same on every machine whose
//! processor has the same features.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NUMERICS_VERSION;
use super::plan::{Run, portable};
use crate::LabError;
use crate::files;
use crate::recipe::Recipe;
use crate::trainer::{Diverged, Look, Record};
use crate::watch::SpikeAt;

/// A run that is finished, or has diverged. The first row that it is of stands in it; other rows of the same recipe share it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// [`NUMERICS_VERSION`] of the program that made it.
    pub numerics: u32,
    /// Choices of the recipe that once meant something else, with the number of what they meant to that program.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variants: BTreeMap<String, u32>,
    /// The study.
    pub study: String,
    /// The row.
    pub row: String,
    /// The seed.
    pub seed: u64,
    /// The recipe, with the SHA-256 of the data in place of their directory.
    pub recipe: Recipe,
    /// SHA-256 of the data.
    pub data: String,
    /// Weights of the model.
    pub parameters: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// The last look.
    pub last: Record,
    /// All looks, in short.
    pub looks: Vec<ShortLook>,
    /// Where it diverged, if it did: the looks are those before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<Diverged>,
}

/// What shows how spikes and sinks emerge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "as in a record")]
pub struct ShortLook {
    pub step: u64,
    pub tokens: u64,
    pub loss: Option<f64>,
    pub nll: f64,
    pub perplexity: f64,
    pub spike: f64,
    pub spike_at: Option<SpikeAt>,
    pub spike_over_typical: Option<f64>,
    pub sink_ratio: f64,
    pub mean_max_alpha: f64,
}

impl From<&Look> for ShortLook {
    fn from(look: &Look) -> Self {
        let Record { tokens, loss, watched, .. } = &look.record;
        Self {
            step: look.step,
            tokens: *tokens,
            loss: *loss,
            nll: watched.nll,
            perplexity: watched.perplexity,
            spike: watched.spike,
            spike_at: watched.spike_at,
            spike_over_typical: watched.spike_over_typical,
            sink_ratio: watched.sink_ratio,
            mean_max_alpha: watched.mean_max_alpha,
        }
    }
}

impl Summary {
    /// Of a run with these looks, that finished or `diverged`.
    ///
    /// # Errors
    /// [`LabError::Request`] if there are none.
    pub fn new(
        study: &str,
        run: &Run,
        parameters: u64,
        looks: &[Look],
        diverged: Option<Diverged>,
    ) -> Result<Self, LabError> {
        let last = looks.last().ok_or_else(|| LabError::Request(format!("{}: was never looked at", run.slug)))?;
        Ok(Self {
            numerics: NUMERICS_VERSION,
            variants: run.recipe.variants(),
            study: study.to_owned(),
            row: run.name.clone(),
            seed: run.seed,
            recipe: portable(&run.recipe, &run.data),
            data: run.data.clone(),
            parameters,
            tokens: last.record.tokens,
            last: last.record.clone(),
            looks: looks.iter().map(ShortLook::from).collect(),
            diverged,
        })
    }

    /// Writes it into a directory, made if absent, whole or not at all.
    ///
    /// # Errors
    /// [`LabError::Io`] if it cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), LabError> {
        let mut text = serde_json::to_vec(self)
            .map_err(|error| LabError::Request(format!("a summary cannot be written as JSON: {error}")))?;
        text.push(b'\n');
        files::write(directory, &format!("{}.json", self.key()?), &text)
    }
}

/// The summary with a key in the directory of a study, or of another study beside it.
pub(super) fn find(directory: &Path, key: &str) -> Option<Summary> {
    let listing = fs::read_dir(directory.parent()?).ok()?;
    let mut directories: Vec<PathBuf> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    directories.sort();
    directories.iter().find_map(|directory| {
        let text = fs::read(directory.join(format!("{key}.json"))).ok()?;
        let summary: Summary = serde_json::from_slice(&text).ok()?;
        (summary.key().ok()? == key).then_some(summary)
    })
}

/// The summaries of a study.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summaries {
    directory: PathBuf,
    /// Key, as this version has it, file and content.
    entries: Vec<(String, String, Summary)>,
    /// Files that are no summaries, and why.
    damaged: Vec<(String, String)>,
}

impl Summaries {
    /// Reads all summaries of a directory, which may be absent. Keys are computed anew, so that a summary still counts
    /// when recipes have gained an option whose default it was made with.
    ///
    /// # Errors
    /// [`LabError::Io`] if the directory or a file cannot be read.
    pub fn read(directory: &Path) -> Result<Self, LabError> {
        let mut all = Self { directory: directory.to_owned(), ..Self::default() };
        let listing = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
            listing => listing.map_err(|error| LabError::io(directory, error))?,
        };
        let mut paths = Vec::new();
        for entry in listing {
            let path = entry.map_err(|error| LabError::io(directory, error))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let text = fs::read(&path).map_err(|error| LabError::io(&path, error))?;
            match serde_json::from_slice::<Summary>(&text) {
                Ok(summary) => all.entries.push((summary.key()?, name, summary)),
                Err(error) => all.damaged.push((name, error.to_string())),
            }
        }
        Ok(all)
    }

    /// That of a run, if it is finished or has diverged.
    pub fn of_run(&self, run: &Run) -> Option<&Summary> {
        self.entries.iter().find(|(key, ..)| *key == run.key).map(|(.., summary)| summary)
    }

    /// That of a recipe, on whatever data, if a run by it is finished.
    ///
    /// # Errors
    /// [`LabError::Request`] if there are some of different data.
    pub fn of_recipe(&self, recipe: &Recipe) -> Result<Option<&Summary>, LabError> {
        let mut found = self.entries.iter().filter(|(.., summary)| {
            summary.numerics == NUMERICS_VERSION
                && summary.variants == recipe.variants()
                && summary.recipe == portable(recipe, &summary.data)
        });
        let Some((key, first, summary)) = found.next() else { return Ok(None) };
        match found.find(|(other, ..)| other != key) {
            Some((_, second, _)) => Err(LabError::Request(format!(
                "{}: {first} and {second} are of one recipe on different data; remove one",
                self.directory.display()
            ))),
            None => Ok(Some(summary)),
        }
    }

    /// The names of the files that are none of these.
    pub fn unused(&self, used: &[&Summary]) -> Vec<String> {
        let unused = self.entries.iter().filter(|(.., summary)| !used.contains(&summary));
        unused.map(|(_, name, _)| name.clone()).collect()
    }

    /// The names of the files that are no summaries, and why.
    pub fn damaged(&self) -> &[(String, String)] {
        &self.damaged
    }
}
