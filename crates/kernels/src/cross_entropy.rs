//! Log-likelihood over a vocabulary that is seen in pieces: logits of one range of ids at a time, never whole.

use crate::Float;
use crate::simd::{dispatch, exp_shifted, maximum};

/// The running log-sum-exp of one row, and the logit of its target once seen.
#[derive(Debug, Clone, Copy)]
pub struct RunningLogSumExp<F> {
    maximum: F,
    sum: F,
    target: F,
}

impl<F: Float> Default for RunningLogSumExp<F> {
    fn default() -> Self {
        Self { maximum: F::NEG_INFINITY, sum: F::ZERO, target: F::NEG_INFINITY }
    }
}

impl<F: Float> RunningLogSumExp<F> {
    /// Negative log-likelihood of the target, in nats, once every piece has been seen.
    pub fn nll(&self) -> F {
        self.maximum + self.sum.ln() - self.target
    }
}

/// Takes in the logits of ids `first_id ..`, destroying them.
///
/// # Shapes
/// `logits`: rows x width; `running`, `targets`: rows.
pub fn take_in_logits<F: Float>(
    running: &mut [RunningLogSumExp<F>],
    logits: &mut [F],
    width: usize,
    first_id: usize,
    targets: &[u32],
) {
    assert_eq!(logits.len(), running.len() * width, "take_in_logits: rows differ");
    assert_eq!(targets.len(), running.len(), "take_in_logits: one target a row");
    dispatch(
        #[inline(always)]
        || {
            for ((row, logits), &target) in running.iter_mut().zip(logits.chunks_exact_mut(width)).zip(targets) {
                if let Some(&logit) = (target as usize).checked_sub(first_id).and_then(|i| logits.get(i)) {
                    row.target = logit;
                }
                let largest = maximum(logits).maximum(row.maximum);
                let (sum, _) = exp_shifted(logits, largest);
                row.sum = row.sum.mul_add((row.maximum - largest).exp(), sum);
                row.maximum = largest;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_agree_with_the_whole() {
        let (rows, vocabulary) = (5, 103);
        let logits: Vec<f64> = (0..rows * vocabulary)
            .map(|i| ((i * 7919 % 1009) as f64 - 500.0) / 40.0 + (i / vocabulary) as f64)
            .collect();
        let targets = [0, 102, 50, 49, 77];
        for piece in [1, 10, 50, 103, 200] {
            let mut running = vec![RunningLogSumExp::<f32>::default(); rows];
            for start in (0..vocabulary).step_by(piece) {
                let end = (start + piece).min(vocabulary);
                let mut part: Vec<f32> = (0..rows)
                    .flat_map(|r| logits[r * vocabulary + start..r * vocabulary + end].iter().map(|&v| v as f32))
                    .collect();
                take_in_logits(&mut running, &mut part, end - start, start, &targets);
            }
            for row in 0..rows {
                let all = &logits[row * vocabulary..(row + 1) * vocabulary];
                let exact = all.iter().map(|v| v.exp()).sum::<f64>().ln() - all[targets[row] as usize];
                assert!((f64::from(running[row].nll()) - exact).abs() < 1e-5, "{piece} {row}");
            }
        }
    }
}
