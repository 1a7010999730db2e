//! The `sinkscope` command: parse, resolve, run, print, exit.

mod anatomy;
mod arguments;
mod byte_size;
mod census;
mod data;
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

fn main() -> ExitCode {
    let start = Instant::now();
    // Help, versions and malformed command lines end here, with clap's own status 0 or 2.
    let arguments = Arguments::parse();
    conclude(run(&arguments, start))
}

fn run(arguments: &Arguments, start: Instant) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Anatomy(raw) => {
            let request = raw.resolve()?;
            request.run.process.run(|| anatomy::run(&request, start))
        }
        Command::Census(raw) => {
            let request = raw.resolve()?;
            request.run.process.run(|| census::run(&request, start))
        }
        Command::Probe(raw) => {
            let request = raw.resolve()?;
            request.run.process.run(|| probe::run(&request, start))
        }
        Command::Operate(raw) => {
            let request = raw.resolve()?;
            request.run.process.run(|| operate::run(&request, start))
        }
        Command::Train(raw) => {
            let request = raw.resolve()?;
            request.process.run(|| train::run(&request, start))
        }
        Command::Study(raw) => {
            let request = raw.resolve()?;
            request.process.run(|| study::run(&request, start))
        }
        Command::Data(raw) => {
            let DataCommand::Prepare(raw) = &raw.command;
            let request = raw.resolve()?;
            request.process.run(|| data::prepare(&request, start))
        }
        Command::Report(raw) => report::run(raw),
        Command::Families(raw) => families::run(raw),
        Command::Schema(raw) => schema::run(raw),
    }
}
