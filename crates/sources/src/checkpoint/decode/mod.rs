//! Stored bytes to f32, strip by strip.
//!
//! Every decoder works on whole blocks of fixed size in loops without branches, so that the compiler can vectorise them,
//! and performs the same floating-point operations in the same order as the reference decoder of the `gguf` Python
//! package, so that the results agree bit for bit. Values are checked to be finite while they are still in cache.

#![allow(clippy::inline_always, reason = "the block decoders must become part of the loop over blocks")]

mod k_quants;
mod plain;
mod quants;

use super::dtype::DType;

/// Values decoded at a time: 16 KiB of f32, which stays in the first-level cache; a multiple of every block length.
pub(super) const STRIP: usize = 4096;

/// Decodes whole blocks: `out.len()` is a multiple of the block length and `bytes` holds as many blocks. Says whether
/// all values are finite.
pub(super) fn strip(dtype: DType, bytes: &[u8], out: &mut [f32]) -> bool {
    match dtype {
        DType::F32 => plain::f32(bytes, out),
        DType::F16 => plain::f16(bytes, out),
        DType::Bf16 => plain::bf16(bytes, out),
        DType::Q4_0 => blocks(bytes, out, quants::q4_0),
        DType::Q4_1 => blocks(bytes, out, quants::q4_1),
        DType::Q5_0 => blocks(bytes, out, quants::q5_0),
        DType::Q5_1 => blocks(bytes, out, quants::q5_1),
        DType::Q8_0 => blocks(bytes, out, quants::q8_0),
        DType::Q2K => blocks(bytes, out, k_quants::q2_k),
        DType::Q3K => blocks(bytes, out, k_quants::q3_k),
        DType::Q4K => blocks(bytes, out, k_quants::q4_k),
        DType::Q5K => blocks(bytes, out, k_quants::q5_k),
        DType::Q6K => blocks(bytes, out, k_quants::q6_k),
        DType::Q8K => blocks(bytes, out, k_quants::q8_k),
    }
    all_finite(out)
}

/// Applies `block` to each block of `BYTES` bytes and `LEN` values.
#[inline(always)]
fn blocks<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for (stored, values) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
        block(stored, values);
    }
}

/// Whether no value is NaN or infinite: such values have all exponent bits set.
#[inline(always)]
fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: i32 = 0x7f80_0000;
    let mut bad = 0;
    for value in values {
        bad |= i32::from(value.to_bits() as i32 & EXPONENT == EXPONENT);
    }
    bad == 0
}

/// The f16 at `at`, as f32: exact, subnormals included; infinities and NaNs come out as some value that is not finite.
///
/// Shifted into place, the bits of a half read as an f32 are the value times 2^-112. This inlines into the block
/// loops, where a conversion instruction chosen at run time would be a call.
#[inline(always)]
fn half_at(bytes: &[u8], at: usize) -> f32 {
    const TWO_TO_112: f32 = f32::from_bits(0x7780_0000);
    let bits = u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * TWO_TO_112;
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_converts_exactly() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (half_at(&bits.to_le_bytes(), 0), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (!ours.is_finite() && !theirs.is_finite()), "{bits:#06x}");
        }
    }

    #[test]
    fn any_value_that_is_not_finite_is_noticed() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001)] {
            for at in 0..37 {
                let mut values = [f32::MAX; 37];
                assert!(all_finite(&values));
                values[at] = bad;
                assert!(!all_finite(&values));
            }
        }
    }

    #[test]
    fn strips_are_whole_blocks() {
        for dtype in DType::ALL {
            assert_eq!(STRIP % dtype.block_len(), 0, "{dtype}");
        }
    }
}
