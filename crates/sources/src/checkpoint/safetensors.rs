//! One safetensors file. The `safetensors` crate reads the header and checks that the tensors fill the data without
//! gaps or overlaps; here they are located and their types judged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::{Dtype as Stored, SafeTensorError, SafeTensors};

use super::dtype::DType;
use super::mapping::Mapping;
use super::tensor::Tensor;
use crate::SourceError;

/// The tensors of a file.
pub(super) struct Contents {
    /// Those that can be decoded.
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// Integers and booleans: not weights, but buffers such as causal masks, which some families store. By name,
    /// with the type.
    pub(super) buffers: BTreeMap<String, String>,
}

/// Reads the header of a safetensors file.
///
/// # Errors
/// If the file cannot be mapped, is damaged, or holds floating-point tensors of a type that is not supported.
pub(super) fn open(path: &Path) -> Result<Contents, SourceError> {
    read(&Arc::new(Mapping::open(path)?))
}

/// Reads the header of a file's content.
///
/// # Errors
/// As [`open`].
pub(super) fn read(mapping: &Arc<Mapping>) -> Result<Contents, SourceError> {
    let path = mapping.path();
    let bytes = mapping.bytes();
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(SourceError::malformed(path, "is a Git LFS pointer, not the weights; run `git lfs pull`"));
    }
    if let Some((tensor, end, data_len)) = beyond_the_end(bytes) {
        let reason = format!("ends at byte {end} of the data, which holds {data_len} bytes; the file is truncated");
        return Err(SourceError::tensor(path, tensor, reason));
    }
    let (header_len, header) =
        SafeTensors::read_metadata(bytes).map_err(|e| SourceError::malformed(path, explain(&e, bytes)))?;
    let data_start = LENGTH_BYTES + header_len;
    let mut contents = Contents { tensors: BTreeMap::new(), buffers: BTreeMap::new() };
    for (name, info) in header.tensors() {
        match judge(info.dtype) {
            Kind::Weights(dtype) => {
                let start = data_start + info.data_offsets.0;
                let tensor = Tensor::new(&name, dtype, info.shape.clone(), mapping.clone(), start);
                contents.tensors.insert(name, tensor);
            }
            Kind::Buffer => {
                contents.buffers.insert(name, info.dtype.to_string());
            }
            Kind::Unsupported => {
                let reason = format!("is stored as {}; supported are F32, F16 and BF16", info.dtype);
                return Err(SourceError::tensor(path, name, reason));
            }
        }
    }
    mapping.release(0..data_start);
    Ok(contents)
}

/// The file starts with the length of the header, a u64.
const LENGTH_BYTES: usize = 8;

enum Kind {
    Weights(DType),
    Buffer,
    Unsupported,
}

fn judge(stored: Stored) -> Kind {
    match stored {
        Stored::F32 => Kind::Weights(DType::F32),
        Stored::F16 => Kind::Weights(DType::F16),
        Stored::BF16 => Kind::Weights(DType::Bf16),
        Stored::BOOL
        | Stored::U8
        | Stored::I8
        | Stored::U16
        | Stored::I16
        | Stored::U32
        | Stored::I32
        | Stored::U64
        | Stored::I64 => Kind::Buffer,
        _ => Kind::Unsupported,
    }
}

/// A tensor that the header places beyond the end of the file, with its end and the length of the data there is. Looked for
/// first: the crate's own check adds the offsets up without regard to overflow. A header that makes no sense is left
/// for the crate to refuse.
fn beyond_the_end(file: &[u8]) -> Option<(String, u64, u64)> {
    let (length, rest) = file.split_first_chunk::<LENGTH_BYTES>()?;
    let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    header.into_iter().find_map(|(name, info)| {
        let end = info.get("data_offsets")?.get(1)?.as_u64()?;
        (end > data.len() as u64).then_some((name, end, data.len() as u64))
    })
}

/// What is wrong with a file, with the numbers that the crate's error lacks.
fn explain(error: &SafeTensorError, file: &[u8]) -> String {
    let header_len = file.first_chunk::<LENGTH_BYTES>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let file_len = file.len();
    match error {
        SafeTensorError::HeaderTooSmall => {
            format!("holds {file_len} bytes, too few for a safetensors header; the file is truncated")
        }
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => format!(
            "announces a header of {header_len} bytes in a file of {file_len}; the file is truncated, or is not safetensors"
        ),
        SafeTensorError::MetadataIncompleteBuffer => format!(
            "holds {file_len} bytes, other than its header and the tensors it describes take; the file is truncated or damaged"
        ),
        SafeTensorError::InvalidHeader(_)
        | SafeTensorError::InvalidHeaderDeserialization(_)
        | SafeTensorError::JsonError(_) => {
            format!("has a header that cannot be read ({error}); the file is damaged, or is not safetensors")
        }
        SafeTensorError::InvalidOffset(name) => {
            format!("tensor {name:?} has data offsets that leave a gap, overlap another tensor, or run backwards")
        }
        other => format!("has a header that is not valid: {other}"),
    }
}
