//! What a training step spends its time on beside products: attention forward and backward, and the sweeps over memory.
//!
//!     cargo bench -p sinkscope-kernels --bench training

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sinkscope_kernels::activation::{
    Activation, GatedBackward, activate_backward, activate_gated_backward, activate_gated_into,
};
use sinkscope_kernels::adamw::{Step, adamw};
use sinkscope_kernels::attention::{
    Extras, Forward, Gradients, HeadGroup, Look, Operands, Strided, StridedMut, Weighting, attend, attend_backward,
};
use sinkscope_kernels::cross_entropy::cross_entropy_backward;
use sinkscope_kernels::gate::{Granularity, HeadGates, gate_heads_backward};
use sinkscope_kernels::matmul::Precision;
use sinkscope_kernels::norm::{RowGradients, dynamic_tanh_backward, layer_norm_backward, rms_norm, rms_norm_backward};

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

/// Rows x width of every sweep: in the second-level cache, so that arithmetic counts too.
const ROWS: usize = 64;
const WIDTH: usize = 256;

fn sweeps(criterion: &mut Criterion) {
    let count = ROWS * WIDTH;
    let mut group = criterion.benchmark_group("sweeps");
    group.throughput(Throughput::Elements(count as u64));
    let (x, dy, gamma) = (values(count), values(count), values(WIDTH));
    let (mut a, mut b, mut c) = (values(count), values(count), values(count));
    let (mut dgamma, mut dbeta, mut dalpha) = (values(WIDTH), values(WIDTH), 0.0);
    group.bench_function("rms_norm", |bench| bench.iter(|| rms_norm(black_box(&mut a), &x, &gamma, 1e-5)));
    group.bench_function("rms_norm_backward", |bench| {
        bench.iter(|| {
            rms_norm_backward(RowGradients { dx: black_box(&mut a), dy: &dy, x: &x }, &mut dgamma, &gamma, 1e-5);
        });
    });
    group.bench_function("layer_norm_backward", |bench| {
        bench.iter(|| {
            let rows = RowGradients { dx: black_box(&mut a), dy: &dy, x: &x };
            layer_norm_backward(rows, &mut dgamma, &mut dbeta, &gamma, 1e-5);
        });
    });
    group.bench_function("dynamic_tanh_backward", |bench| {
        bench.iter(|| {
            let rows = RowGradients { dx: black_box(&mut a), dy: &dy, x: &x };
            dynamic_tanh_backward(rows, &mut dalpha, &mut dgamma, &mut dbeta, 0.5, &gamma);
        });
    });
    for activation in [Activation::Silu, Activation::Gelu] {
        group.bench_function(format!("activate_gated_into {activation:?}"), |bench| {
            bench.iter(|| activate_gated_into(activation, black_box(&mut a), &x, &dy));
        });
        group.bench_function(format!("activate_gated_backward {activation:?}"), |bench| {
            bench.iter(|| {
                let out = GatedBackward { d_gate: black_box(&mut a), d_up: &mut b, hidden: &mut c };
                activate_gated_backward(activation, out, &dy, &x, &x);
            });
        });
        group.bench_function(format!("activate_backward {activation:?}"), |bench| {
            bench.iter(|| activate_backward(activation, black_box(&mut a), &dy, &x));
        });
    }
    let targets = vec![7; ROWS];
    group.bench_function("cross_entropy_backward", |bench| {
        bench.iter(|| cross_entropy_backward(black_box(&mut a), WIDTH, &targets, 0.01));
    });
    for granularity in [Granularity::Channel, Granularity::Head] {
        let gates = HeadGates { heads: 4, head_dim: WIDTH / 4, granularity };
        group.bench_function(format!("gate_heads_backward {granularity:?}"), |bench| {
            bench.iter(|| {
                let count = ROWS * gates.count();
                gate_heads_backward(black_box(&mut a), &mut b[..count], &dy, &x, &x[..count], gates);
            });
        });
    }
    let step = Step {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        bias_correction1: 0.5,
        bias_correction2: 0.5,
        gradient_scale: 1.0,
    };
    group.bench_function("adamw", |bench| bench.iter(|| adamw(black_box(&mut a), &dy, &mut b, &mut c, &step)));
    group.finish();
}

/// One head of 64, 256 positions; and four heads that share keys.
fn attention(criterion: &mut Criterion) {
    const LENGTH: usize = 256;
    const HEAD_DIM: usize = 64;
    let mut group = criterion.benchmark_group("attention");
    for (heads, weighting) in [(1, Weighting::Softmax), (4, Weighting::Softmax), (1, Weighting::Sigmoid { bias: -5.0 })]
    {
        let name = format!("{heads} {weighting:?}");
        let shape = HeadGroup {
            queries_per_key: heads,
            head_dim: HEAD_DIM,
            scale: 0.125,
            soft_cap: None,
            window: None,
            weighting,
            precision: Precision::Highest,
        };
        let width = heads * HEAD_DIM;
        let of_queries = |data| Strided { data, row_stride: width };
        let of_keys = |data| Strided { data, row_stride: HEAD_DIM };
        let (queries, keys) = (values(LENGTH * width), values(LENGTH * HEAD_DIM));
        let (queries, keys) = (of_queries(&queries), of_keys(&keys));
        let mut out = values(LENGTH * width);
        // Causal: half the pairs; two products forward, five backward.
        group.throughput(Throughput::Elements((2 * 2 * LENGTH * LENGTH / 2 * width) as u64));
        let extras = Extras::default();
        let operands = Operands { rows: LENGTH, first_position: 0, queries, keys, values: keys };
        let mut forward =
            |look| attend(&shape, &operands, StridedMut { data: &mut out, row_stride: width }, &extras, look);
        group.bench_function(format!("forward {name}"), |bench| bench.iter(|| black_box(forward(Look::LogSumExp))));
        group.bench_function(format!("scan {name}"), |bench| bench.iter(|| black_box(forward(Look::Scan))));
        let log_sum_exp = forward(Look::LogSumExp).map(|scan| scan.log_sum_exp).unwrap_or_default();
        let forward = Forward { operands, out: of_queries(&out), log_sum_exp: &log_sum_exp };
        let (mut d_queries, mut d_keys, mut d_values) =
            (values(LENGTH * width), values(LENGTH * HEAD_DIM), values(LENGTH * HEAD_DIM));
        let mut gradients = Gradients {
            queries: StridedMut { data: &mut d_queries, row_stride: width },
            keys: StridedMut { data: &mut d_keys, row_stride: HEAD_DIM },
            values: StridedMut { data: &mut d_values, row_stride: HEAD_DIM },
            entry: None,
        };
        group.throughput(Throughput::Elements((5 * 2 * LENGTH * LENGTH / 2 * width) as u64));
        group.bench_function(format!("backward {name}"), |bench| {
            bench.iter(|| attend_backward(&shape, &forward, queries, &extras, black_box(&mut gradients)));
        });
    }
    group.finish();
}

criterion_group!(benches, sweeps, attention);
criterion_main!(benches);
