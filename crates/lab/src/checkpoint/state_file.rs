//! `state.json`: the state of a run, and the checksums that show whether a checkpoint is whole.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{STATE_FILE, directory};
use crate::LabError;

/// The form of a checkpoint that is written and read.
const FORMAT: u32 = 1;

/// The content of `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateFile {
    format: u32,
    /// Steps done.
    pub(super) step: u64,
    /// SHA-256 of the other files, by name.
    sha256: BTreeMap<String, String>,
    /// SHA-256 of the step and the state.
    state_sha256: String,
    state: Box<RawValue>,
}

impl StateFile {
    /// A checkpoint still without files.
    pub(super) fn new<State: Serialize + DeserializeOwned>(step: u64, state: &State) -> Result<Self, LabError> {
        let unfit =
            |reason: String| LabError::Request(format!("the state of the run cannot be kept as JSON: {reason}"));
        let written = serde_json::to_string(state).map_err(|error| unfit(error.to_string()))?;
        let back: State = from_json(&written).map_err(unfit)?;
        if serde_json::to_string(&back).map_err(|error| unfit(error.to_string()))? != written {
            return Err(unfit("it reads back as something else".into()));
        }
        let state = RawValue::from_string(written).map_err(|error| unfit(error.to_string()))?;
        let state_sha256 = digest_of_state(step, &state);
        Ok(Self { format: FORMAT, step, sha256: BTreeMap::new(), state_sha256, state })
    }

    /// Notes the checksum of a file.
    pub(super) fn add(&mut self, name: &str, digest: String) {
        self.sha256.insert(name.to_owned(), digest);
    }

    /// Is there such a file?
    pub(super) fn has(&self, name: &str) -> bool {
        self.sha256.contains_key(name)
    }

    /// The same checkpoint without one of its files.
    pub(super) fn without(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.sha256.remove(name);
        other
    }

    /// Names of the files.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.sha256.keys().map(String::as_str)
    }

    /// Checksum of a file of the checkpoint at `path`.
    pub(super) fn digest(&self, path: &Path, name: &str) -> Result<&str, LabError> {
        let missing = || LabError::malformed(path.join(STATE_FILE), format!("sha256 has no entry for {name}"));
        self.sha256.get(name).map(String::as_str).ok_or_else(missing)
    }

    /// Writes and syncs `state.json` in a checkpoint.
    pub(super) fn write(&self, path: &Path) -> Result<(), LabError> {
        let file = path.join(STATE_FILE);
        let mut content = serde_json::to_vec_pretty(self).map_err(|error| LabError::io(&file, error.into()))?;
        content.push(b'\n');
        directory::write(&file, &content).map(|_: String| ())
    }

    /// Reads `state.json` of a checkpoint, and verifies the state.
    pub(super) fn read(path: &Path) -> Result<Self, LabError> {
        let file = path.join(STATE_FILE);
        let content = std::fs::read(&file).map_err(|error| LabError::io(&file, error))?;
        let state_file: Self =
            serde_json::from_slice(&content).map_err(|error| LabError::malformed(&file, error.to_string()))?;
        if state_file.format != FORMAT {
            let reason = format!("format {} is not the one this version reads, {FORMAT}", state_file.format);
            return Err(LabError::malformed(&file, reason));
        }
        if digest_of_state(state_file.step, &state_file.state) != state_file.state_sha256 {
            return Err(LabError::malformed(&file, "step and state are not those of state_sha256"));
        }
        if let Some(name) =
            state_file.files().find(|name| Path::new(name).file_name().is_none_or(|plain| plain != *name))
        {
            return Err(LabError::malformed(&file, format!("{name} is no file of a checkpoint")));
        }
        Ok(state_file)
    }

    /// The state, as the trainer knows it.
    pub(super) fn state<State: DeserializeOwned>(&self, path: &Path) -> Result<State, LabError> {
        from_json(self.state.get()).map_err(|reason| {
            let reason = format!("the state is not of the kind that this version keeps: {reason}");
            LabError::malformed(path.join(STATE_FILE), reason)
        })
    }
}

/// Checksum of what no other file holds.
fn digest_of_state(step: u64, state: &RawValue) -> String {
    hex::encode(Sha256::new().chain_update(step.to_le_bytes()).chain_update(state.get()).finalize())
}

/// Parses, or says at which key it is wrong.
fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text))
        .map_err(|error| format!("{}: {}", error.path(), error.inner()))
}
