//! `sinkscope schema`: the JSON schema of the outputs, from their types.

use std::path::Path;

use anyhow::{Result, anyhow};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value};
use sinkscope_anatomy::census::Census;
use sinkscope_anatomy::probe::Probe;
use sinkscope_anatomy::results::Anatomy;
use sinkscope_lab::data::Manifest;
use sinkscope_lab::recipe::Recipe;
use sinkscope_lab::study::file::StudyFile;
use sinkscope_lab::study::{StudyResults, Summary};
use sinkscope_lab::trained::Trained;
use sinkscope_lab::trainer::Look;
use sinkscope_model::ModelError;
use sinkscope_model::architecture::Architecture;
use sinkscope_report::envelope::Envelope;
use sinkscope_surgery::results::Comparison;

use crate::arguments::SchemaArguments;
use crate::families::Families;
use crate::output::Output;

/// A file, and how its schema is made.
type Entry = (&'static str, fn(&mut SchemaGenerator) -> Schema);

/// Every file with its type, those that are read last. Of `metrics.jsonl`, a line; a summary lies under `results/STUDY/`; `families.json` is what
/// `sinkscope families --json` prints.
const OUTPUTS: [Entry; 12] = [
    ("anatomy.json", framed::<Anatomy>),
    ("census.json", framed::<Census>),
    ("probe.json", framed::<Probe>),
    ("operate.json", framed::<Comparison>),
    ("train.json", framed::<Trained>),
    ("study.json", framed::<StudyResults>),
    ("metrics.jsonl", SchemaGenerator::subschema_for::<Look>),
    ("summary.json", SchemaGenerator::subschema_for::<Summary>),
    ("data.json", framed::<Manifest>),
    ("families.json", SchemaGenerator::subschema_for::<Families>),
    ("recipe.toml", SchemaGenerator::subschema_for::<Recipe>),
    ("study.toml", SchemaGenerator::subschema_for::<StudyFile>),
];

fn framed<R: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Envelope<R, Architecture>>()
}

/// Runs the command.
pub fn run(arguments: &SchemaArguments) -> Result<()> {
    let wanted = arguments.output.as_deref();
    let chosen: Vec<_> = OUTPUTS.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name)).collect();
    if chosen.is_empty() {
        let names = OUTPUTS.map(|(name, _)| name).join(", ");
        let reason = format!("FILE: {:?} is no output; name one of {names}", wanted.unwrap_or_default());
        return Err(ModelError::Request(reason).into());
    }
    let text = serde_json::to_string_pretty(&schema(&chosen))
        .map_err(|error| anyhow!("the schema cannot be written as JSON: {error}"))?;
    Output::print(|_| text + "\n")
}

/// Of one output, its own; of several, an object with each under its file's name.
fn schema(outputs: &[&Entry]) -> Value {
    let settings = SchemaSettings::draft2020_12();
    let are_read = outputs.iter().all(|(name, _)| Path::new(name).extension().is_some_and(|ending| ending == "toml"));
    let settings = if are_read { settings.for_deserialize() } else { settings.for_serialize() };
    let mut generator = settings.into_generator();
    let schemas: Vec<(&str, Schema)> = outputs.iter().map(|(name, of)| (*name, of(&mut generator))).collect();
    let mut all = Map::new();
    all.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    if let [(name, schema)] = &schemas[..] {
        all.insert("title".into(), (*name).into());
        all.extend(schema.as_object().cloned().unwrap_or_default());
    } else {
        all.insert("title".into(), "Outputs of sinkscope, by file".into());
        all.insert("type".into(), "object".into());
        let properties: Map<String, Value> =
            schemas.into_iter().map(|(name, schema)| (name.to_owned(), schema.to_value())).collect();
        all.insert("properties".into(), properties.into());
    }
    all.insert("$defs".into(), generator.take_definitions(true).into());
    Value::Object(all)
}
