//! Every operation against a naive way to do it: a pass from the embedding on, with a change written by hand.

mod fixture;

use std::collections::BTreeMap;

use sinkscope_anatomy::examination::{AnatomyRequest, Surroundings, examine};
use sinkscope_anatomy::nll::NllTap;
use sinkscope_anatomy::results::Stage;
use sinkscope_anatomy::sinks::{SinkDefinition, SinkTap};
use sinkscope_model::Model;
use sinkscope_model::edit::{Edit, Mask};
use sinkscope_model::pass::Pass;
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};
use sinkscope_sources::data::TokenBatch;
use sinkscope_surgery::compare::Request;
use sinkscope_surgery::results::Variant;
use sinkscope_surgery::taps::{KeepTap, RowsTap};

use crate::fixture::{FAMILIES, PLENTY, model, request, run};

const SEQ_LEN: usize = 9;

fn batch(sequences: usize) -> TokenBatch {
    fixture::batch(sequences, SEQ_LEN)
}

fn variant(model: &Model, operation: &str) -> Variant {
    let found = run(model, &batch(4), &request(&[operation]), PLENTY).expect(operation);
    assert_eq!(found.variants.len(), 1);
    assert_eq!(found.variants[0].name, operation);
    found.variants[0].clone()
}

/// Changes the row of each (block, sequence, position) at one point.
struct ByHand<F> {
    point: Point,
    change: F,
}

impl<F: Fn(usize, usize, usize, &mut [f32]) + Sync> Edit for ByHand<F> {
    fn wants(&self, point: Point, _block: usize) -> bool {
        point == self.point
    }

    fn apply(&self, _point: Point, place: &Place, values: &mut [f32]) {
        let width = values.len() / place.rows;
        for (row, values) in values.chunks_exact_mut(width).enumerate() {
            (self.change)(place.block, place.sequence, place.position + row, values);
        }
    }
}

/// NLL of every prediction, sink ratio, largest.
fn naive(model: &Model, batch: &TokenBatch, edit: Option<&dyn Edit>) -> (Vec<f32>, f64, f64) {
    let a = model.architecture();
    let layers = a.layer_count();
    let mut nll = NllTap::new(layers, 0, batch.sequences).with_predictions();
    let mut sinks = SinkTap::new(layers, a.most_heads(), batch.sequences, batch.seq_len);
    let mut kept = KeepTap::new(1..=a.blocks());
    let mut pass = Pass::new(model, PLENTY);
    if let Some(edit) = edit {
        pass = pass.with_edit(edit);
    }
    pass.run(batch, &mut [&mut nll, &mut sinks, &mut kept]).expect("a pass");
    let reached = kept.residuals.values().flatten().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    (nll.predictions().to_vec(), sinks.finish(SinkDefinition::Paper, 0.3, 0).ratio, f64::from(reached))
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64
}

