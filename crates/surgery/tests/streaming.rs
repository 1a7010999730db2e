//! The banded pass against a cache that is filled and emptied token by token, in f64.

mod fixture;

use sinkscope_anatomy::nll::NllTap;
use sinkscope_model::Model;
use sinkscope_model::architecture::{Architecture, ResidualLayout};
use sinkscope_model::blocks::{self, AttentionRows, TileContext, Unseen};
use sinkscope_model::pass::{Pass, Window};

use sinkscope_model::tap::{Place, Point};
use sinkscope_sources::data::TokenBatch;
use sinkscope_surgery::SurgeryError;
use sinkscope_surgery::compare::Request;
use sinkscope_surgery::results::Comparison;
use sinkscope_surgery::taps::RowsTap;

use crate::fixture::model;

const SEQ_LEN: usize = 17;

fn batch() -> TokenBatch {
    fixture::batch(2, SEQ_LEN)
}

/// A vector of one head, rotated to a position.
fn rotated(a: &Architecture, layer: usize, vector: &[f64], position: usize) -> Vec<f64> {
    let (frequencies, magnitude) = a.attention(layer).rope().expect("a rotary model").frequencies(SEQ_LEN);
    let half = frequencies.len();
    let mut out = vector.to_vec();
    for (pair, frequency) in frequencies.iter().enumerate() {
        let (sin, cos) = (position as f64 * frequency).sin_cos();
        let (sin, cos) = (sin * magnitude, cos * magnitude);
        out[pair] = vector[pair] * cos - vector[pair + half] * sin;
        out[pair + half] = vector[pair + half] * cos + vector[pair] * sin;
    }
    out
}

/// What one layer holds: the position in the text of each entry, keys before rotation, values.
#[derive(Default)]
struct Cache(Vec<(usize, Vec<f64>, Vec<f64>)>);

impl Cache {
    /// Attention of one head of the token just put in, positions being places in the cache, or those in the text.
    fn attend(&self, a: &Architecture, layer: usize, head: usize, query: &[f64], in_text: bool) -> Vec<f64> {
        let kv = head / a.attention(0).queries_per_key() * a.attention(0).head_dim;
        let place = |entry: usize| if in_text { self.0[entry].0 } else { entry };
        let query = rotated(a, layer, query, place(self.0.len() - 1));
        let scores: Vec<f64> = (0..self.0.len())
            .map(|entry| {
                let key = rotated(a, layer, &self.0[entry].1[kv..kv + a.attention(0).head_dim], place(entry));
                let score = a.attention(layer).scale * query.iter().zip(&key).map(|(q, k)| q * k).sum::<f64>();
                a.attention(layer).soft_cap.map_or(score, |cap| cap * (score / cap).tanh()).exp()
            })
            .collect();
        let sum: f64 = scores.iter().sum();
        let mut out = vec![0.0; a.attention(0).head_dim];
        for (score, (_, _, value)) in scores.iter().zip(&self.0) {
            out.iter_mut().zip(&value[kv..]).for_each(|(out, value)| *out += score / sum * value);
        }
        out
    }
}

/// The residual of every token after the last block.
fn token_by_token(model: &Model, ids: &[u32], window: Window) -> Vec<Vec<f64>> {
    let a = model.architecture();
    let mut caches: Vec<Cache> = (0..a.layer_count()).map(|_| Cache::default()).collect();
    let step = |(position, &id): (usize, &u32)| {
        let mut x: Vec<f64> =
            model.embedding::<f64>(id).expect("an id").into_iter().map(|value| value * a.embedding_scale).collect();
        for (layer, cache) in caches.iter_mut().enumerate() {
            let before = x.clone();
            let block = model.attention_block::<f64>(layer).expect("a block");
            let places = [Place { block: 0, sequence: 0, position, rows: 1 }];
            let context = TileContext { places: &places, rope: None, embedding: &[] };
            let mut rows = AttentionRows::default();
            rows.fit(&block, 1);
            let mut input = vec![0.0; a.d_model];
            blocks::read(block.input_norm.as_ref(), &x, &mut input, &mut Unseen);
            block.project(&context, &input, &x, rows.projected(), &mut Unseen);
            // In it goes, and out go those that are neither among the last nor among the first.
            cache.0.push((position, rows.keys.to_vec(), rows.values.to_vec()));
            let width = a.attention(layer).window.map_or(window.width, |own| own.min(window.width));
            cache.0.retain(|entry| entry.0 < window.sinks || entry.0 + width > position);
            let heads: Vec<f64> = rows
                .queries
                .chunks_exact(a.attention(0).head_dim)
                .enumerate()
                .flat_map(|(head, query)| cache.attend(a, layer, head, query, window.original_positions))
                .collect();
            let mut out = vec![0.0; a.d_model];
            block.output(&heads, &mut out, &mut x, None, &mut Unseen);

            let block = model.feed_forward_block::<f64>(layer).expect("a block");
            let read = if a.layer(layer).residual == ResidualLayout::Parallel { &before } else { &x };
            let (mut gate, mut up) = (vec![0.0; block.hidden()], vec![0.0; block.hidden()]);
            blocks::read(block.input_norm.as_ref(), read, &mut input, &mut Unseen);
            let hidden = block.activate(&input, &mut gate, &mut up, None, &mut Unseen);
            block.output(hidden, &mut out, &mut x, None, &mut Unseen);
        }
        x
    };
    ids.iter().enumerate().map(step).collect()
}

