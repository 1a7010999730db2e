//! What normalisation makes of spikes (Fig. 5, eq. 23-25): bounded, sparse and nearly the same vector for every spike
//! token.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_kernels::matmul::{Matrix, MatrixMut, matmul};
use sinkscope_model::architecture::{NormKind, ResidualLayout};
use sinkscope_model::blocks::Norm;
use sinkscope_model::tap::{BlockView, Event, Place, Point, Tap};
use sinkscope_model::{Model, ModelError};

use super::{Kinds, chosen};
use crate::definitions::TOP_CHANNELS;
use crate::magnitude::largest_magnitude;
use crate::wide::{mean, norm_f64};

/// Most tokens of a kind that are compared with one another.
pub const MOST_TOKENS: usize = 256;

/// The residual after every block, normalised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Normalisation {
    /// From 0, the embedding: what comes before block b is the entry of block b - 1.
    pub blocks: Vec<NormalisedBlock>,
}

/// The residual after one block, normalised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NormalisedBlock {
    /// Block.
    pub block: usize,
    /// sqrt(d_model): no entry exceeds it, before gamma (eq. 23).
    pub bound: f64,
    /// The tokens of the strongest stage; `None` if there is none in the sample.
    pub spike: Option<NormalisedTokens>,
    /// Tokens of no stage.
    pub other: Option<NormalisedTokens>,
}

/// What normalised tokens look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NormalisedTokens {
    /// How many were looked at.
    pub tokens: usize,
    /// Largest entry of any.
    pub largest: f64,
    /// Without gamma.
    #[serde(flatten)]
    pub plain: Sparsity,
    /// With the gamma (and bias) of the norm that reads this residual; `None` if none does.
    pub with_gamma: Option<Sparsity>,
}

/// How sparse tokens are, and how alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sparsity {
    /// Mean share of the square of the length that the three largest entries have.
    pub top3_energy: f64,
    /// Mean cosine of pairs; `None` of one token.
    pub cosine_mean: Option<f64>,
    /// Least cosine of a pair.
    pub cosine_min: Option<f64>,
}

/// Normalises some tokens of the sample after every block.
#[derive(Debug)]
pub struct NormalisationTap {
    /// Without gamma.
    plain: Norm<f32>,
    /// By block: the norm that reads its residual.
    readers: Vec<Option<Norm<f32>>>,
    spike: Vec<usize>,
    other: Vec<usize>,
    blocks: Vec<NormalisedBlock>,
}

impl NormalisationTap {
    /// `kinds`: what each token of the sample is beside those of the strongest stage.
    ///
    /// # Errors
    /// If a gamma is not finite.
    pub fn new(model: &Model, kinds: &Kinds) -> Result<Self, ModelError> {
        let a = model.architecture();
        let reader = |block: usize| match block {
            last if last == a.blocks() => model.final_norm(),
            // Both blocks of a parallel layer read what came before it.
            inside if inside % 2 == 1 && a.layer(inside / 2).residual == ResidualLayout::Parallel => Ok(None),
            _ => model.input_norm(block + 1),
        };
        Ok(Self {
            plain: Norm {
                gamma: vec![1.0; a.d_model],
                beta: (a.norm == NormKind::LayerNorm).then(|| vec![0.0; a.d_model]),
                alpha: None,
                epsilon: a.norm_epsilon as f32,
            },
            readers: (0..=a.blocks()).map(reader).collect::<Result<_, _>>()?,
            spike: chosen(&kinds.spike, MOST_TOKENS),
            other: chosen(&kinds.other, MOST_TOKENS),
            blocks: Vec::new(),
        })
    }

    /// What was seen.
    pub fn finish(self) -> Normalisation {
        Normalisation { blocks: self.blocks }
    }

    fn tokens(&self, view: &BlockView<'_>, tokens: &[usize]) -> Option<NormalisedTokens> {
        if tokens.is_empty() {
            return None;
        }
        let d = view.d_model;
        let rows: Vec<f32> = tokens.iter().flat_map(|token| &view.residual[token * d..][..d]).copied().collect();
        let mut x = vec![0.0; rows.len()];
        let reader = self.readers[view.block].as_ref();
        match reader.and_then(|norm| norm.alpha) {
            // Each dynamic tanh has an alpha of its own.
            Some(alpha) => {
                Norm { alpha: Some(alpha), beta: Some(vec![0.0; d]), ..self.plain.clone() }.forward(&mut x, &rows);
            }
            None => self.plain.forward(&mut x, &rows),
        }
        let largest = largest_magnitude(&x);
        let plain = sparsity(&x, d);
        let with_gamma = reader.map(|norm| {
            norm.forward(&mut x, &rows);
            sparsity(&x, d)
        });
        Some(NormalisedTokens { tokens: tokens.len(), largest: f64::from(largest), plain, with_gamma })
    }
}

