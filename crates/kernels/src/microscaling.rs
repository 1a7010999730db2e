//! Quantisation in blocks, simulated: a few neighbouring values share a scale that itself has few bits. And the rotation that
//! spreads a large value over its neighbours before they are quantised.

use crate::quantise::{Grid, largest_magnitude, quantise, quantise_columns, raise_column_magnitudes};
use crate::simd::dispatch;

/// A format of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// 32 whole numbers of 8 bits and a scale of 16 (GGML's Q8_0): the scale is the largest magnitude over 127, in f16; a value is
    /// divided by it before it is rounded to f16, and goes to the nearest whole number, half way away from zero.
    Q8_0,
    /// 32 numbers of E2M1 and a power of two (OCP Microscaling Formats 1.0): the largest whose exponent is that of the largest
    /// magnitude, less 2.
    Mxfp4,
    /// 16 numbers of E2M1 and a scale of E4M3, relative to a global scale: the largest magnitude of all over 6 * 448. The block's
    /// scale is its largest magnitude over 6 and over the global scale, rounded.
    Nvfp4,
}

impl Blocks {
    /// Values of a block.
    pub fn size(self) -> usize {
        match self {
            Self::Q8_0 | Self::Mxfp4 => 32,
            Self::Nvfp4 => 16,
        }
    }

    /// Whether its scales are relative to the largest magnitude of all blocks.
    pub fn has_global_scale(self) -> bool {
        self == Self::Nvfp4
    }

    /// The scale of a block, given the largest magnitudes of it and of all blocks.
    fn scale(self, largest: f32, of_all: f32) -> f32 {
        match self {
            Self::Q8_0 => largest / 127.0,
            Self::Mxfp4 if largest == 0.0 => 0.0,
            // Scales have 8 bits of exponent.
            Self::Mxfp4 => power_of_two((exponent(largest) - 2).max(-127)),
            Self::Nvfp4 => {
                let global = of_all / (Grid::E2m1.largest() * Grid::E4m3.largest());
                if global == 0.0 {
                    return 0.0;
                }
                let mut scale = [largest / Grid::E2m1.largest() / global];
                quantise(&mut scale, 1.0, Grid::E4m3);
                scale[0] * global
            }
        }
    }
}

/// The exponent of a number that is not 0.
fn exponent(x: f32) -> i32 {
    let biased = (x.to_bits() >> 23) as i32;
    // What has no exponent of its own is smaller than any scale.
    if biased == 0 { -127 } else { biased - 127 }
}

/// 2 to the power of -127 or more.
fn power_of_two(exponent: i32) -> f32 {
    let bits = if exponent <= -127 { 1 << 22 } else { ((exponent + 127) as u32) << 23 };
    f32::from_bits(bits)
}

/// Quantises neighbouring values, block by block; `of_all`: the largest magnitude of all that have the same global scale.
pub fn quantise_blocks(x: &mut [f32], blocks: Blocks, of_all: f32) {
    for block in x.chunks_mut(blocks.size()) {
        // A block with a value that is not finite has no scale: it stays as it is.
        let Some(largest) = largest_magnitude(block) else { continue };
        let scale = blocks.scale(largest, of_all);
        match blocks {
            Blocks::Q8_0 => whole_numbers(block, scale),
            Blocks::Mxfp4 | Blocks::Nvfp4 => quantise(block, scale, Grid::E2m1),
        }
    }
}

/// Quantises columns, whose blocks run down the rows.
///
/// # Shapes
/// `x`: rows x columns, all finite.
pub fn quantise_block_columns(x: &mut [f32], columns: usize, blocks: Blocks, of_all: f32) {
    for x in x.chunks_mut(blocks.size() * columns) {
        let mut scales = vec![0.0; columns];
        raise_column_magnitudes(&mut scales, x);
        for largest in &mut scales {
            *largest = blocks.scale(*largest, of_all);
        }
        match blocks {
            Blocks::Q8_0 => {
                for row in x.chunks_exact_mut(columns) {
                    row.iter_mut().zip(&scales).for_each(|(x, &scale)| whole_numbers(std::slice::from_mut(x), scale));
                }
            }
            Blocks::Mxfp4 | Blocks::Nvfp4 => quantise_columns(x, &scales, Grid::E2m1),
        }
    }
}

/// Q8_0 of a block with this scale.
fn whole_numbers(x: &mut [f32], scale: f32) {
    // What is too small to be divided by is too small for f16 as well, and becomes 0.
    let inverse = Some(1.0 / scale).filter(|inverse: &f32| inverse.is_finite()).unwrap_or(0.0);
    let stored = half::f16::from_f32(scale).to_f32();
    dispatch(
        #[inline(always)]
        || {
            for x in x {
                let magnitude = (*x * inverse).abs();
                let below = magnitude.floor();
                let code = below + (2.0 * (magnitude - below)).floor();
                *x = code.copysign(*x) * stored;
            }
        },
    );
}

/// The size of the Hadamard matrices that rotate so many values: the largest power of two that divides their number.
pub fn rotation_size(width: usize) -> usize {
    if width == 0 { 1 } else { 1 << width.trailing_zeros() }
}

