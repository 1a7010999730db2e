//! `sinkscope report`: one page of everything that commands left in directories.

use anyhow::Result;
use sinkscope_report::figure::drawing;
use sinkscope_report::files::OutputDirectory;
use sinkscope_report::page::{PAGE_FILE, Page};
use sinkscope_report::{escape_control, outputs};

use crate::arguments::ReportArguments;
use crate::output::Output;

/// Where figures go, beside the page.
const FIGURES: &str = "figures";

/// Runs the command.
pub fn run(arguments: &ReportArguments) -> Result<()> {
    if arguments.figures {
        drawing::ready()?;
    }
    let found = outputs::read(&arguments.directories)?;
    // clap asks for at least one directory.
    let home = arguments.out.as_ref().unwrap_or(&arguments.directories[0]);
    let page = Page::new(&found)?;
    let mut out = OutputDirectory::prepare(home)?;
    out.stage(PAGE_FILE, page.html()?.as_bytes())?;
    let mut written = vec![home.join(PAGE_FILE).display().to_string()];
    if arguments.figures {
        let place = home.join(FIGURES);
        let mut drawn = OutputDirectory::prepare(&place)?;
        let all: Vec<_> = page.figures().collect();
        for figure in &all {
            drawn.stage(&format!("{}.svg", figure.id), drawing::svg(figure)?.as_bytes())?;
            drawn.stage(&format!("{}.pdf", figure.id), &drawing::pdf(figure)?)?;
        }
        drawn.commit()?;
        written.push(format!("{}: {} figures as SVG and PDF", place.display(), all.len()));
    }
    out.commit()?;
    Output::print(|_| escape_control(&written.join("; ")) + "\n")
}
