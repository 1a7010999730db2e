//! The vocabulary probe against a pass over every sequence on its own.

use sinkscope_anatomy::probe::{Calibration, LISTED, probe};
use sinkscope_model::Model;
use sinkscope_model::pass::Pass;
use sinkscope_model::tap::{BlockView, Event, Place, Point, Tap};
use sinkscope_sources::data::TokenBatch;

use crate::recorded::model;

/// The largest magnitude of the last token of each sequence after one block, and its channel.
struct Last {
    block: usize,
    largest: Vec<(f32, usize)>,
}

impl Tap for Last {
    type Partial = ();

    fn wants(&self, point: Point, block: usize) -> bool {
        point == Point::BlockDone && block == self.block
    }

    fn observe(&self, _: &Event<'_>) {}

    fn merge(&mut self, _: Point, _: &Place, (): ()) {}

    fn block_done(&mut self, view: &BlockView<'_>) {
        for sequence in view.residual.chunks_exact(view.seq_len * view.d_model) {
            let row = &sequence[(view.seq_len - 1) * view.d_model..];
            let largest = row.iter().map(|value| value.abs()).fold(0.0, f32::max);
            let channel = row.iter().position(|value| value.abs() == largest).expect("there");
            self.largest.push((largest, channel));
        }
    }
}

fn one_by_one(model: &Model, prefix: &[u32], block: usize) -> Vec<(f32, usize)> {
    let vocabulary = model.architecture().vocabulary as u32;
    let tokens = (0..vocabulary).flat_map(|id| prefix.iter().copied().chain([id])).collect();
    let batch = TokenBatch { tokens, sequences: vocabulary as usize, seq_len: prefix.len() + 1 };
    let mut last = Last { block, largest: Vec::new() };
    Pass::new(model, u64::MAX).run(&batch, &mut [&mut last]).expect("a pass");
    last.largest
}

#[test]
fn every_item_is_what_a_sequence_of_its_own_gives() {
    for family in ["llama", "mistral", "gemma2", "olmo2", "gpt2", "gpt-neox", "qwen3"] {
        let model = model(family);
        for prefix in [&[][..], &[5], &[1, 2, 3, 4, 5, 6, 7, 8]] {
            let block = 3;
            let expected = one_by_one(&model, prefix, block);
            let mut sorted: Vec<f32> = expected.iter().map(|item| item.0).collect();
            sorted.sort_by(f32::total_cmp);
            // Between two values, so that rounding decides nothing.
            let widest = (8..24).max_by(|&a, &b| (sorted[a + 1] - sorted[a]).total_cmp(&(sorted[b + 1] - sorted[b])));
            let gap = widest.expect("some");
            let threshold = f64::midpoint(f64::from(sorted[gap]), f64::from(sorted[gap + 1]));
            let calibration = Calibration { block, threshold, typical_token_largest: threshold / 5.0 };
            let text = |id: u32| format!("<{id}>");
            let found = probe(&model, Some(&calibration), prefix, 1 << 30, &text, &|_, _| {}).expect("a probe");
            assert_eq!((found.block, found.position, found.vocabulary), (Some(block), prefix.len(), expected.len()));
            assert_eq!(found.items.len(), expected.len());
            for (id, (ours, &(value, channel))) in found.items.iter().zip(&expected).enumerate() {
                assert!((ours.value - value).abs() <= 1e-5 * value, "{family}, id {id}: {} {value}", ours.value);
                assert_eq!((ours.channel, &ours.text), (channel, &format!("<{id}>")), "{family}");
                assert_eq!(ours.spikes, f64::from(value) >= threshold, "{family}");
            }
            let spiking = expected.len() - 1 - gap;
            assert_eq!(found.spiking, Some(spiking));
            assert_eq!(found.share, Some(spiking as f64 / expected.len() as f64));
            assert_eq!(found.lowest.len(), LISTED);
            assert!(found.lowest.windows(2).all(|pair| pair[0].value <= pair[1].value));
            assert!(found.highest.windows(2).all(|pair| pair[0].value >= pair[1].value));
            assert!((found.lowest[0].value - sorted[0]).abs() <= 1e-5 * sorted[0]);
        }
    }
}

#[test]
fn memory_and_threads_change_nothing() {
    let model = model("gemma2");
    let calibration = Calibration { block: 4, threshold: 1.0, typical_token_largest: 0.2 };
    let run = |threads, memory| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let text = |_| String::new();
        pool.install(|| probe(&model, Some(&calibration), &[3, 4], memory, &text, &|_, _| {}).expect("a probe"))
    };
    let one = run(1, 1 << 30);
    assert_eq!(run(2, 1 << 30), one);
    assert_eq!(run(4, 1), one);
}

#[test]
fn without_a_stage_there_is_nothing_to_probe_for() {
    let found = probe(&model("llama"), None, &[1], 1 << 30, &|_| String::new(), &|_, _| {}).expect("a probe");
    assert_eq!((found.block, found.spiking, found.share, found.position), (None, None, None, 1));
    assert!(found.items.is_empty() && found.lowest.is_empty());
}

#[test]
fn wrong_prefixes_are_refused() {
    let calibration = Calibration { block: 2, threshold: 1.0, typical_token_largest: 0.2 };
    let refused = |family: &str, prefix: &[u32]| {
        let found = probe(&model(family), Some(&calibration), prefix, 1 << 30, &|_| String::new(), &|_, _| {});
        found.expect_err("refused").to_string()
    };
    assert!(refused("llama", &[32]).contains("token id 32 lies beyond the vocabulary of 32"));
    assert!(refused("gpt2", &[0; 32]).contains("learned positions"));
}
