//! The examination of a real model against what an independent implementation measured on the same tokens
//! (`fixtures/smollm2-135m-q4_1.json`: float32, 32 sequences of 64 random token ids, no BOS).

use std::path::Path;

use serde_json::Value;
use sinkscope_anatomy::census::{CensusRequest, Walk, census};
use sinkscope_anatomy::examination::{self, AnatomyRequest, AnatomyTaps, Finished, ModelSize, Surroundings};
use sinkscope_anatomy::probe::{Calibration, probe};
use sinkscope_anatomy::results::{Anatomy, Stage};
use sinkscope_anatomy::sinks::{SinkDefinition, SinkTap};
use sinkscope_kernels::matmul::Precision;
use sinkscope_model::Model;
use sinkscope_model::pass::{ErasedTap, Pass};
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};
use sinkscope_sources::data::TokenBatch;
use sinkscope_sources::tokenizer::Tokenizer;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/SmolLM2-135M-Instruct.Q4_1.gguf");
const REFERENCE: &str = include_str!("fixtures/smollm2-135m-q4_1.json");

/// The residual of the first token of the first sequence after one block.
struct FirstRow {
    block: usize,
    row: Vec<f32>,
}

impl Tap for FirstRow {
    type Partial = Vec<f32>;

    fn wants(&self, point: Point, block: usize) -> bool {
        point == Point::Residual && block == self.block
    }

    fn observe(&self, event: &Event<'_>) -> Vec<f32> {
        match event.data {
            EventData::Rows(rows) if event.place.sequence == 0 && event.place.position == 0 => {
                rows[..rows.len() / event.place.rows].to_vec()
            }
            _ => Vec::new(),
        }
    }

