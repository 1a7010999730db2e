//! What the nano recipe shows on Bigram-Backcopy, where a sink has a job: some five minutes, so it is left to whoever changes
//! training: `cargo test -p sinkscope-lab --test nano -- --ignored`.

use std::path::Path;

use sinkscope_lab::data::Source;
use sinkscope_lab::recipe::{GateChoice, NormChoice, Recipe};
use sinkscope_lab::recipe_file;
use sinkscope_lab::trainer::Trainer;
use sinkscope_lab::watch::Watched;
use sinkscope_model::architecture::{GateSignal, Granularity};

/// One design choice changed.
type Change<'a> = &'a dyn Fn(&mut Recipe);

fn recipe() -> Recipe {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/nano.toml");
    recipe_file::read(&path).expect("the recipe")
}

fn trained(change: Change<'_>, seed: u64) -> Watched {
    let mut recipe = recipe();
    recipe.seed = seed;
    change(&mut recipe);
    let steps = recipe.training.steps;
    let source = Source::open(&recipe.source()).expect("the task");
    let mut trainer = Trainer::new(recipe, source).expect("a model");
    for _ in 0..steps {
        trainer.step().expect("a step");
    }
    trainer.look().expect("finite")
}

#[test]
#[ignore = "trains twelve models"]
fn gates_remove_the_sink_and_a_dynamic_tanh_keeps_it_at_equal_loss() {
    let gate = |granularity| {
        move |recipe: &mut Recipe| {
            recipe.model.gate = Some(GateChoice { signal: GateSignal::Input, granularity });
        }
    };
    let (channel, head) = (gate(Granularity::Channel), gate(Granularity::Head));
    let dynamic_tanh = |recipe: &mut Recipe| recipe.model.norm = NormChoice::DynamicTanh;
    for seed in 0..3 {
        let plain = trained(&|_| {}, seed);
        println!("seed {seed}: pre-norm {} {} {}", plain.sink_ratio, plain.mean_max_alpha, plain.nll);
        assert!(plain.sink_ratio > 0.8);
        let changes: [(&str, Change<'_>, bool); 3] =
            [("dynamic tanh", &dynamic_tanh, true), ("channel gate", &channel, false), ("head gate", &head, false)];
        for (name, change, sinks) in changes {
            let seen = trained(change, seed);
            println!("seed {seed}: {name} {} {} {}", seen.sink_ratio, seen.mean_max_alpha, seen.nll);
            assert!(if sinks { seen.sink_ratio > 0.3 } else { seen.sink_ratio < 0.15 }, "{name}: {}", seen.sink_ratio);
            assert!((seen.nll / plain.nll - 1.0).abs() < 0.02, "{name}: {} {}", seen.nll, plain.nll);
        }
    }
}

#[test]
fn the_recipes_that_come_with_the_program_can_be_read() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    for (name, weights) in [("nano", 58_688), ("tiny", 1_711_744), ("small", 66_664_512), ("paper", 6_738_415_616)] {
        let recipe: Recipe = recipe_file::read(&recipes.join(format!("{name}.toml"))).expect(name);
        let vocabulary = [("nano", 65), ("tiny", 2048), ("small", 16_384), ("paper", 32_000)];
        let vocabulary = vocabulary.iter().find(|(other, _)| *other == name).expect("listed").1;
        let architecture = recipe.architecture(vocabulary).expect(name);
        assert_eq!(sinkscope_model::parameters::count(&architecture), weights, "{name}");
    }
}
