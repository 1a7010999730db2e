//! Residuals of models, after every block, and what they predict.

use std::fs;
use std::path::{Path, PathBuf};

use sinkscope_model::Model;
use sinkscope_model::pass::Pass;
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};
use sinkscope_sources::data::TokenBatch;

use crate::{Digests, digest};

const SMOLLM2: &str = "../../models/SmolLM2-135M-Instruct.Q4_1.gguf";

/// Everything that the pass shows of residuals and predictions, in order.
#[derive(Default)]
struct Shown(Vec<Vec<f32>>);

impl Tap for Shown {
    type Partial = Vec<f32>;

    fn wants(&self, point: Point, _: usize) -> bool {
        matches!(point, Point::Residual | Point::Prediction)
    }

    fn observe(&self, event: &Event<'_>) -> Vec<f32> {
        match event.data {
            EventData::Rows(values) | EventData::Nll(values) => values.to_vec(),
            _ => Vec::new(),
        }
    }

    fn merge(&mut self, _: Point, _: &Place, values: Vec<f32>) {
        self.0.push(values);
    }
}

/// Of tokens without a pattern, in several sequences of so many tokens at most.
fn of_model(model: &Model, sequences: usize, longest: usize) -> String {
    let architecture = model.architecture();
    let seq_len = longest.min(architecture.max_positions);
    let token = |at: usize| ((at * at / 3 + 7 * at) % architecture.vocabulary) as u32;
    let batch = TokenBatch { tokens: (0..sequences * seq_len).map(token).collect(), sequences, seq_len };
    let mut shown = Shown::default();
    Pass::new(model, 1 << 40).run(&batch, &mut [&mut shown]).expect("a pass");
    digest(shown.0.iter().map(Vec::as_slice))
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The directories of families, GGUF files, and the demo.
pub fn of_fixtures() -> Digests {
    let mut digests = Digests::new();
    for kind in ["families", "gguf"] {
        for entry in fs::read_dir(in_repository("../model/tests/fixtures").join(kind)).expect("fixtures") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if kind == "families" || Path::new(&name).extension().is_some_and(|extension| extension == "gguf") {
                let model = Model::open(&path.display().to_string()).expect("a fixture");
                digests.insert(format!("{kind}/{name}"), of_model(&model, 5, 70));
            }
        }
    }
    digests.insert("demo".to_owned(), of_model(&Model::open("demo").expect("the demo"), 5, 70));
    digests
}

pub fn of_smollm2() -> Digests {
    let path = in_repository(SMOLLM2);
    assert!(path.exists(), "{} is missing; scripts/fetch-model.sh fetches it", path.display());
    let model = Model::open(&path.display().to_string()).expect("the model");
    Digests::from([("SmolLM2-135M-Instruct.Q4_1.gguf".to_owned(), of_model(&model, 2, 24))])
}
