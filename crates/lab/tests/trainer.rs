//! A run that is stopped where it would look, and goes on.

use std::cell::Cell;
use std::path::Path;

use sinkscope_lab::checkpoint::Resume;
use sinkscope_lab::data::Source;
use sinkscope_lab::metrics;
use sinkscope_lab::recipe::Recipe;
use sinkscope_lab::recipe_file::parse;
use sinkscope_lab::trainer::{Ended, Event, Look, Record, Trainer};

const RECIPE: &str = r#"
[model]
layers = 1
d_model = 16
heads = 2
d_ffn = 24
[data]
source = "bigram-backcopy"
tokens = 12
triggers = 3
[training]
steps = 30
sequences = 4
seq_len = 12
[watch]
every = 10
sequences = 4
seq_len = 12
"#;

/// Runs on from where the run is, to the end or to the step.
fn run(directory: &Path, until: u64) -> Ended {
    let recipe: Recipe = parse(RECIPE, Path::new("recipe.toml")).expect("a recipe");
    let source = Source::open(&recipe.source()).expect("no files");
    let mut trainer = Trainer::new(recipe, source).expect("it fits");
    let step = Cell::new(0);
    let mut tell = |event: Event<'_>| {
        if let Event::Step(report) = event {
            step.set(report.step);
        }
    };
    trainer.run(directory, Resume::Yes, &|| step.get() == until, &mut tell).expect("it runs")
}

fn records(directory: &Path) -> Vec<(u64, Record)> {
    let looks: Vec<Look> = metrics::read(directory).expect("written");
    looks.into_iter().map(|look| (look.step, look.record)).collect()
}

#[test]
fn a_look_tells_of_the_last_step_also_after_a_stop() {
    let (whole, stopped) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    assert_eq!(run(whole.path(), u64::MAX), Ended::Finished);
    assert_eq!(run(stopped.path(), 10), Ended::Stopped(10));
    assert_eq!(run(stopped.path(), 23), Ended::Stopped(23));
    assert_eq!(run(stopped.path(), u64::MAX), Ended::Finished);
    let records = (records(whole.path()), records(stopped.path()));
    assert!(records.0.iter().skip(1).all(|(_, record)| record.gradient_norm.is_some()));
    assert_eq!(records.0, records.1);
}
