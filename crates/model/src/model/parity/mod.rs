//! The streamed pass against `transformers`: tiny random models of every family (`tests/fixtures`), and what must not
//! change its results. These tests stand inside the crate because they switch off what a family consists of.

mod confirmed;
mod continuations;
mod families;
mod gguf;
mod invariance;
mod mechanisms;
mod recording;

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::model::Model;
use crate::pass::Pass;
use recording::Recording;
use sinkscope_sources::checkpoint::Checkpoint;
use sinkscope_sources::data::TokenBatch;

/// One group, however large.
const PLENTY: u64 = 1 << 40;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A Hugging Face fixture and what `transformers` computes from it.
fn family(name: &str) -> (Model, Expected) {
    let folder = fixtures().join("families").join(name);
    let checkpoint = Checkpoint::open_path(&folder).expect("a fixture");
    (Model::from_checkpoint(checkpoint).expect(name), Expected::read(&folder.join("expected.safetensors")))
}

/// The tensors of an `expected.safetensors`.
struct Expected(Vec<u8>);

impl Expected {
    fn read(path: &Path) -> Self {
        Self(std::fs::read(path).expect("a fixture"))
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let file = SafeTensors::deserialize(&self.0).expect("safetensors");
        let tensor = file.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
        (tensor.shape().to_vec(), tensor.data().to_vec())
    }

    /// What the file says of itself under `key`.
    fn metadata(&self, key: &str) -> Option<String> {
        let (_, header) = SafeTensors::read_metadata(&self.0).expect("safetensors");
        header.metadata().as_ref()?.get(key).cloned()
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.tensor(name).1.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    /// The tokens stored under `name`.
    fn batch(&self, name: &str) -> TokenBatch {
        let (shape, bytes) = self.tensor(name);
        TokenBatch {
            tokens: bytes.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes) as u32).collect(),
            sequences: shape[0],
            seq_len: shape[1],
        }
    }
}

/// Everything the pass shows of a batch.
fn record(model: &Model, batch: &TokenBatch) -> Recording {
    let mut recording = Recording::new(model.architecture(), batch);
    Pass::new(model, PLENTY).run(batch, &mut [&mut recording]).expect("a pass");
    recording
}

/// The largest difference of logits, as a share of the range of the expected ones.
fn logit_difference(ours: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(ours.len(), expected.len());
    let (least, most) = expected.iter().fold((f32::MAX, f32::MIN), |(a, b), &x| (a.min(x), b.max(x)));
    largest_difference(ours, expected) / f64::from(most - least)
}

fn largest_difference(ours: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(ours.len(), expected.len());
    // A NaN must not pass for agreement.
    ours.iter()
        .zip(expected)
        .map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, |largest, difference| if difference <= largest { largest } else { difference })
}

/// The largest relative distance (l2) of rows.
fn row_difference(ours: &[f32], expected: &[f32], width: usize) -> f64 {
    assert_eq!(ours.len(), expected.len());
    let norm = |row: &mut dyn Iterator<Item = f64>| row.map(|x| x * x).sum::<f64>().sqrt();
    let mut largest = 0.0;
    for (ours, expected) in ours.chunks_exact(width).zip(expected.chunks_exact(width)) {
        let distance = norm(&mut ours.iter().zip(expected).map(|(a, b)| f64::from(a - b)));
        let relative = distance / norm(&mut expected.iter().map(|&x| f64::from(x)));
        largest = if relative <= largest { largest } else { relative };
    }
    largest
}
