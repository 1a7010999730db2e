//! Results that a command would replace: only those of the same request are replaced without being asked to.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sinkscope_model::{Model, ModelError};
use sinkscope_report::envelope::DataIdentity;

/// Options that change no result.
const FREE: [&str; 7] = ["--force", "-q", "--quiet", "-v", "-vv", "--verbose", "--json"];

/// Those with a value.
const FREE_WITH_VALUE: [&str; 3] = ["--out", "--threads", "--memory"];

/// The output of an earlier run in a command's place.
pub struct Earlier {
    place: PathBuf,
    of: Frame,
}

/// What is read of it.
#[derive(Deserialize)]
struct Frame {
    command: Vec<String>,
    model: Option<Weights>,
    data: Option<DataIdentity>,
}

#[derive(Deserialize)]
struct Weights {
    sha256: String,
}

impl Earlier {
    /// What is at `place`, if anything.
    ///
    /// # Errors
    /// If it is of a command with other arguments, or no output.
    pub fn at(place: PathBuf, command: &[String]) -> Result<Option<Self>, ModelError> {
        let Some(of) = read::<Frame>(&place, "sinkscope")? else { return Ok(None) };
        if deciding(&of.command) != deciding(command) {
            return Err(refusal(&place, &format!("holds the results of another command, `{}`", of.command.join(" "))));
        }
        Ok(Some(Self { place, of }))
    }

    /// Refuses to replace it by results of other weights or other tokens.
    ///
    /// # Errors
    /// If they are others, or the weights cannot be hashed.
    pub fn check(&self, model: &Model, data: Option<&DataIdentity>) -> Result<(), ModelError> {
        let sha256 = model.checkpoint().sha256()?;
        if self.of.model.as_ref().is_some_and(|weights| weights.sha256 != sha256) {
            return Err(refusal(
                &self.place,
                &format!("is of other weights than those of {} now", model.checkpoint().name()),
            ));
        }
        match (&self.of.data, data) {
            (Some(then), Some(now)) if then != now => {
                Err(refusal(&self.place, &format!("is of other tokens than those of {} now", now.source)))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses to replace the tables of another study.
///
/// # Errors
/// If there are some, or what is there is no output of a study.
pub fn check_study(place: &Path, name: &str) -> Result<(), ModelError> {
    #[derive(Deserialize)]
    struct Tables {
        results: Study,
    }
    #[derive(Deserialize)]
    struct Study {
        study: String,
    }
    match read::<Tables>(place, "a study")? {
        Some(Tables { results }) if results.study != name => {
            Err(refusal(place, &format!("holds the tables of the study {}", results.study)))
        }
        _ => Ok(()),
    }
}

/// What is to be known of the output of `whose` at a place, if there is one. That there is a directory in its place is said when it is
/// written.
fn read<Output: DeserializeOwned>(place: &Path, whose: &str) -> Result<Option<Output>, ModelError> {
    let Ok(content) = fs::read(place) else { return Ok(None) };
    let output = serde_json::from_slice(&content);
    output.map(Some).map_err(|_| refusal(place, &format!("is there already and is no output of {whose}")))
}

fn refusal(place: &Path, reason: &str) -> ModelError {
    ModelError::Request(format!("{}: {reason}; give another directory, or --force to replace it", place.display()))
}

/// The arguments that decide results.
fn deciding(command: &[String]) -> Vec<&str> {
    let mut deciding = Vec::new();
    let mut arguments = command.iter().skip(1).map(String::as_str);
    while let Some(argument) = arguments.next() {
        if FREE_WITH_VALUE.contains(&argument) {
            arguments.next();
        } else if !FREE.contains(&argument)
            && !argument.split_once('=').is_some_and(|(name, _)| FREE_WITH_VALUE.contains(&name))
        {
            deciding.push(argument);
        }
    }
    deciding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_places_decide_nothing() {
        let command = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let one = command("sinkscope anatomy demo --out a --threads 2 -v --seq-len 16");
        let other = command("sinkscope anatomy demo --force --out=b --memory=1G --seq-len 16");
        assert_eq!(deciding(&one), deciding(&other));
        assert_ne!(deciding(&one), deciding(&command("sinkscope anatomy demo --seq-len 32")));
    }
}
