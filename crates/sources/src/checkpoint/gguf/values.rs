//! The key-value pairs of a GGUF header.

use std::collections::BTreeMap;

use super::cursor::{Cursor, Fault};
use crate::checkpoint::metadata::{GgufMetadata, GgufValue};

/// The least a pair takes: the length of its key, a key of no characters, a type, a value of one byte.
pub(super) const SMALLEST_PAIR: usize = 8 + 4 + 1;

/// How a value is stored, by the number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueKind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl ValueKind {
    fn from_number(number: u32, key: &str) -> Result<Self, Fault> {
        Ok(match number {
            0 => ValueKind::U8,
            1 => ValueKind::I8,
            2 => ValueKind::U16,
            3 => ValueKind::I16,
            4 => ValueKind::U32,
            5 => ValueKind::I32,
            6 => ValueKind::F32,
            7 => ValueKind::Bool,
            8 => ValueKind::Text,
            9 => ValueKind::Array,
            10 => ValueKind::U64,
            11 => ValueKind::I64,
            12 => ValueKind::F64,
            _ => {
                return Err(Fault::Malformed(format!("metadata key {key:?} has value type {number}, expected 0..=12")));
            }
        })
    }

    /// The least bytes a value of this kind takes.
    fn smallest(self) -> usize {
        match self {
            ValueKind::U8 | ValueKind::I8 | ValueKind::Bool => 1,
            ValueKind::U16 | ValueKind::I16 => 2,
            ValueKind::U32 | ValueKind::I32 | ValueKind::F32 => 4,
            ValueKind::Text | ValueKind::U64 | ValueKind::I64 | ValueKind::F64 => 8,
            ValueKind::Array => 4 + 8,
        }
    }
}

/// Reads `count` pairs.
pub(super) fn read_pairs(cursor: &mut Cursor<'_>, count: usize) -> Result<GgufMetadata, Fault> {
    let mut pairs = BTreeMap::new();
    for index in 0..count {
        let key = cursor.text(&format!("the key of metadata pair {index}"))?;
        let what = format!("the value of metadata key {key:?}");
        let kind = ValueKind::from_number(cursor.u32(&what)?, &key)?;
        let value = match kind {
            ValueKind::Array => read_array(cursor, &key, &what)?,
            _ => read_scalar(cursor, kind, &key, &what)?,
        };
        if pairs.contains_key(&key) {
            return Err(Fault::Malformed(format!("metadata key {key:?} occurs twice")));
        }
        pairs.insert(key, value);
    }
    Ok(GgufMetadata(pairs))
}

fn read_scalar(cursor: &mut Cursor<'_>, kind: ValueKind, key: &str, what: &str) -> Result<GgufValue, Fault> {
    Ok(match kind {
        ValueKind::U8 => GgufValue::Unsigned(cursor.array::<1>(what)?[0].into()),
        ValueKind::U16 => GgufValue::Unsigned(u16::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::U32 => GgufValue::Unsigned(cursor.u32(what)?.into()),
        ValueKind::U64 => GgufValue::Unsigned(cursor.u64(what)?),
        ValueKind::I8 => GgufValue::Signed(i8::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::I16 => GgufValue::Signed(i16::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::I32 => GgufValue::Signed(i32::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::I64 => GgufValue::Signed(i64::from_le_bytes(cursor.array(what)?)),
        ValueKind::F32 => GgufValue::Float(f32::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::F64 => GgufValue::Float(f64::from_le_bytes(cursor.array(what)?)),
        ValueKind::Bool => GgufValue::Bool(boolean(cursor.array::<1>(what)?[0], key)?),
        ValueKind::Text => GgufValue::Text(cursor.text(what)?),
        ValueKind::Array => return Err(nested(key)),
    })
}

fn read_array(cursor: &mut Cursor<'_>, key: &str, what: &str) -> Result<GgufValue, Fault> {
    let kind = ValueKind::from_number(cursor.u32(what)?, key)?;
    let len = cursor.u64(what)?;
    let len = cursor.count(len, kind.smallest(), what)?;
    if kind == ValueKind::Text {
        return (0..len).map(|_| cursor.text(what)).collect::<Result<_, _>>().map(GgufValue::Texts);
    }
    // `count` has checked that the product is within the file.
    let bytes = if kind == ValueKind::Array { &[] } else { cursor.bytes(len * kind.smallest(), what)? };
    Ok(match kind {
        ValueKind::U8 => GgufValue::Integers(bytes.iter().map(|&b| b.into()).collect()),
        ValueKind::I8 => GgufValue::Integers(bytes.iter().map(|&b| (b as i8).into()).collect()),
        ValueKind::U16 => GgufValue::Integers(each(bytes, |b| u16::from_le_bytes(b).into())),
        ValueKind::I16 => GgufValue::Integers(each(bytes, |b| i16::from_le_bytes(b).into())),
        ValueKind::U32 => GgufValue::Integers(each(bytes, |b| u32::from_le_bytes(b).into())),
        ValueKind::I32 => GgufValue::Integers(each(bytes, |b| i32::from_le_bytes(b).into())),
        ValueKind::I64 => GgufValue::Integers(each(bytes, i64::from_le_bytes)),
        ValueKind::U64 => GgufValue::Integers(
            each(bytes, |b| i64::try_from(u64::from_le_bytes(b)).ok())
                .into_iter()
                .collect::<Option<_>>()
                .ok_or_else(|| Fault::Unsupported(format!("metadata key {key:?} holds an integer beyond 2^63 - 1")))?,
        ),
        ValueKind::F32 => GgufValue::Floats(each(bytes, |b| f32::from_le_bytes(b).into())),
        ValueKind::F64 => GgufValue::Floats(each(bytes, f64::from_le_bytes)),
        ValueKind::Bool => GgufValue::Bools(bytes.iter().map(|&b| boolean(b, key)).collect::<Result<_, _>>()?),
        ValueKind::Text | ValueKind::Array => return Err(nested(key)),
    })
}

fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|item| read(*item)).collect()
}

fn boolean(byte: u8, key: &str) -> Result<bool, Fault> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::Malformed(format!("metadata key {key:?} holds the boolean {byte}, expected 0 or 1"))),
    }
}

fn nested(key: &str) -> Fault {
    Fault::Unsupported(format!(
        "metadata key {key:?} is an array of arrays; arrays of numbers, booleans and text are read"
    ))
}
