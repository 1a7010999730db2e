//! What must not change the results of a pass: threads, memory, taps that ask for little, the width of the numbers.
//! And what must: edits.

use sinkscope_kernels::Float;
use sinkscope_kernels::matmul::Precision;

use super::recording::Recording;
use super::{PLENTY, family, record, row_difference};
use crate::blocks::{
    AttentionGradients, AttentionTrace, FeedForwardGradients, FeedForwardTrace, RopeTables, TileContext,
};
use crate::edit::Edit;
use crate::error::ModelError;
use crate::model::Model;
use crate::pass::{Pass, Window};
use crate::tap::{Event, EventData, Place, Point, Tap};
use sinkscope_sources::data::TokenBatch;

/// Sequences that make several tiles, and several sequences a tile.
const SHAPES: [(usize, usize); 3] = [(23, 16), (20, 30), (2, 700)];

fn batch(model: &Model, (sequences, seq_len): (usize, usize)) -> TokenBatch {
    let vocabulary = model.architecture().vocabulary;
    let tokens = (0..sequences * seq_len).map(|i| ((i * i / 3 + 7 * i) % vocabulary) as u32).collect();
    TokenBatch { tokens, sequences, seq_len }
}

fn bits(recording: &Recording) -> Vec<u32> {
    let Recording { residual, logits, alpha, entropy, to_self, to_first, nll, .. } = recording;
    let lists = residual.iter().chain(alpha).chain(entropy).chain(to_self).chain(to_first).chain([logits, nll]);
    lists.flatten().map(|value| value.to_bits()).collect()
}

#[test]
fn threads_and_groups_change_no_bit() {
    let names = ["llama3", "gemma3", "gpt-neox"].map(|name| (name, Precision::Highest));
    let lower =
        [Precision::High, Precision::Medium].map(|precision| ["llama3", "gemma3"].map(|name| (name, precision)));
    for (name, precision) in names.into_iter().chain(lower.into_iter().flatten()) {
        if precision != Precision::Highest && !precision.rounds::<f32>() {
            println!("skipped: no AMX for precision {}", precision.name());
            continue;
        }
        let model = family(name).0.with_precision(precision);
        let block = model.attention_block::<f32>(0).expect("a block");
        assert_eq!((block.query.weight().precision(), block.group.precision), (precision, precision));
        for shape in SHAPES {
            let batch = batch(&model, shape);
            let run = |threads, memory| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                let mut recording = Recording::new(model.architecture(), &batch);
                let pass = || Pass::new(&model, memory).run(&batch, &mut [&mut recording]).expect("a pass");
                let groups = pool.install(pass).groups;
                (groups, bits(&recording))
            };
            let (groups, one) = run(1, PLENTY);
            assert_eq!(groups, 1);
            for threads in [2, 4] {
                assert!(run(threads, PLENTY).1 == one, "{name} {shape:?}: {threads} threads");
            }
            let (groups, several) = run(2, 1);
            assert!(groups > 1, "one group is no test of several");
            assert!(several == one, "{name} {shape:?}: {groups} groups");
        }
    }
}

/// Wants the residual after one block and nothing else, so that neither scan nor head is computed.
struct Last {
    block: usize,
    rows: Vec<f32>,
}

impl Tap for Last {
    type Partial = Vec<f32>;

    fn wants(&self, point: Point, block: usize) -> bool {
        point == Point::Residual && block == self.block
    }

    fn observe(&self, event: &Event<'_>) -> Vec<f32> {
        match event.data {
            EventData::Rows(rows) => rows.to_vec(),
            _ => Vec::new(),
        }
    }

    fn merge(&mut self, _: Point, _: &Place, rows: Vec<f32>) {
        self.rows.extend(rows);
    }
}

/// Asks for nothing and would notice if it were given anything.
struct Silent;

impl Tap for Silent {
    type Partial = ();

    fn wants(&self, _: Point, _: usize) -> bool {
        false
    }

    fn observe(&self, event: &Event<'_>) {
        panic!("{event:?}");
    }

