//! Stages, spike tokens and life cycle against the written definitions, applied to everything in memory.

mod fake;

use std::collections::BTreeSet;

use fake::{Division, FakePass, Plant, plant, residual_request};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sinkscope_anatomy::error::AnatomyError;
use sinkscope_anatomy::examination::{AnatomyRequest, AnatomyTaps, ModelSize};
use sinkscope_anatomy::head_room::ActivationKind;
use sinkscope_anatomy::not_finite::NonFiniteValue;
use sinkscope_anatomy::results::{Anatomy, Spikes, Stage};

const R: f64 = 5.0;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

fn largest(row: &[f32]) -> (usize, f64) {
    let mut best = (0, 0.0);
    for (channel, value) in row.iter().enumerate() {
        if f64::from(value.abs()) > best.1 {
            best = (channel, f64::from(value.abs()));
        }
    }
    best
}

fn typical(pass: &FakePass, block: usize) -> f64 {
    median((0..pass.tokens()).map(|token| largest(pass.row(block, token)).1).collect())
}

fn naive_spike_tokens(pass: &FakePass, block: usize) -> Vec<(usize, usize)> {
    let threshold = R * typical(pass, block);
    let tokens = (0..pass.tokens()).map(|token| (token, largest(pass.row(block, token))));
    tokens.filter(|(_, (_, reached))| *reached >= threshold).map(|(token, (channel, _))| (token, channel)).collect()
}

