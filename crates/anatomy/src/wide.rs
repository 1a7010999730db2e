//! Sums in f64 from left to right, whatever the values are stored in. The sums of `sinkscope_kernels::simd` have the
//! precision of their values, and run in lanes.

/// `a . b`.
pub fn dot_f64<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| a.into() * b.into()).sum()
}

/// Length of a vector.
pub fn norm_f64<V: Copy + Into<f64>>(vector: &[V]) -> f64 {
    dot_f64(vector, vector).sqrt()
}

/// The mean; `None` of no values.
pub fn mean<V: Into<f64>>(values: impl IntoIterator<Item = V>) -> Option<f64> {
    let mut count = 0_usize;
    let sum: f64 = values.into_iter().inspect(|_| count += 1).map(Into::into).sum();
    (count > 0).then(|| sum / count as f64)
}
