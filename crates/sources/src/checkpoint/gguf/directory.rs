//! The tensor directory of a GGUF header: what is where, and whether it can be.

use super::cursor::{Cursor, Fault};
use crate::checkpoint::dtype::DType;

/// The least an entry takes: the length of a name of no characters, the number of dimensions, one of them, the type, the offset.
pub(super) const SMALLEST_ENTRY: usize = 8 + 4 + 8 + 4 + 8;

/// A tensor, its place checked.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: DType,
    /// Outermost first.
    pub(super) shape: Vec<usize>,
    /// First byte in the file.
    pub(super) start: usize,
    /// Size in bytes.
    bytes: usize,
}

/// Reads `count` entries and checks that their data is aligned, within the file, and not shared. Gives also the start
/// of the data.
pub(super) fn read(cursor: &mut Cursor<'_>, count: usize, alignment: usize) -> Result<(Vec<Entry>, usize), Fault> {
    let mut entries = Vec::with_capacity(count);
    for index in 0..count {
        entries.push(read_entry(cursor, index, alignment)?);
    }
    let data_start = cursor
        .position()
        .checked_next_multiple_of(alignment)
        .ok_or_else(|| Fault::Malformed(format!("general.alignment of {alignment} is beyond any file")))?;
    for entry in &mut entries {
        place(entry, data_start, cursor.file_len())?;
    }
    refuse_duplicates(&mut entries)?;
    refuse_overlaps(&mut entries)?;
    Ok((entries, data_start))
}

/// Reads one entry; its `start` is relative to the data as yet.
fn read_entry(cursor: &mut Cursor<'_>, index: usize, alignment: usize) -> Result<Entry, Fault> {
    let name = cursor.text(&format!("the name of tensor {index}"))?;
    let what = format!("the directory entry of tensor {name:?}");
    let dims = cursor.u32(&what)?;
    if !(1..=4).contains(&dims) {
        return Err(Fault::Malformed(format!("tensor {name:?} has {dims} dimensions, expected 1 to 4")));
    }
    let mut shape = Vec::new();
    for _ in 0..dims {
        let dim = cursor.u64(&what)?;
        shape.push(usize::try_from(dim).map_err(|_| too_large(&name, &[dim]))?);
    }
    shape.reverse();
    let dtype = dtype(cursor.u32(&what)?, &name)?;
    let offset = cursor.u64(&what)?;
    let bytes = shape
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .and_then(|values| dtype.bytes(values))
        .ok_or_else(|| too_large(&name, &shape))?;
    let row_len = shape.last().copied().unwrap_or(1);
    if row_len % dtype.block_len() != 0 {
        return Err(Fault::Malformed(format!(
            "tensor {name:?} has rows of {row_len} values, expected a multiple of {}, the block of {dtype}",
            dtype.block_len()
        )));
    }
    let start = usize::try_from(offset).ok().filter(|start| start % alignment == 0).ok_or_else(|| {
        Fault::Malformed(format!(
            "tensor {name:?} is at offset {offset}, expected a multiple of the alignment {alignment}"
        ))
    })?;
    Ok(Entry { name, dtype, shape, start, bytes })
}

fn too_large(name: &str, shape: &[impl std::fmt::Debug]) -> Fault {
    Fault::Malformed(format!("tensor {name:?} has the shape {shape:?}, whose size overflows"))
}

/// Makes `start` relative to the file and checks the bounds.
fn place(entry: &mut Entry, data_start: usize, file_len: usize) -> Result<(), Fault> {
    let start = data_start.checked_add(entry.start);
    match start.and_then(|start| start.checked_add(entry.bytes)) {
        Some(end) if end <= file_len => {
            entry.start += data_start;
            Ok(())
        }
        _ => Err(Fault::Malformed(format!(
            "tensor {:?} needs {} bytes at offset {} after the header of {data_start}, beyond the end of the file at \
             {file_len}; the file is truncated or damaged",
            entry.name, entry.bytes, entry.start
        ))),
    }
}

fn refuse_duplicates(entries: &mut [Entry]) -> Result<(), Fault> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    match entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(Fault::Malformed(format!("tensor {:?} occurs twice", pair[0].name))),
        None => Ok(()),
    }
}

fn refuse_overlaps(entries: &mut [Entry]) -> Result<(), Fault> {
    entries.sort_by_key(|entry| (entry.start, entry.bytes));
    match entries.windows(2).find(|pair| pair[0].start + pair[0].bytes > pair[1].start) {
        Some(pair) => Err(Fault::Malformed(format!(
            "tensors {:?} (bytes {}..{}) and {:?} (from byte {}) overlap",
            pair[0].name,
            pair[0].start,
            pair[0].start + pair[0].bytes,
            pair[1].name,
            pair[1].start
        ))),
        None => Ok(()),
    }
}

/// The storage type of a number in the file.
fn dtype(number: u32, tensor: &str) -> Result<DType, Fault> {
    Ok(match number {
        0 => DType::F32,
        1 => DType::F16,
        2 => DType::Q4_0,
        3 => DType::Q4_1,
        6 => DType::Q5_0,
        7 => DType::Q5_1,
        8 => DType::Q8_0,
        10 => DType::Q2K,
        11 => DType::Q3K,
        12 => DType::Q4K,
        13 => DType::Q5K,
        14 => DType::Q6K,
        15 => DType::Q8K,
        30 => DType::Bf16,
        _ => {
            let name = foreign_name(number).map_or(String::new(), |name| format!(" ({name})"));
            let supported: Vec<_> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
            return Err(Fault::Unsupported(format!(
                "tensor {tensor:?} has type {number}{name}, which is not supported; supported are {}",
                supported.join(", ")
            )));
        }
    })
}

/// What ggml calls a type that is not supported.
fn foreign_name(number: u32) -> Option<&'static str> {
    Some(match number {
        4 => "Q4_2, removed from the format",
        5 => "Q4_3, removed from the format",
        9 => "Q8_1",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31..=33 => "Q4_0 repacked, removed from the format",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36..=38 => "IQ4_NL repacked, removed from the format",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        _ => return None,
    })
}
