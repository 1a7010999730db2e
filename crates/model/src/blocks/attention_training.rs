//! The attention block in training.

use sinkscope_kernels::attention::{
    EntryGradients, Forward, Gradients, Look, Mask, Operands, Scan, Strided, StridedMut, attend_backward,
};
use sinkscope_kernels::gate::gate_heads_backward;
use sinkscope_kernels::simd::{add, add_columns};
use sinkscope_kernels::{Buffer, Float};

use super::{
    AttentionBlock, AttentionRows, Gate, GradientTask, Norm, Probe, SinkLogits, TileContext, Unseen, add_norm,
    input_backward, read,
};
use crate::architecture::GateSignal;
use crate::tap::Place;

/// What the backward needs of a tile's forward.
#[derive(Debug, Clone, Default)]
pub struct AttentionTrace<F> {
    /// The residual before the block.
    residual: Buffer<F>,
    /// What queries and keys are made of: the residual after the input norm.
    input: Buffer<F>,
    rows: AttentionRows<F>,
    /// By sequence, head and row.
    log_sum_exp: Vec<F>,
    heads: Buffer<F>,
    /// The heads' outputs times their gates.
    gated: Buffer<F>,
    /// What the norm of the output or of the residual read.
    before_norm: Buffer<F>,
}

impl<F> AttentionTrace<F> {
    /// What W_O read.
    fn output_input(&self) -> &[F] {
        if self.gated.is_empty() { &self.heads } else { &self.gated }
    }
}

/// What a tile's backward leaves for the gradients of weights, and its buffers.
#[derive(Debug, Clone, Default)]
pub struct AttentionGradients<F> {
    d_out: Buffer<F>,
    d_heads: Buffer<F>,
    d_gates: Buffer<F>,
    d_gated: Buffer<F>,
    d_queries: Buffer<F>,
    d_keys: Buffer<F>,
    d_values: Buffer<F>,
    /// rows x heads.
    d_entry: Buffer<F>,
    d_input: Buffer<F>,
    scratch: Buffer<F>,
    input_norm: Option<Norm<F>>,
    query_norm: Option<Norm<F>>,
    key_norm: Option<Norm<F>>,
    output_norm: Option<Norm<F>>,
    bias: Option<(Vec<F>, Vec<F>)>,
}

/// From what a tile left, what a matrix read and the gradient of what it gave.
type Pair<'a, F> = fn(&'a AttentionTrace<F>, &'a AttentionGradients<F>) -> (&'a [F], &'a [F]);