#[test]
fn one_banded_pass_is_a_cache_filled_token_by_token() {
    for family in ["llama", "llama3", "mistral", "qwen3", "gemma2", "gemma3", "olmo2", "phi3", "gpt-neox"] {
        let model = model(family);
        let a = model.architecture();
        for (width, sinks, original_positions) in
            [(4, 0, false), (4, 2, false), (4, 2, true), (1, 1, false), (6, 3, false), (5, 9, false), (40, 4, false)]
        {
            let window = Window { width, sinks, original_positions };
            let mut rows = RowsTap::new(Point::Residual, [a.blocks()], SEQ_LEN, vec![true; 2 * SEQ_LEN]);
            Pass::new(&model, u64::MAX).with_window(window).run(&batch(), &mut [&mut rows]).expect("a pass");
            for sequence in 0..2 {
                let expected = token_by_token(&model, batch().sequence(sequence), window);
                for (position, expected) in expected.iter().enumerate() {
                    let ours = &rows.rows[&a.blocks()][&(sequence * SEQ_LEN + position)];
                    let length = expected.iter().map(|value| value * value).sum::<f64>().sqrt();
                    let off = ours.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum::<f64>().sqrt();
                    assert!(off < 3e-5 * length, "{family}, {window:?}, {sequence}, {position}: {off} of {length}");
                }
            }
        }
    }
}

fn run_operations(model: &Model, typed: &[&str]) -> Result<Comparison, SurgeryError> {
    let request = Request { bos: None, ..fixture::request(typed) };
    fixture::run(model, &batch(), &request, fixture::PLENTY)
}

#[test]
fn windows_as_operations() {
    let model = model("llama");
    let operations = ["window=2", "window=2+sinks=1", "window=2+sinks=1+original-positions", "window=17"];
    let found = run_operations(&model, &operations).expect("a comparison");
    let mean = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
    let late =
        |nll: &[f32]| -> Vec<f32> { nll.chunks_exact(SEQ_LEN - 1).flat_map(|row| row[8..].iter().copied()).collect() };
    let run = |window: Option<Window>| {
        let mut nll = NllTap::new(2, 0, batch().sequences).with_predictions();
        let pass = Pass::new(&model, u64::MAX);
        let pass = if let Some(window) = window { pass.with_window(window) } else { pass };
        pass.run(&batch(), &mut [&mut nll]).expect("a pass");
        nll.predictions().to_vec()
    };
    let untouched = run(None);
    for (variant, (width, sinks, original_positions)) in
        found.variants.iter().zip([(2, 0, false), (2, 1, false), (2, 1, true), (17, 0, false)])
    {
        let nll = run(Some(Window { width, sinks, original_positions }));
        assert!((variant.nll.expect("targets") - mean(&nll)).abs() < 1e-9, "{}", variant.name);
        match variant.perplexity_after {
            None => assert_eq!(width, 17, "a window that is never past"),
            Some(after) => {
                assert_eq!(after.position, 8);
                assert!((after.value - mean(&late(&nll)).exp()).abs() < 1e-9 * after.value);
                assert!((after.untouched - mean(&late(&untouched)).exp()).abs() < 1e-9 * after.untouched);
            }
        }
    }
    // A window as wide as the text is none.
    assert_eq!(found.variants[3].delta_nll, Some(0.0));
    // By position: the untouched model and every variant, over all targets.
    assert_eq!(found.positions.len(), 5 * (SEQ_LEN - 1));
    let row = &found.positions[SEQ_LEN - 1 + 3];
    let expected = run(Some(Window { width: 2, sinks: 0, original_positions: false }));
    assert_eq!((row.name.as_str(), row.position), ("window=2", 4));
    assert!((row.nll - f64::midpoint(f64::from(expected[3]), f64::from(expected[SEQ_LEN - 1 + 3]))).abs() < 1e-9);
}

#[test]
fn learned_positions_cannot_move() {
    let error = run_operations(&model("gpt2"), &["window=4+sinks=1"]).expect_err("refused").to_string();
    assert!(error.contains("window=4+sinks=1: positions inside a cache move"), "{error}");
}