    fn merge(&mut self, point: Point, place: &Place, (): ()) {
        panic!("{point:?} {place:?}");
    }
}

#[test]
fn a_tap_that_asks_for_little_sees_the_same_and_one_that_asks_for_nothing_sees_nothing() {
    for name in ["llama3", "gemma3", "olmo2", "gpt2", "gpt-neox"] {
        let (model, expected) = family(name);
        let batch = expected.batch("tokens");
        let block = model.architecture().blocks();
        let mut last = Last { block, rows: Vec::new() };
        Pass::new(&model, PLENTY).run(&batch, &mut [&mut Silent, &mut last]).expect("a pass");
        assert!(last.rows == record(&model, &batch).residual[block], "{name}");
    }
}

/// Zeroes one channel of one point of one block.
struct ZeroChannel {
    point: Point,
    block: usize,
    channel: usize,
}

impl Edit for ZeroChannel {
    fn wants(&self, point: Point, block: usize) -> bool {
        (point, block) == (self.point, self.block)
    }

    fn apply(&self, _: Point, place: &Place, values: &mut [f32]) {
        let width = values.len() / place.rows;
        values.iter_mut().skip(self.channel).step_by(width).for_each(|value| *value = 0.0);
    }
}

#[test]
fn an_edit_is_what_taps_see_and_what_later_blocks_read() {
    let (model, expected) = family("llama3");
    let (batch, d) = (expected.batch("tokens"), model.architecture().d_model);
    let plain = record(&model, &batch);
    for (point, block) in [
        (Point::Residual, 0),
        (Point::Residual, 2),
        (Point::Output, 2),
        (Point::NormalisedInput, 2),
        (Point::NormalisedInput, 3),
        (Point::Query, 3),
        (Point::Key, 3),
        (Point::Value, 3),
    ] {
        let edit = ZeroChannel { point, block, channel: 3 };
        let mut edited = Recording::new(model.architecture(), &batch);
        Pass::new(&model, PLENTY).with_edit(&edit).run(&batch, &mut [&mut edited]).expect("a pass");
        assert!(edited.residual[..block] == plain.residual[..block], "{point:?}: nothing before it changes");
        for later in block.max(1)..=model.architecture().blocks() {
            assert!(edited.residual[later] != plain.residual[later], "{point:?}: block {later} changes");
        }
        assert!(edited.logits != plain.logits, "{point:?}");
        if point == Point::Residual {
            assert!(edited.residual[block].chunks_exact(d).all(|row| row[3] == 0.0), "seen as edited");
            assert!(plain.residual[block].chunks_exact(d).all(|row| row[3] != 0.0));
        }
        if point == Point::Output {
            let kept = |row: usize| edited.residual[block][row * d + 3] == edited.residual[block - 1][row * d + 3];
            assert!((0..batch.tokens.len()).all(kept), "nothing was added to the channel");
        }
    }
}

/// In one piece, and in two: the second begins with the residual that the first showed.
#[test]
fn a_pass_can_be_taken_up_where_another_ended() {
    for name in ["llama3", "gemma3", "olmo2", "gpt2", "gpt-neox"] {
        let (model, _) = family(name);
        for shape in SHAPES.iter().take(if name == "gpt2" { 2 } else { 3 }) {
            let batch = batch(&model, *shape);
            let whole = record(&model, &batch);
            for (cut, memory) in [(0, PLENTY), (2, PLENTY), (2, 1), (model.architecture().blocks(), PLENTY)] {
                let mut parts = Recording::new(model.architecture(), &batch);
                let mut first = Recording::new(model.architecture(), &batch);
                Pass::new(&model, memory).ending_after(cut).run(&batch, &mut [&mut first]).expect("a pass");
                let report = Pass::new(&model, memory)
                    .starting_after(cut, &whole.residual[cut])
                    .run(&batch, &mut [&mut parts])
                    .expect("a pass");
                assert!(report.flops > 0.0 || cut == model.architecture().blocks());
                assert!(first.residual[..=cut] == whole.residual[..=cut], "{name}: up to block {cut}");
                assert!(first.nll.is_empty() && first.residual[cut + 1..].iter().flatten().all(|value| *value == 0.0));
                assert!(parts.residual[cut..] == whole.residual[cut..], "{name}: from block {cut}");
                assert!(parts.logits == whole.logits && parts.nll == whole.nll, "{name}: from block {cut}");
                assert!(parts.alpha[cut / 2..] == whole.alpha[cut / 2..]);
            }
        }
    }
}

