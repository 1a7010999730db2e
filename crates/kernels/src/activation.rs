//! Activations of feed-forward blocks, gated and not, and the soft cap.

use serde::{Deserialize, Serialize};

use crate::Float;
use crate::simd::dispatch;

/// The nonlinearity of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

/// An activation as a type: a function that is passed as a value is not always inlined, and then not vectorised.
trait Curve {
    fn value<F: Float>(x: F) -> F;
    /// The activation at x, and its derivative there.
    fn value_and_slope<F: Float>(x: F) -> (F, F);
}

struct Silu;

impl Curve for Silu {
    #[inline(always)]
    fn value<F: Float>(x: F) -> F {
        x / (F::ONE + (-x).exp())
    }

    #[inline(always)]
    fn value_and_slope<F: Float>(x: F) -> (F, F) {
        let open = sigmoid(x);
        let value = x * open;
        (value, (F::ONE - open).mul_add(value, open))
    }
}

struct Gelu;

impl Curve for Gelu {
    #[inline(always)]
    fn value<F: Float>(x: F) -> F {
        let half = F::from_f64(0.5);
        half * x * (F::ONE + (x * F::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf())
    }

    #[inline(always)]
    fn value_and_slope<F: Float>(x: F) -> (F, F) {
        let half = F::from_f64(0.5);
        let cumulative = half * (F::ONE + (x * F::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf());
        let density = F::from_f64(0.398_942_280_401_432_7) * (-half * x * x).exp();
        (x * cumulative, x.mul_add(density, cumulative))
    }
}

struct GeluTanh;

impl Curve for GeluTanh {
    #[inline(always)]
    fn value<F: Float>(x: F) -> F {
        let inner = F::from_f64(0.797_884_560_802_865_4) * x * (F::ONE + F::from_f64(0.044_715) * x * x);
        F::from_f64(0.5) * x * (F::ONE + inner.tanh())
    }

    #[inline(always)]
    fn value_and_slope<F: Float>(x: F) -> (F, F) {
        let (root, cubic) = (F::from_f64(0.797_884_560_802_865_4), F::from_f64(0.044_715));
        let square = cubic * x * x;
        let bounded = (root * x * (F::ONE + square)).tanh();
        let half = F::from_f64(0.5);
        let inner_slope = root * (F::ONE + F::from_f64(3.0) * square);
        let slope = half * (F::ONE + bounded) + half * x * (F::ONE - bounded * bounded) * inner_slope;
        (half * x * (F::ONE + bounded), slope)
    }
}

struct Relu;

impl Curve for Relu {
    #[inline(always)]
    fn value<F: Float>(x: F) -> F {
        // In this order an undefined x stays undefined.
        F::ZERO.maximum(x)
    }

    #[inline(always)]
    fn value_and_slope<F: Float>(x: F) -> (F, F) {
        (Self::value(x), if x > F::ZERO { F::ONE } else { F::ZERO })
    }
}

/// Calls `$each::<F, C>` with the curve of an activation.
macro_rules! with_curve {
    ($activation:expr, $each:ident($($argument:expr),*)) => {
        match $activation {
            Activation::Silu => $each::<F, Silu>($($argument),*),
            Activation::Gelu => $each::<F, Gelu>($($argument),*),
            Activation::GeluTanh => $each::<F, GeluTanh>($($argument),*),
            Activation::Relu => $each::<F, Relu>($($argument),*),
        }
    };
}

#[inline(always)]
pub(crate) fn sigmoid<F: Float>(x: F) -> F {
    F::ONE / (F::ONE + (-x).exp())
}

/// `x = activation(x)`.
pub fn activate<F: Float>(activation: Activation, x: &mut [F]) {
    fn each<F: Float, C: Curve>(x: &mut [F]) {
        dispatch(
            #[inline(always)]
            || {
                for x in x.iter_mut() {
                    *x = C::value(*x);
                }
            },
        );
    }
    with_curve!(activation, each(x));
}

/// `gate = activation(gate) * up`: the inside of SwiGLU (eq. 12) and GeGLU.
pub fn activate_gated<F: Float>(activation: Activation, gate: &mut [F], up: &[F]) {
    fn each<F: Float, C: Curve>(gate: &mut [F], up: &[F]) {
        assert_eq!(gate.len(), up.len(), "activate_gated: lengths differ");
        dispatch(
            #[inline(always)]
            || {
                for (gate, &up) in gate.iter_mut().zip(up) {
                    *gate = C::value(*gate) * up;
                }
            },
        );
    }
    with_curve!(activation, each(gate, up));
}

/// `hidden = activation(gate) * up`, leaving both as they are for the backward.
pub fn activate_gated_into<F: Float>(activation: Activation, hidden: &mut [F], gate: &[F], up: &[F]) {
    fn each<F: Float, C: Curve>(hidden: &mut [F], gate: &[F], up: &[F]) {
        assert!(hidden.len() == gate.len() && up.len() == gate.len(), "activate_gated_into: lengths differ");
        dispatch(
            #[inline(always)]
            || {
                for ((hidden, &gate), &up) in hidden.iter_mut().zip(gate).zip(up) {
                    *hidden = C::value(gate) * up;
                }
            },
        );
    }
    with_curve!(activation, each(hidden, gate, up));
}

/// Gradient of [`activate`]: `dx = dy * activation'(x)`.
pub fn activate_backward<F: Float>(activation: Activation, dx: &mut [F], dy: &[F], x: &[F]) {
    fn each<F: Float, C: Curve>(dx: &mut [F], dy: &[F], x: &[F]) {
        assert!(dx.len() == x.len() && dy.len() == x.len(), "activate_backward: lengths differ");
        dispatch(
            #[inline(always)]
            || {
                for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
                    *dx = dy * C::value_and_slope(x).1;
                }
            },
        );
    }
    with_curve!(activation, each(dx, dy, x));
}

/// Values that [`activate_gated_backward`] reads before it writes any: with six streams, the compiler cannot make sure that
/// they do not overlap.
const BLOCK: usize = 32;

/// What [`activate_gated_backward`] writes, all of one length.
#[derive(Debug)]
pub struct GatedBackward<'a, F> {
    /// `d_hidden * up * activation'(gate)`.
    pub d_gate: &'a mut [F],
    /// `d_hidden * activation(gate)`.
    pub d_up: &'a mut [F],
    /// `activation(gate) * up` once more, which the gradient of W_down needs.
    pub hidden: &'a mut [F],
}