    fn merge(&mut self, _: Point, _: &Place, row: Vec<f32>) {
        self.row.extend(row);
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(number).collect()
}

fn close(name: &str, ours: f64, reference: f64, tolerance: f64) {
    assert!((ours - reference).abs() <= tolerance, "{name}: {ours} is not {reference} within {tolerance:e}");
}

fn all_close(name: &str, ours: impl IntoIterator<Item = f64>, reference: &Value, relative: f64, absolute: f64) {
    let ours: Vec<f64> = ours.into_iter().collect();
    let reference = numbers(reference);
    assert_eq!(ours.len(), reference.len(), "{name}");
    for (index, (ours, reference)) in ours.into_iter().zip(reference).enumerate() {
        close(&format!("{name}[{index}]"), ours, reference, absolute + relative * reference.abs());
    }
}

fn batch(reference: &Value) -> TokenBatch {
    let sequences: Vec<Vec<f64>> = reference["tokens"].as_array().expect("sequences").iter().map(numbers).collect();
    TokenBatch {
        sequences: sequences.len(),
        seq_len: sequences[0].len(),
        tokens: sequences.into_iter().flatten().map(|id| id as u32).collect(),
    }
}

/// Examines; `memory` decides how many groups the sequences make.
fn examine(model: &Model, batch: &TokenBatch, request: &AnatomyRequest, memory: u64) -> (Anatomy, FirstRow, usize) {
    let size = ModelSize::of(model);
    let pass = Pass::new(model, memory);
    let mut taps = AnatomyTaps::new(request, size, batch);
    let mut first = FirstRow { block: 24, row: Vec::new() };
    let AnatomyTaps { residual, sinks, nll, .. } = &mut taps;
    let mut active: Vec<&mut dyn ErasedTap> = vec![&mut first];
    active.extend(residual.as_mut().map(|tap| tap as &mut dyn ErasedTap));
    active.extend(sinks.as_mut().map(|tap| tap as &mut dyn ErasedTap));
    active.extend(nll.as_mut().map(|tap| tap as &mut dyn ErasedTap));
    let groups = pass.run(batch, &mut active).expect("a pass").groups;
    let anatomy = match taps.finish(batch, &|_| String::new()).expect("finite") {
        Finished::Complete(anatomy) => *anatomy,
        Finished::SecondLook(mut look) => {
            pass.run(batch, &mut [&mut look.tap]).expect("a second pass");
            look.finish(batch, &|_| String::new())
        }
    };
    (anatomy, first, groups)
}

fn open() -> (Value, Model, TokenBatch) {
    let reference: Value = serde_json::from_str(REFERENCE).expect("JSON");
    assert!(Path::new(MODEL).exists(), "{MODEL} is missing; scripts/fetch-model.sh fetches it");
    let batch = batch(&reference);
    (reference, Model::open(MODEL).expect("the model"), batch)
}

fn check_stage(stage: &Stage, reference: &Value) {
    let blocks = |value: &Value| -> Vec<usize> { numbers(value).into_iter().map(|block| block as usize).collect() };
    assert_eq!(stage.step_up, blocks(&reference["step_up"]));
    assert_eq!(stage.step_down, blocks(&reference["step_down"]));
    assert_eq!(stage.channel, 507);
}

fn check_outputs(stage: &Stage, reference: &Value, relative: f64) {
    for (block, mean) in reference.as_object().expect("by block") {
        let block: usize = block.parse().expect("a block");
        let ours = stage.outputs.iter().find(|output| output.block == block).expect("in the window");
        close(&format!("output of block {block}"), ours.mean, number(mean), relative * number(mean).abs());
    }
}

#[test]
#[ignore = "needs the model that scripts/fetch-model.sh fetches; .ci/run fetches it and runs this"]
fn the_anatomy_is_that_of_the_reference() {
    is_that_of_the_reference(Precision::Highest);
}

#[test]
#[ignore = "needs the model that scripts/fetch-model.sh fetches; .ci/run fetches it and runs this"]
fn the_anatomy_in_high_precision_is_that_of_the_reference() {
    is_that_of_the_reference(Precision::High);
}

#[test]
#[ignore = "needs the model that scripts/fetch-model.sh fetches; .ci/run fetches it and runs this"]
fn the_anatomy_in_medium_precision_is_near_the_reference() {
    let (reference, model, batch) = open();
    let model = model.with_precision(Precision::Medium);
    let (anatomy, _, _) = examine(&model, &batch, &AnatomyRequest::default(), 4 << 30);
    let nll = number(&reference["nll_mean_per_predicted_token"]);
    close("nll", anatomy.nll.expect("asked for"), nll, 1e-3 * nll);
    let lifecycle = anatomy.lifecycle.expect("asked for");
    assert_eq!(lifecycle.step_up, [4, 6, 24]);
    assert_eq!(lifecycle.step_down, [18, 20, 22, 58, 60]);
    let maxima = lifecycle.blocks.iter().map(|block| block.residual.largest_mean);
    let expected = &reference["mean_over_sequences_of_largest_abs_residual_by_block"];
    all_close("largest mean", maxima, expected, 0.02, 0.0);
    let sinks = anatomy.sinks.expect("asked for");
    all_close("by layer", sinks.by_layer, &reference["sink_ratio_paper_0.3_by_layer"], 0.0, 0.05);
}

fn is_that_of_the_reference(precision: Precision) {
    let (reference, model, batch) = open();
    let model = model.with_precision(precision);
    let (anatomy, first, groups) = examine(&model, &batch, &AnatomyRequest::default(), 4 << 30);
    assert_eq!(groups, 1);
    let tolerance = |name: &str| number(&reference["tolerance"][name]);
    let (alpha, residual) = (tolerance("alpha_abs"), tolerance("residual_relative_l2_per_token"));

    let nll = number(&reference["nll_mean_per_predicted_token"]);
    close("nll", anatomy.nll.expect("asked for"), nll, tolerance("nll_relative") * nll);
    assert_eq!(anatomy.predicted_tokens, Some(32 * 63));

    let lifecycle = anatomy.lifecycle.expect("asked for");
    let by_block = |of: fn(&sinkscope_anatomy::results::ResidualLifecycle) -> f64| {
        lifecycle.blocks.iter().map(move |block| of(&block.residual))
    };
    let maxima = &reference["mean_over_sequences_of_largest_abs_residual_by_block"];
    all_close("largest mean", by_block(|residual| residual.largest_mean), maxima, residual, 0.0);
    let typical = &reference["typical_token_largest_M_b_by_block"];
    all_close("M_b", by_block(|residual| residual.typical_token_largest), typical, residual, 0.0);
    // From a histogram, whose error is below 2^-8.
    let median = &reference["median_abs_residual_m_b_by_block"];
    all_close("m_b", by_block(|residual| residual.median_abs), median, residual + 1.0 / 256.0, 0.0);
    for (block, count) in reference["spike_tokens"].as_object().expect("by block") {
        let block: usize = block.trim_start_matches("block_").parse().expect("a block");
        assert_eq!(lifecycle.blocks[block].residual.spike_tokens as f64, number(count), "block {block}");
    }
    assert_eq!(lifecycle.step_up, [4, 6, 24]);
    assert_eq!(lifecycle.step_down, [18, 20, 22, 58, 60]);

    let spikes = anatomy.spikes.expect("asked for");
    let largest = number(&reference["largest_abs_residual"]);
    close("largest", spikes.largest, largest, residual * largest);
    let stages = reference["stages"].as_array().expect("stages");
    assert_eq!(spikes.stages.len(), stages.len());
    for (stage, reference) in spikes.stages.iter().zip(stages) {
        check_stage(stage, reference);
    }
    let outputs = |block| &reference[format!("output_of_channel_507_mean_over_spike_tokens_of_block_{block}")];
    check_outputs(&spikes.stages[0], outputs(24), residual);
    check_outputs(&spikes.stages[1], outputs(6), residual);
    let row = &reference["residual_sequence_0_position_0_block_24_channels_507_247_14"];
    all_close("row", [507, 247, 14].map(|channel| f64::from(first.row[channel])), row, residual, 0.0);

    let sinks = anatomy.sinks.expect("asked for");
    let flat = |heads: &[Vec<f64>]| heads.iter().flatten().copied().collect::<Vec<_>>();
    let nested = |name: &str| {
        let layers = reference[name].as_array().expect("layers");
        Value::from(layers.iter().flat_map(numbers).collect::<Vec<_>>())
    };
    let heads = nested("mean_max_alpha_paper_by_layer_and_head");
    all_close("max alpha", flat(&sinks.heads), &heads, 0.0, alpha);
    let position_0 = nested("mean_alpha_position_0_paper_by_layer_and_head");
    all_close("alpha at 0", flat(&sinks.position_0), &position_0, 0.0, alpha);
    all_close("by layer", sinks.by_layer, &reference["sink_ratio_paper_0.3_by_layer"], 0.0, 1e-6);
}

#[test]
#[ignore = "needs the model that scripts/fetch-model.sh fetches; .ci/run fetches it and runs this"]
fn the_sink_ratios_are_those_of_the_reference() {
    // The reference's ratios are means in f32 of yes or no.
    const MEAN: f64 = 1e-6;
    let (reference, model, batch) = open();
    let alpha = number(&reference["tolerance"]["alpha_abs"]);
    let architecture = model.architecture();
    let mut tap = SinkTap::new(architecture.layer_count(), architecture.most_heads(), batch.sequences, batch.seq_len);
    Pass::new(&model, 4 << 30).run(&batch, &mut [&mut tap]).expect("a pass");
    for definition in SinkDefinition::ALL {
        for (epsilon, ratio) in reference["sink_ratio"][definition.name()].as_object().expect("by epsilon") {
            let (epsilon, reference): (f64, f64) = (epsilon.parse().expect("a number"), number(ratio));
            let ours = |epsilon| tap.clone().finish(definition, epsilon, 0).ratio;
            let (least, most) = (ours(epsilon + alpha), ours(epsilon - alpha));
            assert!(least <= reference + MEAN && reference - MEAN <= most, "{definition:?} {epsilon}: {reference}");
            // A handful of 8,640 heads at most lies that close to the threshold.
            assert!(most - least < 1e-3, "{definition:?} {epsilon}: {least} to {most}");
        }
    }
}

#[test]
#[ignore = "needs the model that scripts/fetch-model.sh fetches; .ci/run fetches it and runs this"]
fn threads_and_groups_change_no_bit() {
    let (_, model, batch) = open();
    // The second cuts each sequence into tiles of its own.
    let long = TokenBatch { tokens: batch.tokens[..3 * 600].to_vec(), sequences: 3, seq_len: 600 };
    for batch in [batch, long] {
        let run = |threads, memory| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let (anatomy, first, groups) = pool.install(|| examine(&model, &batch, &AnatomyRequest::default(), memory));
            (serde_json::to_string(&anatomy).expect("JSON"), first.row, groups)
        };
        let one = run(1, 4 << 30);
        assert_eq!(one.2, 1);
        for threads in [2, 4] {
            assert!(run(threads, 4 << 30) == one, "{threads} threads, sequences of {}", batch.seq_len);
        }
        let several = run(2, 16 << 20);
        assert!(several.2 > 1, "one group is no test of several");
        assert!((several.0, several.1) == (one.0, one.1), "{} groups, sequences of {}", several.2, batch.seq_len);
    }
}

