//! AdamW over all weights, and the learning rate over time.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_kernels::Float;
use sinkscope_kernels::adamw::{Step, adamw};
use sinkscope_kernels::simd::sum_of_squares_wide;
use sinkscope_model::{ParameterInfo, ParameterKind};

/// Values that one task updates: a part of a cache, and small enough to share work evenly.
const CHUNK: usize = 1 << 15;

/// How weights follow the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerSettings {
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps over which it rises from 0.
    pub warmup: u64,
    /// What it does after that.
    pub schedule: Schedule,
    /// What a cosine falls to at the last step, as a share of `learning_rate`.
    pub final_ratio: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of that mean.
    pub epsilon: f64,
    /// Decoupled decay of weights, times the learning rate.
    pub weight_decay: f64,
    /// Whether norms, biases, unconditional gates and embeddings decay too.
    pub decay_all: bool,
    /// The gradient is shortened to this length if it is longer; 0 leaves it.
    pub clip: f64,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            warmup: 100,
            schedule: Schedule::Cosine,
            final_ratio: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            decay_all: false,
            clip: 1.0,
        }
    }
}

/// What the learning rate does after it has risen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls along half a cosine.
    Cosine,
}

impl OptimizerSettings {
    /// The learning rate of a step, from 0, of a run of `steps`.
    pub fn learning_rate_at(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f64 / self.warmup as f64;
        }
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Cosine => {
                let after = steps.saturating_sub(self.warmup).max(1) as f64;
                let progress = ((step - self.warmup) as f64 / after).min(1.0);
                let cosine = f64::midpoint(1.0, (std::f64::consts::PI * progress).cos());
                self.learning_rate * (self.final_ratio + (1.0 - self.final_ratio) * cosine)
            }
        }
    }
}

/// The optimiser's state: two moments for each weight.
#[derive(Debug, Clone)]
pub struct AdamW<F> {
    /// Means of gradients, in the order of the weights.
    pub mean: Vec<Vec<F>>,
    /// Means of their squares.
    pub square: Vec<Vec<F>>,
    decays: Vec<bool>,
}

/// A gradient that no weight may follow.
#[derive(Debug, Clone, Copy)]
pub struct BadGradient {
    /// The place of the tensor in the inventory.
    pub tensor: usize,
    /// What it holds.
    pub value: f64,
}

impl<F: Float> AdamW<F> {
    /// Before the first step.
    pub fn new(inventory: &[ParameterInfo], lengths: &[usize], settings: &OptimizerSettings) -> Self {
        let zeros = || lengths.iter().map(|&len| vec![F::ZERO; len]).collect();
        let decays = |info: &ParameterInfo| settings.decay_all || matches!(info.kind, ParameterKind::Matrix { .. });
        Self { mean: zeros(), square: zeros(), decays: inventory.iter().map(decays).collect() }
    }

    /// Updates the weights with step number `step`, from 0; gives the length of the gradient before it was shortened. The
    /// gradient is then zero.
    ///
    /// # Errors
    /// If the gradient is not finite, or too long to be squared. Nothing is changed then.
    pub fn step(
        &mut self,
        parameters: Vec<&mut [F]>,
        gradients: Vec<&mut [F]>,
        settings: &OptimizerSettings,
        learning_rate: f64,
        step: u64,
    ) -> Result<f64, BadGradient> {
        let norm = length(&gradients);
        if !norm.is_finite() {
            return Err(worst(&gradients));
        }
        let shortened = settings.clip > 0.0 && norm > settings.clip;
        let correction = |beta: f64| 1.0 - beta.powf((step + 1) as f64);
        let of = |weight_decay: f64| Step {
            learning_rate,
            beta1: settings.beta1,
            beta2: settings.beta2,
            epsilon: settings.epsilon,
            weight_decay,
            bias_correction1: correction(settings.beta1),
            bias_correction2: correction(settings.beta2),
            // As PyTorch's clip_grad_norm_ has it.
            gradient_scale: if shortened { settings.clip / (norm + 1e-6) } else { 1.0 },
        };
        let (decaying, staying) = (of(settings.weight_decay), of(0.0));
        let moments = self.mean.iter_mut().zip(&mut self.square).zip(&self.decays);
        let chunks: Vec<_> = parameters
            .into_iter()
            .zip(gradients)
            .zip(moments)
            .flat_map(|((parameters, gradients), ((mean, square), &decays))| {
                let moments = mean.chunks_mut(CHUNK).zip(square.chunks_mut(CHUNK));
                let chunks = parameters.chunks_mut(CHUNK).zip(gradients.chunks_mut(CHUNK)).zip(moments);
                chunks.map(move |chunk| (chunk, decays))
            })
            .collect();
        chunks.into_par_iter().for_each(|(((parameters, gradients), (mean, square)), decays)| {
            adamw(parameters, gradients, mean, square, if decays { &decaying } else { &staying });
            gradients.fill(F::ZERO);
        });
        Ok(norm)
    }
}

