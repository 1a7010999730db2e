//! GGUF files, whose names, orders of rows and keys `transformers` reads by its own code.

use super::{Expected, fixtures, logit_difference, record};
use crate::model::Model;

/// Compares a file, and gives its family.
pub fn agrees(name: &str) -> String {
    let folder = fixtures().join("gguf");
    let path = folder.join(format!("{name}.gguf"));
    let model = Model::open(&path.to_string_lossy()).expect(name);
    let expected = Expected::read(&folder.join(format!("{name}.expected.safetensors")));
    let recording = record(&model, &expected.batch("tokens"));
    let difference = logit_difference(&recording.logits, &expected.values("logits"));
    println!("{name}: {difference:.1e}");
    assert!(difference <= 1e-4, "{name}: logits off by {difference:e} of their range");
    model.architecture().family.clone()
}

macro_rules! files {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            agrees(stringify!($name));
        })*
    };
}

files!(llama, llama3, llama_yarn, qwen2, qwen2_linear, qwen3, qwen3_yarn, phi3, phi3_longrope, gemma2, gemma3, gpt2);