#[test]
#[ignore = "needs models/SmolLM2-135M-Instruct.Q4_1.gguf: scripts/fetch-model.sh"]
fn the_census_is_that_of_the_reference_and_predicts_the_spike() {
    let reference: Value = serde_json::from_str(REFERENCE).expect("JSON");
    let model = Model::open(MODEL).expect("the fetched model");
    let request =
        CensusRequest { channels: vec![], full: false, blocks: None, first: None, walk: Walk::Predict, seed: 0 };
    let found = census(&model, &request, &|_, _| {}).expect("a census");
    let expected = &reference["census_block_24"];
    let relative = number(&reference["tolerance"]["frobenius_relative"]);
    let block = found.blocks.iter().find(|block| block.block == 24).expect("block 24");
    let norm = number(&expected["frobenius_channel_507"]);
    close("norm of 507", block.frobenius[507], norm, relative * norm);
    let first = block.frobenius[..8].iter().copied();
    all_close("norms", first, &expected["frobenius_channels_0_to_7"], relative, 0.0);
    close("median", block.median, number(&expected["median"]), relative * number(&expected["median"]));
    let spectrum = found.spectrum(24, 507).expect("the largest");
    let relative = number(&reference["tolerance"]["eigenvalue_relative"]);
    let first = spectrum.eigenvalues[..5].iter().copied();
    all_close("eigenvalues", first, &expected["eigenvalues_channel_507_first_5"], relative, 0.0);

    // The spike channels share their trigger.
    let shared = found.shared_trigger.iter().find(|shared| shared.block == 24).expect("block 24");
    assert!(shared.channels[..2] == [507, 247] && shared.cosines[0][1] > 0.95, "{shared:?}");
    // And first tokens reach it, in this block and no other.
    let prediction = found.prediction.as_ref().expect("asked for");
    assert_eq!((&prediction.step_up[..], &prediction.step_down[..]), (&[24][..], &[58, 60][..]));
    assert_eq!(prediction.channels[..2], [507, 247]);
    let peak = prediction.peak.as_ref().expect("a spike");
    let measured = number(&reference["output_of_channel_507_mean_over_spike_tokens_of_block_24"]["24"]);
    close("the predicted output", peak.score, measured, 0.05 * measured);
}

