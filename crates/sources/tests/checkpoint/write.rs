//! Writes small checkpoints, byte by byte, so that tests can also write wrong ones.

use std::path::{Path, PathBuf};

/// The GGUF number of a storage type.
pub fn gguf_number(dtype: &str) -> u32 {
    let names = [
        ("F32", 0),
        ("F16", 1),
        ("Q4_0", 2),
        ("Q4_1", 3),
        ("Q5_0", 6),
        ("Q5_1", 7),
        ("Q8_0", 8),
        ("Q2_K", 10),
        ("Q3_K", 11),
        ("Q4_K", 12),
        ("Q5_K", 13),
        ("Q6_K", 14),
        ("Q8_K", 15),
        ("BF16", 30),
    ];
    names.iter().find(|(name, _)| *name == dtype).unwrap().1
}

/// A GGUF file in the making. Fields that tests falsify are public.
#[derive(Clone)]
pub struct Gguf {
    pub magic: [u8; 4],
    pub version: u32,
    pub tensor_count: Option<u64>,
    pub pair_count: Option<u64>,
    pub alignment: usize,
    pub pairs: Vec<Vec<u8>>,
    pub tensors: Vec<GgufTensor>,
    pub data: Vec<u8>,
}

#[derive(Clone)]
pub struct GgufTensor {
    pub name: String,
    /// Innermost first, as stored.
    pub dims: Vec<u64>,
    pub dtype: u32,
    pub offset: u64,
}

impl Gguf {
    pub fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            pair_count: None,
            alignment: 32,
            pairs: vec![],
            tensors: vec![],
            data: vec![],
        }
    }

    /// Adds a pair with its value already in bytes.
    pub fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.pairs.push([&text(key), &kind.to_le_bytes()[..], value].concat());
        self
    }

    pub fn text(self, key: &str, value: &str) -> Self {
        self.pair(key, 8, &text(value))
    }

    /// Adds a tensor and its data, aligned.
    pub fn tensor(mut self, name: &str, dims: &[u64], dtype: u32, data: &[u8]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(self.alignment), 0);
        let offset = self.data.len() as u64;
        self.tensors.push(GgufTensor { name: name.into(), dims: dims.into(), dtype, offset });
        self.data.extend_from_slice(data);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.magic.to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        file.extend(self.pair_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        file.extend(self.pairs.concat());
        for tensor in &self.tensors {
            file.extend(text(&tensor.name));
            file.extend((tensor.dims.len() as u32).to_le_bytes());
            file.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            file.extend(tensor.dtype.to_le_bytes());
            file.extend(tensor.offset.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(self.alignment), 0);
        file.extend(&self.data);
        file
    }

    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("model.gguf");
        std::fs::write(&path, self.bytes()).unwrap();
        path
    }
}

/// A length and the bytes of a text.
pub fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes()[..], value.as_bytes()].concat()
}

/// Little-endian bytes.
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A safetensors file of (name, dtype, shape, data).
pub fn safetensors(tensors: &[(&str, &str, &[usize], &[u8])]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = vec![];
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend_from_slice(bytes);
        header.insert(
            (*name).into(),
            serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    safetensors_raw(&serde_json::Value::Object(header).to_string(), &data)
}

/// A safetensors file with any header.
pub fn safetensors_raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}