fn length<F: Float>(gradients: &[&mut [F]]) -> f64 {
    let chunks: Vec<&[F]> = gradients.iter().flat_map(|gradient| gradient.chunks(CHUNK)).collect();
    let sums: Vec<f64> = chunks.par_iter().map(|chunk| sum_of_squares_wide(chunk)).collect();
    sums.iter().sum::<f64>().sqrt()
}

/// Where a gradient went wrong: of the tensors that hold a value that is not finite, the last, which the backward came to
/// first; or else the one with the largest value.
fn worst<F: Float>(gradients: &[&mut [F]]) -> BadGradient {
    let of_tensor = |(tensor, values): (usize, &&mut [F])| {
        let rank = |value: f64| if value.is_finite() { value.abs() } else { f64::INFINITY };
        let values = values.iter().map(|value| value.to_f64());
        let value = values.max_by(|a, b| rank(*a).total_cmp(&rank(*b))).unwrap_or(0.0);
        (rank(value), BadGradient { tensor, value })
    };
    let all = gradients.iter().enumerate().map(of_tensor);
    all.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(BadGradient { tensor: 0, value: f64::NAN }, |(_, bad)| bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step on three tensors of ones with such gradients.
    fn stepped(gradients: [f32; 3], clip: f64) -> (Result<f64, BadGradient>, Vec<Vec<f32>>) {
        let settings = OptimizerSettings { clip, ..Default::default() };
        let mut optimizer = AdamW::new(&[], &[4; 3], &settings);
        optimizer.decays = vec![true; 3];
        let mut weights = vec![vec![1.0f32; 4]; 3];
        let mut gradients = gradients.map(|gradient| [0.0, gradient, 0.0, 0.0]);
        let result = optimizer.step(
            weights.iter_mut().map(Vec::as_mut_slice).collect(),
            gradients.iter_mut().map(<[f32; 4]>::as_mut_slice).collect(),
            &settings,
            0.1,
            0,
        );
        assert!(result.is_ok() || optimizer.square.iter().flatten().all(|&value| value == 0.0));
        (result, weights)
    }

    #[test]
    fn a_gradient_that_is_no_number_reaches_no_weight() {
        for clip in [0.0, 1.0] {
            for (gradients, at) in [
                ([f32::NAN, f32::NAN, 1.0], 1),
                ([1.0, 1.0, f32::INFINITY], 2),
                ([f32::NEG_INFINITY, 1.0, 1.0], 0),
                ([1.0, 3e38, 1e38], 1),
            ] {
                let (result, weights) = stepped(gradients, clip);
                let bad = result.expect_err("refused");
                assert_eq!((bad.tensor, bad.value.to_bits()), (at, f64::from(gradients[at]).to_bits()));
                assert!(weights.iter().flatten().all(|&weight| weight == 1.0), "{gradients:?}");
            }
            assert!(stepped([1e18, 0.0, 0.0], clip).0.is_ok());
        }
    }

    #[test]
    fn the_learning_rate_rises_and_falls() {
        let settings = OptimizerSettings { learning_rate: 2.0, warmup: 4, final_ratio: 0.1, ..Default::default() };
        let at = |step| settings.learning_rate_at(step, 104);
        assert_eq!((at(0), at(3), at(4)), (0.5, 2.0, 2.0));
        assert!((at(54) - 1.1).abs() < 1e-12 && (at(104) - 0.2).abs() < 1e-12);
        let constant = OptimizerSettings { schedule: Schedule::Constant, ..settings };
        assert_eq!(constant.learning_rate_at(90, 104), 2.0);
    }
}