/// Everything but the probe, by the one call that does it.
fn whole(model: &Model, batch: &TokenBatch, request: &AnatomyRequest) -> Anatomy {
    let around = Surroundings { memory: 4 << 30, text: &|id| id.to_string(), progress: &|_| {} };
    examination::examine(model, batch, request, around).expect("an examination").anatomy
}

#[test]
#[ignore = "needs models/SmolLM2-135M-Instruct.Q4_1.gguf: scripts/fetch-model.sh"]
fn the_spike_is_amplified_normalised_and_attended_to() {
    let (reference, model, batch) = open();
    let anatomy = whole(&model, &batch, &AnatomyRequest::default());

    // The bilinear form is nearly exact where SiLU is far from the identity.
    let silu = anatomy.silu.expect("asked for");
    let strongest = |block| silu.blocks.iter().find(|of| of.stage == 1 && of.block == block).expect("a step block");
    let amplifier = strongest(24);
    let spike = amplifier.spike.as_ref().expect("spike tokens");
    let other = amplifier.other.as_ref().expect("other tokens");
    assert_eq!(amplifier.channel, 507);
    assert!((0.75..0.9).contains(&spike.cosine), "{spike:?}");
    assert!(spike.bilinear_error.expect("gated") < 0.02, "{spike:?}");
    let measured = number(&reference["output_of_channel_507_mean_over_spike_tokens_of_block_24"]["24"]);
    close("output", spike.output, measured, 0.05 * measured);
    close("l* (s* . x)^2", spike.rank_one.expect("gated"), spike.output, 0.05 * spike.output);
    let eigenvalue = numbers(&reference["census_block_24"]["eigenvalues_channel_507_first_5"])[0];
    close("l*", amplifier.eigenvalue.expect("gated"), eigenvalue, 1e-4 * eigenvalue);
    assert!(spike.trigger_cosine > Some(0.5) && other.trigger_cosine < Some(0.1), "{spike:?} {other:?}");
    assert!(strongest(58).spike.as_ref().expect("spike tokens").output < -10_000.0);

    // Spike tokens come out of the norm as one sparse vector.
    let normalisation = anatomy.normalisation.expect("asked for");
    let after = |block: usize| normalisation.blocks[block].spike.as_ref().expect("spike tokens").plain;
    assert!(after(24).cosine_mean > Some(0.999) && after(24).cosine_min > Some(0.999), "{:?}", after(24));
    assert!(after(23).cosine_mean < Some(0.95), "{:?}", after(23));
    assert!(after(24).top3_energy > 0.98 && after(23).top3_energy < 0.9);
    let others = normalisation.blocks[24].other.as_ref().expect("other tokens").plain;
    assert!(others.cosine_mean < Some(0.8) && others.top3_energy < 0.8, "{others:?}");

    // Sink heads: spike keys in one direction, a drained value, queries turned towards the key.
    let geometry = anatomy.geometry.expect("asked for");
    let sinks: Vec<_> = geometry.heads.iter().filter(|head| head.sink && head.layer >= 12).collect();
    assert!(sinks.len() > 100, "{} sink heads", sinks.len());
    for (what, holds) in [
        ("one dimension", sinks.iter().filter(|head| head.key_rank95_spike == Some(1)).count()),
        ("more dimensions", sinks.iter().filter(|head| head.key_rank95_other > Some(5)).count()),
        ("a drained value", sinks.iter().filter(|head| head.value_norm_sink < 0.5 * head.value_norm_other).count()),
        ("a gap", sinks.iter().filter(|head| head.logit_gap > Some(1.0)).count()),
        ("an angle", sinks.iter().filter(|head| head.query_to_sink_key > head.query_to_other_keys).count()),
    ] {
        assert!(holds * 10 >= sinks.len() * 9, "{what}: {holds} of {}", sinks.len());
    }

    // The first is broken: what block 60 leaves of the spike stays to the end.
    let verdicts = anatomy.regularities.expect("with the spikes");
    let holds: Vec<bool> = verdicts.iter().map(|verdict| verdict.holds).collect();
    assert_eq!(holds, [false, true, true, true, true], "{verdicts:?}");
}