#[test]
fn a_pass_begins_and_ends_between_layers() {
    let (model, _) = family("llama");
    let batch = batch(&model, (2, 8));
    let residual = vec![0.0; batch.tokens.len() * model.architecture().d_model];
    let refused = |pass: Pass<'_>| pass.run(&batch, &mut []).expect_err("refused").to_string();
    assert!(refused(Pass::new(&model, PLENTY).ending_after(3)).contains("after block 3"));
    assert!(refused(Pass::new(&model, PLENTY).ending_after(6)).contains("an even one up to 4"));
    assert!(
        refused(Pass::new(&model, PLENTY).starting_after(4, &residual).ending_after(2)).contains("end after block 2")
    );
    assert!(refused(Pass::new(&model, PLENTY).starting_after(2, &residual[1..])).contains("values"));
    let nothing = Window { width: 0, sinks: 4, original_positions: false };
    assert!(refused(Pass::new(&model, PLENTY).with_window(nothing)).contains("a window of 0"));
    let everything = Window { width: usize::MAX, sinks: usize::MAX, original_positions: false };
    let mut wide = Recording::new(model.architecture(), &batch);
    Pass::new(&model, PLENTY).with_window(everything).run(&batch, &mut [&mut wide]).expect("a pass");
    assert!(wide == record(&model, &batch), "a window over everything is none");
}

/// The residual of one short sequence after the last block, block by block in `F`.
fn residual_in<F: Float>(model: &Model, ids: &[u32]) -> Result<Vec<f32>, ModelError> {
    let a = model.architecture();
    let rows = ids.len();
    let mut x: Vec<F> = Vec::new();
    for &id in ids {
        x.extend(model.embedding::<F>(id)?.into_iter().map(|value| value * F::from_f64(a.embedding_scale)));
    }
    let ropes = RopeTables::new(a, rows);
    let places = [Place { block: 0, sequence: 0, position: 0, rows }];
    for layer in 0..a.layer_count() {
        let context = TileContext { places: &places, rope: ropes.of(layer), embedding: &[] };
        let (attention, feed_forward) = (model.attention_block::<F>(layer)?, model.feed_forward_block::<F>(layer)?);
        attention.forward(&context, &mut x, &mut AttentionTrace::default(), &mut AttentionGradients::default());
        feed_forward.forward(&mut x, &mut FeedForwardTrace::default(), &mut FeedForwardGradients::default());
    }
    Ok(x.into_iter().map(|value| value.to_f64() as f32).collect())
}

#[test]
fn blocks_in_f64_agree_with_the_pass() {
    for name in ["llama3", "qwen2", "qwen3", "gemma2", "gemma3", "olmo2", "phi3"] {
        let (model, expected) = family(name);
        let batch = expected.batch("tokens");
        let a = model.architecture();
        let pass = record(&model, &batch);
        for sequence in 0..batch.sequences {
            let wide = residual_in::<f64>(&model, batch.sequence(sequence)).expect("finite");
            let at = sequence * wide.len();
            let ours = &pass.residual[a.blocks()][at..at + wide.len()];
            let difference = row_difference(ours, &wide, a.d_model);
            assert!(difference < 2e-5, "{name}: {difference:e}");
            let narrow = residual_in::<f32>(&model, batch.sequence(sequence)).expect("finite");
            assert!(narrow != wide, "{name}: f64 must differ in the last bits, or it is f32");
        }
    }
}
