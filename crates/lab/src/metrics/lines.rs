//! `metrics.jsonl`: one JSON object a line, `step` first and `timing` last.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::to_value;
use crate::LabError;

/// The key of the step, and that of what differs between equal runs.
const RESERVED: [&str; 2] = ["step", "timing"];

/// A file of records to which more are added.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: File,
    last: u64,
}

/// A record as it is written.
#[derive(Serialize)]
struct Line<'a, V, T> {
    step: u64,
    #[serde(flatten)]
    values: &'a V,
    timing: &'a T,
}

/// What must be known of a record to keep or drop it.
#[derive(Deserialize)]
struct Step {
    step: u64,
}

impl Lines {
    /// Opens the file, made if absent, without the records after step `resumed_from` (all, if `None`) and without a last one
    /// that was torn when the process was killed.
    ///
    /// # Errors
    /// [`LabError::Io`] if it cannot be used; [`LabError::Malformed`] with the line if another record is damaged.
    pub fn open(path: &Path, resumed_from: Option<u64>) -> Result<Self, LabError> {
        let open = || File::options().create(true).truncate(false).read(true).write(true).open(path);
        let mut file = open().map_err(|error| LabError::io(path, error))?;
        let kept = match resumed_from {
            Some(step) => keep(path, &file, step)?,
            None => Kept { bytes: 0, last: 0 },
        };
        let mut cut = || -> io::Result<()> {
            file.set_len(kept.bytes)?;
            file.seek(SeekFrom::Start(kept.bytes))?;
            file.sync_all()
        };
        cut().map_err(|error| LabError::io(path, error))?;
        Ok(Self { path: path.to_owned(), file, last: kept.last })
    }

    /// Adds a record; see [`super::Metrics::record`].
    pub fn record<V: Serialize, T: Serialize>(&mut self, step: u64, values: &V, timing: &T) -> Result<(), LabError> {
        if step < self.last {
            return Err(LabError::Request(format!("a record of step {step} cannot follow one of step {}", self.last)));
        }
        match to_value(values)? {
            Value::Object(object) if !RESERVED.iter().any(|key| object.contains_key(*key)) => {}
            _ => {
                return Err(LabError::Request(
                    "the values of a record must have names, none of them step or timing".into(),
                ));
            }
        }
        if !to_value(timing)?.is_object() {
            return Err(LabError::Request("the timing of a record must be values with names".into()));
        }
        let mut line = serde_json::to_vec(&Line { step, values, timing })
            .map_err(|error| LabError::Request(format!("a record cannot be written as JSON: {error}")))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| LabError::io(&self.path, error))?;
        self.last = step;
        Ok(())
    }

    /// Waits until all records are on disk.
    pub fn sync(&mut self) -> Result<(), LabError> {
        self.file.sync_data().map_err(|error| LabError::io(&self.path, error))
    }
}

/// The beginning of a file that stays.
struct Kept {
    bytes: u64,
    last: u64,
}

/// Finds the records up to a step. Steps never fall, so that nothing after the first later record is kept.
fn keep(path: &Path, file: &File, step: u64) -> Result<Kept, LabError> {
    let mut reader = BufReader::new(file);
    let mut kept = Kept { bytes: 0, last: 0 };
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(|error| LabError::io(path, error))?;
        if !line.ends_with(b"\n") {
            // The end, or a torn record.
            break;
        }
        let found = match serde_json::from_slice::<Step>(&line) {
            Ok(record) => record.step,
            Err(_) if at_end(&mut reader).map_err(|error| LabError::io(path, error))? => break,
            Err(error) => {
                let reason =
                    format!("line {number} is no record with a step: {error}; remove the line to go on without it");
                return Err(LabError::malformed(path, reason));
            }
        };
        if found > step {
            break;
        }
        kept.bytes += line.len() as u64;
        kept.last = found;
    }
    Ok(kept)
}

fn at_end(reader: &mut impl BufRead) -> io::Result<bool> {
    Ok(reader.fill_buf()?.is_empty())
}