fn close(what: &str, ours: f64, expected: f64) {
    assert!((ours - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{what}: {ours} is not {expected}");
}

fn agrees(what: &str, model: &Model, ours: &Variant, edit: &dyn Edit) {
    let (before, ..) = naive(model, &batch(4), None);
    let (nll, sinks, largest) = naive(model, &batch(4), Some(edit));
    assert_ne!(nll, before, "{what}: a change that changes nothing is no test");
    close(what, ours.nll.expect("targets"), mean(&nll));
    close(what, ours.perplexity.expect("targets"), mean(&nll).exp());
    close(what, ours.delta_nll.expect("targets"), mean(&nll) - mean(&before));
    let [low, high] = ours.delta_ci95.expect("several sequences");
    assert!(low <= ours.delta_nll.expect("targets") && ours.delta_nll.expect("targets") <= high, "{what}");
    close(what, ours.sink_ratio.expect("finite"), sinks);
    close(what, ours.largest.expect("finite"), largest);
    assert_eq!(ours.tokens, nll.len());
}

/// The rows of a batch at a point of a block: (sequence, position) to row.
fn rows(model: &Model, point: Point, block: usize) -> Vec<Vec<f32>> {
    let tokens = 4 * SEQ_LEN;
    let mut tap = RowsTap::new(point, [block], SEQ_LEN, vec![true; tokens]);
    Pass::new(model, PLENTY).run(&batch(4), &mut [&mut tap]).expect("a pass");
    tap.rows[&block].values().cloned().collect()
}

/// Over the other sequences' tokens at a position.
fn mean_of_others(rows: &[Vec<f32>], sequence: usize, position: usize) -> Vec<f32> {
    let others: Vec<&Vec<f32>> = (0..4).filter(|&s| s != sequence).map(|s| &rows[s * SEQ_LEN + position]).collect();
    let entry = |at: usize| (others.iter().map(|row| f64::from(row[at])).sum::<f64>() / 3.0) as f32;
    (0..rows[0].len()).map(entry).collect()
}

#[test]
fn changes_of_the_residual() {
    for family in FAMILIES {
        let model = model(family);
        // After embedding, attention and feed-forward blocks.
        for block in [0, 1, 2, 3] {
            let channels = [1, 5];
            let place = format!("@block={block}@position=2@channels=1,5");
            let at = |b: usize, position: usize| b == block && position == 2;
            let zero = ByHand {
                point: Point::Residual,
                change: |b, _, position, row: &mut [f32]| {
                    if at(b, position) {
                        for channel in channels {
                            row[channel] = 0.0;
                        }
                    }
                },
            };
            let name = format!("zero-spikes{place}");
            let ours = variant(&model, &name);
            agrees(&format!("{family} {name}"), &model, &ours, &zero);
            assert_eq!((ours.changed_tokens, ours.computed_after), (Some(4), block / 2 * 2));

            let scale = ByHand {
                point: Point::Residual,
                change: |b, _, position, row: &mut [f32]| {
                    if at(b, position) {
                        for channel in channels {
                            row[channel] *= -2.5;
                        }
                    }
                },
            };
            let name = format!("scale-spikes=-2.5{place}");
            agrees(&format!("{family} {name}"), &model, &variant(&model, &name), &scale);

            let rescale = ByHand {
                point: Point::Residual,
                change: |b, _, position, row: &mut [f32]| {
                    if at(b, position) {
                        let length = |row: &[f32]| row.iter().map(|&v| f64::from(v * v)).sum::<f64>().sqrt();
                        let before = length(row);
                        for channel in channels {
                            row[channel] = 0.0;
                        }
                        let factor = before / length(row);
                        for value in row.iter_mut() {
                            *value = (f64::from(*value) * factor) as f32;
                        }
                        assert!((length(row) - before).abs() < 1e-5 * before);
                    }
                },
            };
            let name = format!("zero-rescale-spikes{place}");
            agrees(&format!("{family} {name}"), &model, &variant(&model, &name), &rescale);

            let residual = rows(&model, Point::Residual, block);
            let to_mean = ByHand {
                point: Point::Residual,
                change: |b, sequence, position, row: &mut [f32]| {
                    if at(b, position) {
                        let mean = mean_of_others(&residual, sequence, position);
                        for channel in channels {
                            row[channel] = mean[channel];
                        }
                    }
                },
            };
            let name = format!("mean-spikes{place}");
            agrees(&format!("{family} {name}"), &model, &variant(&model, &name), &to_mean);
        }
    }
}

#[test]
fn places_are_lists_and_ranges() {
    let model = model("llama");
    let several = ByHand {
        point: Point::Residual,
        change: |b, _, position, row: &mut [f32]| {
            if matches!(b, 2 | 4) && matches!(position, 1 | 2 | 4) {
                for channel in [1, 2, 3, 5] {
                    row[channel] = 0.0;
                }
            }
        },
    };
    for name in [
        "zero-spikes@layers=0-1@positions=1-2,4@channels=1-3,5",
        "zero-spikes@block=2,4@channels=5,1-3@position=4,1-2",
        "zero-spikes@block=model.layers.0.mlp.up_proj,model.layers.1.mlp@channels=5,1-3@position=4,1-2",
    ] {
        let ours = variant(&model, name);
        agrees(name, &model, &ours, &several);
        assert_eq!(ours.changed_tokens, Some(3 * 4));
    }
    let skipped = ByHand {
        point: Point::Output,
        change: |b, _, _, row: &mut [f32]| {
            if matches!(b, 2 | 3) {
                row.fill(0.0);
            }
        },
    };
    for name in ["skip-block=2-3@position=all", "skip-block=3,model.layers.0.mlp.down_proj@position=all"] {
        agrees(name, &model, &variant(&model, name), &skipped);
    }
}

#[test]
fn blocks_left_out_and_values_changed() {
    for family in FAMILIES {
        let model = model(family);
        for (block, position) in [(1, Some(3)), (2, None), (3, Some(0)), (4, Some(1))] {
            let skip = ByHand {
                point: Point::Output,
                change: |b, _, p, row: &mut [f32]| {
                    if b == block && position.is_none_or(|position| position == p) {
                        row.fill(0.0);
                    }
                },
            };
            let place = position.map_or("all".to_owned(), |position| position.to_string());
            let name = format!("skip-block={block}@position={place}");
            agrees(&format!("{family} {name}"), &model, &variant(&model, &name), &skip);
        }
        for (layer, head, position) in [(0, 1, None), (1, 3, Some(2))] {
            let width = model.architecture().attention(layer).head_dim;
            let silent = ByHand {
                point: Point::Heads,
                change: |b, _, p, row: &mut [f32]| {
                    if b == 2 * layer + 1 && position.is_none_or(|position| position == p) {
                        row[head * width..(head + 1) * width].fill(0.0);
                    }
                },
            };
            let place = position.map_or(String::new(), |position| format!("@position={position}"));
            let name = format!("skip-head={layer}.{head}{place}");
            agrees(&format!("{family} {name}"), &model, &variant(&model, &name), &silent);
        }
        let zero = ByHand {
            point: Point::Value,
            change: |_, _, position, row: &mut [f32]| {
                if position == 0 {
                    row.fill(0.0);
                }
            },
        };
        let name = "sink-value=zero@position=0";
        agrees(&format!("{family} {name}"), &model, &variant(&model, name), &zero);
        let values = rows(&model, Point::Value, 3);
        let to_mean = ByHand {
            point: Point::Value,
            change: |b, sequence, position, row: &mut [f32]| {
                if b == 3 && position == 1 {
                    row.copy_from_slice(&mean_of_others(&values, sequence, position));
                }
            },
        };
        let name = "sink-value=mean@block=3@position=1";
        agrees(&format!("{family} {name}"), &model, &variant(&model, name), &to_mean);
    }
}

/// The same marks in every sequence, in some blocks.
struct MaskByHand {
    block: Option<usize>,
    hidden: Vec<bool>,
    alone: Vec<bool>,
}

impl Edit for MaskByHand {
    fn wants(&self, _point: Point, _block: usize) -> bool {
        false
    }

    fn apply(&self, _point: Point, _place: &Place, _values: &mut [f32]) {}

    fn mask(&self, block: usize, _sequence: usize) -> Option<Mask<'_>> {
        let here = self.block.is_none_or(|wanted| wanted == block);
        here.then_some(Mask { hidden: &self.hidden, alone: &self.alone })
    }
}

#[test]
fn tokens_kept_apart() {
    let marks = |position: usize| (0..SEQ_LEN).map(|at| at == position).collect::<Vec<bool>>();
    for family in FAMILIES {
        let model = model(family);
        for (name, block, hidden, alone) in [
            ("forbid-sink@position=0", None, marks(0), vec![]),
            ("forbid-sink@position=2@block=3", Some(3), marks(2), vec![]),
            ("self-only@position=4", None, vec![], marks(4)),
            ("self-only@position=1@block=1", Some(1), vec![], marks(1)),
        ] {
            let by_hand = MaskByHand { block, hidden, alone };
            let ours = variant(&model, name);
            agrees(&format!("{family} {name}"), &model, &ours, &by_hand);
            let start = block.map_or(0, |block| block - 1);
            assert_eq!((ours.changed_tokens, ours.computed_after), (Some(4), start));
        }
    }
}

/// By layer: sequences x heads x keys, the attention that keys receive. Sequences are one chunk each.
#[derive(Default)]
struct Received(BTreeMap<usize, Vec<f32>>);

impl Tap for Received {
    type Partial = Vec<f32>;

    fn wants(&self, point: Point, _block: usize) -> bool {
        point == Point::Attention
    }

    fn observe(&self, event: &Event<'_>) -> Vec<f32> {
        let EventData::Attention(scan) = event.data else { return Vec::new() };
        scan.received.to_vec()
    }

    fn merge(&mut self, _point: Point, place: &Place, received: Vec<f32>) {
        self.0.entry(place.block).or_default().extend(received);
    }
}

/// Hides other tokens in every sequence.
struct Hidden(Vec<bool>);

impl Edit for Hidden {
    fn wants(&self, _point: Point, _block: usize) -> bool {
        false
    }

    fn apply(&self, _point: Point, _place: &Place, _values: &mut [f32]) {}

    fn mask(&self, _block: usize, sequence: usize) -> Option<Mask<'_>> {
        Some(Mask { hidden: &self.0[sequence * SEQ_LEN..][..SEQ_LEN], alone: &[] })
    }
}