#[derive(Debug)]
struct NaiveStage {
    channel: usize,
    run: (usize, usize),
    tokens: Vec<usize>,
    peak_block: usize,
    peak: f64,
    step_up: Vec<usize>,
    step_down: Vec<usize>,
    /// channel, mean, variation of the ratio, share of the tokens.
    channels: Vec<(usize, f64, f64, f64)>,
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

fn naive_stages(pass: &FakePass) -> Vec<NaiveStage> {
    let last = pass.blocks();
    let spikes: Vec<_> = (0..=last).map(|block| naive_spike_tokens(pass, block)).collect();
    let mut stages = Vec::new();
    for k in 0..pass.d_model {
        let present = |block: usize| block <= last && spikes[block].iter().any(|(_, channel)| *channel == k);
        let mut runs = Vec::new();
        for first in (1..=last).filter(|&block| present(block) && (block == 1 || !present(block - 1))) {
            let end = (first..=last).take_while(|&block| present(block)).last().expect("first is present");
            if end > first {
                runs.push((first, end));
            }
        }
        for (index, &(first, end)) in runs.iter().enumerate() {
            let window_end = runs.get(index + 1).map_or(last, |next| next.0 - 1);
            stages.push(naive_stage(pass, &spikes, k, (first, end), window_end));
        }
    }
    stages.sort_by(|a, b| b.peak.abs().total_cmp(&a.peak.abs()));
    stages
}

fn naive_stage(
    pass: &FakePass,
    spikes: &[Vec<(usize, usize)>],
    k: usize,
    run: (usize, usize),
    window_end: usize,
) -> NaiveStage {
    let tokens: BTreeSet<usize> = (run.0..=run.1)
        .flat_map(|block| spikes[block].iter().filter(|(_, channel)| *channel == k).map(|(token, _)| *token))
        .collect();
    let value = |block: usize, token: usize, channel: usize| f64::from(pass.row(block, token)[channel]);
    let over_tokens = |f: &dyn Fn(usize) -> f64| mean(tokens.iter().map(|&token| f(token)));
    let mean_at = |block: usize| over_tokens(&|token| value(block, token, k));
    let mut peak_block = run.0;
    for block in run.0..=run.1 {
        if mean_at(block).abs() > mean_at(peak_block).abs() {
            peak_block = block;
        }
    }
    let peak = mean_at(peak_block);
    let output = |block: usize| over_tokens(&|token| f64::from(pass.output_at(block, token, k)));
    let relative = |block: usize| output(block) / peak;
    let threshold = R * typical(pass, peak_block);
    let magnitude = |channel: usize| over_tokens(&|token| value(peak_block, token, channel).abs());
    let mut channels: Vec<usize> = (0..pass.d_model).filter(|&channel| magnitude(channel) >= threshold).collect();
    channels.sort_by(|a, b| magnitude(*b).total_cmp(&magnitude(*a)));
    let variation = |channel: usize| {
        let ratio = |token: usize| value(peak_block, token, channel) / value(peak_block, token, k);
        let mean_ratio = over_tokens(&ratio);
        over_tokens(&|token| (ratio(token) - mean_ratio).powi(2)).sqrt() / mean_ratio.abs()
    };
    NaiveStage {
        channel: k,
        run,
        peak_block,
        peak,
        step_up: (run.0..=peak_block).filter(|&block| relative(block) >= 0.05).collect(),
        step_down: (peak_block + 1..=window_end).filter(|&block| relative(block) <= -0.05).collect(),
        channels: channels
            .into_iter()
            .map(|c| {
                let spikes = |token| f64::from(u8::from(value(peak_block, token, c).abs() >= threshold));
                (c, over_tokens(&|token| value(peak_block, token, c)), variation(c), over_tokens(&spikes))
            })
            .collect(),
        tokens: tokens.into_iter().collect(),
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) + 1e-6
}

fn assert_agrees(pass: &FakePass, stages: &[Stage]) {
    let naive = naive_stages(pass);
    assert_eq!(stages.len(), naive.len(), "{stages:#?} {naive:#?}");
    for (stage, naive) in stages.iter().zip(&naive) {
        assert_eq!(stage.channel, naive.channel);
        assert_eq!((stage.first_block, stage.last_block), naive.run);
        assert_eq!(stage.peak_block, naive.peak_block);
        assert!(close(stage.peak, naive.peak));
        assert_eq!(stage.step_up, naive.step_up);
        assert_eq!(stage.step_down, naive.step_down);
        let tokens: Vec<usize> =
            stage.tokens.iter().map(|token| token.sequence * pass.batch.seq_len + token.position).collect();
        assert_eq!(tokens, naive.tokens);
        for (token, &index) in stage.tokens.iter().zip(&naive.tokens) {
            assert_eq!(token.id, pass.batch.tokens[index]);
            assert_eq!(token.text, format!("<{}>", token.id));
            assert_eq!(token.value, pass.row(naive.peak_block, index)[naive.channel]);
        }
        let channels: Vec<usize> = stage.channels.iter().map(|channel| channel.channel).collect();
        assert_eq!(channels, naive.channels.iter().map(|channel| channel.0).collect::<Vec<_>>());
        for (channel, naive) in stage.channels.iter().zip(&naive.channels) {
            assert!(close(channel.mean, naive.1));
            assert!(close(channel.ratio_variation, naive.2), "{channel:?} {naive:?}");
            assert!(close(channel.share, naive.3), "{channel:?} {naive:?}");
        }
        assert_elsewhere(pass, stage, &naive.tokens);
    }
}

/// Item by item: how often it stands and spikes away from position 0, and when.
fn assert_elsewhere(pass: &FakePass, stage: &Stage, spikes: &[usize]) {
    let seq_len = pass.batch.seq_len;
    let ids = &pass.batch.tokens;
    let away = |token: &usize| !token.is_multiple_of(seq_len);
    let before = |token: usize| token / seq_len * seq_len..token;
    let mut seen = 0;
    for item in &stage.elsewhere {
        let occurrences = (0..ids.len()).filter(away).filter(|&token| ids[token] == item.id).count();
        let spiking: Vec<usize> = spikes.iter().copied().filter(away).filter(|&token| ids[token] == item.id).collect();
        let first = spiking.iter().filter(|&&token| !before(token).any(|earlier| spikes.contains(&earlier)));
        let first_occurrence = spiking.iter().filter(|&&token| !ids[before(token)].contains(&item.id));
        assert_eq!(
            (item.occurrences, item.spiking, item.first, item.first_occurrence),
            (occurrences, spiking.len(), first.count(), first_occurrence.count()),
        );
        assert_eq!(Some(item.least_position), spiking.iter().map(|token| token % seq_len).min());
        assert_eq!(item.text, format!("<{}>", item.id));
        seen += spiking.len();
    }
    assert_eq!(seen, spikes.iter().filter(|token| away(token)).count());
    assert!(stage.elsewhere.windows(2).all(|pair| pair[0].spiking >= pair[1].spiking));
}

fn spikes_of(pass: &FakePass) -> Spikes {
    let (anatomy, second_look) = pass.examine(&residual_request(), Division::WHOLE);
    assert!(!second_look, "one group never needs a second look");
    let spikes = anatomy.spikes.expect("asked for");
    assert_agrees(pass, &spikes.stages);
    spikes
}

/// Six sequences of 20 tokens in 8 layers, 33 channels; channel 7 spikes twice, downwards the second time.
fn two_stages() -> FakePass {
    // The first token of each sequence but the last, where a later one takes its place, and a repetition in sequence 2.
    let strong = [0, 20, 40, 47, 60, 80, 105];
    // Joins the second stage two blocks late.
    let late = [33];
    FakePass::new(
        1,
        8,
        6,
        20,
        33,
        &[
            plant(2, &[0, 20, 40, 60, 80, 105, 3, 64], 7, 30.0),
            plant(3, &[0, 20, 40, 60, 80, 105, 3, 64], 7, 10.0),
            plant(4, &[0, 20, 40, 60, 80, 105, 3, 64], 7, -3.0),
            plant(5, &[0, 20, 40, 60, 80, 105, 3, 64], 7, -36.0),
            plant(7, &strong, 7, -4000.0),
            plant(7, &strong, 12, 900.0),
            plant(7, &strong, 30, -450.0),
            plant(9, &late, 7, -3000.0),
            plant(9, &late, 12, 680.0),
            plant(14, &strong, 7, 2500.0),
            plant(15, &strong, 7, 1495.0),
            plant(15, &late, 7, 2998.0),
            plant(15, &strong, 12, -900.0),
            plant(15, &strong, 30, 450.0),
            plant(15, &late, 12, -680.0),
        ],
    )
}

#[test]
fn two_stages_of_one_channel() {
    let pass = two_stages();
    let spikes = spikes_of(&pass);
    let [second, first] = spikes.stages.as_slice() else { unreachable!("two stages: {spikes:#?}") };
    assert_eq!((second.step_up.as_slice(), second.step_down.as_slice()), ([7, 9].as_slice(), [14, 15].as_slice()));
    assert!(second.peak < -3000.0);
    assert_eq!(second.tokens.len(), 8);
    assert_eq!(second.channels.iter().map(|channel| channel.channel).collect::<Vec<_>>(), [7, 12, 30]);
    assert!(second.channels[1].mean > 0.0 && second.channels[2].mean < 0.0);
    assert_eq!(second.channels[0].ratio_variation, 0.0);
    assert!(close(second.share_at_position_0, 5.0 / 6.0));
    assert!(close(second.rate_elsewhere, 3.0 / 114.0));
    // The window of the first stage ends before block 7, whose output would be a step down otherwise.
    assert_eq!((first.step_up.as_slice(), first.step_down.as_slice()), ([2, 3].as_slice(), [4, 5].as_slice()));
    assert_eq!(spikes.channels, [7, 12, 30]);
    let at = spikes.largest_at.expect("there is a largest");
    assert!((7..=13).contains(&at.block) && at.channel == 7);
    assert_eq!(spikes.massive, 8);
}

#[test]
fn no_spikes_are_no_stages() {
    let pass = FakePass::new(2, 4, 3, 16, 48, &[]);
    let (anatomy, _) = pass.examine(&residual_request(), Division::WHOLE);
    let (spikes, lifecycle) = (anatomy.spikes.expect("asked for"), anatomy.lifecycle.expect("asked for"));
    assert!(spikes.stages.is_empty() && spikes.channels.is_empty());
    assert_eq!(spikes.massive, 0);
    assert!(lifecycle.step_up.is_empty() && lifecycle.step_down.is_empty());
    assert!(lifecycle.blocks.iter().all(|block| block.residual.spike_tokens == 0));
}

#[test]
fn one_block_is_not_a_stage() {
    let pass = FakePass::new(3, 4, 3, 16, 8, &[plant(4, &[0, 16], 5, 80.0), plant(5, &[0, 16], 5, -80.0)]);
    assert!(spikes_of(&pass).stages.is_empty());
    assert_eq!(naive_spike_tokens(&pass, 4).len(), 2);
}

#[test]
fn a_spike_that_stays_has_no_step_down() {
    let pass = FakePass::new(4, 3, 2, 9, 5, &[plant(6, &[3], 2, 50.0), plant(5, &[3], 2, 60.0)]);
    let spikes = spikes_of(&pass);
    assert_eq!(spikes.stages[0].step_up, [5, 6]);
    assert_eq!(spikes.stages[0].step_down, [0; 0]);
    assert_eq!(spikes.stages[0].share_at_position_0, 0.0);
}

/// Plants of all sizes, many near the threshold, at random places.
fn random_plants(seed: u64, blocks: usize, tokens: usize, d_model: usize) -> Vec<Plant> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut plants = Vec::new();
    for _ in 0..rng.random_range(1..12) {
        let block = rng.random_range(1..=blocks);
        let end = rng.random_range(block..=blocks);
        let channel = rng.random_range(0..d_model);
        let count = rng.random_range(1..=4);
        let tokens: Vec<usize> = (0..count).map(|_| rng.random_range(0..tokens)).collect();
        let value = rng.random_range(3.0_f32..9.0) * if rng.random_bool(0.5) { -1.0 } else { 1.0 };
        plants.push(plant(block, &tokens, channel, value));
        plants.push(plant(end, &tokens, channel, -value * rng.random_range(0.0_f32..1.1)));
    }
    plants
}

