//! How far one distribution over a vocabulary is from another: logits of both seen in pieces, one range of ids at a time.

use crate::simd::{dispatch, dot, exp_shifted, maximum};

/// Two rows of logits, `p` and `q`, as far as they were seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunningDivergence {
    p: Side,
    q: Side,
    /// Sum of `exp(p_i - p.largest) (p_i - q_i)`.
    cross: f64,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Side {
    largest: f64,
    /// The first id that has it.
    top: usize,
    /// Sum of `exp(logit - largest)`.
    sum: f64,
}

impl Side {
    const NOTHING: Self = Self { largest: f64::NEG_INFINITY, top: 0, sum: 0.0 };

    fn log_sum_exp(&self) -> f64 {
        self.largest + self.sum.ln()
    }

    /// Takes in what was seen later; gives the factors by which both sums were scaled.
    fn merge(&mut self, later: &Self) -> (f64, f64) {
        let largest = self.largest.max(later.largest);
        let factor = |side: &Self| if side.sum > 0.0 { (side.largest - largest).exp() } else { 0.0 };
        let factors = (factor(self), factor(later));
        if later.largest > self.largest {
            self.top = later.top;
        }
        self.sum = self.sum * factors.0 + later.sum * factors.1;
        self.largest = largest;
        factors
    }
}

impl Default for RunningDivergence {
    fn default() -> Self {
        Self { p: Side::NOTHING, q: Side::NOTHING, cross: 0.0 }
    }
}

impl RunningDivergence {
    /// The Kullback-Leibler divergence of softmax `p` to softmax `q`, `sum p (log p - log q)`, in nats; equal rows have 0.
    pub fn divergence(&self) -> f64 {
        // Never negative but for rounding.
        (self.cross / self.p.sum - self.p.log_sum_exp() + self.q.log_sum_exp()).max(0.0)
    }

    /// Whether both have their largest logit, the first of equal ones, at the same id.
    pub fn same_top(&self) -> bool {
        self.p.top == self.q.top
    }

    /// Takes in what was seen of later ids.
    pub fn merge(&mut self, later: &Self) {
        let (own, theirs) = self.p.merge(&later.p);
        self.cross = self.cross * own + later.cross * theirs;
        self.q.merge(&later.q);
    }
}

/// What the logits of ids `first_id ..` tell of one row.
///
/// # Panics
/// If the lengths differ.
pub fn divergence_of_piece(p: &[f32], q: &[f32], first_id: usize, scratch: &mut Vec<f32>) -> RunningDivergence {
    assert_eq!(p.len(), q.len(), "divergence_of_piece: lengths differ");
    scratch.clear();
    scratch.extend_from_slice(p);
    scratch.extend(p.iter().zip(q).map(|(p, q)| p - q));
    let (values, difference) = scratch.split_at_mut(p.len());
    dispatch(
        #[inline(always)]
        || {
            let side = |logits: &[f32], largest: f32, sum: f32| Side {
                largest: f64::from(largest),
                top: first_id + logits.iter().position(|&logit| logit == largest).unwrap_or(0),
                sum: f64::from(sum),
            };
            let largest = maximum(p);
            let (sum, _) = exp_shifted(values, largest);
            let of_p = side(p, largest, sum);
            let cross = f64::from(dot(values, difference));
            values.copy_from_slice(q);
            let largest = maximum(q);
            let (sum, _) = exp_shifted(values, largest);
            RunningDivergence { p: of_p, q: side(q, largest, sum), cross }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(seed: usize, count: usize) -> Vec<f32> {
        (0..count).map(|at| ((at * 7919 + seed * 104_729) % 1009) as f32 / 40.0 - 12.0).collect()
    }

    fn whole(p: &[f32], q: &[f32], piece: usize) -> RunningDivergence {
        let mut running = RunningDivergence::default();
        let mut scratch = Vec::new();
        for (at, (p, q)) in p.chunks(piece).zip(q.chunks(piece)).enumerate() {
            running.merge(&divergence_of_piece(p, q, at * piece, &mut scratch));
        }
        running
    }

    /// The definition in f64.
    fn reference(p: &[f32], q: &[f32]) -> f64 {
        let log_softmax = |logits: &[f32]| -> Vec<f64> {
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            logits.iter().map(|&logit| f64::from(logit) - sum.ln()).collect()
        };
        log_softmax(p).iter().zip(log_softmax(q)).map(|(p, q)| p.exp() * (p - q)).sum()
    }

    #[test]
    fn pieces_agree_with_the_definition() {
        for count in [1, 15, 103, 1030] {
            let (p, q) = (logits(1, count), logits(2, count));
            let near: Vec<f32> = p.iter().enumerate().map(|(at, p)| p + 0.01 * (at % 7) as f32).collect();
            for q in [q, near] {
                for piece in [1, 10, 64, 2000] {
                    let found = whole(&p, &q, piece).divergence();
                    assert!((found - reference(&p, &q)).abs() < 2e-6 * (1.0 + found), "{count} {piece}: {found}");
                }
            }
        }
    }

    #[test]
    fn equal_rows_have_no_divergence_and_the_first_of_equal_tops_counts() {
        let p = logits(3, 500);
        for piece in [7, 100, 500] {
            let same = whole(&p, &p, piece);
            assert!(same.divergence() == 0.0 && same.same_top());
        }
        let tied = [1.0, 5.0, 5.0, 2.0];
        for (q, expected) in
            [([0.0, 6.0, 1.0, 6.0], true), ([0.0, 1.0, 6.0, 6.0], false), ([7.0, 6.0, 6.0, 7.0], false)]
        {
            for piece in [1, 2, 4] {
                assert_eq!(whole(&tied, &q, piece).same_top(), expected);
            }
        }
    }
}
