//! Activations of feed-forward blocks, and the soft cap.

use crate::Float;
use crate::simd::dispatch;

/// The nonlinearity of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)` (eq. 12).
    Silu,
    /// `x * Phi(x)`, with the error function.
    Gelu,
    /// GeLU with tanh in place of the error function, as GPT-2 and Gemma have it.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

#[inline(always)]
fn silu<F: Float>(x: F) -> F {
    x / (F::ONE + (-x).exp())
}

#[inline(always)]
fn gelu<F: Float>(x: F) -> F {
    let half = F::from_f64(0.5);
    half * x * (F::ONE + (x * F::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

#[inline(always)]
fn gelu_tanh<F: Float>(x: F) -> F {
    let inner = F::from_f64(0.797_884_560_802_865_4) * x * (F::ONE + F::from_f64(0.044_715) * x * x);
    F::from_f64(0.5) * x * (F::ONE + inner.tanh())
}

#[inline(always)]
fn relu<F: Float>(x: F) -> F {
    x.maximum(F::ZERO)
}

/// `x = activation(x)`.
pub fn activate<F: Float>(activation: Activation, x: &mut [F]) {
    fn each<F: Float>(x: &mut [F], f: impl Fn(F) -> F) {
        dispatch(
            #[inline(always)]
            || {
                for x in x.iter_mut() {
                    *x = f(*x);
                }
            },
        );
    }
    match activation {
        Activation::Silu => each(x, silu),
        Activation::Gelu => each(x, gelu),
        Activation::GeluTanh => each(x, gelu_tanh),
        Activation::Relu => each(x, relu),
    }
}

/// `gate = activation(gate) * up`: the inside of SwiGLU (eq. 12) and GeGLU.
pub fn activate_gated<F: Float>(activation: Activation, gate: &mut [F], up: &[F]) {
    fn each<F: Float>(gate: &mut [F], up: &[F], f: impl Fn(F) -> F) {
        assert_eq!(gate.len(), up.len(), "activate_gated: lengths differ");
        dispatch(
            #[inline(always)]
            || {
                for (gate, &up) in gate.iter_mut().zip(up) {
                    *gate = f(*gate) * up;
                }
            },
        );
    }
    match activation {
        Activation::Silu => each(gate, up, silu),
        Activation::Gelu => each(gate, up, gelu),
        Activation::GeluTanh => each(gate, up, gelu_tanh),
        Activation::Relu => each(gate, up, relu),
    }
}

/// `x = cap * tanh(x / cap)`, as Gemma 2 bounds scores and logits.
#[inline(always)]
pub fn soft_cap<F: Float>(x: &mut [F], cap: F) {
    let inverse = F::ONE / cap;
    for x in x.iter_mut() {
        *x = cap * (*x * inverse).tanh();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => 0.5 * x * libm::erfc(-x / 2f64.sqrt()),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
            Activation::Relu => x.max(0.0),
        }
    }

    #[test]
    fn activations_agree_with_their_definitions_in_both_precisions() {
        for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            let x: Vec<f64> = (-400..400).map(|i| f64::from(i) / 23.0).collect();
            let mut wide = x.clone();
            activate(activation, &mut wide);
            let mut narrow: Vec<f32> = x.iter().map(|&v| v as f32).collect();
            let mut gated = narrow.clone();
            let up: Vec<f32> = narrow.iter().map(|v| 2.0 - v).collect();
            activate(activation, &mut narrow);
            activate_gated(activation, &mut gated, &up);
            for i in 0..x.len() {
                let truth = exact(activation, x[i]);
                assert!((wide[i] - truth).abs() < 1e-13, "{activation:?} {}", x[i]);
                assert!((f64::from(narrow[i]) - truth).abs() < 3e-6, "{activation:?} {} {}", x[i], narrow[i]);
                assert_eq!(gated[i], narrow[i] * up[i]);
            }
        }
    }

    #[test]
    fn soft_cap_bounds_and_is_nearly_the_identity_near_zero() {
        let mut x = [0.01f32, -0.01, 100.0, -1e6];
        soft_cap(&mut x, 5.0);
        assert!((x[0] - 0.01).abs() < 1e-7 && (x[1] + 0.01).abs() < 1e-7);
        assert_eq!((x[2], x[3]), (5.0, -5.0));
    }
}