/// By token of the batch, whether `alpha_k > 0.3` in at least one head in twenty.
fn sinking(model: &Model) -> Vec<bool> {
    let heads = model.architecture().most_heads();
    let mut received = Received::default();
    Pass::new(model, PLENTY).run(&batch(4), &mut [&mut received]).expect("a pass");
    let sinks = |token: usize| {
        let (sequence, key) = (token / SEQ_LEN, token % SEQ_LEN);
        let alpha = |layer: &Vec<f32>, head: usize| layer[(sequence * heads + head) * SEQ_LEN + key] / SEQ_LEN as f32;
        let above: usize =
            received.0.values().map(|layer| (0..heads).filter(|&head| alpha(layer, head) > 0.3).count()).sum();
        key < SEQ_LEN / 2 && above > 0 && above * 20 >= heads * received.0.len()
    };
    (0..4 * SEQ_LEN).map(sinks).collect()
}

#[test]
fn operations_on_sinks_are_done_to_the_tokens_that_sink() {
    let mut some = 0;
    for family in FAMILIES {
        let model = model(family);
        let sinks = sinking(&model);
        let count = sinks.iter().filter(|sinks| **sinks).count();
        some += usize::from(count > 0);
        if count == 0 {
            let refused = run(&model, &batch(4), &request(&["forbid-sink"]), PLENTY).expect_err("nothing sinks");
            assert!(refused.to_string().contains("no token sinks in 5 % of the heads or more"), "{refused}");
            continue;
        }
        let found = run(&model, &batch(4), &request(&["forbid-sink", "sink-value=zero"]), PLENTY).expect("sinks");
        let tokens = found.sink_tokens.as_ref().expect("counted");
        assert_eq!(tokens.tokens, count, "{family}");
        agrees(&format!("{family} forbid-sink"), &model, &found.variants[0], &Hidden(sinks.clone()));
        let zero = ByHand {
            point: Point::Value,
            change: |_, sequence, position, row: &mut [f32]| {
                if sinks[sequence * SEQ_LEN + position] {
                    row.fill(0.0);
                }
            },
        };
        agrees(&format!("{family} sink-value"), &model, &found.variants[1], &zero);
        assert!(found.variants.iter().all(|variant| variant.changed_tokens == Some(count)));
    }
    assert!(some > 0, "nothing sinks, which is no test");
}

