//! The gradient of whole models, every variant, against central differences in f64, and f32 against f64.

use std::collections::BTreeMap;

use sinkscope_kernels::Float;
use sinkscope_model::architecture::{
    Activation, Architecture, AttentionGate, FeedForwardKind, GateSignal, Granularity, LayerView, NormKind,
    NormPlacement, PositionEncoding, QkNorm, ResidualLayout, Rope, RopeScaling, Uniform, UniformFeedForward, Weighting,
};

use sinkscope_model::parameters::{config, count, in_memory};
use sinkscope_model::{Model, ParameterKind};
use sinkscope_sources::data::TokenBatch;

use sinkscope_anatomy::sample::Kinds;
use sinkscope_anatomy::sample::geometry::{GeometryTap, Known};
use sinkscope_model::pass::{Continuations, ErasedTap, Pass, Window};
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};

use super::*;
use crate::data::IGNORED;
use crate::watch::{HeldOut, look};

fn base() -> Uniform {
    Uniform {
        family: "sinkscope".into(),
        d_model: 12,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        d_ffn: 10,
        vocabulary: 11,
        max_positions: 9,
        norm: NormKind::RmsNorm,
        norm_epsilon: 1e-5,
        norm_placement: NormPlacement::Pre,
        residual: ResidualLayout::Sequential,
        qk_norm: QkNorm::None,
        feed_forward: UniformFeedForward { kind: FeedForwardKind::TwoLayer, activation: Activation::Silu, gated: true },
        position: PositionEncoding::Rotary(vec![Rope { theta: 100.0, rotary_dim: 4, scaling: RopeScaling::None }]),
        layers: vec![LayerView { window: None, rope: 0 }; 2],
        attention_scale: 0.5,
        weighting: Weighting::Softmax,
        key_value_bias: false,
        gate: None,
        attention_soft_cap: None,
        logit_soft_cap: None,
        embedding_scale: 1.0,
        tied_embeddings: false,
        registers: 0,
    }
}

fn of(uniform: Uniform) -> Architecture {
    uniform.try_into().expect("ropes that there are")
}

fn variants() -> Vec<(&'static str, Architecture)> {
    let feed_forward = |kind, activation, gated| UniformFeedForward { kind, activation, gated };
    let gate = |signal, granularity| Some(AttentionGate { signal, granularity });
    let a = base;
    let variants = vec![
        ("baseline", a()),
        ("registers", Uniform { registers: 2, ..a() }),
        ("tied, scaled embedding", Uniform { tied_embeddings: true, embedding_scale: 1.7, ..a() }),
        ("gelu", Uniform { feed_forward: feed_forward(FeedForwardKind::TwoLayer, Activation::Gelu, false), ..a() }),
        ("linear", Uniform { feed_forward: feed_forward(FeedForwardKind::Linear, Activation::Silu, false), ..a() }),
        ("attention", Uniform { feed_forward: feed_forward(FeedForwardKind::Absent, Activation::Silu, false), ..a() }),
        ("sandwich", Uniform { norm_placement: NormPlacement::Sandwich, ..a() }),
        ("sandwich-qk-input", Uniform { norm_placement: NormPlacement::SandwichQkInput, ..a() }),
        ("sandwich-qk-head", Uniform { norm_placement: NormPlacement::Output, qk_norm: QkNorm::PerHead, ..a() }),
        ("olmo 2", Uniform { norm_placement: NormPlacement::Output, qk_norm: QkNorm::Projection, ..a() }),
        ("qk-norm alone", Uniform { qk_norm: QkNorm::PerHead, ..a() }),
        ("post-norm", Uniform { norm_placement: NormPlacement::Post, ..a() }),
        ("post-norm of LayerNorms", Uniform { norm_placement: NormPlacement::Post, norm: NormKind::LayerNorm, ..a() }),
        ("dynamic tanh", Uniform { norm: NormKind::DynamicTanh, ..a() }),
        (
            "dynamic tanh sandwich",
            Uniform { norm: NormKind::DynamicTanh, norm_placement: NormPlacement::Sandwich, ..a() },
        ),
        ("layer norm", Uniform { norm: NormKind::LayerNorm, ..a() }),
        ("learned positions", Uniform { position: PositionEncoding::Learned, ..a() }),
        ("alibi", Uniform { position: PositionEncoding::Alibi, ..a() }),
        ("nope", Uniform { position: PositionEncoding::None, ..a() }),
        ("window", Uniform { layers: vec![LayerView { window: Some(3), rope: 0 }; 2], ..a() }),
        ("soft cap", Uniform { attention_soft_cap: Some(0.7), ..a() }),
        ("softmax plus one", Uniform { weighting: Weighting::SoftmaxPlusOne, ..a() }),
        ("sink logit", Uniform { weighting: Weighting::SinkLogit, ..a() }),
        ("sigmoid", Uniform { weighting: Weighting::Sigmoid { bias: -1.5 }, ..a() }),
        ("key-value bias", Uniform { key_value_bias: true, ..a() }),
        ("key-value bias, QK-norm", Uniform { key_value_bias: true, qk_norm: QkNorm::PerHead, ..a() }),
        ("key-value bias, soft cap", Uniform { key_value_bias: true, attention_soft_cap: Some(0.7), ..a() }),
        ("gate: input, channel", Uniform { gate: gate(GateSignal::Input, Granularity::Channel), ..a() }),
        ("gate: input, head", Uniform { gate: gate(GateSignal::Input, Granularity::Head), ..a() }),
        ("gate: input, single", Uniform { gate: gate(GateSignal::Input, Granularity::Single), ..a() }),
        ("gate: free, channel", Uniform { gate: gate(GateSignal::Free, Granularity::Channel), ..a() }),
        ("gate: free, head", Uniform { gate: gate(GateSignal::Free, Granularity::Head), ..a() }),
        ("gate: free, single", Uniform { gate: gate(GateSignal::Free, Granularity::Single), ..a() }),
        ("gate: position, channel", Uniform { gate: gate(GateSignal::Position, Granularity::Channel), ..a() }),
        ("gate: embedding, head", Uniform { gate: gate(GateSignal::Embedding, Granularity::Head), ..a() }),
        (
            "gate: embedding, learned positions",
            Uniform {
                gate: gate(GateSignal::Embedding, Granularity::Channel),
                position: PositionEncoding::Learned,
                embedding_scale: 1.7,
                ..a()
            },
        ),
    ];
    variants.into_iter().map(|(name, uniform)| (name, of(uniform))).collect()
}

