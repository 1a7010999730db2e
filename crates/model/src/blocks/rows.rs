//! What attention has of rows between its steps, and who lends it.

use std::ops::Range;

use sinkscope_kernels::{Buffer, Float};

use super::AttentionBlock;

/// Rows that attention has been given everything for but the keys of others.
#[derive(Debug)]
pub struct Projected<'b, F> {
    /// rows x (heads * head_dim), rotated.
    pub queries: &'b mut [F],
    /// rows x (kv_heads * head_dim), rotated.
    pub keys: &'b mut [F],
    /// rows x (kv_heads * head_dim).
    pub values: &'b mut [F],
    /// rows x gates: what gates are the sigmoid of; empty without.
    pub gates: &'b mut [F],
    /// rows x heads: the scores of the entry of every softmax that stands for no key; empty without.
    pub entry: &'b mut [F],
    /// Queries as they meet far sinks and what stands at no position, and the last position at which they do.
    pub far: Option<(&'b mut [F], usize)>,
    /// Queries and keys before their norms, where a backward reads them.
    pub raw: Option<(&'b mut [F], &'b mut [F])>,
}

/// Rows that attend.
#[derive(Debug, Clone, Copy)]
pub struct Attending<'b, F> {
    /// As [`Projected`] has them.
    pub queries: &'b [F],
    /// As [`Projected`] has them.
    pub gates: &'b [F],
    /// As [`Projected`] has them.
    pub entry: &'b [F],
    /// How many keys stay in sight of windows, the queries that meet them, and the last position at which they do.
    pub sinks: Option<(usize, &'b [F], usize)>,
}

impl<'b, F: Float> Attending<'b, F> {
    pub(super) fn from(&self, block: &AttentionBlock<F>, row: usize) -> Self {
        let from = |values: &'b [F], width: usize| &values[row * width..];
        Self {
            queries: from(self.queries, block.query.outputs()),
            gates: from(self.gates, block.gate_width()),
            entry: from(self.entry, block.entries()),
            sinks: self.sinks.map(|(count, queries, last)| (count, from(queries, block.query.outputs()), last)),
        }
    }
}

/// Buffers for what attention has of rows. One that a block does not need is empty.
#[derive(Debug, Clone, Default)]
pub struct AttentionRows<F> {
    /// As [`Projected`] has them, like all of these.
    pub queries: Buffer<F>,
    /// Queries as they meet far sinks.
    pub far: Buffer<F>,
    /// Of the rows themselves.
    pub keys: Buffer<F>,
    /// Of the rows themselves.
    pub values: Buffer<F>,
    /// Before the sigmoid.
    pub gates: Buffer<F>,
    /// Of what stands for no key.
    pub entry: Buffer<F>,
    /// Before their norm, if they are kept.
    pub raw_queries: Buffer<F>,
    /// Before their norm, if they are kept.
    pub raw_keys: Buffer<F>,
}

impl<F: Float> AttentionRows<F> {
    /// Makes room for rows of a block.
    pub fn fit(&mut self, block: &AttentionBlock<F>, rows: usize) {
        self.queries.fit(rows * block.query.outputs());
        self.far.fit(0);
        self.keys.fit(rows * block.key.outputs());
        self.values.fit(rows * block.value.outputs());
        self.gates.fit(rows * block.gate_width());
        self.entry.fit(rows * block.entries());
        self.raw_queries.fit(0);
        self.raw_keys.fit(0);
    }

    /// Keeps queries and keys from before their norms too, if there are norms.
    pub fn keep_raw(&mut self, block: &AttentionBlock<F>) {
        let kept = block.query_norm.is_some();
        self.raw_queries.fit(if kept { self.queries.len() } else { 0 });
        self.raw_keys.fit(if kept { self.keys.len() } else { 0 });
    }

    /// All rows, to be filled.
    pub fn projected(&mut self) -> Projected<'_, F> {
        let raw = !self.raw_queries.is_empty();
        Projected {
            queries: &mut self.queries,
            keys: &mut self.keys,
            values: &mut self.values,
            gates: &mut self.gates,
            entry: &mut self.entry,
            far: None,
            raw: raw.then_some((&mut self.raw_queries, &mut self.raw_keys)),
        }
    }

    /// Rows that attend.
    pub fn attending(&self, block: &AttentionBlock<F>, rows: Range<usize>) -> Attending<'_, F> {
        let of = |width: usize| rows.start * width..rows.end * width;
        Attending {
            queries: &self.queries[of(block.query.outputs())],
            gates: &self.gates[of(block.gate_width())],
            entry: &self.entry[of(block.entries())],
            sinks: None,
        }
    }
}