/// Attention received, from the sinks' own account of position 0.
#[test]
fn received_is_what_the_first_key_gets() {
    for family in FAMILIES {
        let model = model(family);
        let a = model.architecture();
        let alpha = |edit: Option<&dyn Edit>| {
            let mut sinks = SinkTap::new(a.layer_count(), a.most_heads(), 4, SEQ_LEN);
            let mut pass = Pass::new(&model, PLENTY);
            if let Some(edit) = edit {
                pass = pass.with_edit(edit);
            }
            pass.run(&batch(4), &mut [&mut sinks]).expect("a pass");
            let grid = sinks.finish(SinkDefinition::Paper, 0.3, 0).position_0;
            let all: Vec<f64> = grid.into_iter().flatten().collect();
            all.iter().sum::<f64>() / all.len() as f64
        };
        let ours = variant(&model, "forbid-sink@position=0@block=3");
        let by_hand = MaskByHand { block: Some(3), hidden: (0..SEQ_LEN).map(|at| at == 0).collect(), alone: vec![] };
        close(family, ours.received_before.expect("tokens"), alpha(None));
        close(family, ours.received.expect("tokens"), alpha(Some(&by_hand)));
        assert!(ours.received < ours.received_before, "{family}");
    }
}

#[test]
fn changed_tokens_are_compared_over_common_targets() {
    for family in FAMILIES {
        let model = model(family);
        let original = batch(4);
        let (before, ..) = naive(&model, &original, None);
        let before = |sequence: usize, target: usize| f64::from(before[sequence * (SEQ_LEN - 1) + target - 1]);
        for (name, shift) in [("drop-first", -1_isize), ("repeat-first", 1), ("bos=on", 1)] {
            let tokens = |sequence: &[u32]| match name {
                "drop-first" => sequence[1..].to_vec(),
                "repeat-first" => [&sequence[..1], sequence].concat(),
                _ => [&[0][..], sequence].concat(),
            };
            let seq_len = SEQ_LEN.wrapping_add_signed(shift);
            let changed = TokenBatch {
                tokens: (0..4).flat_map(|sequence| tokens(original.sequence(sequence))).collect(),
                sequences: 4,
                seq_len,
            };
            let (after, sinks, largest) = naive(&model, &changed, None);
            let (mut nll, mut delta, mut count) = (0.0, 0.0, 0);
            for sequence in 0..4 {
                for target in 1..SEQ_LEN {
                    let moved = target.wrapping_add_signed(shift);
                    if moved >= 1 {
                        let value = f64::from(after[sequence * (seq_len - 1) + moved - 1]);
                        nll += value;
                        delta += value - before(sequence, target);
                        count += 1;
                    }
                }
            }
            let ours = variant(&model, name);
            assert_eq!((ours.tokens, ours.changed_tokens, ours.computed_after), (count, None, 0));
            close(name, ours.nll.expect("targets"), nll / count as f64);
            close(name, ours.delta_nll.expect("targets"), delta / count as f64);
            close(name, ours.sink_ratio.expect("finite"), sinks);
            close(name, ours.largest.expect("finite"), largest);
        }
        let random = variant(&model, "random-tokens");
        assert_eq!((random.tokens, random.nll, random.perplexity, random.delta_nll), (0, None, None, None));
    }
}

