//! The amplifier at work, `U_k` formed.

use faer::{Mat, Side};
use sinkscope_anatomy::census::quadratic::coefficient;
use sinkscope_anatomy::results::Stage;
use sinkscope_anatomy::sample::amplifier::{
    Amplifier, AmplifierTap, AmplifierTokens, MOST_OTHER_POINTS, MOST_SPIKE_POINTS,
};
use sinkscope_anatomy::sample::{Kinds, Sample};
use sinkscope_kernels::activation::activate;
use sinkscope_model::Linear;
use sinkscope_model::blocks::FeedForwardBlock;
use sinkscope_model::pass::Pass;

use crate::recorded::{Recorded, SEQ_LEN, batch, kinds, model, stage};
use crate::{close, close_within, dot, mean, norm};

/// The channels in the order in which the tap keeps them.
const CHANNELS: [usize; 3] = [3, 7, 0];

/// One token, as the definitions have it.
struct Naive {
    cosine: f64,
    norm_ratio: f64,
    real: Vec<f64>,
    bilinear: Vec<f64>,
    along: f64,
    trigger_cosine: f64,
}

/// The two matrices that every two-layer block has.
fn matrices(block: &FeedForwardBlock<f64>) -> (&Linear<f64>, &Linear<f64>) {
    (block.gate.as_ref().expect("a gate"), block.down.as_ref().expect("a second layer"))
}

/// `U_k` with gamma folded in and the coefficient of the nonlinearity, d x d.
fn form(block: &FeedForwardBlock<f64>, factor: f64, channel: usize) -> Mat<f64> {
    let (gate, down) = matrices(block);
    let (d, hidden) = (gate.inputs(), gate.outputs());
    let up = block.up.as_ref().unwrap_or(gate);
    let gamma = |row: usize| block.input_norm.as_ref().map_or(1.0, |norm| norm.gamma[row]);
    let entry = |i: usize, j: usize| {
        let unit = |unit: usize| {
            let (gate, up) = (gate.weight().get(i, unit), up.weight().get(j, unit));
            down.weight().get(unit, channel) * gate * up
        };
        factor * gamma(i) * gamma(j) * (0..hidden).map(unit).sum::<f64>()
    };
    Mat::from_fn(d, d, entry)
}

/// Leading eigenvalue and eigenvector of the symmetric part.
fn leading(form: &Mat<f64>) -> (f64, Vec<f64>) {
    let symmetric = Mat::from_fn(form.nrows(), form.ncols(), |i, j| f64::midpoint(form[(i, j)], form[(j, i)]));
    let eigen = symmetric.self_adjoint_eigen(Side::Lower).expect("eigenvalues");
    let values: Vec<f64> = (0..form.nrows()).map(|index| eigen.S().column_vector()[index]).collect();
    let best = (0..values.len()).max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs())).expect("some");
    (values[best], (0..form.nrows()).map(|row| eigen.U()[(row, best)]).collect())
}

fn quadratic(form: &Mat<f64>, x: &[f64]) -> f64 {
    (0..x.len()).map(|i| (0..x.len()).map(|j| x[i] * form[(i, j)] * x[j]).sum::<f64>()).sum()
}