fn sparsity(x: &[f32], d: usize) -> Sparsity {
    let rows = x.len() / d;
    let mut unit = x.to_vec();
    let energies: Vec<f64> = unit
        .par_chunks_mut(d)
        .map(|row| {
            let length = norm_f64(row).max(f64::MIN_POSITIVE);
            for value in row.iter_mut() {
                *value = (f64::from(*value) / length) as f32;
            }
            let mut squares: Vec<f32> = row.iter().map(|value| value * value).collect();
            let top = TOP_CHANNELS.min(d) - 1;
            squares.select_nth_unstable_by(top, |a, b| b.total_cmp(a));
            squares[..=top].iter().copied().map(f64::from).sum()
        })
        .collect();
    let mut cosines = vec![0.0; rows * rows];
    cosines.par_chunks_mut(ROWS * rows).zip(unit.par_chunks(ROWS * d)).for_each(|(cosines, part)| {
        let unit = Matrix::new(&unit, rows, d);
        let part_rows = part.len() / d;
        matmul(MatrixMut::new(cosines, part_rows, rows), Matrix::new(part, part_rows, d), unit.transposed());
    });
    let (mut sum, mut least) = (0.0, f64::INFINITY);
    for (row, cosines) in cosines.chunks_exact(rows).enumerate() {
        for &cosine in &cosines[row + 1..] {
            let cosine = f64::from(cosine).clamp(-1.0, 1.0);
            sum += cosine;
            least = least.min(cosine);
        }
    }
    let pairs = rows * (rows - 1) / 2;
    Sparsity {
        top3_energy: mean(energies).unwrap_or(0.0),
        cosine_mean: (pairs > 0).then(|| sum / pairs as f64),
        cosine_min: (pairs > 0).then_some(least),
    }
}

/// Rows of cosines that a task computes.
const ROWS: usize = 64;

impl Tap for NormalisationTap {
    type Partial = ();

    fn wants(&self, point: Point, block: usize) -> bool {
        point == Point::BlockDone && block < self.readers.len()
    }

    fn observe(&self, _event: &Event<'_>) {}

    fn merge(&mut self, _point: Point, _place: &Place, (): ()) {}

    fn block_done(&mut self, view: &BlockView<'_>) {
        let (spike, other) = (self.tokens(view, &self.spike), self.tokens(view, &self.other));
        let is_tanh = self.readers[view.block].as_ref().is_some_and(|norm| norm.alpha.is_some());
        let bound = if is_tanh { 1.0 } else { (view.d_model as f64).sqrt() };
        self.blocks.push(NormalisedBlock { block: view.block, bound, spike, other });
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::wide::dot_f64;

    #[test]
    fn sparsity_is_its_definition() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for (rows, d) in [(2, 3), (5, 17), (70, 8), (1, 2)] {
            let x: Vec<f32> = (0..rows * d).map(|_| random.random_range(-2.0..2.0)).collect();
            let found = sparsity(&x, d);
            let row = |row: usize| x[row * d..(row + 1) * d].iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            let mut cosines = Vec::new();
            let mut energy = 0.0;
            for i in 0..rows {
                let a = row(i);
                let mut squares: Vec<f64> = a.iter().map(|v| v * v).collect();
                squares.sort_by(|a, b| b.total_cmp(a));
                energy += squares.iter().take(3).sum::<f64>() / squares.iter().sum::<f64>() / rows as f64;
                for j in 0..i {
                    let b = row(j);
                    cosines.push(dot_f64(&a, &b) / (norm_f64(&a) * norm_f64(&b)));
                }
            }
            assert!((found.top3_energy - energy).abs() < 1e-6);
            let mean = mean(cosines.iter().copied()).unwrap_or(0.0);
            assert_eq!(found.cosine_mean.is_some(), rows > 1);
            if let (Some(ours), Some(least)) = (found.cosine_mean, found.cosine_min) {
                assert!((ours - mean).abs() < 1e-6);
                assert!((least - cosines.iter().copied().fold(1.0, f64::min)).abs() < 1e-6);
            }
        }
    }
}