/// Gradients of `hidden = activation(gate) * up`, in one sweep.
///
/// # Shapes
/// All slices have the same length.
pub fn activate_gated_backward<F: Float>(
    activation: Activation,
    out: GatedBackward<'_, F>,
    d_hidden: &[F],
    gate: &[F],
    up: &[F],
) {
    fn each<F: Float, C: Curve>(out: GatedBackward<'_, F>, d_hidden: &[F], gate: &[F], up: &[F]) {
        let GatedBackward { d_gate, d_up, hidden } = out;
        let lengths = [d_gate.len(), d_up.len(), hidden.len(), gate.len(), up.len()];
        assert_eq!(lengths, [d_hidden.len(); 5], "activate_gated_backward: lengths differ");
        dispatch(
            #[inline(always)]
            || {
                let ((d_gates, d_gate), (d_ups, d_up)) =
                    (d_gate.as_chunks_mut::<BLOCK>(), d_up.as_chunks_mut::<BLOCK>());
                let ((hiddens, hidden), (d_hiddens, d_hidden)) =
                    (hidden.as_chunks_mut::<BLOCK>(), d_hidden.as_chunks::<BLOCK>());
                let ((gates, gate), (ups, up)) = (gate.as_chunks::<BLOCK>(), up.as_chunks::<BLOCK>());
                let blocks = d_gates.iter_mut().zip(d_ups).zip(hiddens).zip(d_hiddens.iter().zip(gates).zip(ups));
                for (((d_gate, d_up), hidden), ((d_hidden, gate), up)) in blocks {
                    let mut new = ([F::ZERO; BLOCK], [F::ZERO; BLOCK], [F::ZERO; BLOCK]);
                    for i in 0..BLOCK {
                        let (active, slope) = C::value_and_slope(gate[i]);
                        new.0[i] = d_hidden[i] * up[i] * slope;
                        new.1[i] = d_hidden[i] * active;
                        new.2[i] = up[i] * active;
                    }
                    (*d_gate, *d_up, *hidden) = new;
                }
                for i in 0..gate.len() {
                    let (active, slope) = C::value_and_slope(gate[i]);
                    d_gate[i] = d_hidden[i] * up[i] * slope;
                    d_up[i] = d_hidden[i] * active;
                    hidden[i] = up[i] * active;
                }
            },
        );
    }
    with_curve!(activation, each(out, d_hidden, gate, up));
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
    use crate::differences::{assert_close, convert, gradient, inner, values};

    const ALL: [Activation; 4] = [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu];

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
        for activation in ALL {
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

    #[test]
    fn gradients_agree_with_differences_and_f32_with_f64() {
        for count in [1, 31, 64, 77] {
            let x: Vec<f64> = values(count, 1).iter().map(|value| value * 2.0).collect();
            let dy = values(count, 2);
            for activation in ALL {
                let what = format!("{activation:?} {count}");
                let mut dx = vec![9.0; count];
                activate_backward(activation, &mut dx, &dy, &x);
                let expected = gradient(&x, |x| {
                    let mut y = x.to_vec();
                    activate(activation, &mut y);
                    inner(&y, &dy)
                });
                assert_close(&what, &dx, &expected, 1e-8);
                let mut narrow = vec![9.0; count];
                activate_backward(activation, &mut narrow, &convert::<f32>(&dy), &convert::<f32>(&x));
                assert_close(&what, &narrow, &dx, 1e-5);
            }
        }
    }

    fn gated_backward<F: Float>(activation: Activation, d_hidden: &[f64], gate: &[f64], up: &[f64]) -> [Vec<F>; 3] {
        let (d_hidden, gate, up) = (convert::<F>(d_hidden), convert::<F>(gate), convert::<F>(up));
        let mut out = [vec![F::ONE; gate.len()], vec![F::ONE; gate.len()], vec![F::ONE; gate.len()]];
        let [d_gate, d_up, hidden] = &mut out;
        activate_gated_backward(activation, GatedBackward { d_gate, d_up, hidden }, &d_hidden, &gate, &up);
        let mut again = vec![F::ONE; gate.len()];
        activate_gated_into(activation, &mut again, &gate, &up);
        assert_close("the hidden activations of forward and backward", &again, &convert(&wide(&out[2])), 1e-6);
        out
    }

    fn wide<F: Float>(values: &[F]) -> Vec<f64> {
        values.iter().map(|value| value.to_f64()).collect()
    }

    #[test]
    fn what_is_undefined_stays_so() {
        for activation in ALL {
            let mut x = [1.0_f32, f32::NAN, -1.0];
            activate(activation, &mut x);
            assert_eq!(x.map(f32::is_nan), [false, true, false], "{activation:?}");
            let mut gate = [1.0_f32, f32::NAN, -1.0];
            activate_gated(activation, &mut gate, &[2.0; 3]);
            assert_eq!(gate.map(f32::is_nan), [false, true, false], "{activation:?}");
        }
    }

    #[test]
    fn gradients_through_a_gate_agree_with_differences_and_f32_with_f64() {
        for count in [1, 31, 64, 77] {
            let (gate, up, d_hidden) = (values(count, 1), values(count, 2), values(count, 3));
            for activation in ALL {
                let what = format!("{activation:?} {count}");
                let loss = |gate: &[f64], up: &[f64]| {
                    let mut hidden = gate.to_vec();
                    activate_gated(activation, &mut hidden, up);
                    inner(&hidden, &d_hidden)
                };
                let out = gated_backward::<f64>(activation, &d_hidden, &gate, &up);
                assert_close(&what, &out[0], &gradient(&gate, |gate| loss(gate, &up)), 1e-8);
                assert_close(&what, &out[1], &gradient(&up, |up| loss(&gate, up)), 1e-8);
                let mut hidden = gate.clone();
                activate_gated(activation, &mut hidden, &up);
                assert_close(&what, &out[2], &hidden, 1e-14);
                let narrow = gated_backward::<f32>(activation, &d_hidden, &gate, &up);
                for (narrow, out) in narrow.iter().zip(&out) {
                    assert_close(&what, narrow, out, 1e-5);
                }
            }
        }
    }
}
