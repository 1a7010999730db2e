//! One training step of a small Llama, timed on demand: for every line on stdin it does two steps and prints the seconds that
//! one took. `benches/training.py` runs it beside PyTorch.
//!
//! Arguments: an optional variant, a TOML fragment of `[model]` keys separated by `;`, such as `placement = "sandwich"`; and
//! `--high` or `--medium` for products of that precision.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for a script, not for people")]

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sinkscope_kernels::peak::flops_per_second;
use sinkscope_lab::data::Batch;
use sinkscope_lab::network::{Network, initialise};
use sinkscope_lab::optimizer::AdamW;
use sinkscope_lab::recipe::Recipe;
use sinkscope_lab::recipe_file::parse;

const VOCABULARY: usize = 4096;
const SEQUENCES: usize = 8;
const SEQ_LEN: usize = 256;

fn main() {
    let variant = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let asked = |name: &&str| std::env::args().any(|argument| argument == format!("--{name}"));
    let precision = ["high", "medium"].into_iter().find(asked).unwrap_or("highest");
    let sizes = ["layers = 6", "d_model = 256", "heads = 4", "head_dim = 64", "d_ffn = 688"];
    let given: Vec<&str> = variant.split(';').map(str::trim).filter(|line| !line.is_empty()).collect();
    let name = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let kept = sizes.iter().filter(|line| given.iter().all(|other| name(other) != name(line)));
    let model: Vec<&str> = kept.chain(&given).copied().collect();
    let text = format!(
        "[model]\n{}\n[data]\nsource = \"built-in\"\nvocabulary = 300\n[training]\nsteps = 1000\nsequences = {SEQUENCES}\nseq_len = {SEQ_LEN}\nprecision = \"{precision}\"\n",
        model.join("\n")
    );
    let recipe: Recipe = parse(&text, Path::new("variant")).unwrap();
    let architecture = recipe.architecture(VOCABULARY).unwrap();
    let parameters = initialise::<f32>(&architecture, &recipe.model.initialisation, 0).unwrap();
    let mut network = Network::new(architecture.clone(), parameters).unwrap().with_precision(recipe.training.precision);
    let inventory = network.parameters.inventory(&architecture);
    let lengths: Vec<usize> = network.parameters.values_mut().iter().map(|values| values.len()).collect();
    let mut optimizer = AdamW::new(&inventory, &lengths, &recipe.optimizer);
    let mut workspace = network.workspace(SEQUENCES, SEQ_LEN);
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut ids = || (0..SEQUENCES * SEQ_LEN).map(|_| random.random_range(0..VOCABULARY as u32)).collect();
    let batch = Batch { sequences: SEQUENCES, seq_len: SEQ_LEN, inputs: ids(), targets: ids() };
    let mut step = 0;
    let mut train = || {
        let weight = (batch.inputs.len() as f32).recip();
        let loss = network.add_gradient(&batch, weight, &mut workspace).unwrap();
        let gradients = workspace.gradient.values_mut();
        let stepped = optimizer.step(network.parameters.values_mut(), gradients, &recipe.optimizer, 1e-3, step);
        stepped.expect("a finite gradient");
        network.parameters.repack();
        step += 1;
        loss.mean()
    };
    train();
    let flops = 3.0 * architecture.flops_per_token(SEQ_LEN, true);
    let bound = flops_per_second() * rayon::current_num_threads() as f64;
    println!("{{\"flops_per_token\": {flops}, \"bound\": {bound}}}");
    for line in std::io::stdin().lock().lines() {
        if line.is_err() {
            return;
        }
        let start = Instant::now();
        train();
        let loss = train();
        println!("{{\"seconds\": {}, \"loss\": {loss}}}", start.elapsed().as_secs_f64() / 2.0);
    }
}
