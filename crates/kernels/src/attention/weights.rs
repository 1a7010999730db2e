//! One row of scores becomes one row of weights.

use super::{Mask, Weighting};
use crate::Float;
use crate::activation::sigmoid;
use crate::simd::{exp_shifted, maximum, sum};

/// Sums over a row: weights are `exp(score - shift) / sum` for softmax, and as they are, with shift 0, for sigmoids.
pub(super) struct Sums<F> {
    pub shift: F,
    pub sum: F,
    /// Sum of each exponential times its logarithm; for sigmoids only if the entropy is wanted.
    pub weighted: F,
    /// Weight of the entry that is no key.
    pub entry: F,
}

/// The scores of keys one after the other, and the position of the first of them.
pub(super) type Part<'a, F> = (usize, &'a mut [F]);

/// The scores of one query.
pub(super) struct ScoreRow<'a, F> {
    /// Of the first keys of the sequence, which its window has left behind; may be empty.
    pub far: Part<'a, F>,
    pub near: Part<'a, F>,
    /// Of the entry that is no key.
    pub entry: Option<F>,
    /// Where the query stands.
    pub position: usize,
    pub mask: Mask<'a>,
}

/// Replaces the scores of the keys that the query meets by weights, the others' by 0.
#[inline(always)]
pub(super) fn weigh<F: Float>(
    weighting: Weighting<F>,
    row: ScoreRow<'_, F>,
    met: &mut Vec<F>,
    entropy: bool,
) -> Sums<F> {
    let bias = match weighting {
        Weighting::Softmax => return softmax(row, met),
        Weighting::Sigmoid { bias } => bias,
    };
    let ScoreRow { far, near, entry, position, mask } = row;
    let mut sums = Sums { shift: F::ZERO, sum: F::ZERO, weighted: F::ZERO, entry: F::ZERO };
    for (first, scores) in [far, near] {
        for score in scores.iter_mut() {
            *score = sigmoid(*score + bias);
        }
        if !mask.is_empty() {
            for (at, score) in scores.iter_mut().enumerate() {
                *score = if mask.meet(position, first + at) { *score } else { F::ZERO };
            }
        }
        sums.sum += sum(scores);
        if entropy {
            sums.weighted += scores.iter().map(|&weight| times_logarithm(weight)).sum();
        }
    }
    if let Some(score) = entry {
        sums.entry = sigmoid(score + bias);
        sums.sum += sums.entry;
        sums.weighted += times_logarithm(sums.entry);
    }
    sums
}

fn times_logarithm<F: Float>(weight: F) -> F {
    if weight > F::ZERO { weight * weight.ln() } else { F::ZERO }
}

#[inline(always)]
fn softmax<F: Float>(row: ScoreRow<'_, F>, met: &mut Vec<F>) -> Sums<F> {
    let ScoreRow { far: (far_first, far), near: (near_first, near), entry, position, mask } = row;
    let least = entry.unwrap_or(F::NEG_INFINITY);
    let (shift, (mut sum, mut weighted)) = if mask.is_empty() && far.is_empty() {
        let largest = maximum(near).maximum(least);
        (largest, exp_shifted(near, largest))
    } else {
        exp_of_met(&mut [(far_first, &mut *far), (near_first, &mut *near)], least, position, mask, met)
    };
    let mut entry = entry.map_or(F::ZERO, |score| (score - shift).exp());
    if entry > F::ZERO {
        sum += entry;
        weighted += entry * (least - shift);
    }
    let inverse = F::ONE / sum;
    entry *= inverse;
    for weight in near.iter_mut() {
        *weight *= inverse;
    }
    for weight in far.iter_mut() {
        *weight *= inverse;
    }
    Sums { shift, sum, weighted, entry }
}

/// The largest score of the keys that the query at `position` meets (or `least`), and what [`exp_shifted`] makes of them; the
/// others' weights are 0.
#[inline(always)]
fn exp_of_met<F: Float>(
    parts: &mut [Part<'_, F>],
    least: F,
    position: usize,
    mask: Mask<'_>,
    met: &mut Vec<F>,
) -> (F, (F, F)) {
    met.clear();
    for (first, scores) in parts.iter() {
        let meeting = scores.iter().enumerate().filter(|(at, _)| mask.meet(position, first + at));
        met.extend(meeting.map(|(_, &score)| score));
    }
    let largest = maximum(met).maximum(least);
    let sums = exp_shifted(met, largest);
    let mut weights = met.iter();
    for (first, scores) in parts {
        for (at, score) in scores.iter_mut().enumerate() {
            let weight = if mask.meet(position, *first + at) { weights.next() } else { None };
            *score = weight.copied().unwrap_or(F::ZERO);
        }
    }
    (largest, sums)
}