fn batch(a: &Architecture) -> Batch {
    let (sequences, seq_len) = (3, 7);
    let count = sequences * seq_len;
    let id = |i: usize, by: usize| ((i * i * by + 3 * i + by) % a.vocabulary) as u32;
    let mut targets: Vec<u32> = (0..count).map(|i| id(i, 5)).collect();
    // Some positions do not count.
    for ignored in [0, 6, 13, 20] {
        targets[ignored] = IGNORED;
    }
    Batch { sequences, seq_len, inputs: (0..count).map(|i| id(i, 2)).collect(), targets }
}

/// Weights large enough that everything is far from linear, and none, not even of norms, at a special value.
fn network<F: Float>(a: &Architecture) -> Network<F> {
    let how = Initialisation { deviation: 0.4, ..Initialisation::default() };
    let mut parameters: Parameters<F> = initialise(a, &how, 3).expect("an architecture");
    let inventory = parameters.inventory(a);
    for (index, (values, info)) in parameters.values_mut().into_iter().zip(inventory).enumerate() {
        // An alpha of 0 would leave nothing to depend on.
        if info.kind == ParameterKind::Alpha {
            continue;
        }
        for (at, value) in values.iter_mut().enumerate() {
            *value += F::from_f64(0.1 * ((7 * index + 3 * at) % 11) as f64 - 0.5);
        }
    }
    parameters.repack();
    Network::new(a.clone(), parameters).expect("an architecture that can be trained")
}

