//! `sinkscope anatomy`: examine, write the files, print the report.

use std::io::{self, Write};
use std::time::Instant;

use anyhow::Result;
use sinkscope_anatomy::results::Anatomy;
use sinkscope_model::architecture::Architecture;
use sinkscope_report::ReportError;
use sinkscope_report::anatomy_tables::anatomy_tables;
use sinkscope_report::envelope::{Envelope, Timing, VERSION};
use sinkscope_report::files::OutputDirectory;
use sinkscope_report::terminal::{self, Style};

use crate::examine::{Examination, examine};
use crate::failure::PrintError;
use crate::progress::Progress;
use crate::request::{AnatomyRequest, RunOptions};
use crate::{logging, machine};

const JSON: &str = "anatomy.json";

/// Runs the command; `start` is when the program started.
///
/// # Errors
/// If the request or an input is wrong, or results cannot be written; no file is then left half-written.
pub fn run(request: &AnatomyRequest, start: Instant) -> Result<()> {
    // An output directory that cannot be used is found before the work.
    let out = request.run.out.as_deref().map(OutputDirectory::prepare).transpose()?;
    let progress = Progress::new(request.run.verbosity);
    let examination = examine(request, &progress)?;
    drop(progress);
    let envelope = envelope(&request.run, examination, start);
    // Files first: they are there even if whoever reads stdout stops early.
    if let Some(out) = out {
        write_files(out, &envelope)?;
    }
    let style = Style::new(machine::stdout_width(), logging::colour(&io::stdout()));
    print(&terminal::anatomy(&envelope, &style)).map_err(PrintError)?;
    Ok(())
}

fn envelope(run: &RunOptions, examination: Examination, start: Instant) -> Envelope<Anatomy, Architecture> {
    Envelope {
        sinkscope: VERSION,
        command: run.command.clone(),
        model: examination.model,
        data: examination.data,
        definitions: examination.definitions,
        timing: Timing {
            passes: examination.passes,
            tokens_per_second: examination.tokens_per_second,
            fraction_of_bound: examination.fraction_of_bound,
            peak_rss_bytes: machine::peak_memory(),
            seconds: start.elapsed().as_secs_f64(),
        },
        seed: run.seed,
        results: examination.anatomy,
    }
}

fn write_files(mut out: OutputDirectory, envelope: &Envelope<Anatomy, Architecture>) -> Result<(), ReportError> {
    out.stage(JSON, &envelope.to_json(JSON)?)?;
    for table in anatomy_tables(&envelope.results)? {
        table.stage(&mut out)?;
    }
    out.commit()
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
