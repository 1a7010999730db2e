//! The output head in training: logits of some rows at a time, their loss, and both gradients.

use rayon::prelude::*;
use sinkscope_kernels::cross_entropy::{LossSum, cross_entropy_backward};
use sinkscope_kernels::matmul::transpose;
use sinkscope_kernels::{Buffer, Float};
use sinkscope_model::Linear;
use sinkscope_model::blocks::GradientTask;

use super::{Loss, Network, Workspace};
use crate::data::Batch;

/// Logits held at once, as far as one chunk of rows allows.
const LOGITS: usize = 1 << 22;
/// Rows of a task.
const CHUNK_ROWS: usize = 64;
/// Rows of the head's gradient in a task: few, because its tasks are alone.
const GRADIENT_ROWS: usize = 128;

/// What the head reads and leaves, kept from one step to the next.
#[derive(Debug, Default)]
pub(super) struct Buffers<F> {
    normed: Buffer<F>,
    d_normed: Buffer<F>,
    logits: Buffer<F>,
    /// The embedding turned round, where it is the head too.
    tied: Option<Linear<F>>,
}

impl<F: Float> Buffers<F> {
    /// The rows of each tile, to be filled.
    pub fn normed(&mut self, len: usize, tile: usize) -> rayon::slice::ChunksMut<'_, F> {
        self.normed.fit(len).par_chunks_mut(tile)
    }

    /// The gradient of the rows of each tile.
    pub fn d_normed(&self, tile: usize) -> rayon::slice::Chunks<'_, F> {
        self.d_normed.par_chunks(tile)
    }
}

impl<F: Float> Network<F> {
    /// The loss, the gradient of the head's input, and that of its matrix, times `weight`.
    pub(super) fn head(&self, batch: &Batch, weight: F, workspace: &mut Workspace<F>) -> Loss {
        let (d, vocabulary) = (self.architecture.d_model, self.architecture.vocabulary);
        let Buffers { normed, d_normed, logits, tied } = &mut workspace.head;
        let matrix = if let Some(head) = &self.parameters.head {
            head
        } else {
            let tied = tied.get_or_insert_with(|| {
                let mut linear = Linear::trainable(d, vocabulary, false);
                linear.set_precision(self.precision);
                linear
            });
            transpose(tied.values_mut().0, &self.parameters.embedding, vocabulary, d, 0);
            tied.repack();
            &*tied
        };
        d_normed.fit(normed.len());
        let group = (LOGITS / vocabulary / CHUNK_ROWS).max(1) * CHUNK_ROWS;
        let mut loss = Loss::default();
        for ((normed, d_normed), targets) in
            normed.chunks(group * d).zip(d_normed.chunks_mut(group * d)).zip(batch.targets.chunks(group))
        {
            let rows = targets.len();
            let chunks = logits
                .fit(rows * vocabulary)
                .par_chunks_mut(CHUNK_ROWS * vocabulary)
                .zip(targets.par_chunks(CHUNK_ROWS));
            let inputs = normed.par_chunks(CHUNK_ROWS * d).zip(d_normed.par_chunks_mut(CHUNK_ROWS * d));
            let losses: Vec<LossSum> = chunks
                .zip(inputs)
                .with_max_len(1)
                .map(|((logits, targets), (x, dx))| {
                    matrix.forward(logits, x);
                    let loss = cross_entropy_backward(logits, vocabulary, targets, weight);
                    matrix.backward(dx, logits, false);
                    loss
                })
                .collect();
            for part in losses {
                loss.sum += part.nll;
                loss.count += part.counted;
            }
            let gradient = &mut workspace.gradient;
            let tasks = if let Some(head) = &mut gradient.head {
                let values = head.values_mut().0;
                GradientTask::cut(self.precision, values, d, vocabulary, GRADIENT_ROWS, &[(normed, logits)])
            } else {
                let (values, rows) = (&mut gradient.embedding, GradientTask::<F>::rows(self.precision));
                GradientTask::cut(self.precision, values, vocabulary, d, rows, &[(logits, normed)])
            };
            tasks.into_par_iter().with_max_len(1).for_each(GradientTask::run);
        }
        loss
    }
}
