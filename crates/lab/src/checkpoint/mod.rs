//! What a training run keeps so that it can go on, and so that others can use its weights.
//!
//! ```text
//! RUN/.lock                                   held while a process trains
//! RUN/last  -> checkpoints/step-00000500      model.safetensors, config.json, ..., optimizer.safetensors, state.json
//! RUN/best  -> checkpoints/best-00000400      the same without optimizer.safetensors
//! ```
//!
//! **One atomic step.** A checkpoint is written under a temporary name, its files and the directory are synced, and it gets
//! its own name; then `RUN/last`, a relative symbolic link, is replaced by renaming a new link over it. POSIX makes that
//! rename atomic on local and on network file systems, so a process killed at any moment, a full disk or a crash leaves the
//! old checkpoint or the new one, whole. Exchanging two directories (`renameat2` with `RENAME_EXCHANGE`) would spare the
//! link, but exists on Linux alone and not on NFS, where clusters keep their runs. Renaming a directory over a full one is
//! not possible at all. A link is followed by everything that opens files, so `RUN/last` can be handed to any program as a
//! model directory, and a relative one survives moving or copying the run. If a copy has made directories of the links,
//! they are read and replaced all the same.
//!
//! **Order.** The best checkpoint takes its place before the last one. Killed in between, the run goes on from the last one,
//! computes the same again, and finds the best one where it would have put it. The older checkpoint is removed after the
//! switch, so a save needs room for two. The weights of the best one share the blocks of the last one (hard links) until
//! the next save.
//!
//! **Whole or not.** `state.json` holds the SHA-256 of the other files and of the state itself.
//! [`Checkpoints::load`] takes the newest checkpoint in which everything agrees, which need not be the one `RUN/last`
//! points to if the process was killed just before the switch.
//!
//! **Nothing but weights in the weights.** `model.safetensors` has its tensors in the order of their names and no metadata
//! beyond `{"format": "pt"}`, which transformers asks for: equal weights make equal files.
//!
//! # Examples
//!
//! A run that can be stopped and resumed at will:
//!
//! ```
//! use sinkscope_lab::checkpoint::{Checkpoints, Resume, Snapshot};
//! use sinkscope_lab::interrupt::Interrupt;
//! use sinkscope_lab::metrics::Metrics;
//! use sinkscope_model::parameters::StoredTensor;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let run = directory.path().join("run");
//! let interrupt = Interrupt::install()?;
//! let mut checkpoints = Checkpoints::open(&run, Resume::Yes)?;
//! let resumed = checkpoints.load::<Vec<u64>>()?;
//! let begin = resumed.as_ref().map(|loaded| loaded.step);
//! let mut metrics = Metrics::open(&run, begin)?;
//! let mut state = resumed.map_or(vec![1], |loaded| loaded.state);
//! for step in begin.unwrap_or(0) + 1..=20 {
//!     state[0] = state[0].wrapping_mul(31);
//!     metrics.record(step, &serde_json::json!({"loss": 1.0}), &serde_json::json!({"seconds": 0.1}))?;
//!     if step % 10 == 0 || interrupt.requested().is_some() {
//!         metrics.sync()?;
//!         let model = [StoredTensor::new("weight", [2, 2], vec![step as f32; 4])];
//!         checkpoints.save(&Snapshot { step, model: &model, optimizer: &[], state: &state, files: &[] }, false)?;
//!     }
//!     if interrupt.requested().is_some() {
//!         break;
//!     }
//! }
//! assert!(run.join("last/model.safetensors").exists());
//! # Ok(())
//! # }
//! ```

mod directory;
mod state_file;
mod tensors;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sinkscope_model::parameters::StoredTensor;

use self::directory::{Entry, Kind};
use self::state_file::StateFile;
use crate::LabError;

/// File of the weights.
pub const MODEL_FILE: &str = "model.safetensors";
/// File of the optimiser's tensors.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// File of the state.
pub const STATE_FILE: &str = "state.json";

