//! The attention block (eq. 6-11), step by step.

use sinkscope_kernels::Float;
use sinkscope_kernels::activation::soft_cap;
use sinkscope_kernels::attention::{
    Entry, Extras, HeadGroup, Mask, Operands, Scan, Sinks, Strided, StridedMut, Weighting, attend,
};
use sinkscope_kernels::matmul::Precision;
use sinkscope_kernels::rope::RopeTable;

use super::step::Finish;
use super::{Attending, AttentionRows, Gate, Norm, Probe, Product, Projected, Projection, TileContext, Unseen};
use crate::architecture::{self, Attention};
use crate::linear::Linear;
use crate::tap::{Place, Point};

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

    /// Query heads.
    pub fn heads(&self) -> usize {
        self.kv_heads * self.group.queries_per_key
    }

    /// Scores on a row of what takes part in every softmax and is no key: one a head, or none.
    pub fn entries(&self) -> usize {
        let none = self.key_value_bias.is_none() && matches!(self.sink_logits, SinkLogits::None);
        if none { 0 } else { self.heads() }
    }

    /// Number of gates on a row; 0 without.
    pub fn gate_width(&self) -> usize {
        self.gate.as_ref().map_or(0, |gate| gate.weight.outputs())
    }

    /// The second step, on rows: queries, keys and values, and what else takes part in attention.
    ///
    /// # Shapes
    /// `input`, `residual`: rows x d_model, after and before the input norm.
    pub fn project(
        &self,
        context: &TileContext<'_, F>,
        input: &[F],
        residual: &[F],
        into: Projected<'_, F>,
        probe: &mut impl Probe<F>,
    ) {
        let Projected { queries, keys, values, gates, entry, mut far, raw } = into;
        let query = Product::new(Projection::Query, &self.query, queries);
        let key = Product::new(Projection::Key, &self.key, keys);
        if self.value_reads_residual {
            probe.multiply(Point::NormalisedInput, input, &mut [query, key]);
            self.value.forward(values, residual);
        } else {
            let value = Product::new(Projection::Value, &self.value, values);
            probe.multiply(Point::NormalisedInput, input, &mut [query, key, value]);
        }
        let (raw_queries, raw_keys) = raw.unzip();
        for (norm, values, raw) in
            [(&self.query_norm, &mut *queries, raw_queries), (&self.key_norm, &mut *keys, raw_keys)]
        {
            match (norm, raw) {
                (Some(norm), Some(raw)) => {
                    raw.copy_from_slice(values);
                    norm.forward(values, raw);
                }
                (Some(norm), None) => norm.forward_in_place(values),
                (None, _) => {}
            }
        }
        if let Some(gate) = &self.gate {
            gate.project(gates, input, context);
        }
        probe.at(Point::UnrotatedKey, keys);
        if let Some((far, _)) = &mut far {
            far.copy_from_slice(queries);
        }
        if let Some(table) = context.rope {
            let head_dim = self.group.head_dim;
            self.turn(context.places, queries, keys, |rows, heads, at| table.rotate(rows, heads, head_dim, at));
            if let Some((far, last)) = &mut far {
                for (position, far) in context.positions().zip(far.chunks_exact_mut(self.query.outputs())) {
                    table.rotate(far, self.heads(), head_dim, position.min(*last));
                }
            }
        }
        probe.at(Point::Query, queries);
        // Queries meet what stands at no position as they meet far sinks: as a cache has them.
        self.entry_scores(far.as_ref().map_or(&*queries, |(far, _)| far), entry);
        probe.at(Point::Key, keys);
        probe.at(Point::Value, values);
    }

    /// Turns the heads of queries and of keys, place by place: rows, their heads, and the position of the first.
    pub(super) fn turn<'b>(
        &self,
        places: &[Place],
        queries: &'b mut [F],
        keys: &'b mut [F],
        turn: impl Fn(&mut [F], usize, usize),
    ) {
        let of_keys = (keys, self.key.outputs(), self.kv_heads);
        for (mut rest, width, heads) in [(queries, self.query.outputs(), self.heads()), of_keys] {
            for place in places {
                let (own, after) = rest.split_at_mut(place.rows * width);
                turn(own, heads, place.position);
                rest = after;
            }
        }
    }

    /// The third step, on rows whose sequences have all their keys up to them: the heads' outputs. With a gate what they are
    /// after it is in `gated`, and given.
    ///
    /// # Shapes
    /// `sequence`: keys and values from position 0 on of a place's sequence; `heads`: rows x (heads * head_dim); `gated`: the
    /// same, untouched without a gate.
    pub fn attend<'b, 'k>(
        &self,
        places: &[Place],
        rows: Attending<'_, F>,
        sequence: impl Fn(&Place) -> (&'k [F], &'k [F]),
        (heads, gated): (&'b mut [F], &'b mut [F]),
        probe: &mut impl Probe<F>,
    ) -> &'b mut [F] {
        let mut row = 0;
        for place in places {
            let (keys, values) = sequence(place);
            let out = &mut heads[row * self.output.inputs()..];
            if let Some(scans) = self.attend_place(place, rows.from(self, row), (keys, values), out, probe) {
                probe.scanned(place, &scans);
            }
            row += place.rows;
        }
        let outputs = match &self.gate {
            Some(gate) => {
                gate.apply(gated, heads, rows.gates, self.group.head_dim);
                gated
            }
            None => heads,
        };
        probe.at(Point::Heads, outputs);
        outputs
    }

    /// Attention of the rows of one place. Gives the scan of each key-value head's group, in order, as far as is asked.
    fn attend_place(
        &self,
        place: &Place,
        rows: Attending<'_, F>,
        (keys, values): (&[F], &[F]),
        out: &mut [F],
        probe: &impl Probe<F>,
    ) -> Option<Vec<Scan<F>>> {
        let head_dim = self.group.head_dim;
        let (query_width, key_width) = (self.query.outputs(), self.key.outputs());
        let group_width = self.group.queries_per_key * head_dim;
        let (look, mask) = (probe.look(), probe.mask(place));
        // Every head first: to gather an Option at once would stop at the first head that has no scan.
        let scans: Vec<Option<Scan<F>>> = (0..self.kv_heads)
            .map(|head| {
                let (at, group) = (head * head_dim, head * group_width);
                let strided = |data, row_stride| Strided { data, row_stride };
                let operands = Operands {
                    rows: place.rows,
                    first_position: place.position,
                    queries: strided(&rows.queries[group..], query_width),
                    keys: strided(&keys[at..], key_width),
                    values: strided(&values[at..], key_width),
                };
                let out = StridedMut { data: &mut out[group..], row_stride: query_width };
                attend(&self.group, &operands, out, &self.extras(head, &rows, mask), look)
            })
            .collect();
        scans.into_iter().collect()
    }

    /// What one key-value head's group meets beside keys.
    pub(super) fn extras<'a>(&'a self, head: usize, rows: &Attending<'a, F>, mask: Mask<'a>) -> Extras<'a, F> {
        let (head_dim, heads) = (self.group.head_dim, self.group.queries_per_key);
        let query_width = self.query.outputs();
        Extras {
            mask,
            sinks: rows.sinks.map(|(count, queries, last_position)| Sinks {
                count,
                last_position,
                queries: Strided { data: &queries[head * heads * head_dim..], row_stride: query_width },
            }),
            slopes: self.slopes.get(head * heads..(head + 1) * heads).unwrap_or_default(),
            entry: (!rows.entry.is_empty()).then(|| Entry {
                scores: Strided { data: &rows.entry[head * heads..], row_stride: self.heads() },
                value: self.key_value_bias.as_ref().map(|(_, value)| &value[head * head_dim..(head + 1) * head_dim]),
            }),
        }
    }

    /// The scores of the entry of every softmax that stands for no key.
    fn entry_scores(&self, queries: &[F], scores: &mut [F]) {
        let heads = self.heads();
        let head_dim = self.group.head_dim;
        match (&self.sink_logits, &self.key_value_bias) {
            (SinkLogits::Zero, _) => scores.fill(F::ZERO),
            (SinkLogits::Learned(logits), _) => {
                scores.chunks_exact_mut(heads).for_each(|row| row.copy_from_slice(logits));
            }
            (SinkLogits::None, Some((keys, _))) => {
                let queries = queries.chunks_exact(head_dim).enumerate();
                for ((index, query), score) in queries.zip(scores.iter_mut()) {
                    let group = index % heads / self.group.queries_per_key;
                    let key = &keys[group * head_dim..(group + 1) * head_dim];
                    let dot = query.iter().zip(key).fold(F::ZERO, |sum, (&q, &k)| q.mul_add(k, sum));
                    *score = dot * self.group.scale;
                }
                if let Some(cap) = self.group.soft_cap {
                    soft_cap(scores, cap);
                }
            }
            (SinkLogits::None, None) => {}
        }
    }

    /// The last step, on rows: what the block adds to the residual. With `spare`, of the same size, `out` becomes what the
    /// norm behind the block read.
    ///
    /// # Shapes
    /// `heads`: rows x (heads * head_dim), after their gates; `out`, `residual`: rows x d_model.
    pub fn output(
        &self,
        heads: &[F],
        out: &mut [F],
        residual: &mut [F],
        spare: Option<&mut [F]>,
        probe: &mut impl Probe<F>,
    ) {
        probe.multiply(Point::Heads, heads, &mut [Product::new(Projection::AttentionOutput, &self.output, out)]);
        self.finish().add(residual, out, spare, probe);
    }

    /// Where the block normalises what it leaves.
    pub(super) fn finish(&self) -> Finish<'_, F> {
        Finish { norm: self.output_norm.as_ref(), post: self.post_norm }
    }

    /// The second and the third step of rows that all stand after the same prefix, each in a sequence of its own: the heads'
    /// outputs, gates included. Without a prefix a row sees only itself, so that a softmax over keys alone gives it a weight
    /// of 1 and each head the value of its group (eq. 22 before W_O): no product is needed, and none rounds the value.
    ///
    /// # Shapes
    /// `prefix`: keys and values of the positions before; `input`, `residual`: rows x d_model, after and before the input norm;
    /// gives rows x (heads * head_dim).
    pub fn attend_after(
        &self,
        prefix: (&[F], &[F]),
        (rope, embedding): (Option<&RopeTable<F>>, &[F]),
        input: &[F],
        residual: &[F],
    ) -> Vec<F> {
        let rows = input.len() / self.query.inputs();
        let (query_width, key_width) = (self.query.outputs(), self.key.outputs());
        let position = prefix.0.len() / key_width;
        let places = vec![Place { block: 0, sequence: 0, position, rows: 1 }; rows];
        let context = TileContext { places: &places, rope, embedding };
        let mut own = AttentionRows::default();
        own.fit(self, rows);
        let mut out = vec![F::ZERO; rows * query_width];
        if position == 0 && self.is_plain_softmax() {
            self.value.forward(&mut own.values, if self.value_reads_residual { residual } else { input });
            let (head_dim, group) = (self.group.head_dim, self.group.queries_per_key * self.group.head_dim);
            for (heads, value) in out.chunks_exact_mut(group).zip(own.values.chunks_exact(head_dim)) {
                heads.chunks_exact_mut(head_dim).for_each(|head| head.copy_from_slice(value));
            }
            if let Some(gate) = &self.gate {
                gate.project(&mut own.gates, input, &context);
                gate.apply(&mut own.queries, &out, &own.gates, head_dim);
                out.copy_from_slice(&own.queries);
            }
            return out;
        }
        self.project(&context, input, residual, own.projected(), &mut Unseen);
        // The prefix, and behind it the row of the moment.
        let (mut keys, mut values) = (prefix.0.to_vec(), prefix.1.to_vec());
        let (mut heads, mut gated) = (vec![F::ZERO; query_width], vec![F::ZERO; query_width]);
        for (row, out) in out.chunks_exact_mut(query_width).enumerate() {
            keys.truncate(position * key_width);
            values.truncate(position * key_width);
            keys.extend_from_slice(&own.keys[row * key_width..][..key_width]);
            values.extend_from_slice(&own.values[row * key_width..][..key_width]);
            let rows = own.attending(self, row..row + 1);
            let buffers = (&mut heads[..], &mut gated[..]);
            out.copy_from_slice(self.attend(&places[..1], rows, |_| (&keys, &values), buffers, &mut Unseen));
        }
        out
    }

    /// Whether weights are a softmax over keys and nothing else.
    fn is_plain_softmax(&self) -> bool {
        self.entries() == 0 && self.group.weighting == Weighting::Softmax
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