fn strongest(model: &Model, batch: &TokenBatch, spike_ratio: f64) -> Option<Stage> {
    let request = AnatomyRequest { spikes: true, spike_ratio, ..AnatomyRequest::nothing() };
    let around = Surroundings { memory: PLENTY, text: &|_| String::new(), progress: &|_| {} };
    let anatomy = examine(model, batch, &request, around).expect("an examination").anatomy;
    anatomy.spikes.expect("asked for").stages.into_iter().next()
}

/// Where nothing is said, at the strongest stage; with a threshold so low that there is one.
#[test]
fn the_default_place_is_the_strongest_stage() {
    let mut tried = 0;
    for family in FAMILIES {
        let model = model(family);
        let Some(stage) = strongest(&model, &batch(4), 1.4) else { continue };
        tried += 1;
        let block = stage.step_up.last().copied().unwrap_or(stage.peak_block);
        let zero = ByHand {
            point: Point::Residual,
            change: |b, sequence, position, row: &mut [f32]| {
                if b == block && stage.tokens.iter().any(|t| (t.sequence, t.position) == (sequence, position)) {
                    stage.channels.iter().for_each(|channel| row[channel.channel] = 0.0);
                }
            },
        };
        let request = Request { spike_ratio: 1.4, ..request(&["zero-spikes"]) };
        let found = run(&model, &batch(4), &request, PLENTY).expect("a stage");
        agrees(family, &model, &found.variants[0], &zero);
        let place = found.spike.expect("a stage");
        assert_eq!((place.block, place.tokens), (block, stage.tokens.len()));
        assert_eq!(place.channels, stage.channels.iter().map(|channel| channel.channel).collect::<Vec<_>>());
    }
    assert!(tried >= 3, "{tried} models are no test");
}

#[test]
fn the_untouched_model_is_untouched() {
    for family in FAMILIES {
        let model = model(family);
        let found = run(&model, &batch(4), &request(&["drop-first"]), PLENTY).expect("a comparison");
        let (nll, sinks, largest) = naive(&model, &batch(4), None);
        close(family, found.baseline.nll, mean(&nll));
        close(family, found.baseline.perplexity.expect("finite"), mean(&nll).exp());
        close(family, found.baseline.sink_ratio, sinks);
        close(family, found.baseline.largest, largest);
        assert_eq!(found.baseline.tokens, nll.len());
        // Nothing done is nothing changed, to the bit.
        let same = variant(&model, "scale-spikes=1@block=3@position=all@channels=0");
        assert_eq!((same.delta_nll, same.nll), (Some(0.0), Some(found.baseline.nll)));
        assert_eq!((same.sink_ratio, same.largest), (Some(found.baseline.sink_ratio), Some(found.baseline.largest)));
    }
}

