//! AdamW (Loshchilov and Hutter 2019), as PyTorch's `torch.optim.AdamW` computes it, in one sweep.

use crate::Float;
use crate::simd::dispatch;

/// What one step does to every parameter of a slice. In f64, so that `1 - beta2` and the like are rounded only once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean of squares.
    pub epsilon: f64,
    /// Decoupled decay, a factor on the learning rate.
    pub weight_decay: f64,
    /// `1 - beta1^t` at step t, counted from 1.
    pub bias_correction1: f64,
    /// `1 - beta2^t` at step t.
    pub bias_correction2: f64,
    /// Factor on every gradient, from clipping or accumulation; 1 leaves them alone.
    pub gradient_scale: f64,
}

/// `p *= 1 - lr wd; m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g^2;
/// p -= lr / bc1 * m / (sqrt(v) / sqrt(bc2) + eps)`, with g the gradient times its scale.
///
/// # Shapes
/// All slices have the same length.
pub fn adamw<F: Float>(parameters: &mut [F], gradients: &[F], mean: &mut [F], square: &mut [F], step: &Step) {
    let count = parameters.len();
    assert!(gradients.len() == count && mean.len() == count && square.len() == count, "adamw: lengths differ");
    let kept = F::from_f64(1.0 - step.learning_rate * step.weight_decay);
    let (new1, kept2, new2) = (F::from_f64(1.0 - step.beta1), F::from_f64(step.beta2), F::from_f64(1.0 - step.beta2));
    let size = F::from_f64(step.learning_rate / step.bias_correction1);
    let root_correction = F::from_f64(1.0 / step.bias_correction2.sqrt());
    let (epsilon, scale) = (F::from_f64(step.epsilon), F::from_f64(step.gradient_scale));
    dispatch(
        #[inline(always)]
        || {
            let state = mean.iter_mut().zip(square.iter_mut());
            for ((parameter, &gradient), (mean, square)) in parameters.iter_mut().zip(gradients).zip(state) {
                let gradient = gradient * scale;
                let m = (gradient - *mean).mul_add(new1, *mean);
                let v = (new2 * gradient).mul_add(gradient, *square * kept2);
                *mean = m;
                *square = v;
                *parameter = *parameter * kept - size * m / v.sqrt().mul_add(root_correction, epsilon);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differences::{assert_close, convert};

    const BETAS: (f64, f64) = (0.9, 0.95);

    fn step(t: i32, learning_rate: f64, gradient_scale: f64) -> Step {
        Step {
            learning_rate,
            beta1: BETAS.0,
            beta2: BETAS.1,
            epsilon: 1e-8,
            weight_decay: 0.1,
            bias_correction1: 1.0 - BETAS.0.powi(t),
            bias_correction2: 1.0 - BETAS.1.powi(t),
            gradient_scale,
        }
    }

    // What torch.optim.AdamW (PyTorch 2.15.0, f64) makes of them: scripts/make_adamw_values.py.
    const START: [f64; 4] = [0.5, -1.25, 3.0, 0.0];
    const GRADIENTS: [[f64; 4]; 3] = [[0.1, -2.0, 1e-3, 0.0], [-0.3, 1.0, 2e-3, 5.0], [0.2, 0.25, -1e-3, -5.0]];
    const LEARNING_RATES_AND_SCALES: [(f64, f64); 3] = [(1e-2, 1.0), (3e-3, 0.5), (1e-3, 0.25)];
    const AFTER: [[f64; 4]; 3] = [
        [0.489_500_000_999_999_9, -1.238_750_000_05, 2.987_000_099_999, 0.0],
        [0.490_092_690_178_622_1, -1.236_954_077_270_759_7, 2.983_104_029_968_700_4, -0.002_204_879_994_595_096],
        [0.490_057_424_668_809_47, -1.236_478_677_625_147, 2.982_148_202_995_734, -0.002_432_228_401_895_754],
    ];
    const MEAN: [f64; 4] = [-0.000_399_999_999_999_999_53, -0.110_75, 0.000_146, 0.1];
    const SQUARE: [f64; 4] = [0.001_645, 0.192_570_312_5, 9.575e-8, 0.375];

    fn check<F: Float>(tolerance: f64) {
        let mut parameters = convert::<F>(&START);
        let (mut mean, mut square) = (vec![F::ZERO; 4], vec![F::ZERO; 4]);
        for (t, (learning_rate, scale)) in LEARNING_RATES_AND_SCALES.into_iter().enumerate() {
            let gradients = convert::<F>(&GRADIENTS[t]);
            adamw(&mut parameters, &gradients, &mut mean, &mut square, &step(t as i32 + 1, learning_rate, scale));
            for (given, expected) in parameters.iter().zip(AFTER[t]) {
                assert_close(&format!("step {t}"), &[*given], &[expected], tolerance);
            }
        }
        assert_close("mean", &mean, &MEAN, tolerance);
        assert_close("square", &square, &SQUARE, tolerance);
    }

    #[test]
    fn three_steps_agree_with_pytorch() {
        check::<f64>(1e-14);
        check::<f32>(3e-7);
    }

    #[test]
    fn every_parameter_of_an_odd_number_is_stepped_alike() {
        let mut parameters = vec![0.5f32; 77];
        let (mut mean, mut square) = (vec![0.0; 77], vec![0.0; 77]);
        adamw(&mut parameters, &[0.1; 77], &mut mean, &mut square, &step(1, 1e-2, 1.0));
        assert!(parameters.iter().all(|&p| p == parameters[0] && (p - 0.4895).abs() < 1e-6));
    }
}
