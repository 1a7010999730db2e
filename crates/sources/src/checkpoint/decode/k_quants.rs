//! The GGUF types with blocks of 256 values, whose sub-blocks of 16 or 32 values have small integer scales of their own,
//! relative to one or two f16 scales of the block.
//!
//! Codes are stored in planes. A byte at column `l` of a run of 32 holds the codes of several sub-blocks at the same
//! column, two bits or four bits each, so that each inner loop below shifts 32 bytes by one amount.

use super::half_at;

/// 16 bytes of scale and minimum nibbles, 64 bytes of 2-bit codes, two f16. scale * code - minimum.
#[inline(always)]
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scale, minimum) = (half_at(block, 80), half_at(block, 82));
    let (scales, codes) = (&block[..16], &block[16..80]);
    for (sub, values) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, minimum) = (scale * f32::from(scales[sub] & 15), minimum * f32::from(scales[sub] >> 4));
        let (start, shift) = two_bit_plane(sub);
        for (value, byte) in values.iter_mut().zip(&codes[start..start + 16]) {
            *value = scale * f32::from(byte >> shift & 3) - minimum;
        }
    }
}

/// 32 bytes of third bits, 64 bytes of 2-bit codes, sixteen 6-bit scales less 32 in 12 bytes, one f16.
/// scale * (code - 4 where the third bit is clear).
#[inline(always)]
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let scale = half_at(block, 108);
    let (third, codes, scales) = (&block[..32], &block[32..96], &block[96..108]);
    for (sub, values) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = scales[sub % 8] >> (sub / 8 * 4) & 15;
        let high = scales[8 + sub % 4] >> (sub / 4 * 2) & 3;
        let scale = scale * (i32::from(low | high << 4) - 32) as f32;
        let (start, shift) = two_bit_plane(sub);
        let (column, plane) = (sub % 2 * 16, sub / 2);
        let bits = &third[column..column + 16];
        for ((value, byte), bits) in values.iter_mut().zip(&codes[start..start + 16]).zip(bits) {
            let code = i32::from(byte >> shift & 3) + i32::from(bits >> plane & 1) * 4 - 4;
            *value = scale * code as f32;
        }
    }
}

/// Two f16, eight 6-bit scales and minima in 12 bytes, 128 bytes of nibbles. scale * code - minimum.
#[inline(always)]
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let (packed, codes) = (&block[4..16], &block[16..]);
    for (sub, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (small_scale, small_minimum) = six_bit_pair(packed, sub);
        let (scale, minimum) = (scale * small_scale, minimum * small_minimum);
        let (start, shift) = (sub / 2 * 32, sub % 2 * 4);
        for (value, byte) in values.iter_mut().zip(&codes[start..start + 32]) {
            *value = scale * f32::from(byte >> shift & 15) - minimum;
        }
    }
}

/// As [`q4_k`], with 32 bytes of fifth bits before the nibbles: bit `s` of each byte belongs to sub-block `s`.
#[inline(always)]
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let (packed, fifth, codes) = (&block[4..16], &block[16..48], &block[48..]);
    for (sub, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (small_scale, small_minimum) = six_bit_pair(packed, sub);
        let (scale, minimum) = (scale * small_scale, minimum * small_minimum);
        let (start, shift) = (sub / 2 * 32, sub % 2 * 4);
        for ((value, byte), bits) in values.iter_mut().zip(&codes[start..start + 32]).zip(fifth) {
            let code = (byte >> shift & 15) | (bits >> sub & 1) << 4;
            *value = scale * f32::from(code) - minimum;
        }
    }
}

/// 128 bytes of low nibbles, 64 bytes of two high bits, sixteen i8 scales, one f16. scale * (code - 32).
#[inline(always)]
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let scale = half_at(block, 208);
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    for (sub, values) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = scale * f32::from(scales[sub] as i8);
        let low_start = sub / 8 * 64 + sub % 4 * 16;
        let low_shift = sub / 4 % 2 * 4;
        let (high_start, high_shift) = two_bit_plane(sub);
        let (low, high) = (&low[low_start..low_start + 16], &high[high_start..high_start + 16]);
        for ((value, low), high) in values.iter_mut().zip(low).zip(high) {
            let code = (low >> low_shift & 15) | (high >> high_shift & 3) << 4;
            *value = scale * (i32::from(code) - 32) as f32;
        }
    }
}

/// One f32, 256 i8, and sums that decoding does not need. scale * code.
#[inline(always)]
pub(super) fn q8_k(block: &[u8; 292], out: &mut [f32; 256]) {
    let scale = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    for (value, byte) in out.iter_mut().zip(&block[4..260]) {
        *value = scale * f32::from(*byte as i8);
    }
}

/// Where the 2-bit codes of a sub-block of 16 lie in 64 bytes: first byte and shift. Each run of 32 bytes holds
/// 128 values, in four planes of 32.
#[inline(always)]
fn two_bit_plane(sub: usize) -> (usize, usize) {
    (sub / 8 * 32 + sub % 2 * 16, sub / 2 % 4 * 2)
}

/// The 6-bit scale and minimum of sub-block `sub` of eight. The first four scales are the low six bits of bytes 0..4,
/// their minima those of bytes 4..8; the last four have their low nibbles in bytes 8..12, scale below minimum, and
/// their high two bits on top of bytes 0..4 and 4..8.
#[inline(always)]
fn six_bit_pair(packed: &[u8], sub: usize) -> (f32, f32) {
    let (scale, minimum) = if sub < 4 {
        (packed[sub] & 63, packed[sub + 4] & 63)
    } else {
        let nibbles = packed[sub + 4];
        (nibbles & 15 | packed[sub - 4] >> 6 << 4, nibbles >> 4 | packed[sub] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}
