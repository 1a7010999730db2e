//! Every Hugging Face family, at every point that `transformers` shows.

use sinkscope_kernels::matmul::Precision;

use super::{family, largest_difference, logit_difference, record, row_difference};

/// How far apart what a precision allows is: residuals and logits relative to their size, attention as it is.
struct Allowed {
    residual: f64,
    logits: f64,
    /// Attention that keys receive in the mean.
    alpha: f64,
    /// Of single queries.
    weight: f64,
    /// Entropies reach ln 16.
    entropy: f64,
}

/// Measured, at most: 4.8e-6, 1.5e-6, 4.6e-7.
const HIGHEST: Allowed = Allowed { residual: 1e-4, logits: 1e-4, alpha: 2e-5, weight: 2e-5, entropy: 1e-4 };
/// Measured, at most: 9.4e-5, 3.8e-5, 7.3e-6, 4.7e-5, 1.1e-4.
const HIGH: Allowed = Allowed { weight: 1e-4, entropy: 2e-4, ..HIGHEST };
/// Measured, at most: 3.7e-2, 1.8e-2, 3.1e-3, 2.6e-2, 5.7e-2.
const MEDIUM: Allowed = Allowed { residual: 0.08, logits: 0.03, alpha: 8e-3, weight: 0.06, entropy: 0.12 };

/// Compares a directory in every precision; gives its family, and what was compared.
pub fn agrees(name: &str) -> (String, Vec<&'static str>) {
    let mut points = Vec::new();
    for (precision, allowed) in Precision::ALL.into_iter().zip([HIGHEST, HIGH, MEDIUM]) {
        if precision != Precision::Highest && !precision.rounds::<f32>() {
            println!("skipped: no AMX for precision {}", precision.name());
            continue;
        }
        points = agrees_in(precision, &allowed, name);
    }
    (family(name).0.architecture().family.clone(), points)
}

fn agrees_in(precision: Precision, allowed: &Allowed, name: &str) -> Vec<&'static str> {
    let (model, expected) = family(name);
    let model = model.with_precision(precision);
    let recording = record(&model, &expected.batch("tokens"));
    let mut points: Vec<&'static str> = Vec::new();
    let mut hold = |what: &'static str, point: String, difference: f64, allowed: f64| {
        println!("{name} {precision:?} {point}: {difference:.1e}");
        assert!(difference <= allowed, "{name} {precision:?} {point}: off by {difference:e}, {allowed:e} is allowed");
        if !points.contains(&what) {
            points.push(what);
        }
    };
    for (block, residual) in recording.residual.iter().enumerate() {
        let name = format!("residual.{block}");
        let difference = row_difference(residual, &expected.values(&name), model.architecture().d_model);
        hold("residuals", name, difference, allowed.residual);
    }
    for layer in 0..model.architecture().layer_count() {
        for (point, ours, tolerance) in [
            ("alpha", &recording.alpha[layer], allowed.alpha),
            ("to_self", &recording.to_self[layer], allowed.weight),
            ("to_first", &recording.to_first[layer], allowed.weight),
            ("entropy", &recording.entropy[layer], allowed.entropy),
        ] {
            let name = format!("{point}.{layer}");
            let difference = largest_difference(ours, &expected.values(&name));
            hold("attention", name, difference, tolerance);
        }
    }
    let difference = logit_difference(&recording.logits, &expected.values("logits"));
    hold("logits", "logits".into(), difference, allowed.logits);
    points
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
    smollm3_with_a_layer_that_does_not_rotate: "smollm3",
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
    assert!(difference <= HIGHEST.logits, "off by {difference:e}");
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