/// What is saved.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a, State> {
    /// Steps done.
    pub step: u64,
    /// Weights.
    pub model: &'a [StoredTensor<'a>],
    /// The optimiser's tensors.
    pub optimizer: &'a [StoredTensor<'a>],
    /// Everything else that the next step depends on: random number generators, place in the data, best loss.
    pub state: &'a State,
    /// Further files of a model directory by name: `config.json`, `tokenizer.json`.
    pub files: &'a [(&'a str, &'a [u8])],
}

/// What was saved.
#[derive(Debug)]
pub struct Loaded<State> {
    /// Steps done.
    pub step: u64,
    /// Weights, in the order of their names.
    pub model: Vec<StoredTensor<'static>>,
    /// The optimiser's tensors, in the order of their names.
    pub optimizer: Vec<StoredTensor<'static>>,
    /// Everything else.
    pub state: State,
    /// Further files, in the order of their names.
    pub files: Vec<(String, Vec<u8>)>,
    /// Where it was read.
    pub directory: PathBuf,
    /// What is wrong with each newer checkpoint, which was passed over; worth a warning.
    pub damaged: Vec<LabError>,
}

/// May a run go on?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The directory must be absent or empty.
    No,
    /// What is there is continued; an absent or empty directory is begun.
    Yes,
}

/// The checkpoints of a run, which no other process can train meanwhile.
#[derive(Debug)]
pub struct Checkpoints {
    run: PathBuf,
    /// Holds the lock, and lets go when dropped or when the process ends in whatever way.
    _lock: File,
}

impl Checkpoints {
    /// Takes possession of the directory of a run, made if absent, and removes what killed processes left half written.
    ///
    /// On a file system without locks the directory is not guarded against a second trainer.
    ///
    /// # Errors
    /// [`LabError::Request`] if it is not empty and `resume` is [`Resume::No`], if it holds something other than a run, or if
    /// another process trains there; [`LabError::Io`] if it cannot be used.
    pub fn open(run: &Path, resume: Resume) -> Result<Self, LabError> {
        directory::check_use(run, resume)?;
        fs::create_dir_all(run).map_err(|error| LabError::io(run, error))?;
        directory::sync_parent(run);
        let lock = directory::lock(run)?;
        // Another process may have begun here in the meantime, and ended.
        directory::check_use(run, resume)?;
        directory::remove_leftovers(run)?;
        directory::restore_best(run)?;
        Ok(Self { run: run.to_owned(), _lock: lock })
    }

