//! The `sinkscope` command: parse, resolve, run, print, exit.

mod anatomy;
mod arguments;
mod byte_size;
mod census;
mod data;
mod earlier;
mod failure;
mod families;
mod logging;
mod machine;
mod opened;
mod operate;
mod output;
mod part;
mod probe;
mod process;
mod progress;
mod report;
mod request;
mod schema;
mod study;
mod train;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::arguments::{Arguments, Command, DataCommand};
use crate::failure::conclude;

/// A recipe with every key.
const RECIPE_TEMPLATE: &str = include_str!("../templates/recipe.toml");
/// A study with every key.
const STUDY_TEMPLATE: &str = include_str!("../templates/study.toml");

fn main() -> ExitCode {
    let start = Instant::now();
    // Help, versions and malformed command lines end here, with clap's own status 0 or 2.
    let arguments = Arguments::parse();
    conclude(run(&arguments, start))
}

fn run(arguments: &Arguments, start: Instant) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Anatomy(raw) => {
            let (run, wanted) = raw.resolve()?;
            run.process.run(|| anatomy::run(raw, wanted, &run, start))
        }
        Command::Census(raw) => {
            let run = raw.run.resolve()?;
            run.process.run(|| census::run(raw, &run, start))
        }
        Command::Probe(raw) => {
            let run = raw.resolve()?;
            run.process.run(|| probe::run(raw, &run, start))
        }
        Command::Operate(raw) => {
            let (run, operations) = raw.resolve()?;
            run.process.run(|| operate::run(raw, operations, &run, start))
        }
        Command::Train(raw) if raw.template => output::Output::print(|_| RECIPE_TEMPLATE.to_owned()),
        Command::Train(raw) => {
            let (process, files) = (raw.process.resolve()?, raw.files()?);
            process.run(|| train::run(raw, files, &process, start))
        }
        Command::Study(raw) if raw.template => output::Output::print(|_| STUDY_TEMPLATE.to_owned()),
        Command::Study(raw) => {
            let (process, file) = (raw.resolve()?, raw.file()?);
            process.run(|| study::run(raw, file, &process, start))
        }
        Command::Data(raw) => {
            let DataCommand::Prepare(raw) = &raw.command;
            let (process, request) = raw.resolve()?;
            process.run(|| data::prepare(&request, &process, start))
        }
        Command::Report(raw) => report::run(raw),
        Command::Families(raw) => families::run(raw),
        Command::Schema(raw) => schema::run(raw),
    }
}
