//! The scalar that every operation is generic over, and its transcendental functions.
//!
//! The `f32` functions are branch-free polynomials, so that loops over them vectorise; the `f64` ones are the standard
//! library's, exact enough to serve as the reference in finite-difference checks.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::matmul::general::Multiplied;

/// `f32` or `f64`, and nothing else: what is unsafe below relies on their being no others.
pub trait Float:
    Multiplied
    + Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity: the score of a masked key.
    const NEG_INFINITY: Self;

    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// The nearest value of this type.
    fn from_f32(value: f32) -> Self;
    /// As `f64`.
    fn to_f64(self) -> f64;
    /// The slice itself where this type is `f32`.
    fn as_f32(values: &[Self]) -> Option<&[f32]>;
    /// The slice itself where this type is `f32`: decoding then needs no copy.
    fn as_f32_mut(values: &mut [Self]) -> Option<&mut [f32]>;
    /// `self * a + b`, rounded once.
    #[must_use]
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Square root.
    #[must_use]
    fn sqrt(self) -> Self;
    /// Magnitude.
    #[must_use]
    fn abs(self) -> Self;
    /// The larger; `other` if `self` is not a number.
    #[must_use]
    fn maximum(self, other: Self) -> Self;
    /// e^self. `f32`: relative error below 2e-7, 0 below -87.3 and infinite above 88.7.
    #[must_use]
    fn exp(self) -> Self;
    /// Natural logarithm.
    #[must_use]
    fn ln(self) -> Self;
    /// Hyperbolic tangent. `f32`: relative error below 3e-7.
    #[must_use]
    fn tanh(self) -> Self;
    /// The error function. `f32`: absolute error below 2e-7.
    #[must_use]
    fn erf(self) -> Self;
}

/// Evaluates a polynomial, highest power first. Counted by hand, so that it unrolls into the loop that calls it whatever its
/// degree, and calls nothing that might not be inlined.
#[inline(always)]
fn polynomial<const TERMS: usize>(x: f32, coefficients: [f32; TERMS]) -> f32 {
    let mut sum = coefficients[0];
    let mut at = 1;
    while at < TERMS {
        sum = f32::mul_add(sum, x, coefficients[at]);
        at += 1;
    }
    sum
}

impl Float for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn as_f32(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }
    fn as_f32_mut(values: &mut [Self]) -> Option<&mut [f32]> {
        Some(values)
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f32::mul_add(self, a, b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }
    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    // Range reduction to |r| <= ln 2 / 2 with ln 2 split in two, then a minimax polynomial of degree 6. Adding 1.5 * 2^23
    // rounds to an integer whose low bits are then the exponent.
    #[inline(always)]
    fn exp(self) -> Self {
        const ROUND: f32 = 12_582_912.0;
        let clamped = if self < 88.722_83 { self } else { 88.722_83 };
        let clamped = if clamped > -87.336_54 { clamped } else { -87.336_54 };
        let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = n.mul_add(-0.693_359_4, clamped);
        let r = n.mul_add(2.121_944_4e-4, r);
        let p = polynomial(
            r,
            [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0],
        );
        // 2^n in two factors: n reaches 128, which is no exponent of a finite number.
        let half = (n * 0.5 + ROUND) - ROUND;
        let scale = |n: f32| f32::from_bits((n + ROUND).to_bits().wrapping_add(127) << 23);
        let value = p * scale(half) * scale(n - half);
        let value = if self < -87.336_54 { 0.0 } else { value };
        let value = if self > 88.722_83 { f32::INFINITY } else { value };
        if self.is_nan() { self } else { value }
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        let magnitude = f32::abs(self);
        let square = self * self;
        let small = polynomial(square, [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1]);
        let small = (small * square).mul_add(self, self);
        let large = 1.0 - 2.0 / (Float::exp(2.0 * magnitude) + 1.0);
        if magnitude < 0.625 { small } else { large.copysign(self) }
    }
    #[inline(always)]
    fn erf(self) -> Self {
        let magnitude = f32::abs(self);
        let square = self * self;
        let small = self
            * polynomial(
                square,
                [
                    7.853_861_4e-5,
                    -8.010_194e-4,
                    5.188_327_7e-3,
                    -2.685_381_2e-2,
                    1.128_358_5e-1,
                    -3.761_262_6e-1,
                    std::f32::consts::FRAC_2_SQRT_PI,
                ],
            );
        let inverse = 1.0 / if square < 1.0 { 1.0 } else { square };
        let middle = polynomial(
            inverse,
            [
                2.326_82e-2,
                -1.387_039_4e-1,
                3.687_424_8e-1,
                -5.824_733e-1,
                6.210_004_6e-1,
                -4.944_515_3e-1,
                3.404_88e-1,
                -2.741_127e-1,
                5.638_259_4e-1,
            ],
        );
        let far = polynomial(
            inverse,
            [
                -10.477_664,
                12.977_2,
                -7.495_518_7,
                2.921_019,
                -1.015_265_3,
                4.218_463_4e-1,
                -2.820_767_4e-1,
                5.641_895e-1,
            ],
        );
        let tail = if magnitude < 2.0 { middle } else { far };
        let complement = Float::exp(-square) * (if magnitude < 1.0 { 1.0 } else { 1.0 / magnitude }) * tail;
        if magnitude < 1.0 { small } else { (1.0 - complement).copysign(self) }
    }
}

impl Float for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        f64::from(value)
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }
    fn as_f32_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f64::mul_add(self, a, b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }
    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn ln(self) -> Self {
        f64::ln(self)
    }
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    fn erf(self) -> Self {
        libm::erf(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Float;

    /// Largest error of `approximate` against `exact` over a dense grid, relative or absolute.
    fn worst(range: (f32, f32), relative: bool, approximate: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        (0..=2_000_000)
            .map(|i| range.0 + (range.1 - range.0) * (i as f32 / 2e6))
            .map(|x| {
                let truth = exact(f64::from(x));
                let error = (f64::from(approximate(x)) - truth).abs();
                if relative && truth != 0.0 { error / truth.abs() } else { error }
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_within_its_stated_error() {
        let error = worst((-87.0, 88.7), true, <f32 as Float>::exp, f64::exp);
        assert!(error < 2e-7, "{error:e}");
        let small = worst((-1.0, 1.0), true, <f32 as Float>::exp, f64::exp);
        assert!(small < 2e-7, "{small:e}");
    }

    #[test]
    fn exp_of_special_values() {
        assert_eq!(Float::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Float::exp(-1e30f32), 0.0);
        assert_eq!(Float::exp(0.0f32), 1.0);
        assert_eq!(Float::exp(f32::INFINITY), f32::INFINITY);
        assert!(Float::exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_its_stated_error() {
        for range in [(-20.0, 20.0), (-0.7, 0.7), (-1e-3, 1e-3)] {
            let error = worst(range, true, <f32 as Float>::tanh, f64::tanh);
            assert!(error < 3e-7, "{range:?} {error:e}");
        }
        assert_eq!(Float::tanh(f32::INFINITY), 1.0);
        assert_eq!(Float::tanh(f32::NEG_INFINITY), -1.0);
    }

    #[test]
    fn erf_is_within_its_stated_error() {
        for range in [(-6.0, 6.0), (-1.1, 1.1), (1.9, 2.1)] {
            let error = worst(range, false, <f32 as Float>::erf, libm::erf);
            assert!(error < 2e-7, "{range:?} {error:e}");
        }
        assert_eq!(Float::erf(30.0f32), 1.0);
    }
}