#[test]
fn random_plants_agree_with_the_definition_however_the_pass_is_divided() {
    let mut looks = 0;
    let mut stages = 0;
    for seed in 0..60 {
        let (layers, sequences, seq_len, d_model) = (4, 5, 11, 19);
        let plants = random_plants(seed, 2 * layers, sequences * seq_len, d_model);
        let pass = FakePass::new(seed + 100, layers, sequences, seq_len, d_model, &plants);
        let (whole, second_look) = pass.examine(&residual_request(), Division::WHOLE);
        assert!(!second_look);
        let spikes = whole.spikes.as_ref().expect("asked for");
        assert_agrees(&pass, &spikes.stages);
        stages += spikes.stages.len();
        for (sequences_per_group, chunk_rows) in [(1, 256), (2, 256), (3, 4), (usize::MAX, 1)] {
            let (divided, second_look) =
                pass.examine(&residual_request(), Division { sequences_per_group, chunk_rows });
            assert_eq!(divided, whole);
            looks += usize::from(second_look);
        }
    }
    assert!(stages > 60, "{stages} stages");
    assert!(looks > 5, "{looks} second looks");
}

#[test]
fn chunks_of_a_long_sequence_and_groups_agree() {
    let plants = [plant(2, &[0, 300, 600, 1150], 3, 70.0), plant(5, &[0, 300, 600, 1150], 3, -69.0)];
    let pass = FakePass::new(5, 3, 3, 600, 24, &plants);
    let (whole, _) = pass.examine(&residual_request(), Division::WHOLE);
    assert_agrees(&pass, &whole.spikes.as_ref().expect("asked for").stages);
    for (sequences_per_group, chunk_rows) in [(1, 256), (2, 600), (3, 7)] {
        assert_eq!(pass.examine(&residual_request(), Division { sequences_per_group, chunk_rows }).0, whole);
    }
}

