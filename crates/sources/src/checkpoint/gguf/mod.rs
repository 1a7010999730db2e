//! GGUF files, versions 2 and 3, little-endian: a header of key-value pairs, a directory of tensors, then their data.
//!
//! The header is parsed from the mapped file with every length checked before use, so that no file, however damaged,
//! makes the parser panic, read out of bounds, or allocate more than a small multiple of the file's size.

mod cursor;
mod directory;
mod values;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::mapping::Mapping;
use super::metadata::GgufMetadata;
use super::tensor::Tensor;
use crate::SourceError;
use cursor::{Cursor, Fault};

pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// Reads the header of a GGUF file and locates its tensors.
///
/// # Errors
/// If the file cannot be mapped, is not GGUF, is damaged, or holds what this program does not read.
pub(super) fn open(path: &Path) -> Result<(GgufMetadata, BTreeMap<String, Tensor>), SourceError> {
    let mapping = Arc::new(Mapping::open(path)?);
    let header = parse(mapping.bytes()).map_err(|fault| fault.into_error(path))?;
    let tensors = header
        .tensors
        .into_iter()
        .map(|entry| {
            let tensor = Tensor::new(&entry.name, entry.dtype, entry.shape, mapping.clone(), entry.start);
            (entry.name, tensor)
        })
        .collect();
    mapping.release(0..header.data_start);
    Ok((header.metadata, tensors))
}

/// What stands before the data.
struct Header {
    metadata: GgufMetadata,
    tensors: Vec<directory::Entry>,
    data_start: usize,
}

fn parse(file: &[u8]) -> Result<Header, Fault> {
    let mut cursor = Cursor::new(file);
    check_magic(&mut cursor)?;
    check_version(&mut cursor)?;
    let tensor_count = cursor.u64("the tensor count")?;
    let pair_count = cursor.u64("the metadata count")?;
    let tensor_count = cursor.count(tensor_count, directory::SMALLEST_ENTRY, "tensors")?;
    let pair_count = cursor.count(pair_count, values::SMALLEST_PAIR, "metadata pairs")?;
    let metadata = values::read_pairs(&mut cursor, pair_count)?;
    refuse_split(&metadata)?;
    let alignment = alignment(&metadata)?;
    let (tensors, data_start) = directory::read(&mut cursor, tensor_count, alignment)?;
    Ok(Header { metadata, tensors, data_start })
}

fn check_magic(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    let magic = cursor.array::<4>("the magic")?;
    if magic == MAGIC {
        return Ok(());
    }
    Err(Fault::Malformed(format!(
        "is not a GGUF file: it starts with the bytes {magic:02x?}, expected 47 47 55 46 (\"GGUF\")"
    )))
}

fn check_version(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    match cursor.u32("the version")? {
        2 | 3 => Ok(()),
        1 => Err(Fault::Unsupported("GGUF version 1 is not read; convert the file to version 3".into())),
        swapped if matches!(swapped.swap_bytes(), 1..=3) => {
            Err(Fault::Unsupported("is a big-endian GGUF file; only little-endian ones are read".into()))
        }
        version => Err(Fault::Unsupported(format!("GGUF version {version} is not read; versions 2 and 3 are"))),
    }
}

/// 0 is what merging leaves behind.
fn refuse_split(metadata: &GgufMetadata) -> Result<(), Fault> {
    const KEY: &str = "split.count";
    let Some(value) = metadata.0.get(KEY) else { return Ok(()) };
    match metadata.unsigned(KEY) {
        Some(0 | 1) => Ok(()),
        Some(parts) => Err(Fault::Unsupported(format!(
            "is one of {parts} parts of a split GGUF file ({KEY}); merge them first (llama-gguf-split --merge)"
        ))),
        None => Err(Fault::Malformed(format!(
            "{KEY}, the number of parts of a split file, is {value:?}, expected a number"
        ))),
    }
}

fn alignment(metadata: &GgufMetadata) -> Result<usize, Fault> {
    const KEY: &str = "general.alignment";
    const DEFAULT: usize = 32;
    if !metadata.0.contains_key(KEY) {
        return Ok(DEFAULT);
    }
    metadata
        .unsigned(KEY)
        .and_then(|value| usize::try_from(value).ok())
        .filter(|value| value.is_power_of_two())
        .ok_or_else(|| Fault::Malformed(format!("{KEY} is {:?}, expected a power of two", metadata.0[KEY])))
}
