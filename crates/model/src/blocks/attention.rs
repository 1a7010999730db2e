//! The attention block (eq. 6-11).

use sinkscope_kernels::Float;
use sinkscope_kernels::activation::soft_cap;
use sinkscope_kernels::attention::{
    Entry, Extras, HeadGroup, Look, Mask, Operands, Scan, Sinks, Strided, StridedMut, Weighting, attend,
};
use sinkscope_kernels::gate::{HeadGates, gate_heads};
use sinkscope_kernels::matmul::Precision;
use sinkscope_kernels::rope::RopeTable;

use super::{Norm, Product, Projection, multiply};
use crate::architecture::{self, Architecture, Attention, GateSignal, Granularity, Rope};
use crate::linear::Linear;

/// What attention is asked beside its operands.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttendOptions<'a, F> {
    /// Queries and keys that do not meet.
    pub mask: Mask<'a>,
    /// How many keys stay in sight of windows, the queries that meet them, rows x (heads * head_dim), and the last position
    /// at which they do.
    pub sinks: Option<(usize, &'a [F], usize)>,
    /// As [`AttentionBlock::entry_scores`] gives them for these rows.
    pub entry: &'a [F],
    /// What to report.
    pub look: Look,
}

/// An attention block with its weights.
#[derive(Debug, Clone)]
pub struct AttentionBlock<F> {
    /// Norm of the input.
    pub input_norm: Option<Norm<F>>,
    /// Whether values are made of the residual as it is, and only queries and keys of the normalised input.
    pub value_reads_residual: bool,
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
    /// What the heads' outputs are multiplied by.
    pub gate: Option<Gate<F>>,
    /// By head: a score that takes part in every softmax and stands for no key.
    pub sink_logits: SinkLogits<F>,
    /// A key and a value for each key-value head that stand at no position: every query sees them, as it is rotated.
    pub key_value_bias: Option<(Vec<F>, Vec<F>)>,
    /// By head: what a unit of distance takes from a score; empty without ALiBi.
    pub slopes: Vec<F>,
    /// W_O.
    pub output: Linear<F>,
    /// Norm of what the block adds, or of the residual after it.
    pub output_norm: Option<Norm<F>>,
    /// Whether that norm is of the residual after the block's output was added.
    pub post_norm: bool,
    /// What the heads that share a key-value head do.
    pub group: HeadGroup<F>,
    /// Key-value heads.
    pub kv_heads: usize,
}

/// The rotary tables of a model's layers.
#[derive(Debug, Clone)]
pub struct RopeTables<F> {
    tables: Vec<RopeTable<F>>,
    /// Of each layer, its table.
    of_layer: Vec<Option<usize>>,
}

impl<F: Float> RopeTables<F> {
    /// The tables for sequences of `seq_len`; layers that rotate alike share one.
    pub fn new(a: &Architecture, seq_len: usize) -> Self {
        let mut ropes: Vec<&Rope> = Vec::new();
        let mut of_layer = Vec::new();
        for layer in a.layers() {
            of_layer.push(layer.mixer.attention().rope().map(|rope| {
                ropes.iter().position(|other| *other == rope).unwrap_or_else(|| {
                    ropes.push(rope);
                    ropes.len() - 1
                })
            }));
        }
        let table = |rope: &&Rope| {
            let (frequencies, magnitude) = rope.frequencies(seq_len);
            RopeTable::new(&frequencies, magnitude, seq_len)
        };
        Self { tables: ropes.iter().map(table).collect(), of_layer }
    }

    /// That of a layer, if it rotates.
    pub fn of(&self, layer: usize) -> Option<&RopeTable<F>> {
        self.of_layer[layer].map(|table| &self.tables[table])
    }
}

