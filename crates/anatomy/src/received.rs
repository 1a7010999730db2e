//! Attention received, `sum_t A[t, k]` (eq. 27 before the division by T): the one place where it is added up, over queries
//! and, for those who ask for it, over heads. Chunks of queries add to sums in f64, in the order of the text.

use std::ops::Range;
use std::slice::ChunksExact;

use sinkscope_model::tap::AttentionScan;

/// Attention received in rows and columns. A row belongs to a head or to a layer, a column to a key or to a run of keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Received<V = f64> {
    columns: usize,
    values: Vec<V>,
}

impl Received<f32> {
    /// From a chunk of queries: a row a head, a column for each of the first `most` keys.
    pub fn by_head(scan: &AttentionScan<'_>, most: usize) -> Self {
        let columns = scan.keys.min(most);
        let mut values = Vec::with_capacity(scan.heads * columns);
        for head in scan.received.chunks_exact(scan.keys) {
            values.extend_from_slice(&head[..columns]);
        }
        Self { columns, values }
    }
}

impl Received {
    /// Of no queries yet.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { columns, values: vec![0.0; rows * columns] }
    }

    /// From a chunk of queries: one row for all heads; `of` says what a head's keys give a column.
    pub fn over_heads(scan: &AttentionScan<'_>, columns: usize, of: impl Fn(&[f32], usize) -> f64) -> Self {
        let mut sums = Self::new(1, columns);
        for head in scan.received.chunks_exact(scan.keys) {
            for (column, sum) in sums.values.iter_mut().enumerate() {
                *sum += of(head, column);
            }
        }
        sums
    }

    /// Adds a chunk, its first row and column to these.
    pub fn add<V: Copy + Into<f64>>(&mut self, row: usize, column: usize, chunk: &Received<V>) {
        let rows = self.values.chunks_exact_mut(self.columns.max(1)).skip(row);
        for (sums, values) in rows.zip(chunk.values.chunks_exact(chunk.columns.max(1))) {
            for (sum, &value) in sums[column..].iter_mut().zip(values) {
                *sum += value.into();
            }
        }
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.values.fill(0.0);
    }

    /// Takes some rows of another's.
    pub fn adopt(&mut self, other: &Self, rows: Range<usize>) {
        let rows = rows.start * self.columns..rows.end * self.columns;
        self.values[rows.clone()].copy_from_slice(&other.values[rows]);
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..][..self.columns]
    }

    /// Row by row.
    pub fn rows(&self) -> ChunksExact<'_, f64> {
        self.values.chunks_exact(self.columns.max(1))
    }
}
