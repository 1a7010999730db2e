//! Normalisations of rows: RMSNorm (eq. 5), LayerNorm, and DynamicTanh, which takes a norm's place.
//!
//! A backward writes the gradient of the input and adds to those of the parameters.

use crate::Float;
use crate::simd::{dispatch, dot, sum, sum_of_squared_deviations, sum_of_squares, two_sums};

/// `out = x / sqrt(mean(x^2) + eps) * gamma`, row by row.
///
/// # Shapes
/// `x`, `out`: rows x gamma.len().
pub fn rms_norm<F: Float>(out: &mut [F], x: &[F], gamma: &[F], eps: F) {
    let width = gamma.len();
    assert_eq!(x.len(), out.len(), "rms_norm: output has another length");
    assert_eq!(x.len() % width, 0, "rms_norm: rows of another length");
    dispatch(
        #[inline(always)]
        || {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let scale = inverse_rms(x, eps);
                for ((out, &x), &gamma) in out.iter_mut().zip(x).zip(gamma) {
                    *out = x * scale * gamma;
                }
            }
        },
    );
}

/// RMSNorm in place.
///
/// # Shapes
/// `x`: rows x gamma.len().
pub fn rms_norm_in_place<F: Float>(x: &mut [F], gamma: &[F], eps: F) {
    let width = gamma.len();
    assert_eq!(x.len() % width, 0, "rms_norm_in_place: rows of another length");
    dispatch(
        #[inline(always)]
        || {
            for x in x.chunks_exact_mut(width) {
                let scale = inverse_rms(x, eps);
                for (x, &gamma) in x.iter_mut().zip(gamma) {
                    *x = *x * scale * gamma;
                }
            }
        },
    );
}

#[inline(always)]
fn inverse_rms<F: Float>(x: &[F], eps: F) -> F {
    F::ONE / (sum_of_squares(x) / F::from_f64(x.len() as f64) + eps).sqrt()
}

/// `out = (x - mean) / sqrt(variance + eps) * gamma + beta`, row by row; the variance is the population's.
///
/// # Shapes
/// `x`, `out`: rows x gamma.len(); `beta`: gamma.len().
pub fn layer_norm<F: Float>(out: &mut [F], x: &[F], gamma: &[F], beta: &[F], eps: F) {
    let width = gamma.len();
    assert_eq!(beta.len(), width, "layer_norm: gamma and beta differ in length");
    assert_eq!(x.len(), out.len(), "layer_norm: output has another length");
    assert_eq!(x.len() % width, 0, "layer_norm: rows of another length");
    let count = F::from_f64(width as f64);
    dispatch(
        #[inline(always)]
        || {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let mean = sum(x) / count;
                let scale = F::ONE / (sum_of_squared_deviations(x, mean) / count + eps).sqrt();
                for (((out, &x), &gamma), &beta) in out.iter_mut().zip(x).zip(gamma).zip(beta) {
                    *out = ((x - mean) * scale).mul_add(gamma, beta);
                }
            }
        },
    );
}

/// The rows of a backward, each as many values as a row of gamma, one row after the other.
#[derive(Debug)]
pub struct RowGradients<'a, F> {
    /// The gradient of what goes in, to be written.
    pub dx: &'a mut [F],
    /// The gradient of what came out.
    pub dy: &'a [F],
    /// What went in.
    pub x: &'a [F],
}

impl<'a, F: Float> RowGradients<'a, F> {
    /// dx, dy and x, row by row.
    fn rows(self, width: usize) -> impl Iterator<Item = (&'a mut [F], &'a [F], &'a [F])> {
        let Self { dx, dy, x } = self;
        assert!(dx.len() == x.len() && dy.len() == x.len(), "backward of a norm: lengths differ");
        assert_eq!(x.len() % width, 0, "backward of a norm: rows of another length");
        let rows = dx.chunks_exact_mut(width).zip(dy.chunks_exact(width)).zip(x.chunks_exact(width));
        rows.map(|((dx, dy), x)| (dx, dy, x))
    }
}