impl<F: Float> AttentionBlock<F> {
    /// A gradient of nothing yet.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        let zeros = |values: &Vec<F>| vec![F::ZERO; values.len()];
        Self {
            input_norm: self.input_norm.as_ref().map(Norm::zeros_like),
            query: self.query.zeros_like(),
            key: self.key.zeros_like(),
            value: self.value.zeros_like(),
            query_norm: self.query_norm.as_ref().map(Norm::zeros_like),
            key_norm: self.key_norm.as_ref().map(Norm::zeros_like),
            gate: self.gate.as_ref().map(|gate| Gate { weight: gate.weight.zeros_like(), ..*gate }),
            sink_logits: match &self.sink_logits {
                SinkLogits::Learned(logits) => SinkLogits::Learned(zeros(logits)),
                other => other.clone(),
            },
            key_value_bias: self.key_value_bias.as_ref().map(|(key, value)| (zeros(key), zeros(value))),
            slopes: self.slopes.clone(),
            output: self.output.zeros_like(),
            output_norm: self.output_norm.as_ref().map(Norm::zeros_like),
            ..*self
        }
    }

    /// Adds the block's output to the residual of a tile. Of `buffers` nothing is kept.
    ///
    /// # Shapes
    /// `residual`: rows x d_model, whole sequences.
    pub fn forward(
        &self,
        context: &TileContext<'_, F>,
        residual: &mut [F],
        trace: &mut AttentionTrace<F>,
        buffers: &mut AttentionGradients<F>,
    ) {
        let len = residual.len();
        let rows = len / self.output.outputs();
        trace.residual.fit(len).copy_from_slice(residual);
        read(self.input_norm.as_ref(), residual, trace.input.fit(len), &mut Unseen);
        trace.rows.fit(self, rows);
        trace.rows.keep_raw(self);
        self.project(context, &trace.input, residual, trace.rows.projected(), &mut Unseen);
        trace.log_sum_exp.clear();
        let (keys, values) = (&trace.rows.keys, &trace.rows.values);
        let sequence = |place: &Place| {
            let first = place.sequence * place.rows * self.key.outputs();
            (&keys[first..], &values[first..])
        };
        let width = rows * self.output.inputs();
        let gated = trace.gated.fit(if self.gate.is_some() { width } else { 0 });
        let attending = trace.rows.attending(self, 0..rows);
        let probe = &mut KeepLogSumExp(&mut trace.log_sum_exp);
        let outputs = self.attend(context.places, attending, sequence, (trace.heads.fit(width), gated), probe);
        let spare = buffers.scratch.fit(len);
        self.output(outputs, trace.before_norm.fit(len), residual, Some(spare), &mut Unseen);
    }

    /// Turns the gradient of the residual after the block into that of the residual before it. What gates leave for the
    /// embedding is added to `d_embedding`.
    ///
    /// # Shapes
    /// `d_residual`, `d_embedding`: rows x d_model, as in the forward; `d_embedding` empty if no gate depends on it.
    pub fn backward(
        &self,
        context: &TileContext<'_, F>,
        d_residual: &mut [F],
        d_embedding: &mut [F],
        trace: &AttentionTrace<F>,
        gradients: &mut AttentionGradients<F>,
    ) {
        let len = d_residual.len();
        let d_out = gradients.d_out.fit(len);
        self.finish().backward(d_residual, d_out, gradients.output_norm.as_mut(), &trace.before_norm);
        let d_heads = gradients.d_heads.fit(trace.heads.len());
        if let Some(gate) = &self.gate {
            let d_gated = gradients.d_gated.fit(trace.heads.len());
            self.output.backward(d_gated, d_out, false);
            let d_gates = gradients.d_gates.fit(trace.rows.gates.len());
            let over = gate.over(self.heads(), self.group.head_dim);
            gate_heads_backward(d_heads, d_gates, d_gated, &trace.heads, &trace.rows.gates, over);
        } else {
            self.output.backward(d_heads, d_out, false);
        }
        self.attend_backward(context.places, trace, gradients);
        self.entry_backward(trace, gradients);
        if let Some(table) = context.rope {
            let head_dim = self.group.head_dim;
            let (queries, keys) = (&mut gradients.d_queries, &mut gradients.d_keys);
            self.turn(context.places, queries, keys, |rows, heads, at| table.rotate_back(rows, heads, head_dim, at));
        }
        let AttentionGradients { d_queries, d_keys, d_values, d_gates, d_input, scratch, .. } = gradients;
        for (norm, gradient, values, raw) in [
            (&self.query_norm, &mut gradients.query_norm, &mut *d_queries, &trace.rows.raw_queries),
            (&self.key_norm, &mut gradients.key_norm, &mut *d_keys, &trace.rows.raw_keys),
        ] {
            if let (Some(norm), Some(gradient)) = (norm, gradient) {
                norm.backward(scratch.fit(values.len()), gradient, values, raw);
                std::mem::swap(scratch, values);
            }
        }
        let d_input = d_input.fit(len);
        self.query.backward(d_input, d_queries, false);
        self.key.backward(d_input, d_keys, true);
        if self.value_reads_residual {
            self.value.backward(d_residual, d_values, true);
        } else {
            self.value.backward(d_input, d_values, true);
        }
        match &self.gate {
            Some(Gate { signal: GateSignal::Input, weight, .. }) => weight.backward(d_input, d_gates, true),
            Some(Gate { signal: GateSignal::Embedding, weight, .. }) => weight.backward(d_embedding, d_gates, true),
            _ => {}
        }
        let gradient = gradients.input_norm.as_mut();
        input_backward(self.input_norm.as_ref(), gradient, d_residual, d_input, &trace.residual, scratch);
    }

    /// From the gradient of the entry's scores to those of rotated queries and of its key. Those of sink logits wait.
    fn entry_backward(&self, trace: &AttentionTrace<F>, gradients: &mut AttentionGradients<F>) {
        let (Some((keys, _)), Some((d_keys, _))) = (&self.key_value_bias, &mut gradients.bias) else { return };
        let heads = self.heads();
        let head_dim = self.group.head_dim;
        let queries = trace.rows.queries.chunks_exact(head_dim).zip(gradients.d_queries.chunks_exact_mut(head_dim));
        let scores = trace.rows.entry.iter().zip(gradients.d_entry.iter());
        for (index, ((query, d_query), (&score, &d_score))) in queries.zip(scores).enumerate() {
            let group = index % heads / self.group.queries_per_key;
            let own = group * head_dim..(group + 1) * head_dim;
            let d_capped =
                self.group.soft_cap.map_or(d_score, |cap| d_score * (F::ONE - (score / cap) * (score / cap)));
            let d_dot = d_capped * self.group.scale;
            for (((d_query, &query), d_key), &key) in
                d_query.iter_mut().zip(query).zip(&mut d_keys[own.clone()]).zip(&keys[own])
            {
                *d_query = d_dot.mul_add(key, *d_query);
                *d_key = d_dot.mul_add(query, *d_key);
            }
        }
    }

    /// What of the weights' gradient takes work, in tasks that may run at once; the rest is added at once. `self` is the
    /// gradient. Tiles contribute in the order given.
    pub fn gradient_tasks<'a>(
        &'a mut self,
        tiles: &'a [(TileContext<'a, F>, &'a AttentionTrace<F>, &'a AttentionGradients<F>)],
    ) -> Vec<GradientTask<'a, F>> {
        for (context, _, gradients) in tiles {
            add_norm(&mut self.input_norm, gradients.input_norm.as_ref());
            add_norm(&mut self.query_norm, gradients.query_norm.as_ref());
            add_norm(&mut self.key_norm, gradients.key_norm.as_ref());
            add_norm(&mut self.output_norm, gradients.output_norm.as_ref());
            if let SinkLogits::Learned(logits) = &mut self.sink_logits {
                add_columns(logits, &gradients.d_entry);
            }
            if let (Some((key, value)), Some((d_key, d_value))) = (&mut self.key_value_bias, &gradients.bias) {
                add(key, d_key);
                add(value, d_value);
            }
            if let Some(gate) = &mut self.gate {
                gate.add_looked_up(&gradients.d_gates, context.places);
            }
        }
        let of = |x: Pair<'a, F>| -> Vec<_> { tiles.iter().map(|(_, trace, gradients)| x(trace, gradients)).collect() };
        let mut tasks = Vec::new();
        tasks.extend(self.query.gradient_tasks(&of(|trace, gradients| (&trace.input, &gradients.d_queries))));
        tasks.extend(self.key.gradient_tasks(&of(|trace, gradients| (&trace.input, &gradients.d_keys))));
        let of_values = if self.value_reads_residual {
            of(|trace, gradients| (&trace.residual, &gradients.d_values))
        } else {
            of(|trace, gradients| (&trace.input, &gradients.d_values))
        };
        tasks.extend(self.value.gradient_tasks(&of_values));
        tasks.extend(self.output.gradient_tasks(&of(|trace, gradients| (trace.output_input(), &gradients.d_out))));
        match &mut self.gate {
            Some(Gate { signal: GateSignal::Input, weight, .. }) => {
                tasks.extend(weight.gradient_tasks(&of(|trace, gradients| (&trace.input, &gradients.d_gates))));
            }
            Some(Gate { signal: GateSignal::Embedding, weight, .. }) => {
                let tiles: Vec<(&'a [F], &'a [F])> =
                    tiles.iter().map(|(context, _, gradients)| (context.embedding, &gradients.d_gates[..])).collect();
                tasks.extend(weight.gradient_tasks(&tiles));
            }
            _ => {}
        }
        tasks
    }
}

