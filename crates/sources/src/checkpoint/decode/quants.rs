//! The GGUF types with blocks of 32 values: one f16 scale, for the `_1` types one f16 minimum, then the 5th bits if
//! there are any, then 16 bytes whose low nibbles are values 0..16 and whose high nibbles are values 16..32.

use super::half_at;

/// scale * (nibble - 8).
#[inline(always)]
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    let (low, high) = out.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = scale * (i32::from(byte & 15) - 8) as f32;
        *high = scale * (i32::from(byte >> 4) - 8) as f32;
    }
}

/// scale * nibble + minimum.
#[inline(always)]
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let (low, high) = out.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[4..]) {
        *low = scale * f32::from(byte & 15) + minimum;
        *high = scale * f32::from(byte >> 4) + minimum;
    }
}

/// scale * (5 bits - 16).
#[inline(always)]
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    let codes = five_bits(&block[2..]);
    for (value, code) in out.iter_mut().zip(codes) {
        *value = scale * (code - 16) as f32;
    }
}

/// scale * 5 bits + minimum.
#[inline(always)]
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let codes = five_bits(&block[4..]);
    for (value, code) in out.iter_mut().zip(codes) {
        *value = scale * code as f32 + minimum;
    }
}

/// scale * i8.
#[inline(always)]
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (value, byte) in out.iter_mut().zip(&block[2..]) {
        *value = scale * f32::from(*byte as i8);
    }
}

/// The codes 0..32 of 4 bytes of fifth bits and 16 bytes of nibbles.
#[inline(always)]
fn five_bits(stored: &[u8]) -> [i32; 32] {
    let fifth = u32::from_le_bytes([stored[0], stored[1], stored[2], stored[3]]);
    let mut codes = [0; 32];
    for (i, byte) in stored[4..20].iter().enumerate() {
        codes[i] = i32::from(byte & 15) + if fifth & 1 << i == 0 { 0 } else { 16 };
        codes[i + 16] = i32::from(byte >> 4) + if fifth & 1 << (i + 16) == 0 { 0 } else { 16 };
    }
    codes
}