#[test]
fn company_memory_and_threads_change_nothing() {
    let operations = [
        "zero-spikes@block=3@position=0@channels=2",
        "mean-spikes@block=2@position=1@channels=0,1",
        "sink-value=mean@position=0",
        "forbid-sink@position=1@block=3",
        "skip-block=4@position=all",
        "skip-head=1.2",
        "repeat-first",
    ];
    for family in ["gemma2", "gpt-neox"] {
        let model = model(family);
        let together = |threads, memory| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let mut found =
                pool.install(|| run(&model, &batch(40), &request(&operations), memory).expect("a comparison"));
            // What is kept in memory decides where a variant begins, and nothing else.
            found.variants.iter_mut().for_each(|variant| variant.computed_after = 0);
            found
        };
        let one = together(1, PLENTY);
        assert_eq!(together(2, PLENTY), one);
        assert_eq!(together(3, 1), one);
        for (index, operation) in operations.iter().enumerate() {
            let mut alone = run(&model, &batch(40), &request(&[operation]), PLENTY).expect("a comparison");
            alone.variants[0].computed_after = 0;
            assert_eq!(alone.variants[0], one.variants[index]);
        }
    }
}

#[test]
fn means_of_another_text() {
    let model = model("llama");
    let other = TokenBatch { tokens: (0..2 * 5).map(|index| index * 3 % 32).collect(), sequences: 2, seq_len: 5 };
    let mut tap = RowsTap::new(Point::Residual, [2], 5, (0..10).map(|token| token % 5 == 1).collect());
    Pass::new(&model, PLENTY).run(&other, &mut [&mut tap]).expect("a pass");
    let rows: Vec<&Vec<f32>> = tap.rows[&2].values().collect();
    assert_eq!(rows.len(), 2);
    let to_mean = ByHand {
        point: Point::Residual,
        change: |block, _, position, row: &mut [f32]| {
            if block == 2 && position == 1 {
                row[4] = (f64::midpoint(f64::from(rows[0][4]), f64::from(rows[1][4]))) as f32;
            }
        },
    };
    let operation = "mean-spikes@block=2@position=1@channels=4";
    let request = Request { calibration: Some(other), ..request(&[operation]) };
    let found = run(&model, &batch(4), &request, PLENTY).expect("a comparison");
    agrees(operation, &model, &found.variants[0], &to_mean);
    // One sequence is enough then.
    assert!(run(&model, &batch(1), &request, PLENTY).is_ok());
}

#[test]
fn what_cannot_be_done_is_said_and_why() {
    let refused_of = |family: &str, operation: &str, sequences: usize| {
        let error = run(&model(family), &batch(sequences), &request(&[operation]), PLENTY).expect_err(operation);
        error.to_string()
    };
    for (operation, part) in [
        ("zero-spikes", "no spikes were found whose block could be taken"),
        ("zero-spikes@block=2@position=1", "whose channels could be taken"),
        ("zero-spikes@block=2@channels=1", "whose tokens could be taken"),
        ("zero-spikes@block=5@position=1@channels=1", "block 5 does not exist: there are 0 to 4"),
        ("zero-spikes@block=2@position=9@channels=1", "position 9 does not exist: sequences have 9 tokens"),
        ("zero-spikes@block=2@position=1@channels=16", "channel 16 does not exist: there are 16, from 0"),
        ("skip-block=0", "block 0 does not exist: there are 1 to 4"),
        ("skip-block=6", "block 6 does not exist"),
        ("skip-head=2.0", "head 2.0 does not exist: there are 2 layers of 4 heads"),
        ("skip-head=1.4", "head 1.4 does not exist"),
        ("sink-value=zero@block=2@position=0", "block 2 is no attention block: those are the odd ones up to 3"),
        ("forbid-spike", "no spikes were found whose tokens could be taken; name @position"),
        ("self-only@position=3@block=4", "block 4 is no attention block"),
        ("bos=off", "begin without it"),
    ] {
        let message = refused_of("llama", operation, 4);
        assert!(message.starts_with(&format!("{operation}: ")) && message.contains(part), "{message}");
    }
    let message = refused_of("llama", "mean-spikes@block=2@position=1@channels=1", 1);
    assert!(message.contains("in at least two, and 1 of 1 has them"), "{message}");
    let long = TokenBatch { tokens: vec![1; 32], sequences: 1, seq_len: 32 };
    let error = run(&model("gpt2"), &long, &request(&["repeat-first"]), PLENTY).expect_err("33 positions");
    assert!(error.to_string().contains("learned positions"), "{error}");
}
