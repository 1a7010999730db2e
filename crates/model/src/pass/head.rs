//! The output head, a range of the vocabulary at a time: neither its matrix nor the logits are ever whole.

use sinkscope_kernels::activation::soft_cap;
use sinkscope_kernels::cross_entropy::{RunningLogSumExp, take_in_logits};
use sinkscope_kernels::simd::dispatch;

use super::Run;
use super::observers::Observers;
use super::schedule::Tile;
use super::state::cut;
use crate::error::ModelError;
use crate::tap::{EventData, Point};

/// Ids whose logits are formed at once: with 256 rows, 1 MiB of logits, which stays in cache.
const VOCABULARY_TILE: usize = 1024;

/// Whether anything needs the output head.
pub(super) fn wanted(observers: &Observers<'_, '_>, block: usize) -> bool {
    observers.any_wants(Point::Logits, block) || observers.any_wants(Point::Prediction, block)
}

impl Run<'_> {
    /// Logits and next-token log-likelihoods of a group.
    pub(super) fn head(
        &mut self,
        tiles: &[Tile],
        mut residual: Vec<f32>,
        observers: &mut Observers<'_, '_>,
    ) -> Result<(), ModelError> {
        let a = self.pass.model.architecture();
        let (d, number) = (a.d_model, a.blocks() + 1);
        let rows = residual.len() / d;
        let norm = self.decode(crate::model::Model::final_norm::<f32>)?;
        if let Some(norm) = norm {
            observers.in_waves(cut(tiles, &mut residual, d).collect(), |rows, _| norm.forward_in_place(rows));
        }

        let first = tiles.first().map_or(0, |tile| tile.first_sequence) * self.batch.seq_len;
        // The last position of a sequence has no next token; no id is this large.
        let targets: Vec<u32> = (first..first + rows)
            .map(|row| if (row + 1) % self.batch.seq_len == 0 { u32::MAX } else { self.batch.tokens[row + 1] })
            .collect();
        let mut running = vec![RunningLogSumExp::<f32>::default(); rows];
        for start in (0..a.vocabulary).step_by(VOCABULARY_TILE) {
            let end = (start + VOCABULARY_TILE).min(a.vocabulary);
            let head = self.decode(|model| model.head::<f32>(start..end))?;
            let width = end - start;
            let mut rest = running.as_mut_slice();
            let tasks = tiles
                .iter()
                .map(|tile| {
                    let (running, after) = std::mem::take(&mut rest).split_at_mut(tile.rows);
                    rest = after;
                    (tile, running)
                })
                .collect();
            let scratch = &self.scratch;
            observers.in_waves(tasks, |(tile, running), observer| {
                scratch.with(|scratch| {
                    let logits = scratch.wide.fit(tile.rows * width);
                    head.forward(logits, tile.of(&residual));
                    if let Some(cap) = a.logit_soft_cap {
                        dispatch(
                            #[inline(always)]
                            || soft_cap(logits, cap as f32),
                        );
                    }
                    let mut row = 0;
                    for place in tile.places(number) {
                        let values = &logits[row * width..(row + place.rows) * width];
                        observer.show(Point::Logits, place, EventData::Logits { start, end, values });
                        row += place.rows;
                    }
                    take_in_logits(running, logits, width, start, &targets[tile.first_row..tile.first_row + tile.rows]);
                });
            });
        }
        let seq_len = self.batch.seq_len;
        observers.in_waves(tiles.iter().collect(), |tile: &Tile, observer| {
            let mut first = tile.first_row;
            for place in tile.places(number) {
                // The last row of a sequence predicts nothing.
                let predicting = place.rows - usize::from(place.position + place.rows == seq_len);
                let rows = &running[first..first + predicting];
                first += place.rows;
                let nll: Vec<f32> = rows.iter().map(RunningLogSumExp::nll).collect();
                observer.show(Point::Prediction, place, EventData::Nll(&nll));
            }
        });
        Ok(())
    }
}
