//! Quantisation, simulated: values go to the nearest point of a grid and stay f32.
//!
//! A group of values shares one f32 scale, its largest magnitude over the grid's largest point. A value becomes
//! `point * scale`, where `point` is the point nearest to `value / scale`, a tie going to the even one; all three operations
//! are rounded to f32. A group whose scale is 0 becomes 0, and so does one so small that its scale is rounded to 0.

use crate::simd::dispatch;

/// The points that scaled values can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// Whole numbers from `-(2^(bits - 1) - 1)` to `2^(bits - 1) - 1`.
    Integer {
        /// At least 2, at most 16.
        bits: u32,
    },
    /// Floating-point numbers of 8 bits, four of exponent and three of mantissa, without infinities: up to 448.
    E4m3,
    /// Floating-point numbers of 8 bits, five of exponent and two of mantissa: up to 57,344; infinities are not reached.
    E5m2,
    /// Floating-point numbers of 4 bits, two of exponent and one of mantissa: 0, 0.5, 1, 1.5, 2, 3, 4, 6.
    E2m1,
}

/// Floating-point numbers of few bits.
#[derive(Debug, Clone, Copy)]
struct Minifloat {
    largest: f32,
    /// Below it points are `least` apart.
    least_normal: f32,
    least: f32,
    /// Bits of an f32's mantissa that it has not.
    dropped: u32,
}

const E4M3: Minifloat = Minifloat { largest: 448.0, least_normal: 0.015_625, least: 0.001_953_125, dropped: 20 };
const E5M2: Minifloat =
    Minifloat { largest: 57_344.0, least_normal: 6.103_515_6e-5, least: 1.525_878_9e-5, dropped: 21 };
const E2M1: Minifloat = Minifloat { largest: 6.0, least_normal: 1.0, least: 0.5, dropped: 22 };

impl Grid {
    /// The format of the points; `None` if they are whole numbers.
    fn minifloat(self) -> Option<Minifloat> {
        match self {
            Self::Integer { .. } => None,
            Self::E4m3 => Some(E4M3),
            Self::E5m2 => Some(E5M2),
            Self::E2m1 => Some(E2M1),
        }
    }

    /// The largest point.
    pub fn largest(self) -> f32 {
        match self {
            Self::Integer { bits } => ((1_u32 << (bits - 1)) - 1) as f32,
            Self::E4m3 => E4M3.largest,
            Self::E5m2 => E5M2.largest,
            Self::E2m1 => E2M1.largest,
        }
    }

    /// The scale of a group.
    pub fn scale(self, largest: f32) -> f32 {
        largest / self.largest()
    }
}

/// The largest magnitude; `None` if a value is not finite. 0 if there is none.
pub fn largest_magnitude(x: &[f32]) -> Option<f32> {
    // Magnitudes are ordered as their bits are, with what is not finite above all.
    let bits = dispatch(
        #[inline(always)]
        || x.iter().fold(0, |largest: u32, value| largest.max(value.abs().to_bits())),
    );
    Some(f32::from_bits(bits)).filter(|largest| largest.is_finite())
}

/// Raises the largest magnitude of each column to those of `x`.
///
/// # Shapes
/// `x`: rows x largest.len().
pub fn raise_column_magnitudes(largest: &mut [f32], x: &[f32]) {
    assert_eq!(x.len() % largest.len(), 0, "raise_column_magnitudes: rows of another length");
    dispatch(
        #[inline(always)]
        || {
            for row in x.chunks_exact(largest.len()) {
                for (largest, value) in largest.iter_mut().zip(row) {
                    let value = value.abs();
                    *largest = if value > *largest { value } else { *largest };
                }
            }
        },
    );
}

/// Quantises values that share a scale.
pub fn quantise(x: &mut [f32], scale: f32, grid: Grid) {
    let largest = grid.largest();
    match grid.minifloat() {
        None => dispatch(
            #[inline(always)]
            || x.iter_mut().for_each(|x| *x = to_integer(*x, scale, largest)),
        ),
        Some(format) => dispatch(
            #[inline(always)]
            || x.iter_mut().for_each(|x| *x = to_minifloat(*x, scale, format)),
        ),
    }
}

