//! What explains spikes and sinks, on tiny random models of many families, against the definitions computed the long way
//! in f64: `U_k` formed, attention in full, dense eigenvalues.

mod amplifier;
mod geometry;
mod normalisation;
mod probe;
mod recorded;
mod sample;
mod self_sinking;
mod token_page;
mod whole;

/// Within a relative error, of numbers from f32.
fn close(what: &str, ours: f64, expected: f64) {
    close_within(what, ours, expected, expected.abs());
}

/// Within an error relative to `scale`, where a difference of larger numbers is meant to be small.
fn close_within(what: &str, ours: f64, expected: f64, scale: f64) {
    assert!((ours - expected).abs() <= 5e-5 * scale + 1e-9, "{what}: {ours} is not {expected}");
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
