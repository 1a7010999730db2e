//! The attention block (eq. 6-11).

use sinkscope_kernels::Float;
use sinkscope_kernels::attention::{HeadGroup, Mask, Scan, Sinks, Strided, attend};
use sinkscope_kernels::rope::RopeTable;

use super::{Norm, Product, Projection, multiply};
use crate::architecture::Architecture;
use crate::weights::Linear;

/// An attention block with its weights.
#[derive(Debug, Clone)]
pub struct AttentionBlock<F> {
    /// Norm of the input.
    pub input_norm: Option<Norm<F>>,
    /// W_Q.
    pub query: Linear<F>,
    /// W_K.
    pub key: Linear<F>,
    /// W_V.
    pub value: Linear<F>,
    /// Norm of the queries, of one head or of the whole projection by its length.
    pub query_norm: Option<Norm<F>>,
    /// Norm of the keys.
    pub key_norm: Option<Norm<F>>,
    /// W_O.
    pub output: Linear<F>,
    /// Norm of what the block adds.
    pub output_norm: Option<Norm<F>>,
    /// What the heads that share a key-value head do.
    pub group: HeadGroup<F>,
    /// Key-value heads.
    pub kv_heads: usize,
}

impl Architecture {
    /// What the heads of `layer` that share a key-value head do.
    pub(crate) fn head_group<F: Float>(&self, layer: usize) -> HeadGroup<F> {
        HeadGroup {
            queries_per_key: self.queries_per_key(),
            head_dim: self.head_dim,
            scale: F::from_f64(self.attention_scale),
            soft_cap: self.attention_soft_cap.map(F::from_f64),
            window: self.layers[layer].window,
        }
    }
}

impl<F: Float> AttentionBlock<F> {
    /// Its linear layers.
    pub fn linears(&self) -> Vec<(Projection, &Linear<F>)> {
        vec![
            (Projection::Query, &self.query),
            (Projection::Key, &self.key),
            (Projection::Value, &self.value),
            (Projection::AttentionOutput, &self.output),
        ]
    }

    /// Queries, keys and values of normalised input rows, after biases and QK-norm, before rotation.
    ///
    /// # Shapes
    /// `x`: rows x d_model; `queries`: rows x (heads * head_dim); `keys`, `values`: rows x (kv_heads * head_dim).
    pub fn project(&self, x: &[F], queries: &mut [F], keys: &mut [F], values: &mut [F]) {
        self.project_by(x, queries, keys, values, multiply);
    }

    /// As [`AttentionBlock::project`], the linear layers computed by `multiply`.
    pub fn project_by(
        &self,
        x: &[F],
        queries: &mut [F],
        keys: &mut [F],
        values: &mut [F],
        multiply: impl FnOnce(&[F], &mut [Product<'_, F>]),
    ) {
        let mut products = [
            Product::new(Projection::Query, &self.query, queries),
            Product::new(Projection::Key, &self.key, keys),
            Product::new(Projection::Value, &self.value, values),
        ];
        multiply(x, &mut products);
        if let Some(norm) = &self.query_norm {
            norm.forward_in_place(queries);
        }
        if let Some(norm) = &self.key_norm {
            norm.forward_in_place(keys);
        }
    }

    /// Rotates the queries and keys of one sequence's rows, the first at `position`.
    pub fn rotate(&self, table: &RopeTable<F>, queries: &mut [F], keys: &mut [F], position: usize) {
        let head_dim = self.group.head_dim;
        table.rotate(queries, self.kv_heads * self.group.queries_per_key, head_dim, position);
        table.rotate(keys, self.kv_heads, head_dim, position);
    }

    /// Attention of `rows` query rows of one sequence, the first at `position`, to all keys up to each. Gives the scan
    /// of each key-value head's group, in order, if `scan`. `sinks`: how many keys stay in sight of windows, and the queries
    /// that meet them.
    ///
    /// # Shapes
    /// `queries`, `out`: rows x (heads * head_dim); `keys`, `values`: from the sequence's position 0 on, at least
    /// (position + rows) x (kv_heads * head_dim).
    pub fn attend(
        &self,
        rows: usize,
        position: usize,
        queries: &[F],
        keys: &[F],
        values: &[F],
        out: &mut [F],
        mask: Mask<'_>,
        sinks: Option<(usize, &[F])>,
        scan: bool,
    ) -> Option<Vec<Scan<F>>> {
        let head_dim = self.group.head_dim;
        let key_width = self.kv_heads * head_dim;
        let group_width = self.group.queries_per_key * head_dim;
        let query_width = self.kv_heads * group_width;
        // Every head first: to gather an Option at once would stop at the first head that has no scan.
        let scans: Vec<Option<Scan<F>>> = (0..self.kv_heads)
            .map(|head| {
                let at = head * head_dim;
                attend(
                    &self.group,
                    rows,
                    position,
                    Strided { data: &queries[head * group_width..], row_stride: query_width },
                    Strided { data: &keys[at..], row_stride: key_width },
                    Strided { data: &values[at..], row_stride: key_width },
                    (&mut out[head * group_width..], query_width),
                    mask,
                    sinks.map(|(count, queries)| Sinks {
                        count,
                        queries: Strided { data: &queries[head * group_width..], row_stride: query_width },
                    }),
                    scan,
                )
            })
            .collect();
        scans.into_iter().collect()
    }

    /// Attention of rows that see only themselves, as position 0 does: every weight is 1, and each head gives the value of
    /// its group (eq. 22 before W_O).
    ///
    /// # Shapes
    /// `values`: rows x (kv_heads * head_dim); `out`: rows x (heads * head_dim).
    pub fn attend_to_self(&self, values: &[F], out: &mut [F]) {
        let head_dim = self.group.head_dim;
        let groups = out.chunks_exact_mut(self.group.queries_per_key * head_dim);
        for (heads, value) in groups.zip(values.chunks_exact(head_dim)) {
            for head in heads.chunks_exact_mut(head_dim) {
                head.copy_from_slice(value);
            }
        }
    }

    /// What the block adds to the residual, from the heads' outputs.
    ///
    /// # Shapes
    /// `heads`: rows x (heads * head_dim); `out`: rows x d_model.
    pub fn project_output(&self, heads: &[F], out: &mut [F]) {
        self.project_output_by(heads, out, multiply);
    }

    /// As [`AttentionBlock::project_output`], the linear layer computed by `multiply`.
    pub fn project_output_by(&self, heads: &[F], out: &mut [F], multiply: impl FnOnce(&[F], &mut [Product<'_, F>])) {
        multiply(heads, &mut [Product::new(Projection::AttentionOutput, &self.output, out)]);
        if let Some(norm) = &self.output_norm {
            norm.forward_in_place(out);
        }
    }
}