    /// Saves a checkpoint, makes it the last one and, if asked, the best one, and removes the older ones.
    ///
    /// What the checkpoint counts on, such as the metrics up to its step, should be on disk before. The state is read back
    /// before anything is written, as JSON knows no infinities (a NaN within an `Option` becomes `None`): better an error at the first save than at the resumption.
    /// An older checkpoint that cannot be removed is left to the next save.
    ///
    /// # Errors
    /// [`LabError::Io`] if the disk is full or cannot be written; [`LabError::Request`] if the names, shapes or files do not
    /// fit, or the state does not survive JSON. The checkpoints before are then untouched.
    pub fn save<State>(&mut self, snapshot: &Snapshot<'_, State>, best: bool) -> Result<(), LabError>
    where
        State: Serialize + DeserializeOwned,
    {
        let writing = directory::fresh(&self.run, directory::WRITING)?;
        let saved = write(snapshot, &writing).and_then(|state_file| {
            if best {
                self.place_best(&writing, &state_file)?;
            }
            directory::place(&self.run, &writing, Kind::Last, snapshot.step)
        });
        // Whether it went well or not, what is not needed goes; on a full disk above all.
        let cleaned = directory::remove_leftovers(&self.run);
        let entry = saved?;
        cleaned?;
        directory::remove_older(&self.run, &entry);
        Ok(())
    }

    /// The newest whole checkpoint, to which `RUN/last` points from then on; `None` if the run has none.
    ///
    /// # Errors
    /// [`LabError::Malformed`] or [`LabError::Io`], naming the file, if there are checkpoints and none is whole, or if a whole
    /// one holds another kind of state.
    pub fn load<State: DeserializeOwned>(&self) -> Result<Option<Loaded<State>>, LabError> {
        let mut damaged = Vec::new();
        for candidate in directory::candidates(&self.run)? {
            match read(&candidate.path(&self.run)) {
                Ok(whole) => {
                    let state = whole.state_file.state(&candidate.path(&self.run))?;
                    directory::point_to(&self.run, &candidate)?;
                    return Ok(Some(Loaded {
                        step: whole.state_file.step,
                        model: whole.model,
                        optimizer: whole.optimizer,
                        state,
                        files: whole.files,
                        directory: candidate.path(&self.run),
                        damaged,
                    }));
                }
                Err(error) => damaged.push(error),
            }
        }
        match damaged.into_iter().next() {
            Some(newest) => Err(none_whole(newest, &self.run)),
            None => Ok(None),
        }
    }

    /// Makes the best checkpoint of the files of one that is still being written.
    fn place_best(&self, writing: &Path, state_file: &StateFile) -> Result<(), LabError> {
        let best = directory::fresh(&self.run, directory::WRITING_BEST)?;
        let state_file = state_file.without(OPTIMIZER_FILE);
        for name in state_file.files() {
            directory::link_or_copy(&writing.join(name), &best.join(name))?;
        }
        state_file.write(&best)?;
        directory::sync(&best)?;
        directory::place(&self.run, &best, Kind::Best, state_file.step).map(|_: Entry| ())
    }
}

/// Writes and syncs the files of a checkpoint.
fn write<State>(snapshot: &Snapshot<'_, State>, writing: &Path) -> Result<StateFile, LabError>
where
    State: Serialize + DeserializeOwned,
{
    let mut state_file = StateFile::new(snapshot.step, snapshot.state)?;
    for (name, content) in snapshot.files {
        check_file_name(name)?;
        if state_file.has(name) {
            return Err(LabError::Request(format!("a checkpoint has one {name}, and two were given")));
        }
        state_file.add(name, directory::write(&writing.join(name), content)?);
    }
    state_file.add(MODEL_FILE, tensors::write(&writing.join(MODEL_FILE), snapshot.model)?);
    state_file.add(OPTIMIZER_FILE, tensors::write(&writing.join(OPTIMIZER_FILE), snapshot.optimizer)?);
    state_file.write(writing)?;
    directory::sync(writing)?;
    Ok(state_file)
}

/// A checkpoint in which everything agrees.
struct Whole {
    state_file: StateFile,
    model: Vec<StoredTensor<'static>>,
    optimizer: Vec<StoredTensor<'static>>,
    files: Vec<(String, Vec<u8>)>,
}

/// Reads a checkpoint and verifies it on the way.
fn read(path: &Path) -> Result<Whole, LabError> {
    let state_file = StateFile::read(path)?;
    let mut files = Vec::new();
    for name in state_file.files().filter(|name| ![MODEL_FILE, OPTIMIZER_FILE].contains(name)) {
        files.push((name.to_owned(), directory::read(&path.join(name), state_file.digest(path, name)?)?));
    }
    let model = tensors::read(&path.join(MODEL_FILE), state_file.digest(path, MODEL_FILE)?)?;
    let optimizer = tensors::read(&path.join(OPTIMIZER_FILE), state_file.digest(path, OPTIMIZER_FILE)?)?;
    Ok(Whole { state_file, model, optimizer, files })
}

/// A further file lies in the checkpoint itself, and is none of those that are always there.
fn check_file_name(name: &str) -> Result<(), LabError> {
    let plain = Path::new(name).file_name().is_some_and(|file| file == name);
    if plain && ![MODEL_FILE, OPTIMIZER_FILE, STATE_FILE].contains(&name) {
        Ok(())
    } else {
        Err(LabError::Request(format!(
            "{name} cannot be a further file of a checkpoint: a plain name such as config.json can"
        )))
    }
}

/// Says beside what is wrong with the newest checkpoint that the others are no better.
fn none_whole(newest: LabError, run: &Path) -> LabError {
    let advice = format!("no checkpoint in {} is whole; begin the run anew in another directory", run.display());
    match newest {
        LabError::Malformed { path, reason } => LabError::Malformed { path, reason: format!("{reason}; {advice}") },
        LabError::Io { path, source } => {
            let source = std::io::Error::new(source.kind(), format!("{source}; {advice}"));
            LabError::Io { path, source }
        }
        other => other,
    }
}