/// Gradients of [`rms_norm`]. With `r = 1 / sqrt(mean(x^2) + eps)`: `dx = r (gamma dy) - x r^3 mean(gamma dy x)`, and
/// `dgamma += dy x r`.
///
/// # Shapes
/// `rows`: rows x gamma.len(); `dgamma`: gamma.len().
pub fn rms_norm_backward<F: Float>(rows: RowGradients<'_, F>, dgamma: &mut [F], gamma: &[F], eps: F) {
    let width = gamma.len();
    assert_eq!(dgamma.len(), width, "rms_norm_backward: gamma and its gradient differ in length");
    let rows = rows.rows(width);
    let count = F::from_f64(width as f64);
    dispatch(
        #[inline(always)]
        || {
            for (dx, dy, x) in rows {
                let (squares, along) = two_sums(
                    x,
                    dy,
                    gamma,
                    |x, _, _, sum| x.mul_add(x, sum),
                    |x, dy, gamma, sum| (x * dy).mul_add(gamma, sum),
                );
                let scale = F::ONE / (squares / count + eps).sqrt();
                let pull = -(scale * scale * scale * along / count);
                let parameters = gamma.iter().zip(dgamma.iter_mut());
                for (((dx, &dy), &x), (&gamma, dgamma)) in dx.iter_mut().zip(dy).zip(x).zip(parameters) {
                    let scaled = dy * scale;
                    *dx = scaled.mul_add(gamma, x * pull);
                    *dgamma = scaled.mul_add(x, *dgamma);
                }
            }
        },
    );
}

/// Gradients of [`layer_norm`]. With `h = (x - mean) s` and `s = 1 / sqrt(variance + eps)`:
/// `dx = s (gamma dy - mean(gamma dy) - h mean(gamma dy h))`, `dgamma += dy h`, `dbeta += dy`.
///
/// # Shapes
/// `rows`: rows x gamma.len(); `dgamma`, `dbeta`: gamma.len().
pub fn layer_norm_backward<F: Float>(
    rows: RowGradients<'_, F>,
    dgamma: &mut [F],
    dbeta: &mut [F],
    gamma: &[F],
    eps: F,
) {
    let width = gamma.len();
    assert!(dgamma.len() == width && dbeta.len() == width, "layer_norm_backward: parameters differ in length");
    let rows = rows.rows(width);
    let count = F::from_f64(width as f64);
    dispatch(
        #[inline(always)]
        || {
            for (dx, dy, x) in rows {
                let mean = sum(x) / count;
                let scale = F::ONE / (sum_of_squared_deviations(x, mean) / count + eps).sqrt();
                let (level, along) = two_sums(
                    x,
                    dy,
                    gamma,
                    |_, dy, gamma, sum| dy.mul_add(gamma, sum),
                    |x, dy, gamma, sum| ((x - mean) * dy).mul_add(gamma, sum),
                );
                let (level, along) = (level / count, along * scale / count);
                // Two loops over what is in the first-level cache: with six streams in one, the compiler could not make sure
                // that they do not overlap.
                for (((dx, &dy), &x), &gamma) in dx.iter_mut().zip(dy).zip(x).zip(gamma) {
                    *dx = scale * (dy.mul_add(gamma, -level) - (x - mean) * scale * along);
                }
                for (((dgamma, dbeta), &dy), &x) in dgamma.iter_mut().zip(dbeta.iter_mut()).zip(dy).zip(x) {
                    *dgamma = ((x - mean) * scale).mul_add(dy, *dgamma);
                    *dbeta += dy;
                }
            }
        },
    );
}

/// DynamicTanh (Zhu et al. 2025): `out = tanh(alpha x) * gamma + beta`. It mixes no values of a row and bounds them all.
///
/// # Shapes
/// `x`, `out`: rows x gamma.len(); `beta`: gamma.len().
pub fn dynamic_tanh<F: Float>(out: &mut [F], x: &[F], alpha: F, gamma: &[F], beta: &[F]) {
    let width = gamma.len();
    assert_eq!(beta.len(), width, "dynamic_tanh: gamma and beta differ in length");
    assert_eq!(x.len(), out.len(), "dynamic_tanh: output has another length");
    assert_eq!(x.len() % width, 0, "dynamic_tanh: rows of another length");
    dispatch(
        #[inline(always)]
        || {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                for (((out, &x), &gamma), &beta) in out.iter_mut().zip(x).zip(gamma).zip(beta) {
                    *out = (alpha * x).tanh().mul_add(gamma, beta);
                }
            }
        },
    );
}

