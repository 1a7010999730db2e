//! Tensors to safetensors, a piece at a time with the checksum of the file on the way, and back.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo, TensorView};
use sinkscope_model::parameters::StoredTensor;

use super::directory;
use crate::LabError;

/// Values converted at a time.
const PIECE: usize = 1 << 14;
/// Bytes of a value.
const WIDTH: usize = size_of::<f32>();

/// Writes and syncs a file of tensors in the order of their names; gives its SHA-256.
pub(super) fn write(path: &Path, tensors: &[StoredTensor<'_>]) -> Result<String, LabError> {
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by(|a, b| a.name.cmp(&b.name));
    let header = header(path, &ordered)?;
    directory::write_hashed(path, |writer| {
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        let mut bytes = Vec::with_capacity(PIECE * WIDTH);
        for piece in ordered.iter().flat_map(|tensor| tensor.values.chunks(PIECE)) {
            bytes.clear();
            bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
            writer.write_all(&bytes)?;
        }
        Ok(())
    })
}

/// Names, shapes and places of tensors, padded so that values are aligned.
fn header(path: &Path, tensors: &[&StoredTensor<'_>]) -> Result<Vec<u8>, LabError> {
    let refused = |reason: String| LabError::Request(format!("{} cannot be written: {reason}", path.display()));
    let mut names = BTreeSet::new();
    let mut end = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let StoredTensor { name, shape, values } = tensor;
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

/// Reads a file of f32 tensors, if its SHA-256 is the one expected: tensors in the order of their names.
pub(super) fn read(path: &Path, expected: &str) -> Result<Vec<StoredTensor<'static>>, LabError> {
    let content = directory::read(path, expected)?;
    let damaged = |error| LabError::malformed(path, format!("the header is damaged: {error}"));
    let mut stored = SafeTensors::deserialize(&content).map_err(damaged)?.tensors();
    stored.sort_by(|a, b| a.0.cmp(&b.0));
    let tensor = |(name, view): (String, TensorView<'_>)| {
        if view.dtype() != Dtype::F32 {
            let reason = format!("tensor {name} is {:?}; a checkpoint holds F32", view.dtype());
            return Err(LabError::malformed(path, reason));
        }
        let (words, _) = view.data().as_chunks::<WIDTH>();
        let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        Ok(StoredTensor::new(name, view.shape(), values))
    };
    stored.into_iter().map(tensor).collect()
}
