//! `sinkscope data prepare`: text to tokens.

use std::cell::Cell;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value, json};
use sinkscope_lab::data::manifest::DEFINITIONS;
use sinkscope_lab::data::{self, Stage};
use sinkscope_report::envelope::{PassTiming, Timing, VERSION};
use sinkscope_report::files::OutputDirectory;
use sinkscope_report::terminal;

use crate::machine;
use crate::output::Output;
use crate::progress::Progress;
use crate::request::DataRequest;

/// Runs the command; `start` is when the program started.
///
/// # Errors
/// If the request or an input is wrong, or files cannot be written; none is then left half-written.
pub fn prepare(request: &DataRequest, start: Instant) -> Result<()> {
    // Makes the directory and takes it away again if nothing comes to be in it.
    let directory = OutputDirectory::prepare(&request.prepare.out)?;
    let progress = Progress::of_bytes(request.process.verbosity);
    // When counting, learning and encoding began.
    let began = [const { Cell::new(None) }; 3];
    let begin = |stage: usize, name| {
        if began[stage].get().is_none() {
            began[stage].set(Some(start.elapsed().as_secs_f64()));
            progress.stage(name);
        }
    };
    let staged = data::prepare(&request.prepare, &|stage| match stage {
        Stage::Counting(bytes) => {
            begin(0, "counting words");
            progress.so_far(bytes);
        }
        Stage::Learning => begin(1, "learning the vocabulary"),
        Stage::Encoding(bytes, of) => {
            begin(2, "encoding");
            progress.set(bytes, of);
        }
    })?;
    drop(progress);

    let seconds = start.elapsed().as_secs_f64();
    let [_, learning, encoding] = began.map(|began| began.get().unwrap_or(seconds));
    let passes = [("counting", learning), ("learning", encoding - learning), ("encoding", seconds - encoding)];
    let timing = Timing {
        seconds,
        passes: PassTiming::list(passes),
        tokens_per_second: None,
        fraction_of_bound: None,
        peak_rss_bytes: machine::peak_memory(),
    };
    let mut frame = Map::new();
    frame.insert("sinkscope".to_owned(), VERSION.into());
    frame.insert("command".to_owned(), json!(request.process.command));
    frame.insert("model".to_owned(), Value::Null);
    frame.insert("data".to_owned(), Value::Null);
    let definitions: Map<String, Value> =
        DEFINITIONS.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())).collect();
    frame.insert("definitions".to_owned(), definitions.into());
    frame.insert("timing".to_owned(), serde_json::to_value(&timing)?);
    frame.insert("seed".to_owned(), request.prepare.seed.into());
    let manifest = staged.commit(frame)?;
    let name = directory.path().display().to_string();
    Output::print(|style| terminal::data(&name, &manifest, &timing, style))
}
