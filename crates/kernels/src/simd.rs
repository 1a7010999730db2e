//! Runs a loop with the widest instructions of the set in use.

use std::sync::OnceLock;

use crate::{Float, InstructionSet};

/// Lanes of the fixed-width accumulators in [`sum_of_squares`] and its kin: enough independent chains to fill two
/// 16-lane units, and a fixed order of addition on every machine.
pub const LANES: usize = 32;

/// Its exponential is 0, in f64 too.
const VANISHING: f64 = -1000.0;

fn arch() -> pulp::Arch {
    static ARCH: OnceLock<pulp::Arch> = OnceLock::new();
    *ARCH.get_or_init(|| match InstructionSet::in_use() {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Portable => pulp::Arch::Scalar,
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => pulp::x86::V3::try_new().map_or(pulp::Arch::Scalar, pulp::Arch::V3),
        _ => pulp::Arch::new(),
    })
}

/// Calls `operation`, compiled for the instruction set in use.
///
/// The closure and what it calls must be `#[inline(always)]`, or they are compiled for the least instruction set and a
/// fused multiply-add becomes a call of a library function: `dispatch(#[inline(always)] || ...)`.
#[inline]
pub fn dispatch<R>(operation: impl FnOnce() -> R) -> R {
    arch().dispatch(operation)
}