fn naive(recorded: &Recorded, block: usize, token: usize) -> Naive {
    let weights = recorded.model.feed_forward_block::<f64>(block / 2 - 1).expect("a block");
    let gated = weights.up.is_some();
    let factor = coefficient(gated, weights.activation).expect("a quadratic term");
    let read = recorded.read_by(block, token);
    let x = if weights.input_norm.is_some() { recorded.normalised(&read, None) } else { read.clone() };
    let input = match &weights.input_norm {
        Some(norm) => recorded.normalised(&read, Some(norm)),
        None => read,
    };
    let (gate_matrix, down_matrix) = matrices(&weights);
    let (hidden, d) = (gate_matrix.outputs(), gate_matrix.inputs());
    let project = |linear: &Linear<f64>| -> Vec<f64> {
        let unit = |unit: usize| {
            let bias = linear.bias.as_ref().map_or(0.0, |bias| bias[unit]);
            bias + (0..d).map(|i| input[i] * linear.weight().get(i, unit)).sum::<f64>()
        };
        (0..hidden).map(unit).collect()
    };
    let gate = project(gate_matrix);
    let mut activated = gate.clone();
    activate(weights.activation, &mut activated);
    let up = weights.up.as_ref().map(project);
    let output = |of: &dyn Fn(usize) -> f64, channel: usize| -> f64 {
        (0..hidden).map(|unit| down_matrix.weight().get(unit, channel) * of(unit)).sum()
    };
    let forms: Vec<Mat<f64>> = CHANNELS.iter().map(|&channel| form(&weights, factor, channel)).collect();
    let (_, direction) = leading(&forms[0]);
    let along = dot(&x, &direction);
    Naive {
        cosine: dot(&gate, &activated) / (norm(&gate) * norm(&activated)),
        norm_ratio: norm(&activated) / norm(&gate),
        real: CHANNELS
            .iter()
            .map(|&channel| output(&|unit| activated[unit] * up.as_ref().map_or(1.0, |up| up[unit]), channel))
            .collect(),
        bilinear: if gated {
            forms.iter().map(|form| quadratic(form, &x)).collect()
        } else {
            // Biases are within what is squared.
            CHANNELS.iter().map(|&channel| output(&|unit| factor * gate[unit] * gate[unit], channel)).collect()
        },
        along,
        trigger_cosine: along.abs() / norm(&x),
    }
}

fn check(what: &str, ours: &AmplifierTokens, tokens: &[Naive], eigenvalue: f64) {
    assert_eq!(ours.tokens, tokens.len(), "{what}");
    let of = |of: &dyn Fn(&Naive) -> f64| mean(&tokens.iter().map(of).collect::<Vec<_>>());
    close(what, ours.cosine, of(&|token| token.cosine));
    close(what, ours.norm_ratio, of(&|token| token.norm_ratio));
    let largest = tokens.iter().map(|token| token.real[0].abs()).fold(0.0, f64::max);
    close_within(what, ours.output, of(&|token| token.real[0]), largest);
    let rank_one = |token: &Naive| eigenvalue * token.along * token.along;
    close(what, ours.rank_one.expect("a trigger"), of(&rank_one));
    close(what, ours.trigger_cosine.expect("a trigger"), of(&|token| token.trigger_cosine));
    let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let zero = [0.0; 3];
    let error = of(&|token| square(&token.real, &token.bilinear)) / of(&|token| square(&token.real, &zero));
    close(what, ours.bilinear_error.expect("a form"), error.sqrt());
    let error = of(&|token| (rank_one(token) - token.real[0]).powi(2)) / of(&|token| token.real[0] * token.real[0]);
    close(what, ours.rank_one_error.expect("a form"), error.sqrt());
}

fn run(recorded: &Recorded, stages: &[Stage], kinds: &[Kinds]) -> Vec<Amplifier> {
    // A batch this small is its own sample.
    let sample = Sample::new(&recorded.model, &recorded.batch);
    assert_eq!(sample.batch, recorded.batch);
    let mut tap = AmplifierTap::new(&recorded.model, stages, kinds, &sample).expect("finite");
    recorded.run(&mut tap);
    tap.finish()
}