/// Gradients of [`dynamic_tanh`]. With `t = tanh(alpha x)` and `s = gamma dy (1 - t^2)`: `dx = alpha s`,
/// `dalpha += sum(s x)`, `dgamma += dy t`, `dbeta += dy`.
///
/// # Shapes
/// `rows`: rows x gamma.len(); `dgamma`, `dbeta`: gamma.len().
pub fn dynamic_tanh_backward<F: Float>(
    rows: RowGradients<'_, F>,
    dalpha: &mut F,
    dgamma: &mut [F],
    dbeta: &mut [F],
    alpha: F,
    gamma: &[F],
) {
    let width = gamma.len();
    assert!(dgamma.len() == width && dbeta.len() == width, "dynamic_tanh_backward: parameters differ in length");
    let rows = rows.rows(width);
    let mut steepness = 0.0;
    dispatch(
        #[inline(always)]
        || {
            for (dx, dy, x) in rows {
                // Three short loops, for the reason given in `layer_norm_backward`.
                for (dx, &x) in dx.iter_mut().zip(x) {
                    *dx = (alpha * x).tanh();
                }
                for (((dgamma, dbeta), &dy), &bounded) in dgamma.iter_mut().zip(dbeta.iter_mut()).zip(dy).zip(&*dx) {
                    *dgamma = bounded.mul_add(dy, *dgamma);
                    *dbeta += dy;
                }
                for ((dx, &dy), &gamma) in dx.iter_mut().zip(dy).zip(gamma) {
                    *dx = dy * gamma * (F::ONE - *dx * *dx);
                }
                steepness += dot(dx, x).to_f64();
                for dx in dx.iter_mut() {
                    *dx *= alpha;
                }
            }
        },
    );
    *dalpha += F::from_f64(steepness);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differences::{assert_close, convert, gradient, inner};

    fn values(n: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * 31 % 97) as f64 - 48.0) / 11.0).collect()
    }

    fn check<F: Float>(tolerance: f64) {
        for width in [1, 7, 32, 45, 130] {
            let x = values(3 * width);
            let gamma: Vec<f64> = (0..width).map(|i| 0.5 + i as f64 / width as f64).collect();
            let beta: Vec<f64> = (0..width).map(|i| 0.1 * i as f64 - 0.3).collect();
            let convert = |x: &[f64]| x.iter().map(|&v| F::from_f64(v)).collect::<Vec<F>>();
            let (xf, gf, bf) = (convert(&x), convert(&gamma), convert(&beta));
            let (mut rms, mut layer, mut in_place) = (vec![F::ZERO; x.len()], vec![F::ZERO; x.len()], xf.clone());
            rms_norm(&mut rms, &xf, &gf, F::from_f64(1e-5));
            rms_norm_in_place(&mut in_place, &gf, F::from_f64(1e-5));
            layer_norm(&mut layer, &xf, &gf, &bf, F::from_f64(1e-5));
            for row in 0..3 {
                let x = &x[row * width..(row + 1) * width];
                let n = width as f64;
                let scale = 1.0 / (x.iter().map(|v| v * v).sum::<f64>() / n + 1e-5).sqrt();
                let mean = x.iter().sum::<f64>() / n;
                let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                for i in 0..width {
                    let at = row * width + i;
                    assert!((rms[at].to_f64() - x[i] * scale * gamma[i]).abs() < tolerance);
                    assert_eq!(rms[at].to_f64(), in_place[at].to_f64());
                    let expected = (x[i] - mean) / (variance + 1e-5).sqrt() * gamma[i] + beta[i];
                    assert!((layer[at].to_f64() - expected).abs() < tolerance);
                }
            }
        }
    }

    #[test]
    fn norms_agree_with_naive_in_both_precisions() {
        check::<f32>(1e-5);
        check::<f64>(1e-12);
    }

    const EPS: f64 = 1e-3;

    /// Operands of one backward: x, dy, gamma, beta.
    struct NormCase {
        x: Vec<f64>,
        dy: Vec<f64>,
        gamma: Vec<f64>,
        beta: Vec<f64>,
    }

    impl NormCase {
        fn new(rows: usize, width: usize) -> Self {
            use crate::differences::values;
            Self {
                x: values(rows * width, 1),
                dy: values(rows * width, 2),
                gamma: values(width, 3),
                beta: values(width, 4),
            }
        }

        fn loss(&self, operation: impl Fn(&mut [f64])) -> f64 {
            let mut out = vec![0.0; self.x.len()];
            operation(&mut out);
            inner(&out, &self.dy)
        }
    }

    /// Gradients as (dx, parameters one after the other), parameters starting from `1`.
    fn backward<F: Float>(which: usize, case: &NormCase) -> (Vec<F>, Vec<F>) {
        let (x, dy, gamma) = (convert::<F>(&case.x), convert::<F>(&case.dy), convert::<F>(&case.gamma));
        let eps = F::from_f64(EPS);
        let mut dx = vec![F::from_f64(9.0); x.len()];
        let (mut dgamma, mut dbeta) = (vec![F::ONE; gamma.len()], vec![F::ONE; gamma.len()]);
        let mut dalpha = vec![F::ONE];
        let rows = RowGradients { dx: &mut dx, dy: &dy, x: &x };
        match which {
            0 => rms_norm_backward(rows, &mut dgamma, &gamma, eps),
            1 => layer_norm_backward(rows, &mut dgamma, &mut dbeta, &gamma, eps),
            _ => dynamic_tanh_backward(rows, &mut dalpha[0], &mut dgamma, &mut dbeta, F::from_f64(0.5), &gamma),
        }
        dgamma.append(&mut dbeta);
        dgamma.append(&mut dalpha);
        (dx, dgamma)
    }

    fn forward(which: usize, out: &mut [f64], x: &[f64], gamma: &[f64], beta: &[f64], alpha: f64) {
        match which {
            0 => rms_norm(out, x, gamma, EPS),
            1 => layer_norm(out, x, gamma, beta, EPS),
            _ => dynamic_tanh(out, x, alpha, gamma, beta),
        }
    }

    #[test]
    fn gradients_agree_with_differences_and_f32_with_f64() {
        for (rows, width) in [(1, 2), (3, 7), (5, 33), (4, 130)] {
            let case = NormCase::new(rows, width);
            let NormCase { x, gamma, beta, .. } = &case;
            for which in 0..3 {
                let (dx, parameters) = backward::<f64>(which, &case);
                let what = format!("norm {which}, {rows} x {width}");
                let expected = gradient(x, |x| case.loss(|out| forward(which, out, x, gamma, beta, 0.5)));
                assert_close(&what, &dx, &expected, 1e-7);
                let mut expected = gradient(gamma, |gamma| case.loss(|out| forward(which, out, x, gamma, beta, 0.5)));
                expected.extend(gradient(beta, |beta| case.loss(|out| forward(which, out, x, gamma, beta, 0.5))));
                expected.extend(gradient(&[0.5], |a| case.loss(|out| forward(which, out, x, gamma, beta, a[0]))));
                for gradient in &mut expected {
                    *gradient += 1.0;
                }
                assert_close(&what, &parameters, &expected, 1e-7);
                let (narrow_dx, narrow) = backward::<f32>(which, &case);
                // A norm of two values has next to no slope: what is left is cancellation.
                assert_close(&what, &narrow_dx, &dx, 1e-4);
                assert_close(&what, &narrow, &parameters, 1e-5);
            }
        }
    }

    #[test]
    fn dynamic_tanh_is_what_its_name_says() {
        let (x, gamma, beta) = (values(3 * 45), values(45), values(45));
        let mut out = vec![0.0f32; x.len()];
        dynamic_tanh(&mut out, &convert::<f32>(&x), 0.5, &convert::<f32>(&gamma), &convert::<f32>(&beta));
        for (at, out) in out.iter().enumerate() {
            let expected = (0.5 * x[at]).tanh() * gamma[at % 45] + beta[at % 45];
            assert!((f64::from(*out) - expected).abs() < 1e-5);
        }
    }
}