/// `sum_i f(x_i, y_i)` with fixed lanes.
#[inline(always)]
fn lanes2<F: Float>(x: &[F], y: &[F], f: impl Fn(F, F, F) -> F) -> F {
    let mut lanes = [F::ZERO; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (x_rest, y_rest) = (xs.remainder(), ys.remainder());
    for (x, y) in xs.zip(ys) {
        for i in 0..LANES {
            lanes[i] = f(x[i], y[i], lanes[i]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane = f(x, y, *lane);
    }
    fold(lanes)
}

/// `(sum_i f(x_i, y_i, z_i), sum_i g(x_i, y_i, z_i))` with fixed lanes, in one sweep.
#[inline(always)]
pub(crate) fn two_sums<F: Float>(
    x: &[F],
    y: &[F],
    z: &[F],
    f: impl Fn(F, F, F, F) -> F,
    g: impl Fn(F, F, F, F) -> F,
) -> (F, F) {
    let (mut fs, mut gs) = ([F::ZERO; LANES], [F::ZERO; LANES]);
    let (xs, ys, zs) = (x.chunks_exact(LANES), y.chunks_exact(LANES), z.chunks_exact(LANES));
    let rest = xs.remainder().iter().zip(ys.remainder()).zip(zs.remainder());
    for ((x, y), z) in xs.zip(ys).zip(zs) {
        for i in 0..LANES {
            fs[i] = f(x[i], y[i], z[i], fs[i]);
            gs[i] = g(x[i], y[i], z[i], gs[i]);
        }
    }
    for (i, ((&x, &y), &z)) in rest.enumerate() {
        fs[i] = f(x, y, z, fs[i]);
        gs[i] = g(x, y, z, gs[i]);
    }
    (fold(fs), fold(gs))
}

/// Adds lanes pairwise, in a fixed order.
#[inline(always)]
fn fold<F: Float>(mut lanes: [F; LANES]) -> F {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Sum of squares.
#[inline(always)]
pub fn sum_of_squares<F: Float>(x: &[F]) -> F {
    lanes2(x, x, |x, _, sum| x.mul_add(x, sum))
}

/// Sum.
#[inline(always)]
pub fn sum<F: Float>(x: &[F]) -> F {
    lanes2(x, x, |x, _, sum| sum + x)
}

/// Dot product.
#[inline(always)]
pub fn dot<F: Float>(x: &[F], y: &[F]) -> F {
    assert_eq!(x.len(), y.len(), "dot: lengths differ");
    lanes2(x, y, F::mul_add)
}

/// Sum of `(x_i - mean)^2`.
#[inline(always)]
pub fn sum_of_squared_deviations<F: Float>(x: &[F], mean: F) -> F {
    lanes2(x, x, |x, _, sum| {
        let deviation = x - mean;
        deviation.mul_add(deviation, sum)
    })
}

/// The largest value; minus infinity if there is none.
#[inline(always)]
pub fn maximum<F: Float>(x: &[F]) -> F {
    let mut lanes = [F::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = chunk[i].maximum(lanes[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = x.maximum(*lane);
    }
    lanes.into_iter().fold(F::NEG_INFINITY, Float::maximum)
}

/// Replaces each `s` by `p = exp(s - shift)`; gives `(sum p, sum p (s - shift))`.
#[inline(always)]
pub fn exp_shifted<F: Float>(scores: &mut [F], shift: F) -> (F, F) {
    let mut sums = [F::ZERO; LANES];
    let mut weighted = [F::ZERO; LANES];
    let mut chunks = scores.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for i in 0..LANES {
            let s = chunk[i] - shift;
            let p = s.exp();
            chunk[i] = p;
            sums[i] += p;
            weighted[i] = p.mul_add(s, weighted[i]);
        }
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        // A whole chunk again, whose last lanes add nothing.
        let mut differences = [F::from_f64(VANISHING); LANES];
        for (difference, &score) in differences.iter_mut().zip(rest.iter()) {
            *difference = score - shift;
        }
        let mut powers = [F::ZERO; LANES];
        for i in 0..LANES {
            let p = differences[i].exp();
            powers[i] = p;
            sums[i] += p;
            weighted[i] = p.mul_add(differences[i], weighted[i]);
        }
        rest.copy_from_slice(&powers[..rest.len()]);
    }
    (fold(sums), fold(weighted))
}

/// Replaces pairs `(x_i, y_i)` by `f(x_i, y_i)`, a chunk of lanes at a time, the last one filled up with zeros: a loop over so
/// few values as a row of attention has would be left to scalars.
#[inline(always)]
pub(crate) fn map_pairs<F: Float>(x: &mut [F], y: &mut [F], f: impl Fn(F, F) -> (F, F)) {
    let (mut xs, mut ys) = (x.chunks_exact_mut(LANES), y.chunks_exact_mut(LANES));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for i in 0..LANES {
            (x[i], y[i]) = f(x[i], y[i]);
        }
    }
    let (x_rest, y_rest) = (xs.into_remainder(), ys.into_remainder());
    if x_rest.is_empty() {
        return;
    }
    let (mut x, mut y) = ([F::ZERO; LANES], [F::ZERO; LANES]);
    x[..x_rest.len()].copy_from_slice(x_rest);
    y[..y_rest.len()].copy_from_slice(y_rest);
    for i in 0..LANES {
        (x[i], y[i]) = f(x[i], y[i]);
    }
    x_rest.copy_from_slice(&x[..x_rest.len()]);
    y_rest.copy_from_slice(&y[..y_rest.len()]);
}

/// `y += a x`.
#[inline(always)]
pub fn add_scaled<F: Float>(y: &mut [F], a: F, x: &[F]) {
    assert_eq!(x.len(), y.len(), "add_scaled: lengths differ");
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x.mul_add(a, *y);
    }
}

/// `y += x`.
pub fn add<F: Float>(y: &mut [F], x: &[F]) {
    assert_eq!(x.len(), y.len(), "add: lengths differ");
    dispatch(
        #[inline(always)]
        || {
            for (y, &x) in y.iter_mut().zip(x) {
                *y += x;
            }
        },
    );
}

/// `y *= a`.
pub fn scale<F: Float>(y: &mut [F], a: F) {
    dispatch(
        #[inline(always)]
        || {
            for y in y.iter_mut() {
                *y *= a;
            }
        },
    );
}

/// Adds `bias` to each row of `y`.
///
/// # Shapes
/// `y`: rows x bias.len().
pub fn add_to_rows<F: Float>(y: &mut [F], bias: &[F]) {
    assert_eq!(y.len() % bias.len(), 0, "add_to_rows: rows of another length");
    dispatch(
        #[inline(always)]
        || {
            for row in y.chunks_exact_mut(bias.len()) {
                for (y, &b) in row.iter_mut().zip(bias) {
                    *y += b;
                }
            }
        },
    );
}

/// Adds each row of `rows` to `sum`: the gradient of a bias, from that of the rows it was added to.
///
/// # Shapes
/// `rows`: any number x sum.len().
pub fn add_columns<F: Float>(sum: &mut [F], rows: &[F]) {
    assert_eq!(rows.len() % sum.len(), 0, "add_columns: rows of another length");
    dispatch(
        #[inline(always)]
        || {
            for row in rows.chunks_exact(sum.len()) {
                for (sum, &value) in sum.iter_mut().zip(row) {
                    *sum += value;
                }
            }
        },
    );
}

/// Values that are squared in f32 and added in lanes before they join a sum in f64.
const SQUARES_AT_ONCE: usize = 1024;

/// Sum of squares over as many values as a model has parameters: short runs in `F`, their sums in f64.
pub fn sum_of_squares_wide<F: Float>(x: &[F]) -> f64 {
    dispatch(
        #[inline(always)]
        || {
            let mut sum = 0.0;
            for run in x.chunks(SQUARES_AT_ONCE) {
                sum += sum_of_squares(run).to_f64();
            }
            sum
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect()
    }

    #[test]
    fn reductions_agree_with_naive_sums_at_odd_sizes() {
        for n in [0, 1, 5, 31, 32, 33, 64, 100, 577] {
            let x = values(n);
            let y: Vec<f32> = x.iter().map(|v| v * 0.5 - 0.1).collect();
            let close = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-4 * (1.0 + b.abs()), "{n}: {a} {b}");
            close(sum(&x), x.iter().map(|&v| f64::from(v)).sum());
            close(sum_of_squares(&x), x.iter().map(|&v| f64::from(v).powi(2)).sum());
            close(dot(&x, &y), x.iter().zip(&y).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum());
            close(sum_of_squared_deviations(&x, 0.5), x.iter().map(|&v| (f64::from(v) - 0.5).powi(2)).sum());
            assert_eq!(maximum(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }

    #[test]
    fn exp_shifted_agrees_with_naive() {
        for n in [1, 31, 33, 70] {
            let x = values(n);
            let mut p = x.clone();
            let (total, weighted) = dispatch(
                #[inline(always)]
                || exp_shifted(&mut p, 3.0),
            );
            let exact: Vec<f64> = x.iter().map(|&v| (f64::from(v) - 3.0).exp()).collect();
            let exact_weighted: f64 = x.iter().zip(&exact).map(|(&v, p)| (f64::from(v) - 3.0) * p).sum();
            assert!((f64::from(total) - exact.iter().sum::<f64>()).abs() < 1e-5);
            assert!((f64::from(weighted) - exact_weighted).abs() < 1e-4);
            assert!(p.iter().zip(&exact).all(|(&a, &b)| (f64::from(a) - b).abs() < 1e-6));
        }
    }

    #[test]
    fn pairs_are_mapped_one_by_one() {
        for n in [0, 1, 31, 32, 33, 70] {
            let (x, y) = (values(n), values(n).into_iter().rev().collect::<Vec<_>>());
            let (mut mapped_x, mut mapped_y) = (x.clone(), y.clone());
            map_pairs(&mut mapped_x, &mut mapped_y, |x, y| (y - 1.0, x * y));
            let expected = x.iter().zip(&y).map(|(&x, &y)| (y - 1.0, x * y));
            assert!(mapped_x.into_iter().zip(mapped_y).eq(expected), "{n}");
        }
    }

    #[test]
    fn columns_add_up() {
        let rows: Vec<f64> = (0..7 * 37).map(f64::from).collect();
        let mut sum = vec![1.0; 37];
        add_columns(&mut sum, &rows);
        for (column, sum) in sum.iter().enumerate() {
            assert_eq!(*sum, 1.0 + (0..7).map(|row| rows[row * 37 + column]).sum::<f64>());
        }
    }

    #[test]
    fn squares_of_many_values_lose_nothing() {
        let x = vec![1.1f32; 3_000_001];
        let exact = f64::from(1.1f32).powi(2) * x.len() as f64;
        assert!((sum_of_squares_wide(&x) / exact - 1.0).abs() < 1e-6);
        assert_eq!(sum_of_squares_wide::<f32>(&[]), 0.0);
    }
}
