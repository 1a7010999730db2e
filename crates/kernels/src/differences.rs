//! For tests: gradients against central differences in f64, and f32 against f64.

use crate::Float;

/// Numbers between -2 and 2 without a pattern.
pub(crate) fn values(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64 * 4.0 - 2.0
        })
        .collect()
}

/// The same numbers in another precision.
pub(crate) fn convert<F: Float>(values: &[f64]) -> Vec<F> {
    values.iter().map(|&value| F::from_f64(value)).collect()
}

/// The gradient of `f` at `x`.
pub(crate) fn gradient(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut moved = x.to_vec();
    (0..x.len())
        .map(|at| {
            moved[at] = x[at] + STEP;
            let above = f(&moved);
            moved[at] = x[at] - STEP;
            let below = f(&moved);
            moved[at] = x[at];
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

/// `sum_i x_i y_i`: the loss whose gradient with respect to `x` is `y`.
pub(crate) fn inner(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// Asserts that the distance of two vectors is below `tolerance` of the norm of the second (or of 0.1, where that is larger: rounding does not shrink with a gradient).
#[track_caller]
pub(crate) fn assert_close<F: Float>(what: &str, given: &[F], expected: &[f64], tolerance: f64) {
    assert_eq!(given.len(), expected.len(), "{what}: lengths differ");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let distance = norm(&mut given.iter().zip(expected).map(|(given, expected)| given.to_f64() - expected));
    let size = norm(&mut expected.iter().copied()).max(0.1);
    assert!(distance <= tolerance * size, "{what}: off by {:e} of its norm {size:e}", distance / size);
}
