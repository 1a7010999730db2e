//! Normalisations of rows: RMSNorm (eq. 5) and LayerNorm.

use crate::Float;
use crate::simd::{dispatch, sum, sum_of_squared_deviations, sum_of_squares};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