impl Attention {
    /// What the heads that share a key-value head do, in products of some precision.
    pub fn head_group<F: Float>(&self, precision: Precision) -> HeadGroup<F> {
        HeadGroup {
            queries_per_key: self.queries_per_key(),
            head_dim: self.head_dim,
            scale: F::from_f64(self.scale),
            soft_cap: self.soft_cap.map(F::from_f64),
            window: self.window,
            weighting: match self.weighting {
                architecture::Weighting::Sigmoid { bias } => Weighting::Sigmoid { bias: F::from_f64(bias) },
                _ => Weighting::Softmax,
            },
            precision,
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

    /// Queries, keys and values of normalised input rows, after biases and QK-norm, before rotation. `residual`: the rows
    /// before their norm.
    ///
    /// # Shapes
    /// `x`, `residual`: rows x d_model; `queries`: rows x (heads * head_dim); `keys`, `values`: rows x (kv_heads * head_dim).
    pub fn project(&self, x: &[F], residual: &[F], queries: &mut [F], keys: &mut [F], values: &mut [F]) {
        self.project_by(x, residual, queries, keys, values, multiply);
    }

    /// As [`AttentionBlock::project`], the linear layers that read `x` computed by `multiply`.
    pub fn project_by(
        &self,
        x: &[F],
        residual: &[F],
        queries: &mut [F],
        keys: &mut [F],
        values: &mut [F],
        multiply: impl FnOnce(&[F], &mut [Product<'_, F>]),
    ) {
        let query = Product::new(Projection::Query, &self.query, queries);
        let key = Product::new(Projection::Key, &self.key, keys);
        if self.value_reads_residual {
            multiply(x, &mut [query, key]);
            self.value.forward(values, residual);
        } else {
            multiply(x, &mut [query, key, Product::new(Projection::Value, &self.value, values)]);
        }
        if let Some(norm) = &self.query_norm {
            norm.forward_in_place(queries);
        }
        if let Some(norm) = &self.key_norm {
            norm.forward_in_place(keys);
        }
    }

    /// The values alone.
    ///
    /// # Shapes
    /// As of [`AttentionBlock::project`].
    pub fn project_values(&self, x: &[F], residual: &[F], values: &mut [F]) {
        self.value.forward(values, if self.value_reads_residual { residual } else { x });
    }

    /// Rotates the queries and keys of one sequence's rows, the first at `position`.
    pub fn rotate(&self, table: &RopeTable<F>, queries: &mut [F], keys: &mut [F], position: usize) {
        let head_dim = self.group.head_dim;
        table.rotate(queries, self.kv_heads * self.group.queries_per_key, head_dim, position);
        table.rotate(keys, self.kv_heads, head_dim, position);
    }

    /// Undoes a rotation of gradients: from those of rotated queries and keys to those of unrotated ones.
    pub fn rotate_back(&self, table: &RopeTable<F>, queries: &mut [F], keys: &mut [F], position: usize) {
        let head_dim = self.group.head_dim;
        table.rotate_back(queries, self.kv_heads * self.group.queries_per_key, head_dim, position);
        table.rotate_back(keys, self.kv_heads, head_dim, position);
    }

    /// Attention of `rows` query rows of one sequence, the first at `position`, to all keys up to each. Gives the scan of
    /// each key-value head's group, in order, as far as `options.look` asks.
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
        options: &AttendOptions<'_, F>,
    ) -> Option<Vec<Scan<F>>> {
        let head_dim = self.group.head_dim;
        let key_width = self.kv_heads * head_dim;
        let group_width = self.group.queries_per_key * head_dim;
        let query_width = self.kv_heads * group_width;
        let strided = |data, row_stride| Strided { data, row_stride };
        // Every head first: to gather an Option at once would stop at the first head that has no scan.
        let scans: Vec<Option<Scan<F>>> = (0..self.kv_heads)
            .map(|head| {
                let (at, group) = (head * head_dim, head * group_width);
                let operands = Operands {
                    rows,
                    first_position: position,
                    queries: strided(&queries[group..], query_width),
                    keys: strided(&keys[at..], key_width),
                    values: strided(&values[at..], key_width),
                };
                let out = StridedMut { data: &mut out[group..], row_stride: query_width };
                attend(&self.group, &operands, out, &self.extras(head, options), options.look)
            })
            .collect();
        scans.into_iter().collect()
    }

    /// What one key-value head's group is asked.
    pub(super) fn extras<'a>(&'a self, head: usize, options: &AttendOptions<'a, F>) -> Extras<'a, F> {
        let (head_dim, heads) = (self.group.head_dim, self.group.queries_per_key);
        let query_width = self.kv_heads * heads * head_dim;
        Extras {
            mask: options.mask,
            sinks: options.sinks.map(|(count, queries, last_position)| Sinks {
                count,
                last_position,
                queries: Strided { data: &queries[head * heads * head_dim..], row_stride: query_width },
            }),
            slopes: self.slopes.get(head * heads..(head + 1) * heads).unwrap_or_default(),
            entry: (!options.entry.is_empty()).then(|| Entry {
                scores: Strided { data: &options.entry[head * heads..], row_stride: self.kv_heads * heads },
                value: self.key_value_bias.as_ref().map(|(_, value)| &value[head * head_dim..(head + 1) * head_dim]),
            }),
        }
    }

    /// The scores of the entry of every softmax that stands for no key, rows x heads; empty if there is none.
    ///
    /// # Shapes
    /// `queries`: as they meet keys, after rotation, rows x (heads * head_dim).
    pub fn entry_scores(&self, queries: &[F]) -> Vec<F> {
        let heads = self.kv_heads * self.group.queries_per_key;
        let head_dim = self.group.head_dim;
        let rows = queries.len() / (heads * head_dim);
        let mut scores = Vec::new();
        match (&self.sink_logits, &self.key_value_bias) {
            (SinkLogits::Zero, _) => scores.resize(rows * heads, F::ZERO),
            (SinkLogits::Learned(logits), _) => (0..rows).for_each(|_| scores.extend_from_slice(logits)),
            (SinkLogits::None, Some((keys, _))) => {
                for (index, query) in queries.chunks_exact(head_dim).enumerate() {
                    let group = index % heads / self.group.queries_per_key;
                    let key = &keys[group * head_dim..(group + 1) * head_dim];
                    let dot = query.iter().zip(key).fold(F::ZERO, |sum, (&q, &k)| q.mul_add(k, sum));
                    scores.push(dot * self.group.scale);
                }
                if let Some(cap) = self.group.soft_cap {
                    soft_cap(&mut scores, cap);
                }
            }
            (SinkLogits::None, None) => {}
        }
        scores
    }

    /// The heads' outputs, gates included, of tokens at position 0, each of a sequence of its own: they see only themselves,
    /// so that a softmax gives a weight of 1 and each head the value of its group (eq. 22 before W_O); where something else
    /// takes part in it, or weights are sigmoids, that weight depends on the token. A weight of 1 is no product: it rounds no value.
    ///
    /// # Shapes
    /// `input`: rows x d_model, normalised; `residual`: the same before the norm; `embedding`: of the tokens, empty if no gate
    /// depends on it; `heads`: rows x (heads * head_dim).
    pub fn attend_first(
        &self,
        input: &[F],
        residual: &[F],
        embedding: &[F],
        rope: Option<&RopeTable<F>>,
        heads: &mut [F],
    ) {
        let rows = input.len() / self.query.inputs();
        let (query_width, key_width) = (self.query.outputs(), self.key.outputs());
        let mut values = vec![F::ZERO; rows * key_width];
        if self.is_plain_softmax() {
            self.project_values(input, residual, &mut values);
            self.attend_to_self(&values, heads);
        } else {
            let (mut queries, mut keys) = (vec![F::ZERO; rows * query_width], vec![F::ZERO; rows * key_width]);
            self.project(input, residual, &mut queries, &mut keys, &mut values);
            let rows = queries.chunks_exact_mut(query_width).zip(keys.chunks_exact_mut(key_width));
            let values = values.chunks_exact(key_width).zip(heads.chunks_exact_mut(query_width));
            for ((query, key), (value, heads)) in rows.zip(values) {
                // By no angle, but some tables also scale.
                if let Some(table) = rope {
                    self.rotate(table, query, key, 0);
                }
                let entry = self.entry_scores(query);
                let options = AttendOptions { entry: &entry, ..AttendOptions::default() };
                self.attend(1, 0, query, key, value, heads, &options);
            }
        }
        if let Some(gate) = &self.gate {
            let mut gates = vec![F::ZERO; rows * gate.weight.outputs()];
            gate.project_at(&mut gates, input, embedding, 0);
            gate.apply_in_place(heads, &gates, self.group.head_dim);
        }
    }

    /// Whether weights are a softmax over keys and nothing else.
    fn is_plain_softmax(&self) -> bool {
        let alone = matches!(self.sink_logits, SinkLogits::None) && self.key_value_bias.is_none();
        alone && self.group.weighting == Weighting::Softmax
    }

    /// Attention of rows that see only themselves under a plain softmax.
    fn attend_to_self(&self, values: &[F], out: &mut [F]) {
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
        if let Some(norm) = self.output_norm.as_ref().filter(|_| !self.post_norm) {
            norm.forward_in_place(out);
        }
    }

    /// The norm of the residual after this block, if there is one.
    pub fn residual_norm(&self) -> Option<&Norm<F>> {
        self.output_norm.as_ref().filter(|_| self.post_norm)
    }
}

/// A score a head that takes part in every softmax and stands for no key.
#[derive(Debug, Clone)]
pub enum SinkLogits<F> {
    /// There is none.
    None,
    /// 0: softmax plus one.
    Zero,
    /// Learned, one a head.
    Learned(Vec<F>),
}

/// A gate on the heads' outputs: sigmoid of `W_gate` times a signal.
#[derive(Debug, Clone)]
pub struct Gate<F> {
    /// What it depends on.
    pub signal: GateSignal,
    /// How many gates a row has.
    pub granularity: Granularity,
    /// From the signal to the gates: a position is a one-hot vector, free parameters have a signal of 1.
    pub weight: Linear<F>,
}

impl<F: Float> Gate<F> {
    /// What the sigmoid is of, for rows of one sequence, the first at `position`.
    ///
    /// # Shapes
    /// `out`: rows x gates; `input`, `embedding`: rows x d_model, empty if the signal is another.
    pub fn project(&self, out: &mut [F], input: &[F], embedding: &[F], position: usize) {
        match self.signal {
            GateSignal::Input => self.weight.forward(out, input),
            GateSignal::Embedding => self.weight.forward(out, embedding),
            GateSignal::Free => self.look_up(out, |_| 0),
            GateSignal::Position => self.look_up(out, |row| position + row),
        }
    }

    fn look_up(&self, out: &mut [F], place: impl Fn(usize) -> usize) {
        let weight = self.weight.weight();
        for (row, out) in out.chunks_exact_mut(self.weight.outputs()).enumerate() {
            for (column, out) in out.iter_mut().enumerate() {
                *out = weight.get(place(row), column);
            }
        }
    }

    /// The same for rows that all stand at `position`, each of a sequence of its own.
    ///
    /// # Shapes
    /// As of [`Gate::project`].
    pub fn project_at(&self, out: &mut [F], input: &[F], embedding: &[F], position: usize) {
        if self.signal == GateSignal::Position {
            out.chunks_exact_mut(self.weight.outputs()).for_each(|row| self.project(row, &[], &[], position));
        } else {
            self.project(out, input, embedding, position);
        }
    }

    /// Multiplies the heads' outputs.
    ///
    /// # Shapes
    /// `out`, `heads`: rows x (heads * head_dim); `gates`: rows x gates, as [`Gate::project`] leaves them.
    pub fn apply(&self, out: &mut [F], heads: &[F], gates: &[F], head_dim: usize) {
        let width = heads.len() / (gates.len() / self.weight.outputs());
        gate_heads(out, heads, gates, self.over(width / head_dim, head_dim));
    }

    /// How the gates of a row lie over its heads.
    pub(super) fn over(&self, heads: usize, head_dim: usize) -> HeadGates {
        HeadGates { heads, head_dim, granularity: self.granularity.into() }
    }

    /// The same in place.
    ///
    /// # Shapes
    /// As of [`Gate::apply`].
    pub fn apply_in_place(&self, heads: &mut [F], gates: &[F], head_dim: usize) {
        let before = heads.to_vec();
        self.apply(heads, &before, gates, head_dim);
    }
}