fn gradient<F: Float>(network: &Network<F>, batch: &Batch) -> (f64, Vec<Vec<f64>>) {
    let mut workspace = network.workspace(batch.sequences, batch.seq_len);
    let loss = network.add_gradient(batch, F::from_f64(0.5), &mut workspace).expect("a batch that fits");
    let gradient = workspace.gradient.values_mut();
    (0.5 * loss.sum, gradient.iter().map(|values| values.iter().map(|value| value.to_f64()).collect()).collect())
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn gradients_of_every_variant_agree_with_central_differences() {
    const STEP: f64 = 1e-5;
    for (name, a) in variants() {
        let batch = batch(&a);
        let mut network: Network<f64> = network(&a);
        let (_, ours) = gradient(&network, &batch);
        let mut workspace = network.workspace(batch.sequences, batch.seq_len);
        let inventory = network.parameters.inventory(&a);
        for (tensor, info) in inventory.iter().enumerate() {
            let mut differences = Vec::new();
            for at in 0..ours[tensor].len() {
                let mut loss_at = |shift: f64| {
                    network.parameters.values_mut()[tensor][at] += shift;
                    network.parameters.repack();
                    let loss = 0.5 * network.loss(&batch, &mut workspace).expect("a batch that fits").sum;
                    network.parameters.values_mut()[tensor][at] -= shift;
                    loss
                };
                differences.push((loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP));
            }
            let error = length(ours[tensor].iter().zip(&differences).map(|(a, b)| a - b));
            let size = length(differences.iter().copied());
            assert!(error <= 1e-5 * size + 1e-8, "{name}: {}: {error:e} of {size:e}", info.name);
            assert!(size > 1e-6, "{name}: {}: nothing depends on it", info.name);
        }
    }
}

#[test]
fn a_workspace_that_was_used_gives_the_bits_of_a_new_one() {
    for (name, a) in variants() {
        let batch = batch(&a);
        let mut other = batch.clone();
        other.inputs.reverse();
        other.targets.rotate_left(1);
        let network: Network<f32> = network(&a);
        let (_, new) = gradient(&network, &batch);
        let mut workspace = network.workspace(batch.sequences, batch.seq_len);
        network.add_gradient(&other, 0.5, &mut workspace).expect("a batch that fits");
        workspace.gradient.values_mut().into_iter().for_each(|values| values.fill(0.0));
        network.add_gradient(&batch, 0.5, &mut workspace).expect("a batch that fits");
        for ((used, new), info) in
            workspace.gradient.values_mut().into_iter().zip(&new).zip(network.parameters.clone().inventory(&a))
        {
            let bits = used.iter().map(|&value| f64::from(value).to_bits()).eq(new.iter().map(|value| value.to_bits()));
            assert!(bits, "{name}: {}", info.name);
        }
    }
}

/// By tensor and of all together. Measured with AMX, at most: 4e-5 and 3.2e-5, 4.2e-4 and 2.3e-4, 0.31 and 0.25 (these weights are
/// large).
#[test]
fn gradients_in_f32_agree_with_f64() {
    let tolerances = [(1e-4, 1e-4), (1e-3, 5e-4), (0.5, 0.3)];
    for (name, a) in variants() {
        let batch = batch(&a);
        let mut wide: Network<f64> = network(&a);
        let (_, exact) = gradient(&wide, &batch);
        for (precision, (of_tensor, of_all)) in Precision::ALL.into_iter().zip(tolerances) {
            if precision != Precision::Highest && !precision.rounds::<f32>() {
                println!("skipped: no AMX for precision {}", precision.name());
                continue;
            }
            let narrow = network::<f32>(&a).with_precision(precision);
            assert!(narrow.parameters.layers.iter().all(|(attention, _)| attention.group.precision == precision));
            let (_, ours) = gradient(&narrow, &batch);
            let (mut errors, mut sizes) = (Vec::new(), Vec::new());
            for (info, (ours, exact)) in wide.parameters.inventory(&a).iter().zip(ours.iter().zip(&exact)) {
                let error = length(ours.iter().zip(exact).map(|(a, b)| a - b));
                let size = length(exact.iter().copied());
                assert!(error <= of_tensor * size, "{name}, {precision:?}: {}: {error:e} of {size:e}", info.name);
                errors.push(error);
                sizes.push(size);
            }
            let (error, size) = (length(errors.into_iter()), length(sizes.into_iter()));
            assert!(error <= of_all * size, "{name}, {precision:?}: {error:e} of {size:e}");
        }
    }
}

/// What training sees is what every other command sees of the checkpoint.
#[test]
fn the_streamed_pass_of_every_variant_has_the_loss_of_training() {
    for (name, a) in variants() {
        let mut batch = batch(&a);
        for sequence in 0..batch.sequences {
            for position in 0..batch.seq_len {
                let at = sequence * batch.seq_len + position;
                let ignored = position < a.registers || position + 1 == batch.seq_len;
                batch.targets[at] = if ignored { IGNORED } else { batch.inputs[at + 1] };
            }
        }
        let mut network: Network<f32> = network(&a);
        let mut workspace = network.workspace(batch.sequences, batch.seq_len);
        let loss = network.loss(&batch, &mut workspace).expect("a batch that fits");
        let weights: usize = network.parameters.values_mut().iter().map(|values| values.len()).sum();
        assert_eq!(count(&a), weights as u64, "{name}");
        let model = in_memory(name, &a, &mut network.parameters).expect("a model");
        assert_eq!(Architecture { family: a.family.clone(), ..model.architecture().clone() }, a, "{name}");
        let llama = config(&a)["model_type"] == "llama";
        assert_eq!(llama, name == "baseline" || name.starts_with("tied") && a.embedding_scale == 1.0, "{name}");
        let (sequences, seq_len) = (batch.sequences, batch.seq_len);
        let tokens = TokenBatch { sequences, seq_len, tokens: batch.inputs.clone() };
        let watched = look(&model, &HeldOut::plain(tokens), 0).expect("finite");
        assert!((watched.nll - loss.mean()).abs() < 2e-5 * loss.mean(), "{name}: {} {}", watched.nll, loss.mean());
    }
}

/// What every key receives in every layer, heads x keys.
#[derive(Default)]
struct Received(BTreeMap<usize, Vec<f32>>);

impl Tap for Received {
    type Partial = Vec<f32>;

    fn wants(&self, point: Point, _block: usize) -> bool {
        point == Point::Attention
    }

    fn observe(&self, event: &Event<'_>) -> Vec<f32> {
        let EventData::Attention(scan) = event.data else { unreachable!("a scan was asked for") };
        scan.received.to_vec()
    }

    fn merge(&mut self, _point: Point, place: &Place, received: Vec<f32>) {
        self.0.insert(place.block / 2, received);
    }
}

#[test]
fn distances_are_those_of_the_weights_in_every_variant() {
    const SEQ_LEN: usize = 8;
    const SINK: usize = 1;
    for (name, a) in variants() {
        let mut network: Network<f32> = network(&a);
        let model = in_memory(name, &a, &mut network.parameters).expect("a model");
        let pass = |seq_len: usize, tap: &mut dyn ErasedTap| {
            let tokens = batch(&a).inputs[..seq_len].to_vec();
            Pass::new(&model, u64::MAX).run(&TokenBatch { tokens, sequences: 1, seq_len }, &mut [tap]).expect("a pass");
        };
        let known = Known {
            kinds: Kinds::of_one_stage(vec![false; SEQ_LEN]),
            sinks: vec![vec![false; a.most_heads()]; a.layer_count()],
            sink_keys: vec![SINK],
        };
        let mut geometry = GeometryTap::new(&a, (1, SEQ_LEN), known, Vec::new());
        pass(SEQ_LEN, &mut geometry);
        // One query's weights are what keys receive from all up to it, less what they receive from those before it.
        let mut up_to = vec![Received::default()];
        for seq_len in 1..=SEQ_LEN {
            let mut received = Received::default();
            pass(seq_len, &mut received);
            up_to.push(received);
        }
        for head in geometry.finish().0.heads {
            let received = |queries: usize, key: usize| {
                let of_layer = up_to[queries].0.get(&head.layer);
                of_layer
                    .and_then(|all| all[head.head * queries..][..queries].get(key))
                    .map_or(0.0, |&sum| f64::from(sum))
            };
            let mean = |wanted: &dyn Fn(usize) -> bool| {
                let (mut sum, mut mass) = (0.0, 0.0);
                for query in 0..SEQ_LEN {
                    for key in (0..=query).filter(|&key| wanted(key)) {
                        let weight = received(query + 1, key) - received(query, key);
                        sum += weight * (query - key) as f64;
                        mass += weight;
                    }
                }
                sum / mass
            };
            for (ours, expected) in [
                (head.distance, mean(&|_| true)),
                (head.distance_beside_sink.expect("other keys"), mean(&|key| key != SINK)),
            ] {
                assert!((ours - expected).abs() < 1e-4, "{name}, {} {}: {ours} {expected}", head.layer, head.head);
            }
        }
    }
}

/// The residual of every token after the last block.
#[derive(Default)]
struct LastResidual {
    block: usize,
    rows: Vec<f32>,
}

impl Tap for LastResidual {
    type Partial = Vec<f32>;

    fn wants(&self, point: Point, block: usize) -> bool {
        point == Point::Residual && block == self.block
    }

    fn observe(&self, event: &Event<'_>) -> Vec<f32> {
        let EventData::Rows(rows) = event.data else { unreachable!("a residual was asked for") };
        rows.to_vec()
    }

    fn merge(&mut self, _point: Point, _place: &Place, rows: Vec<f32>) {
        self.rows.extend(rows);
    }
}

/// The last token's residual after the last block.
fn last_residual(model: &Model, ids: &[u32], window: Option<Window>) -> Vec<f32> {
    let a = model.architecture();
    let mut tap = LastResidual { block: a.blocks(), ..LastResidual::default() };
    let pass = Pass::new(model, u64::MAX);
    let pass = if let Some(window) = window { pass.with_window(window) } else { pass };
    let tokens = TokenBatch { tokens: ids.to_vec(), sequences: 1, seq_len: ids.len() };
    pass.run(&tokens, &mut [&mut tap]).expect("a pass");
    tap.rows[tap.rows.len() - a.d_model..].to_vec()
}

fn assert_close(what: &str, ours: &[f32], expected: &[f32]) {
    let off = length(ours.iter().zip(expected).map(|(a, b)| f64::from(a - b)));
    let size = length(expected.iter().map(|&value| f64::from(value)));
    assert!(off < 1e-5 * size, "{what}: {off:e} of {size:e}");
}

#[test]
fn a_candidate_is_the_last_token_of_a_whole_sequence_in_every_variant() {
    for (name, a) in variants() {
        let mut network: Network<f32> = network(&a);
        let model = in_memory(name, &a, &mut network.parameters).expect("a model");
        for prefix in [&[][..], &[3, 1, 4, 1][..]] {
            let candidates: Vec<u32> = (0..a.vocabulary as u32).collect();
            let mut last = Vec::new();
            Continuations::new(&model, prefix, u64::MAX)
                .run(&candidates, a.blocks(), &mut |step| {
                    if step.block == a.blocks() {
                        last.extend_from_slice(step.residual);
                    }
                })
                .expect("a run");
            for (&id, ours) in candidates.iter().zip(last.chunks_exact(a.d_model)) {
                let whole = last_residual(&model, &[prefix, &[id]].concat(), None);
                assert_close(&format!("{name}, {id} after {}", prefix.len()), ours, &whole);
            }
        }
    }
}

/// In one layer, what a cache of the first and the last tokens holds is what a text of these tokens alone would leave in it.
#[test]
fn the_key_value_bias_meets_queries_at_their_place_in_a_cache() {
    let a = of(Uniform { key_value_bias: true, layers: vec![LayerView { window: None, rope: 0 }], ..base() });
    let mut network: Network<f32> = network(&a);
    let model = in_memory("one layer", &a, &mut network.parameters).expect("a model");
    let ids = [3, 1, 4, 1, 5, 9, 2, 6];
    for (width, sinks) in [(3, 0), (3, 2), (1, 1)] {
        let held = [&ids[..sinks], &ids[ids.len() - width..]].concat();
        let window = Window { width, sinks, original_positions: false };
        let cached = last_residual(&model, &ids, Some(window));
        assert_close(&format!("{window:?}"), &cached, &last_residual(&model, &held, None));
        let in_text = last_residual(&model, &ids, Some(Window { original_positions: true, ..window }));
        assert!(in_text != cached, "{window:?}: its place must matter");
    }
}

#[test]
fn absent_blocks_do_not_count_in_the_scale_of_what_writes() {
    let absent = UniformFeedForward { kind: FeedForwardKind::Absent, activation: Activation::Silu, gated: false };
    let layers = vec![LayerView { window: None, rope: 0 }; 3];
    for (feed_forward, writing) in [(absent, 3.0_f64), (base().feed_forward, 6.0)] {
        let a = of(Uniform { feed_forward, layers: layers.clone(), ..base() });
        let begin = |scale_residual| {
            let how = Initialisation { scale_residual, ..Initialisation::default() };
            initialise::<f64>(&a, &how, 5).expect("an architecture")
        };
        let (mut plain, mut scaled) = (begin(false), begin(true));
        let inventory = plain.inventory(&a);
        for ((plain, scaled), info) in plain.values_mut().iter().zip(scaled.values_mut().iter()).zip(inventory) {
            let writes = matches!(info.kind, ParameterKind::Matrix { writes_residual: true, .. });
            let factor = if writes { writing.sqrt().recip() } else { 1.0 };
            let off = plain.iter().zip(scaled.iter()).map(|(plain, scaled)| (plain * factor - scaled).abs());
            assert!(off.fold(0.0, f64::max) < 1e-15, "{}", info.name);
        }
    }
}
