//! The floating-point types without blocks.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

/// Halves converted at a time, through an aligned buffer: files promise no alignment.
const HALVES: usize = 256;

#[inline(always)]
pub(super) fn f32(bytes: &[u8], out: &mut [f32]) {
    for (stored, value) in bytes.as_chunks::<4>().0.iter().zip(out) {
        *value = f32::from_le_bytes(*stored);
    }
}

/// With the conversion instructions of the processor where it has them.
pub(super) fn f16(bytes: &[u8], out: &mut [f32]) {
    let mut bits = [0u16; HALVES];
    for (stored, values) in bytes.chunks(2 * HALVES).zip(out.chunks_mut(HALVES)) {
        for (bits, stored) in bits.iter_mut().zip(stored.as_chunks::<2>().0) {
            *bits = u16::from_le_bytes(*stored);
        }
        bits[..values.len()].reinterpret_cast::<half::f16>().convert_to_f32_slice(values);
    }
}

#[inline(always)]
pub(super) fn bf16(bytes: &[u8], out: &mut [f32]) {
    for (stored, value) in bytes.as_chunks::<2>().0.iter().zip(out) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes(*stored)) << 16);
    }
}
