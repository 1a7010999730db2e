//! Every Hugging Face family, at every point that `transformers` shows.

use sinkscope_kernels::matmul::Precision;

use super::{family, largest_difference, logit_difference, record, row_difference};

/// What f32 allows: the issue of tolerances is stated once.
const LOGITS: f64 = 1e-4;
const RESIDUAL: f64 = 1e-4;
const ALPHA: f64 = 2e-5;
/// Entropies reach ln 16.
const ENTROPY: f64 = 1e-4;

/// Both precisions agree within the same tolerances, but for the weights of single queries. Measured in the high one, at
/// most: residuals 6.8e-5, logits 1.2e-5, alpha 4.7e-6; in the highest 4.8e-6, 1.5e-6, 4.6e-7.
fn agrees(name: &str) {
    for precision in [Precision::Highest, Precision::High] {
        agrees_in(precision, name);
    }
}

fn agrees_in(precision: Precision, name: &str) {
    let (model, expected) = family(name);
    let model = model.with_precision(precision);
    let recording = record(&model, &expected.batch("tokens"));
    let weight = if precision == Precision::High { 1e-4 } else { ALPHA };
    let mut worst: Vec<(String, f64, f64)> = Vec::new();
    for (block, residual) in recording.residual.iter().enumerate() {
        let name = format!("residual.{block}");
        let difference = row_difference(residual, &expected.values(&name), model.architecture().d_model);
        worst.push((name, difference, RESIDUAL));
    }
    for layer in 0..model.architecture().layers.len() {
        for (point, ours, tolerance) in [
            ("alpha", &recording.alpha[layer], ALPHA),
            ("to_self", &recording.to_self[layer], weight),
            ("to_first", &recording.to_first[layer], weight),
            ("entropy", &recording.entropy[layer], ENTROPY),
        ] {
            let name = format!("{point}.{layer}");
            let difference = largest_difference(ours, &expected.values(&name));
            worst.push((name, difference, tolerance));
        }
    }
    worst.push(("logits".into(), logit_difference(&recording.logits, &expected.values("logits")), LOGITS));
    for (point, difference, tolerance) in &worst {
        println!("{name} {precision:?} {point}: {difference:.1e}");
        assert!(
            difference <= tolerance,
            "{name} {precision:?} {point}: off by {difference:e}, {tolerance:e} is allowed"
        );
    }
}

macro_rules! families {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            agrees($name);
        })*

        #[test]
        fn every_fixture_is_tested() {
            let mut tested = vec![$($name.to_owned()),*];
            let stored = std::fs::read_dir(super::fixtures().join("families")).expect("fixtures");
            let mut stored: Vec<String> =
                stored.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
            tested.sort();
            stored.sort();
            assert_eq!(tested, stored);
        }
    };
}

families! {
    llama: "llama",
    llama_3_with_scaled_rope_in_shards: "llama3",
    smollm_tied: "smollm",
    mistral_with_window_in_f16: "mistral",
    qwen2_with_biases: "qwen2",
    qwen2_with_windows_in_later_layers: "qwen2-window",
    qwen3_with_qk_norm: "qwen3",
    gemma2: "gemma2",
    gemma3: "gemma3",
    olmo2: "olmo2",
    phi3_fused_with_window: "phi3",
    phi3_with_longrope: "phi3-longrope",
    gpt2: "gpt2",
    pythia_in_parallel: "gpt-neox",
    pythia_in_sequence: "gpt-neox-sequential",
}

#[test]
fn longrope_uses_its_short_factors_within_the_original_length() {
    let (model, expected) = family("phi3-longrope");
    let recording = record(&model, &expected.batch("short.tokens"));
    let difference = logit_difference(&recording.logits, &expected.values("short.logits"));
    assert!(difference <= LOGITS, "off by {difference:e}");
}

#[test]
fn the_negative_log_likelihood_is_that_of_the_logits() {
    let (model, expected) = family("gemma2");
    let batch = expected.batch("tokens");
    let recording = record(&model, &batch);
    let (logits, vocabulary) = (expected.values("logits"), model.architecture().vocabulary);
    let mut naive = Vec::new();
    for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
        if (row + 1) % batch.seq_len != 0 {
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            naive.push((sum.ln() - f64::from(logits[batch.tokens[row + 1] as usize])) as f32);
        }
    }
    assert!(largest_difference(&recording.nll, &naive) < 1e-4);
}
