//! The five regularities of spikes on passes made up to have them, or to lack one.

mod fake;

use fake::{Division, FakePass, Plant, plant, residual_request};
use sinkscope_anatomy::regularities::{Regularity, Threshold};
use sinkscope_anatomy::results::Anatomy;

const NAMES: [&str; 5] = [
    "only in intermediate layers",
    "in few channels",
    "which spike together",
    "at almost fixed ratios",
    "for few tokens",
];

/// Eight layers, 6 sequences of 30 tokens, 64 channels; every first token spikes in channels 7, 12 and 30 in between.
fn spiking() -> Vec<Plant> {
    let tokens: Vec<usize> = (0..6).map(|sequence| 30 * sequence).collect();
    let steps = [(7, 4000.0), (12, -900.0), (30, 450.0)];
    steps.iter().flat_map(|&(k, value)| [plant(4, &tokens, k, value), plant(14, &tokens, k, -value)]).collect()
}

fn verdicts(plants: &[Plant]) -> Vec<Regularity> {
    let pass = FakePass::new(1, 8, 6, 30, 64, plants);
    let Anatomy { regularities, .. } = pass.examine(&residual_request(), Division::WHOLE).0;
    let verdicts = regularities.expect("with the spikes");
    assert_eq!(verdicts.iter().map(|verdict| verdict.name.as_str()).collect::<Vec<_>>(), NAMES);
    for verdict in &verdicts {
        let lies_there = verdict.value.is_some_and(|value| match verdict.threshold {
            Threshold::AtMost(most) => value <= most,
            Threshold::AtLeast(least) => value >= least,
        });
        assert_eq!(verdict.holds, lies_there, "{verdict:?}");
    }
    verdicts
}

fn failing(plants: &[Plant]) -> Vec<usize> {
    verdicts(plants).iter().enumerate().filter(|(_, verdict)| !verdict.holds).map(|(index, _)| index).collect()
}

#[test]
fn all_hold_where_they_were_planted() {
    let found = verdicts(&spiking());
    assert!(found.iter().all(|verdict| verdict.holds), "{found:?}");
    let value = |index: usize| found[index].value.expect("a stage");
    // Noise of about 1 against 4000.
    assert!(value(0) < 1e-3, "{}", value(0));
    assert_eq!(value(1), 3.0 / 64.0);
    assert_eq!(value(2), 1.0);
    assert!(value(3) < 0.01);
    assert_eq!(value(4), 6.0 / 180.0);
}

#[test]
fn a_spike_that_stays_is_not_intermediate() {
    let mut plants = spiking();
    plants.retain(|plant| plant.block == 4);
    assert_eq!(failing(&plants), [0]);
}

#[test]
fn many_channels_are_not_few() {
    let mut plants = spiking();
    for channel in 40..50 {
        let tokens = plants[0].tokens.clone();
        plants.push(plant(4, &tokens, channel, 200.0));
        plants.push(plant(14, &tokens, channel, -200.0));
    }
    assert_eq!(failing(&plants), [1]);
}

#[test]
fn channels_of_one_token_do_not_spike_together() {
    let mut plants = spiking();
    for plant in plants.iter_mut().filter(|plant| plant.channel != 7) {
        plant.tokens.truncate(1);
    }
    // Nor are their ratios fixed.
    assert_eq!(failing(&plants), [2, 3]);
}

#[test]
fn ratios_that_vary_are_not_fixed() {
    let mut plants = spiking();
    let uneven: Vec<Plant> = (0..3)
        .flat_map(|sequence| {
            let token = [60 * sequence];
            [(12, -500.0), (30, 300.0)]
                .into_iter()
                .flat_map(move |(k, more)| [plant(4, &token, k, more), plant(14, &token, k, -more)])
        })
        .collect();
    plants.extend(uneven);
    assert_eq!(failing(&plants), [3]);
}

#[test]
fn many_tokens_are_not_few() {
    let mut plants = spiking();
    for plant in &mut plants {
        plant.tokens = (0..180).step_by(12).collect();
    }
    assert_eq!(failing(&plants), [4]);
}

#[test]
fn without_a_stage_none_holds() {
    let found = verdicts(&[]);
    assert!(found.iter().all(|verdict| !verdict.holds && verdict.value.is_none()));
}

/// There is nothing that could spike together, or keep a ratio.
#[test]
fn one_channel_alone_has_no_company() {
    let mut plants = spiking();
    plants.retain(|plant| plant.channel == 7);
    assert_eq!(failing(&plants), [2, 3]);
}
