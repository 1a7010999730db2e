//! Gates on the heads' outputs (Qiu et al. 2025): each value is multiplied by the sigmoid of a number that may be its
//! own, its head's, or its row's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Float;
use crate::activation::sigmoid;
use crate::simd::{dispatch, dot};

/// How many gates there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One for every channel of every head.
    Channel,
    /// One for every head.
    Head,
    /// One for all heads.
    Single,
}

/// How the gates of a row lie over its heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadGates {
    /// Heads of a row.
    pub heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// How many there are.
    pub granularity: Granularity,
}

impl HeadGates {
    /// Gates of a row.
    pub fn count(self) -> usize {
        match self.granularity {
            Granularity::Channel => self.heads * self.head_dim,
            Granularity::Head => self.heads,
            Granularity::Single => 1,
        }
    }

    /// Checks the shapes, and gives the number of consecutive values that share a gate.
    fn shared<F>(self, heads_output: &[F], gate: &[F]) -> usize {
        let width = self.heads * self.head_dim;
        assert!(width > 0 && heads_output.len().is_multiple_of(width), "gate_heads: rows of another length");
        let shared = width / self.count();
        assert_eq!(gate.len() * shared, heads_output.len(), "gate_heads: another number of gates");
        shared
    }
}

/// `out = heads_output * sigmoid(gate)`, each gate for the values that share it.
///
/// # Shapes
/// `out`, `heads_output`: rows x (heads * head_dim); `gate`: rows x [`count`](HeadGates::count).
pub fn gate_heads<F: Float>(out: &mut [F], heads_output: &[F], gate: &[F], gates: HeadGates) {
    assert_eq!(out.len(), heads_output.len(), "gate_heads: output has another length");
    let shared = gates.shared(heads_output, gate);
    dispatch(
        #[inline(always)]
        || {
            if shared == 1 {
                for ((out, &value), &gate) in out.iter_mut().zip(heads_output).zip(gate) {
                    *out = value * sigmoid(gate);
                }
                return;
            }
            let groups = out.chunks_exact_mut(shared).zip(heads_output.chunks_exact(shared));
            for ((out, values), &gate) in groups.zip(gate) {
                let open = sigmoid(gate);
                for (out, &value) in out.iter_mut().zip(values) {
                    *out = value * open;
                }
            }
        },
    );
}

/// Gradients of [`gate_heads`]: `d_heads = d_out * sigmoid(gate)`, and `d_gate` is the sum over the values that share the
/// gate of `d_out * heads_output * sigmoid(gate) * (1 - sigmoid(gate))`.
///
/// # Shapes
/// `d_heads`, `d_out`, `heads_output`: rows x (heads * head_dim); `d_gate`, `gate`: rows x [`count`](HeadGates::count).
pub fn gate_heads_backward<F: Float>(
    d_heads: &mut [F],
    d_gate: &mut [F],
    d_out: &[F],
    heads_output: &[F],
    gate: &[F],
    gates: HeadGates,
) {
    assert_eq!(d_heads.len(), heads_output.len(), "gate_heads_backward: lengths differ");
    assert_eq!(d_out.len(), heads_output.len(), "gate_heads_backward: lengths differ");
    assert_eq!(d_gate.len(), gate.len(), "gate_heads_backward: another number of gates");
    let shared = gates.shared(heads_output, gate);
    dispatch(
        #[inline(always)]
        || {
            if shared == 1 {
                let inputs = d_out.iter().zip(heads_output).zip(gate);
                for ((d_heads, d_gate), ((&d_out, &value), &gate)) in d_heads.iter_mut().zip(d_gate).zip(inputs) {
                    let open = sigmoid(gate);
                    let through = d_out * open;
                    *d_heads = through;
                    *d_gate = through * value * (F::ONE - open);
                }
                return;
            }
            let inputs = d_out.chunks_exact(shared).zip(heads_output.chunks_exact(shared)).zip(gate);
            for ((d_heads, d_gate), ((d_out, values), &gate)) in
                d_heads.chunks_exact_mut(shared).zip(d_gate).zip(inputs)
            {
                let open = sigmoid(gate);
                for (d_heads, &d_out) in d_heads.iter_mut().zip(d_out) {
                    *d_heads = d_out * open;
                }
                *d_gate = dot(d_heads, values) * (F::ONE - open);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differences::{assert_close, convert, gradient, inner, values};

    #[test]
    fn gradients_agree_with_differences_and_f32_with_f64() {
        for (rows, heads, head_dim) in [(1, 1, 1), (3, 2, 5), (2, 3, 33)] {
            for granularity in [Granularity::Channel, Granularity::Head, Granularity::Single] {
                let width = heads * head_dim;
                let gates = HeadGates { heads, head_dim, granularity };
                let count = gates.count();
                let (output, gate, d_out) = (values(rows * width, 1), values(rows * count, 2), values(rows * width, 3));
                let loss = |output: &[f64], gate: &[f64]| {
                    let mut out = vec![0.0; output.len()];
                    gate_heads(&mut out, output, gate, gates);
                    inner(&out, &d_out)
                };
                let by_hand: f64 = (0..rows * width)
                    .map(|at| {
                        let (row, channel) = (at / width, at % width);
                        let gate = gate[row * count + channel * count / width];
                        output[at] / (1.0 + (-gate).exp()) * d_out[at]
                    })
                    .sum();
                assert!((loss(&output, &gate) - by_hand).abs() < 1e-12);
                let (mut d_heads, mut d_gate) = (vec![9.0; output.len()], vec![9.0; gate.len()]);
                gate_heads_backward(&mut d_heads, &mut d_gate, &d_out, &output, &gate, gates);
                let what = format!("{granularity:?} {rows} x {heads} x {head_dim}");
                assert_close(&what, &d_heads, &gradient(&output, |output| loss(output, &gate)), 1e-8);
                assert_close(&what, &d_gate, &gradient(&gate, |gate| loss(&output, gate)), 1e-8);

                let (output, gate, d_out) = (convert::<f32>(&output), convert::<f32>(&gate), convert::<f32>(&d_out));
                let (mut narrow_heads, mut narrow_gate) = (vec![9.0; output.len()], vec![9.0; gate.len()]);
                let (narrow_heads, narrow_gate) = (&mut narrow_heads, &mut narrow_gate);
                gate_heads_backward(narrow_heads, narrow_gate, &d_out, &output, &gate, gates);
                assert_close(&what, narrow_heads, &d_heads, 1e-5);
                assert_close(&what, narrow_gate, &d_gate, 1e-5);
            }
        }
    }
}