/// Quantises rows whose columns each have a scale.
///
/// # Shapes
/// `x`: rows x scales.len().
pub fn quantise_columns(x: &mut [f32], scales: &[f32], grid: Grid) {
    assert_eq!(x.len() % scales.len(), 0, "quantise_columns: rows of another length");
    let largest = grid.largest();
    match grid.minifloat() {
        None => dispatch(
            #[inline(always)]
            || {
                for row in x.chunks_exact_mut(scales.len()) {
                    row.iter_mut().zip(scales).for_each(|(x, &scale)| *x = to_integer(*x, scale, largest));
                }
            },
        ),
        Some(format) => dispatch(
            #[inline(always)]
            || {
                for row in x.chunks_exact_mut(scales.len()) {
                    row.iter_mut().zip(scales).for_each(|(x, &scale)| *x = to_minifloat(*x, scale, format));
                }
            },
        ),
    }
}

#[inline(always)]
fn to_integer(x: f32, scale: f32, largest: f32) -> f32 {
    let point = (x / scale).round_ties_even().clamp(-largest, largest) * scale;
    if scale == 0.0 { 0.0 } else { point }
}

#[inline(always)]
fn to_minifloat(x: f32, scale: f32, format: Minifloat) -> f32 {
    let point = nearest(x / scale, format) * scale;
    if scale == 0.0 { 0.0 } else { point }
}