#[test]
fn more_channels_than_the_record_holds_take_a_second_look() {
    let mut plants: Vec<Plant> = (0..90).map(|channel| plant(3, &[0, 12], channel, 60.0 + channel as f32)).collect();
    plants.push(plant(7, &[0, 12], 89, -148.0));
    let pass = FakePass::new(6, 4, 2, 12, 100, &plants);
    let (anatomy, second_look) = pass.examine(&residual_request(), Division::WHOLE);
    assert!(second_look);
    let spikes = anatomy.spikes.expect("asked for");
    assert_agrees(&pass, &spikes.stages);
    assert_eq!(spikes.stages[0].channels.len(), 90);
}

#[test]
fn life_cycle_follows_the_definition() {
    let pass = two_stages();
    let Anatomy { lifecycle, spikes, .. } = pass.examine(&residual_request(), Division::WHOLE).0;
    let (lifecycle, spikes) = (lifecycle.expect("asked for"), spikes.expect("asked for"));
    assert_eq!(lifecycle.step_up, [2, 3, 7, 9]);
    assert_eq!(lifecycle.step_down, [4, 5, 14, 15]);
    assert_eq!(lifecycle.blocks.len(), 17);
    assert!(lifecycle.blocks[0].output.is_none());
    let mut overall = 0.0_f64;
    for block in &lifecycle.blocks {
        let b = block.block;
        assert_eq!(block.residual.typical_token_largest, typical(&pass, b));
        assert_eq!(block.residual.spike_tokens, naive_spike_tokens(&pass, b).len());
        let entries = pass.residual[b].iter().map(|value| f64::from(value.abs()));
        let median_abs = median(entries.collect());
        assert!((block.residual.median_abs / median_abs - 1.0).abs() < 1.0 / 256.0);
        let sequences = pass.residual[b].chunks_exact(20 * 33).map(|sequence| largest(sequence).1);
        assert!(close(block.residual.largest_mean, mean(sequences)));
        check_top(&pass, &pass.residual[b], &block.residual.top);
        if let Some(output) = &block.output {
            check_top(&pass, &pass.output[b], &output.top);
        }
        if b > 0 {
            overall = overall.max(largest(&pass.residual[b]).1);
        }
    }
    assert_eq!(spikes.largest, overall);
}

