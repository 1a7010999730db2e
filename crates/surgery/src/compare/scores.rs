//! How well a run predicts, beside the untouched model.

use sinkscope_anatomy::bootstrap::intervals_of_means;
use sinkscope_anatomy::wide::mean;
use sinkscope_kernels::divergence::RunningDivergence;

use super::Run;
use crate::operation::{Kind, Operation};
use crate::quantise::Scheme;
use crate::results::{PerplexityAfter, PositionNll, Smoothing};

impl Run<'_> {
    /// Every prediction beside itself. Those of registers do not count.
    pub(super) fn unmoved(&self) -> Vec<(usize, usize)> {
        (self.model.architecture().registers..self.batch.seq_len - 1).map(|at| (at, at)).collect()
    }

    /// Notes the mean over sequences at every target, given its predictions in the original and now.
    pub(super) fn add_positions(&mut self, name: Option<&str>, nll: &[f32], pairs: &[(usize, usize)]) {
        let predicted = nll.len() / self.batch.sequences;
        let noted = pairs.iter().map(|&(original, now)| PositionNll {
            name: name.unwrap_or_default().to_owned(),
            // A prediction at one position is of the target at the next.
            position: original + 1,
            nll: mean(nll.iter().skip(now).step_by(predicted).copied()).unwrap_or(0.0),
        });
        self.positions.extend(noted);
    }

    /// The predictions of targets beyond a position, of every sequence.
    pub(super) fn beyond(&self, position: usize, nll: &[f32]) -> Vec<f32> {
        let rows = nll.chunks_exact(self.batch.seq_len - 1);
        // The prediction at `at` is of the target one position on.
        rows.flat_map(|row| row.iter().skip(position)).copied().collect()
    }

    /// Over the targets beyond a position.
    pub(super) fn after(&self, position: usize, before: &[f32], after: &[f32]) -> Option<PerplexityAfter> {
        let perplexity = |nll: &[f32]| finite(mean(self.beyond(position, nll)).map(f64::exp));
        Some(PerplexityAfter { position, value: perplexity(after)?, untouched: perplexity(before)? })
    }

    /// Over pairs of predictions of the same target, in every sequence; `None` if there are none.
    pub(super) fn scores(
        &self,
        before: &[f32],
        after: &[f32],
        predicted_after: usize,
        pairs: &[(usize, usize)],
    ) -> Option<Scores> {
        if pairs.is_empty() {
            return None;
        }
        let predicted = self.batch.seq_len - 1;
        let count = pairs.len() as f64;
        let of = |nll: &[f32], at: usize| f64::from(nll[at]);
        let sequences: Vec<(f64, f64)> = (0..self.batch.sequences)
            .map(|sequence| {
                pairs.iter().fold((0.0, 0.0), |(nll, delta), &(i, j)| {
                    let theirs = of(after, sequence * predicted_after + j);
                    (nll + theirs / count, delta + (theirs - of(before, sequence * predicted + i)) / count)
                })
            })
            .collect();
        let deltas: Vec<f64> = sequences.iter().map(|sequence| sequence.1).collect();
        Some(Scores {
            nll: mean(sequences.iter().map(|sequence| sequence.0))?,
            delta: mean(deltas.iter().copied())?,
            interval: self.interval(&deltas),
            deltas,
        })
    }

    /// The bootstrap interval of a mean over sequences.
    fn interval(&self, sequences: &[f64]) -> Option<[f64; 2]> {
        intervals_of_means(sequences, sequences.len(), self.request.seed)
            .map(|intervals| intervals[0])
            .filter(|ends| ends.iter().all(|end| end.is_finite()))
    }

    /// What smoothing changes, for every variant that was run with it and without.
    pub(super) fn smoothing(&self, operations: &[Operation]) -> Vec<Smoothing> {
        let mut all = Vec::new();
        for (smoothed, operation) in operations.iter().enumerate() {
            let Kind::Quantise { scheme, layers, kept } = &operation.kind else { continue };
            let without = Kind::Quantise {
                scheme: Scheme { smooth: false, ..*scheme },
                layers: layers.clone(),
                kept: kept.clone(),
            };
            let plain = operations.iter().position(|other| scheme.smooth && other.kind == without);
            let deltas = |index: usize| self.deltas.get(index)?.as_ref();
            let Some((plain, (with, before))) = plain.and_then(|at| Some((at, deltas(smoothed).zip(deltas(at))?)))
            else {
                continue;
            };
            let differences: Vec<f64> = with.iter().zip(before).map(|(with, before)| with - before).collect();
            let Some(difference) = finite(mean(differences.iter().copied())) else { continue };
            all.push(Smoothing { smoothed, plain, difference, difference_ci95: self.interval(&differences) });
        }
        all
    }
}

/// How far an operated model's predictions are from the untouched model's.
pub(super) struct Apart {
    pub kl: f64,
    pub interval: Option<[f64; 2]>,
    pub agreement: f64,
}

impl Run<'_> {
    /// Over the predictions of every sequence, of which there are some.
    pub(super) fn divergence(&self, rows: &[Vec<RunningDivergence>]) -> Apart {
        let of_sequence = |rows: &Vec<RunningDivergence>| {
            rows.iter().map(RunningDivergence::divergence).sum::<f64>() / rows.len() as f64
        };
        let sequences: Vec<f64> = rows.iter().map(of_sequence).collect();
        let predictions: usize = rows.iter().map(Vec::len).sum();
        let same = rows.iter().flatten().filter(|row| row.same_top()).count();
        Apart {
            kl: sequences.iter().sum::<f64>() / sequences.len() as f64,
            interval: self.interval(&sequences),
            agreement: same as f64 / predictions as f64,
        }
    }
}

/// What JSON has a number for.
pub(super) fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

/// How well an operated model predicts, in nats a token.
pub(super) struct Scores {
    pub nll: f64,
    pub delta: f64,
    pub interval: Option<[f64; 2]>,
    /// By sequence.
    pub deltas: Vec<f64>,
}
