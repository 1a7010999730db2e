//! The key-value pairs of a GGUF header.

use std::collections::BTreeMap;

use super::cursor::{Cursor, Fault};
use crate::checkpoint::metadata::{GgufMetadata, GgufValue};

/// The least a pair takes: the length of its key, a key of no characters, a type, a value of one byte.
pub(super) const SMALLEST_PAIR: usize = 8 + 4 + 1;

/// How a value is stored, by the number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
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

impl Kind {
    fn from_number(number: u32, key: &str) -> Result<Self, Fault> {
        Ok(match number {
            0 => Kind::U8,
            1 => Kind::I8,
            2 => Kind::U16,
            3 => Kind::I16,
            4 => Kind::U32,
            5 => Kind::I32,
            6 => Kind::F32,
            7 => Kind::Bool,
            8 => Kind::Text,
            9 => Kind::Array,
            10 => Kind::U64,
            11 => Kind::I64,
            12 => Kind::F64,
            _ => {
                return Err(Fault::Malformed(format!("metadata key {key:?} has value type {number}, expected 0..=12")));
            }
        })
    }

    /// The least bytes a value of this kind takes.
    fn smallest(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::Text | Kind::U64 | Kind::I64 | Kind::F64 => 8,
            Kind::Array => 4 + 8,
        }
    }
}

/// Reads `count` pairs.
pub(super) fn read_pairs(cursor: &mut Cursor<'_>, count: usize) -> Result<GgufMetadata, Fault> {
    let mut pairs = BTreeMap::new();
    for index in 0..count {
        let key = cursor.text(&format!("the key of metadata pair {index}"))?;
        let what = format!("the value of metadata key {key:?}");
        let kind = Kind::from_number(cursor.u32(&what)?, &key)?;
        let value = match kind {
            Kind::Array => read_array(cursor, &key, &what)?,
            _ => read_scalar(cursor, kind, &key, &what)?,
        };
        if pairs.contains_key(&key) {
            return Err(Fault::Malformed(format!("metadata key {key:?} occurs twice")));
        }
        pairs.insert(key, value);
    }
    Ok(GgufMetadata(pairs))
}

fn read_scalar(cursor: &mut Cursor<'_>, kind: Kind, key: &str, what: &str) -> Result<GgufValue, Fault> {
    Ok(match kind {
        Kind::U8 => GgufValue::Unsigned(cursor.array::<1>(what)?[0].into()),
        Kind::U16 => GgufValue::Unsigned(u16::from_le_bytes(cursor.array(what)?).into()),
        Kind::U32 => GgufValue::Unsigned(cursor.u32(what)?.into()),
        Kind::U64 => GgufValue::Unsigned(cursor.u64(what)?),
        Kind::I8 => GgufValue::Signed(i8::from_le_bytes(cursor.array(what)?).into()),
        Kind::I16 => GgufValue::Signed(i16::from_le_bytes(cursor.array(what)?).into()),
        Kind::I32 => GgufValue::Signed(i32::from_le_bytes(cursor.array(what)?).into()),
        Kind::I64 => GgufValue::Signed(i64::from_le_bytes(cursor.array(what)?)),
        Kind::F32 => GgufValue::Float(f32::from_le_bytes(cursor.array(what)?).into()),
        Kind::F64 => GgufValue::Float(f64::from_le_bytes(cursor.array(what)?)),
        Kind::Bool => GgufValue::Bool(boolean(cursor.array::<1>(what)?[0], key)?),
        Kind::Text => GgufValue::Text(cursor.text(what)?),
        Kind::Array => return Err(nested(key)),
    })
}

fn read_array(cursor: &mut Cursor<'_>, key: &str, what: &str) -> Result<GgufValue, Fault> {
    let kind = Kind::from_number(cursor.u32(what)?, key)?;
    let len = cursor.u64(what)?;
    let len = cursor.count(len, kind.smallest(), what)?;
    if kind == Kind::Text {
        return (0..len).map(|_| cursor.text(what)).collect::<Result<_, _>>().map(GgufValue::Texts);
    }
    // `count` has checked that the product is within the file.
    let bytes = if kind == Kind::Array { &[] } else { cursor.bytes(len * kind.smallest(), what)? };
    Ok(match kind {
        Kind::U8 => GgufValue::Integers(bytes.iter().map(|&b| b.into()).collect()),
        Kind::I8 => GgufValue::Integers(bytes.iter().map(|&b| (b as i8).into()).collect()),
        Kind::U16 => GgufValue::Integers(each(bytes, |b| u16::from_le_bytes(b).into())),
        Kind::I16 => GgufValue::Integers(each(bytes, |b| i16::from_le_bytes(b).into())),
        Kind::U32 => GgufValue::Integers(each(bytes, |b| u32::from_le_bytes(b).into())),
        Kind::I32 => GgufValue::Integers(each(bytes, |b| i32::from_le_bytes(b).into())),
        Kind::I64 => GgufValue::Integers(each(bytes, i64::from_le_bytes)),
        Kind::U64 => GgufValue::Integers(
            each(bytes, |b| i64::try_from(u64::from_le_bytes(b)).ok())
                .into_iter()
                .collect::<Option<_>>()
                .ok_or_else(|| Fault::Unsupported(format!("metadata key {key:?} holds an integer beyond 2^63 - 1")))?,
        ),
        Kind::F32 => GgufValue::Floats(each(bytes, |b| f32::from_le_bytes(b).into())),
        Kind::F64 => GgufValue::Floats(each(bytes, f64::from_le_bytes)),
        Kind::Bool => GgufValue::Bools(bytes.iter().map(|&b| boolean(b, key)).collect::<Result<_, _>>()?),
        Kind::Text | Kind::Array => return Err(nested(key)),
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