fn check_top(pass: &FakePass, values: &[f32], top: &[sinkscope_anatomy::results::TopChannel]) {
    let reach =
        |channel: usize| values[channel..].iter().step_by(pass.d_model).map(|value| value.abs()).fold(0.0, f32::max);
    let mut channels: Vec<usize> = (0..pass.d_model).collect();
    channels.sort_by(|a, b| reach(*b).total_cmp(&reach(*a)));
    assert_eq!(top.iter().map(|top| top.channel).collect::<Vec<_>>(), channels[..3]);
    for top in top {
        let token = top.sequence * pass.batch.seq_len + top.position;
        assert_eq!(top.value, values[token * pass.d_model + top.channel]);
        assert_eq!(top.value.abs(), reach(top.channel));
        assert_eq!(top.token, format!("<{}>", pass.batch.tokens[token]));
    }
}

#[test]
fn a_residual_that_is_not_finite_is_an_error_with_its_place() {
    let mut pass = two_stages();
    pass.residual[3][100] = f32::NAN;
    pass.residual[3][101] = f32::NEG_INFINITY;
    pass.residual[4][7] = f32::NAN;
    let token = 100 / pass.d_model;
    let mut taps = AnatomyTaps::new(
        &residual_request(),
        ModelSize { layers: 8, heads: 1, d_model: pass.d_model, registers: 0 },
        &pass.batch,
    );
    pass.show(taps.residual.as_mut().expect("asked for"), Division { sequences_per_group: 1, ..Division::WHOLE });
    let Err(AnatomyError::NotFinite(found)) = taps.finish(&pass.batch, &|_| "x".into()) else { panic!("not finite") };
    assert_eq!((found.block, found.channel, found.value), (3, Some(100 % pass.d_model), NonFiniteValue::Nan));
    assert_eq!((found.sequence, found.position), (token / pass.batch.seq_len, token % pass.batch.seq_len));
    assert_eq!((found.id, found.text.as_str()), (pass.batch.tokens[token], "x"));
}

#[test]
fn where_no_residual_is_asked_for_what_is_not_finite_is_found_all_the_same() {
    let mut pass = two_stages().with_attention(9, 2);
    let size = ModelSize { layers: 8, heads: 2, d_model: pass.d_model, registers: 0 };
    let request = AnatomyRequest { nll: true, ..AnatomyRequest::nothing() };
    let place = |pass: &FakePass| {
        let mut taps = AnatomyTaps::new(&request, size, &pass.batch);
        pass.show(taps.finite.as_mut().expect("no residual is"), Division::WHOLE);
        pass.show(taps.nll.as_mut().expect("asked for"), Division::WHOLE);
        match taps.finish(&pass.batch, &|_| String::new()) {
            Err(AnatomyError::NotFinite(found)) => Some((found.block, found.channel, found.sequence, found.position)),
            _ => None,
        }
    };
    assert_eq!(place(&pass), None);
    // A prediction at one position is of the token at the next.
    pass.nll[pass.batch.seq_len - 1 + 4] = f32::INFINITY;
    assert_eq!(place(&pass), Some((17, None, 1, 5)));
    let at = (pass.batch.seq_len + 2) * pass.d_model + 3;
    pass.residual[6][at] = f32::NAN;
    assert_eq!(place(&pass), Some((6, Some(3), 1, 2)));
}