#[inline(always)]
fn nearest(x: f32, Minifloat { largest, least_normal, least, dropped }: Minifloat) -> f32 {
    let magnitude = x.abs().min(largest);
    let bits = magnitude.to_bits();
    // Half a unit of the last bit kept, a little less if that bit is even; a carry goes into the exponent, as it should.
    let even = (bits >> dropped) & 1;
    let rounded = (bits + ((1 << (dropped - 1)) - 1) + even) & !((1 << dropped) - 1);
    let small = (magnitude / least).round_ties_even() * least;
    let point = if magnitude < least_normal { small } else { f32::from_bits(rounded) };
    point.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of many magnitudes, ties among them.
    fn values(count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| {
                let mixed = (i as u32).wrapping_mul(2_654_435_761) >> 8;
                let sign = if mixed & 1 == 0 { 1.0 } else { -1.0 };
                match i % 4 {
                    0 => sign * (mixed % 255) as f32 * 0.5,
                    1 => sign * mixed as f32 * 1e-6,
                    2 => sign * (mixed as f32 * 1e-7).powi(5),
                    _ => sign * (mixed % 1000) as f32 / 64.0,
                }
            })
            .collect()
    }

    /// The definition, word for word: the whole number nearest, by its distance, a tie to the even one, found in f64.
    fn reference_integer(x: f32, scale: f32, bits: u32) -> f32 {
        if scale == 0.0 {
            return 0.0;
        }
        let ratio = f64::from(x / scale);
        let (below, above) = (ratio.floor(), ratio.ceil());
        let nearest = match (ratio - below).total_cmp(&(above - ratio)) {
            std::cmp::Ordering::Less => below,
            std::cmp::Ordering::Greater => above,
            std::cmp::Ordering::Equal if below.rem_euclid(2.0) == 0.0 => below,
            std::cmp::Ordering::Equal => above,
        };
        let largest = 2.0_f64.powi(bits as i32 - 1) - 1.0;
        nearest.max(-largest).min(largest) as f32 * scale
    }

    /// All numbers of E4M3 that are not negative, from their bits.
    fn e4m3_points() -> Vec<f64> {
        let value = |byte: u32| {
            let (exponent, mantissa) = (byte >> 3, f64::from(byte & 7));
            if exponent == 0 { mantissa / 512.0 } else { (1.0 + mantissa / 8.0) * 2.0_f64.powi(exponent as i32 - 7) }
        };
        (0..127).map(value).collect()
    }

    fn reference_e4m3(x: f32, scale: f32) -> f32 {
        if scale == 0.0 {
            return 0.0;
        }
        let ratio = f64::from(x / scale);
        let distance = |point: f64| (ratio.abs() - point).abs();
        let points = e4m3_points();
        // Of two as near, the one whose bits are even.
        let nearest = (0..points.len())
            .min_by(|&i, &j| distance(points[i]).total_cmp(&distance(points[j])).then((i % 2).cmp(&(j % 2))))
            .expect("points");
        (points[nearest].copysign(ratio)) as f32 * scale
    }

    fn same(what: &str, ours: &[f32], expected: &[f32]) {
        for (index, (a, b)) in ours.iter().zip(expected).enumerate() {
            // 0 and -0 are the same value.
            assert!(a.to_bits() == b.to_bits() || (*a == 0.0 && *b == 0.0), "{what} {index}: {a} {b}");
        }
    }

    #[test]
    fn integers_are_the_reference_to_the_bit() {
        for count in [1, 15, 16, 33, 1000, 4097] {
            let x = values(count);
            for bits in [2, 3, 4, 8] {
                let grid = Grid::Integer { bits };
                let largest = largest_magnitude(&x).expect("finite");
                for scale in [grid.scale(largest), 0.5, 0.25, 1e-40, 0.0] {
                    let mut ours = x.clone();
                    quantise(&mut ours, scale, grid);
                    let expected: Vec<f32> = x.iter().map(|&x| reference_integer(x, scale, bits)).collect();
                    same(&format!("{count} {bits} {scale}"), &ours, &expected);
                }
            }
        }
        // Half way between whole numbers, to the even one.
        let mut ties = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 127.5, -300.0];
        quantise(&mut ties, 1.0, Grid::Integer { bits: 8 });
        assert_eq!(ties, [0.0, 2.0, 2.0, 0.0, -2.0, -2.0, 126.0, 127.0, -127.0]);
    }

    #[test]
    fn e4m3_is_the_reference_to_the_bit() {
        for count in [1, 17, 1000, 4097] {
            let x = values(count);
            let largest = largest_magnitude(&x).expect("finite");
            for scale in [Grid::E4m3.scale(largest), 1.0, 0.01, 0.0] {
                let mut ours = x.clone();
                quantise(&mut ours, scale, Grid::E4m3);
                let expected: Vec<f32> = x.iter().map(|&x| reference_e4m3(x, scale)).collect();
                same(&format!("{count} {scale}"), &ours, &expected);
            }
        }
        // Every point stays, and half way between two neighbours goes to the even one.
        let points = e4m3_points();
        for (index, pair) in points.windows(2).enumerate() {
            let mut pair_and_middle = [pair[0] as f32, f64::midpoint(pair[0], pair[1]) as f32, -pair[1] as f32];
            quantise(&mut pair_and_middle, 1.0, Grid::E4m3);
            let even = pair[index % 2];
            assert_eq!(pair_and_middle, [pair[0] as f32, even as f32, -pair[1] as f32]);
        }
        let mut beyond = [449.0, -1e9, 464.0, 479.9];
        quantise(&mut beyond, 1.0, Grid::E4m3);
        assert_eq!(beyond, [448.0, -448.0, 448.0, 448.0]);
    }

    #[test]
    fn columns_are_quantised_each_by_itself() {
        for (rows, columns) in [(1, 1), (3, 5), (7, 33), (20, 100)] {
            let mut x = values(rows * columns);
            x.iter_mut().step_by(columns).for_each(|x| *x = 0.0);
            let mut largest = vec![0.0; columns];
            raise_column_magnitudes(&mut largest, &x);
            for grid in [Grid::Integer { bits: 8 }, Grid::Integer { bits: 4 }, Grid::E4m3] {
                let scales: Vec<f32> = largest.iter().map(|&largest| grid.scale(largest)).collect();
                let mut ours = x.clone();
                quantise_columns(&mut ours, &scales, grid);
                for column in 0..columns {
                    let mut alone: Vec<f32> = x.iter().skip(column).step_by(columns).copied().collect();
                    assert_eq!(largest_magnitude(&alone), Some(largest[column]));
                    quantise(&mut alone, scales[column], grid);
                    let together: Vec<f32> = ours.iter().skip(column).step_by(columns).copied().collect();
                    assert_eq!(alone, together);
                }
                assert!(ours.iter().step_by(columns).all(|x| *x == 0.0), "a group of zeros stays one");
            }
        }
    }

    #[test]
    fn what_is_not_finite_has_no_magnitude() {
        assert_eq!(largest_magnitude(&[]), Some(0.0));
        assert_eq!(largest_magnitude(&[0.0, -3.0, 2.0]), Some(3.0));
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            for at in [0, 20, 69] {
                let mut x = values(70);
                x[at] = bad;
                assert_eq!(largest_magnitude(&x), None, "{bad} at {at}");
            }
        }
    }
}
