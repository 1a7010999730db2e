//! Every quantity against its definition, computed the long way in f64.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sinkscope_model::Linear;
use sinkscope_model::architecture::Activation;
use sinkscope_model::blocks::{FeedForwardBlock, Norm, Unseen};

use super::norms::norms;
use super::quadratic::QuadraticForm;
use super::spectrum::{self, dense, full};
use super::units::UnitRows;
use crate::wide::{dot_f64, norm_f64};

fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// A block with a norm; `d_ffn` makes several tiles, the last of them odd.
fn block(activation: Activation, gated: bool, (d, hidden): (usize, usize)) -> FeedForwardBlock<f32> {
    let linear = |inputs, outputs, seed| Linear::new(&values(inputs * outputs, seed), None, inputs, outputs);
    FeedForwardBlock {
        input_norm: Some(Norm { gamma: values(d, 4), beta: None, alpha: None, epsilon: 1e-6 }),
        gate: Some(linear(d, hidden, 1)),
        up: gated.then(|| linear(d, hidden, 2)),
        down: Some(linear(hidden, d, 3)),
        output_norm: None,
        post_norm: false,
        activation,
    }
}

const SIZES: [(usize, usize); 3] = [(5, 7), (12, 256), (17, 530)];

/// `U_k` by its definition, gamma folded in, without the coefficient: row-major.
fn naive(block: &FeedForwardBlock<f32>, channel: usize) -> Vec<f64> {
    let (gate, down) = (block.gate.as_ref().expect("a gate"), block.down.as_ref().expect("a second layer"));
    let (d, hidden) = (gate.inputs(), gate.outputs());
    let gamma = &block.input_norm.as_ref().expect("a norm").gamma;
    let up = block.up.as_ref().unwrap_or(gate);
    let folded = |linear: &Linear<f32>, row: usize, unit: usize| {
        f64::from(gamma[row]) * f64::from(linear.weight().get(row, unit))
    };
    let mut out = vec![0.0; d * d];
    for unit in 0..hidden {
        let down = f64::from(down.weight().get(unit, channel));
        for i in 0..d {
            for j in 0..d {
                out[i * d + j] += down * folded(gate, i, unit) * folded(up, j, unit);
            }
        }
    }
    out
}

fn symmetric(u: &[f64], d: usize) -> Vec<f64> {
    (0..d * d).map(|at| f64::midpoint(u[at], u[at % d * d + at / d])).collect()
}

fn frobenius(matrix: &[f64]) -> f64 {
    norm_f64(matrix)
}

fn times(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(x.len()).map(|row| dot_f64(row, x)).collect()
}

fn close(ours: f64, expected: f64, scale: f64) -> bool {
    (ours - expected).abs() <= 2e-6 * scale
}

#[test]
fn norms_are_those_of_the_matrices_formed() {
    for (activation, gated) in [(Activation::Silu, true), (Activation::GeluTanh, true), (Activation::Gelu, false)] {
        for size in SIZES {
            let block = block(activation, gated, size);
            let form = QuadraticForm::new(&block).expect("a quadratic term");
            let found = norms(&form);
            for channel in 0..size.0 {
                let u = naive(&block, channel);
                let expected = form.coefficient * frobenius(&u);
                assert!(close(found.frobenius[channel], expected, expected), "{size:?} {channel}");
                let expected = form.coefficient * frobenius(&symmetric(&u, size.0));
                let found = found.symmetric[channel];
                assert!(close(found, expected, form.coefficient * frobenius(&u)), "{size:?} {channel}");
                let dense = dense(&form, channel);
                assert!(dense.iter().zip(&u).all(|(a, b)| close(f64::from(*a), form.coefficient * b, frobenius(&u))));
            }
        }
    }
}

#[test]
fn the_form_gives_what_the_block_computes_near_the_identity() {
    // With pre-activations this large SiLU is the identity or 0; only units with a positive gate are left.
    let mut block = block(Activation::Silu, true, (5, 7));
    let down = values(35, 9);
    block.down = Some(Linear::new(&down, None, 7, 5));
    let form = QuadraticForm::new(&block).expect("gated");
    let x = values(3 * 5, 8);
    let gamma = &block.input_norm.as_ref().expect("a norm").gamma;
    let input: Vec<f32> = x.iter().zip(gamma.iter().cycle()).map(|(x, gamma)| x * gamma).collect();
    let (mut gate, mut up) = (vec![0.0; 21], vec![0.0; 21]);
    block.gate.as_ref().expect("a gate").forward(&mut gate, &input);
    block.up.as_ref().expect("gated").forward(&mut up, &input);
    let expected: Vec<f32> = (0..3)
        .flat_map(|row| (0..5).map(move |channel| (row, channel)))
        .map(|(row, k)| (0..7).map(|i| gate[row * 7 + i] * up[row * 7 + i] * down[i * 5 + k]).sum())
        .collect();
    let found = form.outputs(&x);
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    for (row, x) in x.chunks_exact(5).enumerate() {
        let x: Vec<f64> = x.iter().map(|&value| f64::from(value)).collect();
        for channel in 0..5 {
            let image = times(&naive(&block, channel), &x);
            let form = dot_f64(&image, &x);
            assert!((form - f64::from(expected[row * 5 + channel])).abs() < 1e-5);
        }
    }
}

