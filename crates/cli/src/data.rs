//! `sinkscope data prepare`: text to tokens.

use std::cell::Cell;
use std::time::Instant;

use anyhow::Result;
use sinkscope_lab::data::manifest::{DEFINITIONS, MANIFEST_FILE};
use sinkscope_lab::data::{self, PrepareRequest, Stage};
use sinkscope_model::architecture::Architecture;
use sinkscope_report::envelope::{Envelope, VERSION};
use sinkscope_report::files::OutputDirectory;
use sinkscope_report::terminal;

use crate::machine;
use crate::output::Output;
use crate::process::Process;
use crate::progress::Progress;

/// Runs the command; `start` is when the program started.
pub fn prepare(request: &PrepareRequest, process: &Process, start: Instant) -> Result<()> {
    // Makes the directory and takes it away again if nothing comes to be in it.
    let directory = OutputDirectory::prepare(&request.out)?;
    let progress = Progress::of_bytes(process.verbosity);
    // When counting, learning and encoding began.
    let began = [const { Cell::new(None) }; 3];
    let begin = |stage: usize, name| {
        if began[stage].get().is_none() {
            began[stage].set(Some(start.elapsed().as_secs_f64()));
            progress.stage(name);
        }
    };
    let staged = data::prepare(request, &|stage| match stage {
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
    let envelope = Envelope::<_, Architecture> {
        sinkscope: VERSION.into(),
        command: process.command.clone(),
        model: None,
        data: None,
        definitions: DEFINITIONS.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
        timing: machine::timing(start, passes, None),
        seed: Some(request.seed),
        results: staged.manifest(),
    };
    let text = envelope.to_json(MANIFEST_FILE)?;
    let timing = envelope.timing;
    let manifest = staged.commit(&text)?;
    let name = directory.path().display().to_string();
    Output::print(|style| terminal::data(&name, &manifest, &timing, style))
}
