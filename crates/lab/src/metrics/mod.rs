//! What a training run reports while it goes: `RUN/metrics.jsonl` for programs, `RUN/tensorboard/` for eyes.
//!
//! Both get the same records. [`lines`] writes one JSON object a line, [`events`] TensorBoard's event files with every
//! number of the record under the path of its keys (`sinks.by_layer[2]` becomes `sinks/by_layer/2`).
//!
//! A run that was stopped and resumed gives the same `metrics.jsonl` as one that was not, byte for byte, apart from what
//! stands under the key `timing`. For that, records after the step of the checkpoint are dropped when it is resumed, and
//! the record of a step must be written before its checkpoint is saved.
//!
//! Whatever writes fails with [`LabError::Io`] if it cannot.

#![expect(clippy::missing_errors_doc, reason = "said above, once for all that write")]

pub mod events;
pub mod lines;

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::events::Events;
use self::lines::Lines;
use crate::LabError;

/// File of the records, in the directory of the run.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// Directory of the event files, in the directory of the run.
pub const EVENTS_DIRECTORY: &str = "tensorboard";

/// The records of a run.
#[derive(Debug)]
pub struct Metrics {
    lines: Lines,
    events: Events,
}

impl Metrics {
    /// Opens the records of a run whose directory exists. Records after step `resumed_from` are dropped; all of them, if the
    /// run begins anew (`None`).
    ///
    /// # Errors
    /// [`LabError::Io`] if a file cannot be used; [`LabError::Malformed`] if a record, other than a torn last one, is damaged.
    pub fn open(run: &Path, resumed_from: Option<u64>) -> Result<Self, LabError> {
        Ok(Self {
            lines: Lines::open(&run.join(METRICS_FILE), resumed_from)?,
            events: Events::create(&run.join(EVENTS_DIRECTORY), resumed_from.map_or(0, |step| step + 1))?,
        })
    }

    /// Adds a record. `values` must be the same whenever this step is computed; `timing` need not. Both must be objects in
    /// JSON, without the keys `step` and `timing`. A number that is not finite becomes `null`, and no point in TensorBoard.
    ///
    /// The record is with the operating system when this returns, so that it outlives the process.
    ///
    /// # Errors
    /// [`LabError::Io`] if it cannot be written; [`LabError::Request`] if `values` and `timing` are not such objects or `step`
    /// is before that of the last record.
    pub fn record(&mut self, step: u64, values: &impl Serialize, timing: &impl Serialize) -> Result<(), LabError> {
        self.lines.record(step, values, timing)?;
        let mut scalars = Vec::new();
        for (prefix, part) in [("", to_value(values)?), ("timing", to_value(timing)?)] {
            flatten(prefix, &part, &mut scalars);
        }
        self.events.scalars(step, &scalars)
    }

    /// Adds numbers to TensorBoard alone, by tag: what follows from a record.
    pub fn plot(&mut self, step: u64, scalars: &[(String, f32)]) -> Result<(), LabError> {
        if scalars.is_empty() { Ok(()) } else { self.events.scalars(step, scalars) }
    }

    /// Waits until all records are on disk, so that they outlive the machine; before a checkpoint is saved.
    pub fn sync(&mut self) -> Result<(), LabError> {
        self.lines.sync()?;
        self.events.sync()
    }
}

/// All records of a run, in order. A last line that is still being written is left out.
///
/// # Errors
/// [`LabError::Io`] if there are none to be read; [`LabError::Malformed`] if one is no such record.
pub fn read<Record: DeserializeOwned>(run: &Path) -> Result<Vec<Record>, LabError> {
    let path = run.join(METRICS_FILE);
    let text = fs::read_to_string(&path).map_err(|error| LabError::io(&path, error))?;
    let parse = |(index, line)| {
        serde_json::from_str(line)
            .map_err(|error| LabError::malformed(&path, format!("line {} is no record of a run: {error}", index + 1)))
    };
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).enumerate().map(parse).collect()
}

fn to_value(part: &impl Serialize) -> Result<Value, LabError> {
    serde_json::to_value(part)
        .map_err(|error| LabError::Request(format!("a record cannot be written as JSON: {error}")))
}

/// Every number within a value, with the path that leads to it.
fn flatten(path: &str, value: &Value, scalars: &mut Vec<(String, f32)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
    match value {
        Value::Number(number) => scalars.extend(number.as_f64().map(|number| (path.to_owned(), number as f32))),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&below(&index.to_string()), item, scalars);
            }
        }
        Value::Object(entries) => {
            for (key, item) in entries {
                flatten(&below(key), item, scalars);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
