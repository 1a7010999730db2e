//! Where results go: files in a directory, and a report on stdout.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use sinkscope_anatomy::definitions::Definition;
use sinkscope_model::architecture::Architecture;
use sinkscope_model::{Model, ModelError};
use sinkscope_report::ReportError;
use sinkscope_report::envelope::{DataIdentity, Envelope, ModelIdentity};
use sinkscope_report::files::OutputDirectory;
use sinkscope_report::outputs::Found;
use sinkscope_report::page::{PAGE_FILE, Page};
use sinkscope_report::terminal::Style;
use sinkscope_report::tidy::Table;

use crate::earlier::Earlier;
use crate::failure::PrintError;
use crate::request::RunOptions;
use crate::{logging, machine};

/// The directory of `--out`, if there is one, and what a run before left there.
pub struct Output {
    directory: Option<OutputDirectory>,
    earlier: Option<Earlier>,
}

impl Output {
    /// Finds a directory that cannot be used, and results of another request in the place of `name`, before the work.
    pub fn prepare(run: &RunOptions, name: &str) -> Result<Self> {
        let directory = run.out.as_deref().map(OutputDirectory::prepare).transpose()?;
        let place = run.out.as_ref().filter(|_| !run.force).map(|out| out.join(name));
        let earlier = place.map(|place| Earlier::at(place, &run.process.command)).transpose()?.flatten();
        Ok(Self { directory, earlier })
    }

    /// Refuses to replace results of other weights or tokens.
    pub fn check(&self, model: &Model, data: Option<&DataIdentity>) -> Result<(), ModelError> {
        self.earlier.as_ref().map_or(Ok(()), |earlier| earlier.check(model, data))
    }

    /// Writes the files, all or none. Before anything is printed: they are there even if whoever reads stdout stops early.
    pub fn write<R: Serialize>(
        self,
        name: &str,
        envelope: &Envelope<R, Architecture>,
        tables: &[Table],
    ) -> Result<(), ReportError> {
        let mut output = self;
        output.stage(name, envelope, tables)?;
        output.commit()
    }

    /// Makes the files ready to be written.
    pub fn stage<R: Serialize>(
        &mut self,
        name: &str,
        envelope: &Envelope<R, Architecture>,
        tables: &[Table],
    ) -> Result<(), ReportError> {
        let Some(out) = &mut self.directory else { return Ok(()) };
        out.stage(name, &envelope.to_json(name)?)?;
        for table in tables {
            table.stage(out)?;
        }
        Ok(())
    }

    /// Makes the page about an output ready to be written.
    pub fn stage_page(&mut self, found: &Found) -> Result<(), ReportError> {
        let Some(out) = &mut self.directory else { return Ok(()) };
        out.stage(PAGE_FILE, Page::new(std::slice::from_ref(found))?.html()?.as_bytes())
    }

    /// Writes what is ready, all of it or nothing.
    pub fn commit(self) -> Result<(), ReportError> {
        self.directory.map_or(Ok(()), OutputDirectory::commit)
    }

    pub fn print(report: impl FnOnce(&Style) -> String) -> Result<()> {
        let text = report(&Style::new(machine::stdout_width(), logging::colour(&io::stdout())));
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(PrintError)?;
        Ok(())
    }
}

/// What an output file says of the model.
pub fn model_identity(model: &Model) -> Result<ModelIdentity<Architecture>, ModelError> {
    let checkpoint = model.checkpoint();
    Ok(ModelIdentity {
        name: checkpoint.name().to_owned(),
        architecture: model.architecture().clone(),
        sha256: checkpoint.sha256()?,
        parameters: model.parameters(),
        allowed_unknown: model.passed().to_vec(),
    })
}

/// Definitions as an output file carries them.
pub fn by_name(definitions: &[Definition]) -> BTreeMap<String, String> {
    definitions.iter().map(|definition| (definition.name.to_owned(), definition.text())).collect()
}