impl<F: Float> Gate<F> {
    /// Adds the gradient of gates that are looked up and not projected.
    fn add_looked_up(&mut self, mut d_gates: &[F], places: &[Place]) {
        let width = self.weight.outputs();
        match self.signal {
            GateSignal::Free => add_columns(self.weight.values_mut().0, d_gates),
            GateSignal::Position => {
                for place in places {
                    let (own, rest) = d_gates.split_at(place.rows * width);
                    add(&mut self.weight.values_mut().0[place.position * width..][..own.len()], own);
                    d_gates = rest;
                }
            }
            GateSignal::Input | GateSignal::Embedding => {}
        }
    }
}

impl<F: Float> AttentionGradients<F> {
    /// Begins the backward of a block: nothing has been added to the vectors' gradients.
    pub fn begin(&mut self, block: &AttentionBlock<F>) {
        let zeros = |values: &Vec<F>| vec![F::ZERO; values.len()];
        self.input_norm = block.input_norm.as_ref().map(Norm::zeros_like);
        self.query_norm = block.query_norm.as_ref().map(Norm::zeros_like);
        self.key_norm = block.key_norm.as_ref().map(Norm::zeros_like);
        self.output_norm = block.output_norm.as_ref().map(Norm::zeros_like);
        self.bias = block.key_value_bias.as_ref().map(|(key, value)| (zeros(key), zeros(value)));
    }
}

