//! `sinkscope families`: what can be read, and what confirmed that it is computed right.

use anyhow::{Result, anyhow};
use schemars::JsonSchema;
use serde::Serialize;
use sinkscope_model::{Confirmation, Supported, SupportedFormat, supported};
use sinkscope_report::envelope::VERSION;
use sinkscope_report::terminal;

use crate::arguments::FamiliesArguments;
use crate::output::Output;

/// What `--json` prints.
#[derive(Serialize, JsonSchema)]
pub struct Families {
    /// Version of the program.
    sinkscope: &'static str,
    /// All that can be read.
    families: Vec<Supported>,
}

/// Runs the command.
pub fn run(arguments: &FamiliesArguments) -> Result<()> {
    let families = Families { sinkscope: VERSION, families: supported() };
    if arguments.json {
        let text = serde_json::to_string_pretty(&families)
            .map_err(|error| anyhow!("the families cannot be written as JSON: {error}"))?;
        return Output::print(|_| text + "\n");
    }
    let rows: Vec<_> = families.families.into_iter().flat_map(rows).collect();
    Output::print(|style| terminal::families(rows, style))
}

/// A row a format.
fn rows(supported: Supported) -> impl Iterator<Item = [String; 6]> {
    let formats = [("Hugging Face", supported.hugging_face), ("GGUF", supported.gguf)];
    formats.into_iter().filter_map(|(format, supported)| {
        let SupportedFormat { names, confirmed } = supported?;
        let (name, format) = (names.join(", "), format.to_owned());
        let Some(Confirmation { by, models, points, published_configurations }) = confirmed else {
            return Some([name, format, "its own format".to_owned(), String::new(), String::new(), String::new()]);
        };
        let (models, published) = (models.len().to_string(), published_configurations.to_string());
        Some([name, format, by, points.join(", "), models, published])
    })
}