#[test]
fn a_spike_of_the_last_block_alone_is_reported_and_no_stage() {
    let pass = FakePass::new(8, 3, 3, 16, 20, &[plant(3, &[0, 20], 1, 90.0), plant(6, &[4, 9], 7, -400.0)]);
    for division in [Division::WHOLE, Division { sequences_per_group: 1, ..Division::WHOLE }] {
        let spikes = pass.examine(&residual_request(), division).0.spikes.expect("asked for");
        assert_eq!(spikes.stages.iter().map(|stage| stage.channel).collect::<Vec<_>>(), [1]);
        let [late] = &spikes.last_block[..] else { panic!("{:?}", spikes.last_block) };
        assert_eq!((late.channel, late.first_block, late.last_block, &late.step_up[..]), (7, 6, 6, &[6][..]));
        let mean = f64::midpoint(f64::from(pass.row(6, 4)[7]), f64::from(pass.row(6, 9)[7]));
        assert!((late.peak - mean).abs() < 1e-9 && mean < -390.0, "{} {mean}", late.peak);
        assert_eq!(late.tokens.iter().map(|token| token.position).collect::<Vec<_>>(), [4, 9]);
    }
}

#[test]
fn what_fp16_cannot_hold_is_said_with_block_and_token() {
    let room = |plants: &[Plant]| {
        let pass = FakePass::new(8, 3, 3, 16, 20, plants);
        pass.examine(&residual_request(), Division::WHOLE).0.fp16.expect("asked for")
    };
    let held = room(&[plant(3, &[0], 1, 32_000.0)]);
    assert_eq!((held.limit, held.overflow), (65_504.0, None));
    assert!(held.factor.is_some_and(|factor| (factor - 65_504.0 / 32_000.0).abs() < 1e-3), "{:?}", held.factor);
    assert_eq!(held.largest.map(|largest| largest.channel), Some(1));
    // The output of block 3 takes away what the residual has, and is too large by itself.
    let over = room(&[plant(2, &[20], 4, 40_000.0), plant(3, &[20], 4, -70_000.0), plant(5, &[3], 2, 90_000.0)]);
    let first = over.overflow.expect("beyond 65,504");
    assert_eq!((first.of, first.block, first.channel), (ActivationKind::Output, 3, 4));
    assert_eq!((first.sequence, first.position, first.text.is_empty()), (1, 4, false));
    assert_eq!(over.largest.map(|largest| (largest.block >= 5, largest.channel)), Some((true, 2)));
    assert!(over.factor.is_some_and(|factor| factor < 1.0));
}

#[test]
fn a_massive_token_is_above_100_and_1000_times_the_median() {
    // Noise of median 0.5: a token at 90 spikes without being massive, one at 2000 is both.
    let pass = FakePass::new(8, 3, 3, 16, 20, &[plant(3, &[0], 1, 90.0), plant(3, &[20], 1, 2000.0)]);
    let spikes = spikes_of(&pass);
    assert_eq!(spikes.massive, 1);
    assert_eq!(spikes.stages[0].tokens.len(), 2);
}

#[test]
fn results_serialise_under_their_published_names() {
    let pass = two_stages().with_attention(9, 2);
    let (anatomy, _) = pass.examine(&AnatomyRequest::default(), Division::WHOLE);
    let json = serde_json::to_value(&anatomy).expect("plain data");
    for pointer in [
        "/lifecycle/blocks/7/residual/top/0/channel",
        "/lifecycle/blocks/7/output/top/0/token",
        "/lifecycle/step_up",
        "/spikes/stages/0/channels/0/ratio_variation",
        "/spikes/stages/0/tokens/0/text",
        "/spikes/largest_at/block",
        "/sinks/other_definitions/gu-max/ratio",
        "/sinks/ratio_ci95/1",
        "/perplexity",
        "/nll",
    ] {
        assert!(json.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer}");
    }
    assert_eq!(json.pointer("/lifecycle/blocks/2/kind"), Some(&"feed-forward".into()));
}