/// Keeps of attention what its backward reads.
struct KeepLogSumExp<'t, F>(&'t mut Vec<F>);

impl<F: Float> Probe<F> for KeepLogSumExp<'_, F> {
    fn look(&self) -> Look {
        Look::LogSumExp
    }

    fn scanned(&mut self, _: &Place, scans: &[Scan<F>]) {
        self.0.extend(scans.iter().flat_map(|scan| &scan.log_sum_exp));
    }
}

/// Attention of the whole sequences of a tile.
impl<F: Float> AttentionBlock<F> {
    fn attend_backward(&self, places: &[Place], trace: &AttentionTrace<F>, gradients: &mut AttentionGradients<F>) {
        let (query_width, key_width) = (self.query.outputs(), self.key.outputs());
        let (head_dim, grouped) = (self.group.head_dim, self.group.queries_per_key);
        let heads = self.heads();
        let d_queries = gradients.d_queries.fit(trace.rows.queries.len());
        let d_keys = gradients.d_keys.fit(trace.rows.keys.len());
        let d_values = gradients.d_values.fit(trace.rows.values.len());
        let d_entry = gradients.d_entry.fit(trace.rows.entry.len());
        let mut bias = gradients.bias.as_mut();
        let mut first = 0;
        for place in places {
            let seq_len = place.rows;
            let rows = trace.rows.attending(self, first..first + seq_len);
            for head in 0..self.kv_heads {
                let query = first * query_width + head * grouped * head_dim;
                let key = first * key_width + head * head_dim;
                let log_sum_exp = first * heads + head * grouped * seq_len;
                let of_queries = |data| Strided { data, row_stride: query_width };
                let of_keys = |data| Strided { data, row_stride: key_width };
                let operands = Operands {
                    rows: seq_len,
                    first_position: 0,
                    queries: of_queries(&trace.rows.queries[query..]),
                    keys: of_keys(&trace.rows.keys[key..]),
                    values: of_keys(&trace.rows.values[key..]),
                };
                let forward = Forward {
                    operands,
                    out: of_queries(&trace.heads[query..]),
                    log_sum_exp: &trace.log_sum_exp[log_sum_exp..log_sum_exp + grouped * seq_len],
                };
                let entry = d_entry.get_mut(first * heads + head * grouped..).filter(|rows| !rows.is_empty());
                let mut into = Gradients {
                    queries: StridedMut { data: &mut d_queries[query..], row_stride: query_width },
                    keys: StridedMut { data: &mut d_keys[key..], row_stride: key_width },
                    values: StridedMut { data: &mut d_values[key..], row_stride: key_width },
                    entry: entry.map(|scores| EntryGradients {
                        scores: StridedMut { data: scores, row_stride: heads },
                        value: bias.as_mut().map(|(_, value)| &mut value[head * head_dim..(head + 1) * head_dim]),
                    }),
                };
                let d_out = of_queries(&gradients.d_heads[query..]);
                attend_backward(&self.group, &forward, d_out, &self.extras(head, &rows, Mask::default()), &mut into);
            }
            first += seq_len;
        }
    }
}