#[test]
#[ignore = "needs models/SmolLM2-135M-Instruct.Q4_1.gguf: scripts/fetch-model.sh"]
fn nearly_every_first_token_spikes_and_a_later_one_does_not() {
    let (_, model, batch) = open();
    let request =
        AnatomyRequest { lifecycle: true, spikes: true, spike_ratio: 5.0, probe: true, ..AnatomyRequest::nothing() };
    let anatomy = whole(&model, &batch, &request);
    let first = anatomy.probe.expect("asked for");
    assert_eq!((first.block, first.vocabulary, first.items.len()), (Some(24), 49_152, 49_152));
    assert!(first.share > Some(0.999), "{:?}", first.share);
    let spikes = anatomy.spikes.expect("asked for");
    let calibration = Calibration::new(&spikes, &anatomy.lifecycle.expect("asked for")).expect("a stage");
    let checkpoint = model.checkpoint();
    let tokenizer = Tokenizer::from_metadata(checkpoint.metadata(), checkpoint.path()).expect("readable").expect("one");
    let prefix = tokenizer.encode("The weather was fine").expect("text");
    assert_eq!(prefix.len(), 4);
    let later = probe(&model, Some(&calibration), &prefix, 4 << 30, &|_| String::new(), &|_, _| {}).expect("a probe");
    // Two thousand items, evenly.
    let chosen = (0..2000).map(|index| index * later.vocabulary / 2000 + 12);
    assert_eq!(chosen.filter(|&id| later.items[id].spikes).count(), 0);
    assert!(later.spiking <= Some(5), "{:?}", later.spiking);
}
