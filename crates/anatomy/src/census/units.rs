//! The hidden units that make a channel: a large entry of W_down, and rows of W_gate and W_up that point the same way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quadratic::QuadraticForm;

/// Units listed per channel.
pub const TOP_UNITS: usize = 5;

/// A hidden unit of a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HiddenUnit {
    /// Index of the unit.
    pub unit: usize,
    /// `W_down[k, i]`.
    pub down: f64,
    /// `||W_gate[i]||`, gamma folded in.
    pub gate_norm: f64,
    /// `||W_up[i]||`, gamma folded in.
    pub up_norm: f64,
    /// Cosine of the two rows.
    pub collinearity: f64,
}

/// Norms and products of the rows of every hidden unit of a block.
#[derive(Debug)]
pub struct UnitRows {
    gate: Vec<f64>,
    up: Vec<f64>,
    product: Vec<f64>,
}

impl UnitRows {
    /// Measures the rows of W_gate and W_up.
    pub fn new(form: &QuadraticForm) -> Self {
        let sums = |a: &[f32], b: &[f32]| {
            let mut sums = vec![0.0; form.d_ffn];
            for (a, b) in a.chunks_exact(form.d_ffn).zip(b.chunks_exact(form.d_ffn)) {
                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                    *sum += f64::from(*a) * f64::from(*b);
                }
            }
            sums
        };
        let roots = |squares: Vec<f64>| squares.into_iter().map(f64::sqrt).collect();
        Self {
            gate: roots(sums(&form.gate, &form.gate)),
            up: roots(sums(form.up(), form.up())),
            product: sums(&form.gate, form.up()),
        }
    }

    /// The units of a channel with the largest `|W_down[k, i]| ||W_gate[i]|| ||W_up[i]||`.
    pub fn of_channel(&self, form: &QuadraticForm, channel: usize) -> Vec<HiddenUnit> {
        let down = form.down_of(channel);
        let size = |unit: usize| f64::from(down[unit]).abs() * self.gate[unit] * self.up[unit];
        let mut order: Vec<usize> = (0..form.d_ffn).collect();
        order.sort_by(|&a, &b| size(b).total_cmp(&size(a)));
        let unit = |unit: usize| {
            let norms = self.gate[unit] * self.up[unit];
            HiddenUnit {
                unit,
                down: f64::from(down[unit]),
                gate_norm: self.gate[unit],
                up_norm: self.up[unit],
                collinearity: if norms > 0.0 { self.product[unit] / norms } else { 0.0 },
            }
        };
        order.into_iter().take(TOP_UNITS).map(unit).collect()
    }
}
