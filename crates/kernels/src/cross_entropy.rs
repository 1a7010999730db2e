//! Log-likelihood over a vocabulary: seen in pieces, logits of one range of ids at a time, never whole; or, for training,
//! whole rows that become the gradient in place.

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

/// What the counted rows of a run of logits cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LossSum {
    /// Sum of the negative log-likelihoods of the targets, in nats.
    pub nll: f64,
    /// Rows that count.
    pub counted: usize,
}

/// Turns logits in place into the gradient of `weight` times the sum of the negative log-likelihoods of the targets:
/// `(softmax - onehot) * weight`. A row whose target is no id (`u32::MAX`, say) does not count, and becomes zero.
///
/// # Shapes
/// `logits`: rows x width, all of the vocabulary; `targets`: rows.
pub fn cross_entropy_backward<F: Float>(logits: &mut [F], width: usize, targets: &[u32], weight: F) -> LossSum {
    assert_eq!(logits.len(), targets.len() * width, "cross_entropy_backward: one target a row");
    let mut loss = LossSum::default();
    dispatch(
        #[inline(always)]
        || {
            for (logits, &target) in logits.chunks_exact_mut(width.max(1)).zip(targets) {
                let target = target as usize;
                let Some(&logit) = logits.get(target) else {
                    logits.fill(F::ZERO);
                    continue;
                };
                let largest = maximum(logits);
                let (sum, _) = exp_shifted(logits, largest);
                let factor = weight / sum;
                for value in logits.iter_mut() {
                    *value *= factor;
                }
                logits[target] -= weight;
                loss.nll += (largest - logit).to_f64() + sum.to_f64().ln();
                loss.counted += 1;
            }
        },
    );
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differences::{assert_close, convert, gradient, values};

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

    #[test]
    fn gradients_agree_with_differences_and_f32_with_f64() {
        for (targets, width) in [(vec![0], 1), (vec![3, u32::MAX, 0, 12, 13], 13), (vec![100, 7, u32::MAX, 32], 101)] {
            let weight = 0.3;
            let logits: Vec<f64> = values(targets.len() * width, 1).iter().map(|value| value * 3.0).collect();
            let nll = |logits: &[f64]| -> f64 {
                let rows = logits.chunks_exact(width).zip(&targets);
                let counted = rows.filter(|(_, target)| (**target as usize) < width);
                counted.map(|(row, &t)| row.iter().map(|v| v.exp()).sum::<f64>().ln() - row[t as usize]).sum()
            };
            let mut d = logits.clone();
            let loss = cross_entropy_backward(&mut d, width, &targets, weight);
            assert_eq!(loss.counted, targets.iter().filter(|&&target| (target as usize) < width).count());
            assert!((loss.nll - nll(&logits)).abs() < 1e-12);
            assert_close("logits", &d, &gradient(&logits, |logits| weight * nll(logits)), 1e-7);
            let mut narrow = convert::<f32>(&logits);
            let narrow_loss = cross_entropy_backward(&mut narrow, width, &targets, weight as f32);
            assert_close("logits in f32", &narrow, &d, 1e-5);
            assert!((narrow_loss.nll - loss.nll).abs() < 1e-5 && narrow_loss.counted == loss.counted);
        }
    }
}
