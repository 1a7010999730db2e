//! Tensors to safetensors and back, a piece at a time, with the checksum of the file on the way.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use sha2::{Digest, Sha256};

use super::NamedTensor;
use super::directory::{HashingWriter, wrong_digest};
use crate::LabError;

/// Values converted at a time.
const PIECE: usize = 1 << 14;
/// Longest header that the format allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;
/// Bytes of a value.
const WIDTH: usize = size_of::<f32>();

/// Writes and syncs a file of tensors in the order of their names; gives its SHA-256.
pub(super) fn write(path: &Path, tensors: &[NamedTensor<'_>]) -> Result<String, LabError> {
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by(|a, b| a.name.cmp(&b.name));
    let header = header(path, &ordered)?;
    let write = || -> io::Result<String> {
        let mut writer = HashingWriter::create(path)?;
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        let mut bytes = Vec::with_capacity(PIECE * WIDTH);
        for piece in ordered.iter().flat_map(|tensor| tensor.values.chunks(PIECE)) {
            bytes.clear();
            bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
            writer.write_all(&bytes)?;
        }
        writer.finish()
    };
    write().map_err(|error| LabError::io(path, error))
}

/// Names, shapes and places of tensors, padded so that values are aligned.
fn header(path: &Path, tensors: &[&NamedTensor<'_>]) -> Result<Vec<u8>, LabError> {
    let refused = |reason: String| LabError::Request(format!("{} cannot be written: {reason}", path.display()));
    let mut names = BTreeSet::new();
    let mut end = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let NamedTensor { name, shape, values } = tensor;
        if name == "__metadata__" || !names.insert(name) {
            return Err(refused(format!("a tensor cannot have the name {name}, or not two of them")));
        }
        if shape.iter().product::<usize>() != values.len() {
            return Err(refused(format!("tensor {name} has shape {shape:?} and {} values", values.len())));
        }
        let begin = end;
        end += values.len() * WIDTH;
        infos.push((name.clone(), TensorInfo { dtype: Dtype::F32, shape: shape.clone(), data_offsets: (begin, end) }));
    }
    // One entry: a hash map has an order of its own only from two on.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos).map_err(|error| refused(error.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| refused(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// Reads a file of f32 tensors, if its SHA-256 is the one expected.
pub(super) fn read(path: &Path, expected: &str) -> Result<Vec<NamedTensor<'static>>, LabError> {
    let file = File::open(path).map_err(|error| LabError::io(path, error))?;
    let length = file.metadata().map_err(|error| LabError::io(path, error))?.len();
    let mut reader = TensorFile { path, input: BufReader::with_capacity(1 << 20, file), hasher: Sha256::new() };
    let metadata = reader.header(length)?;
    let tensors = reader.tensors(&metadata)?;
    let found = hex::encode(reader.hasher.finalize());
    if found == expected { Ok(tensors) } else { Err(wrong_digest(path, &found, expected)) }
}

/// A file of tensors being read.
struct TensorFile<'a> {
    path: &'a Path,
    input: BufReader<File>,
    hasher: Sha256,
}

impl TensorFile<'_> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LabError> {
        self.input.read_exact(bytes).map_err(|error| LabError::io(self.path, error))?;
        self.hasher.update(&bytes);
        Ok(())
    }

    /// The header of a file of `length` bytes, checked against that length before anything is allocated.
    fn header(&mut self, length: u64) -> Result<Metadata, LabError> {
        let damaged = |reason: String| LabError::malformed(self.path, reason);
        if length < 8 {
            return Err(damaged(format!("{length} bytes are too few for a safetensors file")));
        }
        let mut size = [0; 8];
        self.fill(&mut size)?;
        let size = u64::from_le_bytes(size);
        if size > LONGEST_HEADER.min(length - 8) {
            return Err(LabError::malformed(self.path, format!("a header of {size} bytes does not fit in {length}")));
        }
        let mut header = vec![0; size as usize];
        self.fill(&mut header)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| LabError::malformed(self.path, format!("the header is damaged: {error}")))?;
        let right = 8 + size + metadata.data_len() as u64;
        if right != length {
            let reason = format!("it has {length} bytes, and its header describes {right}");
            return Err(LabError::malformed(self.path, reason));
        }
        Ok(metadata)
    }

    fn tensors(&mut self, metadata: &Metadata) -> Result<Vec<NamedTensor<'static>>, LabError> {
        let mut bytes = vec![0; PIECE * WIDTH];
        let mut tensors = Vec::new();
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            if info.dtype != Dtype::F32 {
                let reason = format!("tensor {name} is {:?}; a checkpoint holds F32", info.dtype);
                return Err(LabError::malformed(self.path, reason));
            }
            let mut left = (info.data_offsets.1 - info.data_offsets.0) / WIDTH;
            let mut values = Vec::with_capacity(left);
            while left > 0 {
                let piece = left.min(PIECE);
                self.fill(&mut bytes[..piece * WIDTH])?;
                let (words, _) = bytes[..piece * WIDTH].as_chunks::<WIDTH>();
                values.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
                left -= piece;
            }
            tensors.push(NamedTensor::new(name, info.shape.clone(), values));
        }
        Ok(tensors)
    }
}