/// `(F(x) + F(-x)) / 2` is the even part, whose lowest order is the form.
#[test]
fn without_a_gate_the_form_is_the_second_order_term() {
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
        let mut block = block(activation, false, (5, 40));
        block.input_norm = None;
        let form = QuadraticForm::new(&block).expect("a second-order term");
        let x: Vec<f32> = values(5, 8).iter().map(|value| 0.02 * value).collect();
        let run = |x: &[f32]| {
            let (mut gate, mut out, mut added) = (vec![0.0; 40], vec![0.0; 5], vec![0.0; 5]);
            let hidden = block.activate(x, &mut gate, &mut [], None, &mut Unseen);
            block.output(hidden, &mut out, &mut added, None, &mut Unseen);
            added
        };
        let opposite: Vec<f32> = x.iter().map(|value| -value).collect();
        let even: Vec<f32> = run(&x).iter().zip(run(&opposite)).map(|(a, b)| (a + b) / 2.0).collect();
        let found = form.outputs(&x);
        let scale = found.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(
            scale > 0.0 && even.iter().zip(&found).all(|(a, b)| (a - b).abs() < 0.01 * scale),
            "{even:?} {found:?}"
        );
    }
    assert!(QuadraticForm::new(&block(Activation::Relu, false, (5, 7))).is_none());
}

#[test]
fn spectra_are_those_of_the_dense_matrix() {
    // The largest needs restarts: its dimension exceeds that of the subspace.
    for (d, hidden) in [(3, 4), (17, 530), (150, 40)] {
        let block = block(Activation::Silu, true, (d, hidden));
        let form = QuadraticForm::new(&block).expect("gated");
        for channel in [0, d - 1] {
            let s = symmetric(&naive(&block, channel), d);
            let all = full(&form, channel).expect("a decomposition");
            assert_eq!(all.eigenvalues.len(), d);
            let norm = frobenius(&s);
            let squares = norm_f64(&all.eigenvalues);
            assert!(close(squares, norm, norm));
            let trace: f64 = (0..d).map(|i| s[i * d + i]).sum();
            assert!(close(all.eigenvalues.iter().sum(), trace, norm * d as f64));

            let leading = spectrum::leading(&form, channel, 0);
            assert_eq!(leading.eigenvalues.len(), spectrum::LEADING.min(d));
            for (ours, expected) in leading.eigenvalues.iter().zip(&all.eigenvalues) {
                assert!((ours - expected).abs() < 1e-5 * norm, "{d}: {ours} {expected}");
            }
            assert!(leading.residual < 1e-5 && all.residual < 1e-5, "{} {}", leading.residual, all.residual);
            let image = times(&s, &leading.trigger);
            let off = image.iter().zip(&leading.trigger).map(|(a, b)| (a - leading.eigenvalues[0] * b).abs());
            assert!(off.fold(0.0, f64::max) < 1e-5 * norm);
            assert!((frobenius(&leading.trigger) - 1.0).abs() < 1e-9);

            let x = values(d, 5);
            let applied = form.apply(&form.down_of(channel), &x);
            let expected = times(&s, &x.iter().map(|&value| f64::from(value)).collect::<Vec<_>>());
            assert!(applied.iter().zip(expected).all(|(a, b)| close(f64::from(*a), b, norm * 4.0)));
        }
    }
}

/// One hidden unit makes U_k of rank one: `w g u^T`, whose S_k has two eigenvalues, `w (g.u +- |g||u|) / 2`.
#[test]
fn a_single_unit_has_a_known_spectrum() {
    let block = block(Activation::Silu, true, (9, 1));
    let form = QuadraticForm::new(&block).expect("gated");
    let unit = &UnitRows::new(&form).of_channel(&form, 4)[0];
    let half = unit.down * unit.gate_norm * unit.up_norm / 2.0;
    let found = spectrum::leading(&form, 4, 0);
    let mut expected = [half * (unit.collinearity + 1.0), half * (unit.collinearity - 1.0)];
    expected.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
    assert!(found.eigenvalues[..2].iter().zip(expected).all(|(a, b)| close(*a, b, half.abs())));
    assert!(found.eigenvalues[2].abs() < 1e-6);
    assert!(close(norms(&form).frobenius[4], 2.0 * half.abs(), half.abs()));
}