/// Rotates neighbouring values, `rotation_size` of them at a time, by the Hadamard matrix over the square root of its size.
/// Sums are formed in stages: of neighbours, of pairs of them, and so on.
pub fn rotate(x: &mut [f32]) {
    rotate_columns(x, 1);
}

/// Rotates columns, each for itself.
///
/// # Shapes
/// `x`: rows x columns.
pub fn rotate_columns(x: &mut [f32], columns: usize) {
    let size = rotation_size(x.len() / columns);
    let factor = (1.0 / (size as f64).sqrt()) as f32;
    dispatch(
        #[inline(always)]
        || {
            for x in x.chunks_exact_mut(size * columns) {
                let mut half = columns;
                while half < x.len() {
                    for pair in x.chunks_exact_mut(2 * half) {
                        let (first, second) = pair.split_at_mut(half);
                        for (a, b) in first.iter_mut().zip(second) {
                            (*a, *b) = (*a + *b, *a - *b);
                        }
                    }
                    half *= 2;
                }
                for x in x {
                    *x *= factor;
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values and what references make of them; `scripts/make_quantiser_fixtures.py` writes both.
    fn fixture(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    macro_rules! fixture {
        ($name:literal) => {
            fixture(include_bytes!(concat!("../tests/fixtures/quantisers/", $name, ".f32")))
        };
    }

    fn same(what: &str, ours: &[f32], expected: &[f32]) {
        assert_eq!(ours.len(), expected.len());
        for (index, (a, b)) in ours.iter().zip(expected).enumerate() {
            // 0 and -0 are the same value.
            assert!(a.to_bits() == b.to_bits() || (*a == 0.0 && *b == 0.0), "{what} {index}: {a} {b}");
        }
    }

    #[test]
    fn formats_are_their_references_to_the_bit() {
        let values = fixture!("values");
        let largest = largest_magnitude(&values).expect("finite");
        for (name, grid, expected) in [
            ("e4m3", Grid::E4m3, fixture!("e4m3")),
            ("e5m2", Grid::E5m2, fixture!("e5m2")),
            ("e2m1", Grid::E2m1, fixture!("e2m1")),
        ] {
            let mut ours = values.clone();
            quantise(&mut ours, grid.scale(largest), grid);
            same(name, &ours, &expected);
        }
        for (name, blocks, expected) in [
            ("q8_0", Blocks::Q8_0, fixture!("q8_0")),
            ("mxfp4", Blocks::Mxfp4, fixture!("mxfp4")),
            ("nvfp4", Blocks::Nvfp4, fixture!("nvfp4")),
        ] {
            let mut ours = values.clone();
            quantise_blocks(&mut ours, blocks, largest);
            same(name, &ours, &expected);
        }
        let mut ours = values;
        rotate(&mut ours);
        same("hadamard", &ours, &fixture!("hadamard"));
    }

    #[test]
    fn columns_are_rows_that_stand_upright() {
        let values = fixture!("values");
        let largest = largest_magnitude(&values).expect("finite");
        for columns in [1, 3, 8] {
            let rows = values.len() / columns / 32 * 32;
            let upright: Vec<f32> = (0..rows * columns).map(|at| values[at % columns * rows + at / columns]).collect();
            let lying =
                |x: &[f32]| -> Vec<f32> { (0..rows * columns).map(|at| x[at % rows * columns + at / rows]).collect() };
            for blocks in [Blocks::Q8_0, Blocks::Mxfp4, Blocks::Nvfp4] {
                let (mut ours, mut expected) = (upright.clone(), lying(&upright));
                quantise_block_columns(&mut ours, columns, blocks, largest);
                expected.chunks_exact_mut(rows).for_each(|row| quantise_blocks(row, blocks, largest));
                same("blocks", &lying(&ours), &expected);
            }
            let (mut ours, mut expected) = (upright.clone(), lying(&upright));
            rotate_columns(&mut ours, columns);
            expected.chunks_exact_mut(rows).for_each(rotate);
            same("rotation", &lying(&ours), &expected);
        }
    }

    #[test]
    fn a_rotation_keeps_lengths_and_is_its_own_inverse() {
        let before: Vec<f32> = (0..96).map(|at| ((at * 37) % 19) as f32 - 9.0).collect();
        let mut x = before.clone();
        rotate(&mut x);
        let length = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        assert!((length(&x) / length(&before) - 1.0).abs() < 1e-6 && x != before);
        rotate(&mut x);
        assert!(x.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-5));
        assert_eq!([576, 1536, 7, 0].map(rotation_size), [64, 512, 1, 1]);
    }

    #[test]
    fn blocks_of_zeros_and_of_what_is_not_finite_stay() {
        for blocks in [Blocks::Q8_0, Blocks::Mxfp4, Blocks::Nvfp4] {
            let mut zeros = [0.0; 40];
            quantise_blocks(&mut zeros, blocks, 0.0);
            assert_eq!(zeros, [0.0; 40]);
            let mut broken = [1.25; 32];
            broken[3] = f32::INFINITY;
            let before = broken;
            quantise_blocks(&mut broken[..16], blocks, 1.25);
            assert_eq!(broken, before);
            let mut tiny = [1e-44, -2e-45, 0.0, 1e-40];
            quantise_blocks(&mut tiny, blocks, 1e-40);
            assert!(tiny.iter().all(|x| x.is_finite()), "{tiny:?}");
        }
    }
}