/// All tokens are points: spikes first, in order, with the means that are told.
fn check_points(what: &str, found: &Amplifier, kinds: &Kinds) {
    let of = |kind: bool| (0..kinds.spike.len()).filter(move |&token| kinds.of(kind)[token]);
    let places: Vec<(usize, usize, bool)> =
        of(true).chain(of(false)).map(|token| (token / SEQ_LEN, token % SEQ_LEN, kinds.spike[token])).collect();
    assert!(found.points.iter().map(|point| (point.sequence, point.position, point.spike)).eq(places), "{what}");
    for (kind, tokens) in [(true, &found.spike), (false, &found.other)] {
        let tokens = tokens.as_ref().expect("tokens");
        let points = || found.points.iter().filter(|point| point.spike == kind);
        assert_eq!(points().map(|point| point.cosine).sum::<f64>() / tokens.tokens as f64, tokens.cosine, "{what}");
        let ratio = points().map(|point| point.norm_ratio).sum::<f64>() / tokens.tokens as f64;
        assert_eq!(ratio, tokens.norm_ratio, "{what}");
    }
}

#[test]
fn is_what_the_formed_matrices_say() {
    for family in ["llama", "qwen3", "gemma2", "gemma3", "olmo2", "phi3", "gpt2", "gpt-neox", "gpt-neox-sequential"] {
        let recorded = Recorded::new(family);
        let kinds = kinds();
        let found = run(&recorded, &[stage()], std::slice::from_ref(&kinds));
        // Attention steps are no amplifiers.
        assert_eq!(found.iter().map(|found| (found.stage, found.block)).collect::<Vec<_>>(), [(1, 2), (1, 4)]);
        for found in found {
            let weights = recorded.model.feed_forward_block::<f64>(found.block / 2 - 1).expect("a block");
            let factor = coefficient(weights.up.is_some(), weights.activation).expect("a quadratic term");
            let (eigenvalue, _) = leading(&form(&weights, factor, 3));
            let what = format!("{family}, block {}", found.block);
            close(&what, found.eigenvalue.expect("a form"), eigenvalue);
            check_points(&what, &found, &kinds);
            for (kind, ours) in [(true, found.spike), (false, found.other)] {
                let tokens = (0..recorded.tokens()).filter(|&token| kinds.of(kind)[token]);
                let tokens: Vec<Naive> = tokens.map(|token| naive(&recorded, found.block, token)).collect();
                check(&format!("{what}, {kind}"), &ours.expect("tokens"), &tokens, eigenvalue);
            }
        }
    }
}

#[test]
fn without_spike_tokens_or_steps() {
    let recorded = Recorded::new("llama");
    assert!(run(&recorded, &[], &[]).is_empty());
    let found = run(&recorded, &[stage()], &[Kinds::of_one_stage(vec![false; recorded.tokens()])]);
    assert!(found.len() == 2 && found.iter().all(|block| block.spike.is_none() && block.other.is_some()));
}

/// Of a sample that is part of the batch, sequences count as in the batch, and many tokens are taken evenly.
#[test]
fn points_are_some_tokens_of_the_batch() {
    let model = model("llama");
    let sample = Sample::new(&model, &batch(400, 20));
    let (sequences, seq_len) = (sample.sequences.len(), sample.batch.seq_len);
    let kinds = Kinds::of_one_stage((0..sequences * seq_len).map(|token| token % 5 == 0).collect());
    let mut tap = AmplifierTap::new(&model, &[stage()], std::slice::from_ref(&kinds), &sample).expect("finite");
    Pass::new(&model, u64::MAX).run(&sample.batch, &mut [&mut tap]).expect("a pass");
    for found in tap.finish() {
        let (spiking, other) = found.points.split_at(MOST_SPIKE_POINTS);
        assert_eq!(other.len(), MOST_OTHER_POINTS);
        assert!(spiking.iter().all(|point| point.spike) && other.iter().all(|point| !point.spike));
        for points in [spiking, other] {
            assert!(points.is_sorted_by_key(|point| (point.sequence, point.position)));
            assert!(points.iter().all(|point| sample.sequences.contains(&point.sequence) && point.position < seq_len));
            // From the first sequence of the sample to one of the last.
            assert_eq!(points[0].sequence, sample.sequences[0]);
            assert!(points[points.len() - 1].sequence >= sample.sequences[sequences - 2]);
        }
    }
}
