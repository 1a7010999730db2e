//! A GGUF file to be changed.

use std::collections::BTreeMap;

use sinkscope_model::architecture::Architecture;
use sinkscope_model::{Model, ModelError};
use sinkscope_sources::checkpoint::{Checkpoint, GgufValue, Metadata, Tensor};

use crate::write::{Gguf, f32_bytes, text};

/// A fixture whose keys and tensors can be changed.
#[derive(Clone)]
pub struct File {
    pub family: String,
    pub keys: BTreeMap<String, GgufValue>,
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl File {
    pub fn read(name: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gguf");
        let checkpoint = Checkpoint::open_path(format!("{folder}/{name}.gguf").as_ref()).expect(name);
        let Metadata::Gguf(metadata) = checkpoint.metadata() else { panic!("{name} is a GGUF file") };
        let tensor =
            |tensor: &Tensor| (tensor.name().to_owned(), (tensor.shape().to_vec(), tensor.decode().expect("finite")));
        let family = metadata.text("general.architecture").expect("named").to_owned();
        Self { family, keys: metadata.0.clone(), tensors: checkpoint.tensors().map(tensor).collect() }
    }

    /// With a key of the architecture.
    pub fn with(mut self, key: &str, value: GgufValue) -> Self {
        self.keys.insert(format!("{}.{key}", self.family), value);
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.keys.remove(&format!("{}.{key}", self.family));
        self
    }

    pub fn with_tensor(mut self, name: &str, shape: &[usize]) -> Self {
        self.tensors.insert(name.to_owned(), (shape.to_vec(), vec![0.5; shape.iter().product()]));
        self
    }

    pub fn open(&self) -> Result<Architecture, ModelError> {
        Ok(self.model(&[])?.architecture().clone())
    }

    pub fn model(&self, allowed: &[String]) -> Result<Model, ModelError> {
        let mut file = Gguf::new();
        for (key, value) in &self.keys {
            let (kind, bytes) = encoded(value);
            file = file.pair(key, kind, &bytes);
        }
        for (name, (shape, values)) in &self.tensors {
            let dims: Vec<u64> = shape.iter().rev().map(|&dim| dim as u64).collect();
            file = file.tensor(name, &dims, 0, &f32_bytes(values));
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = file.write(folder.path());
        Model::from_checkpoint_allowing(Checkpoint::open_path(&path)?, allowed)
    }

    /// Asserts that the file is refused with a message that holds all of `parts`, and the file's name.
    pub fn refused(&self, parts: &[&str]) {
        let message = match self.open() {
            Ok(_) => panic!("{} is not refused for {parts:?}", self.family),
            Err(error) => error.to_string(),
        };
        for part in ["model.gguf"].iter().chain(parts) {
            assert!(message.contains(part), "{part:?} not in {message:?}");
        }
    }
}

/// The number of a value's type, and its bytes.
fn encoded(value: &GgufValue) -> (u32, Vec<u8>) {
    let array = |kind: u32, len: usize, items: Vec<u8>| {
        (9, [&kind.to_le_bytes()[..], &(len as u64).to_le_bytes(), &items].concat())
    };
    match value {
        GgufValue::Unsigned(v) => (10, v.to_le_bytes().to_vec()),
        GgufValue::Signed(v) => (11, v.to_le_bytes().to_vec()),
        GgufValue::Float(v) => (6, (*v as f32).to_le_bytes().to_vec()),
        GgufValue::Bool(v) => (7, vec![u8::from(*v)]),
        GgufValue::Text(v) => (8, text(v)),
        GgufValue::Integers(v) => array(11, v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        GgufValue::Floats(v) => array(12, v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        GgufValue::Bools(v) => array(7, v.len(), v.iter().map(|&v| u8::from(v)).collect()),
        GgufValue::Texts(v) => array(8, v.len(), v.iter().flat_map(|v| text(v)).collect()),
    }
}

pub fn number(value: u64) -> GgufValue {
    GgufValue::Unsigned(value)
}

pub fn word(value: &str) -> GgufValue {
    GgufValue::Text(value.to_owned())
}
