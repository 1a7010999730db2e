//! Rotary embeddings, and how their frequencies are changed for longer contexts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One rotary embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rope {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Leading dimensions of a head that rotate.
    pub rotary_dim: usize,
    /// How the frequencies were changed for longer contexts.
    pub scaling: RopeScaling,
}

/// Changes to the frequencies for contexts longer than those first trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum RopeScaling {
    /// None.
    None,
    /// All frequencies divided by one factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low_frequency_factor: f64,
        /// Wavelengths below `original / high` are kept.
        high_frequency_factor: f64,
        /// Context length before the change.
        original_positions: usize,
    },
    /// A divisor per frequency; another set, and a magnitude, beyond the original length (Phi-3).
    LongRope {
        /// Divisors up to the original length.
        short: Vec<f64>,
        /// Divisors beyond it.
        long: Vec<f64>,
        /// Context length before the change.
        original_positions: usize,
        /// Factor on cosines and sines.
        magnitude: f64,
    },
    /// NTK by parts (YaRN, Peng et al. 2023): pairs that turn often within the original length keep their frequency, those
    /// that turn seldom are divided, and a ramp lies between. `_compute_yarn_parameters` of transformers.
    Yarn {
        /// The divisor of low frequencies.
        factor: f64,
        /// Pairs that turn at least so often within the original length are kept.
        beta_fast: f64,
        /// Pairs that turn at most so often are divided.
        beta_slow: f64,
        /// Whether the ends of the ramp are rounded outwards to whole pairs.
        truncate: bool,
        /// Context length before the change.
        original_positions: usize,
        /// Factor on cosines and sines.
        magnitude: f64,
    },
    /// The base grows with the length of the sequence beyond the original one, and with it every wavelength.
    /// `_compute_dynamic_ntk_parameters` of transformers.
    Dynamic {
        /// How much more the base grows than the length.
        factor: f64,
        /// Length up to which nothing changes.
        original_positions: usize,
    },
    /// A divisor per frequency, as GGUF files store Llama 3's.
    Divisors {
        /// One per frequency.
        divisors: Vec<f64>,
    },
}

impl Rope {
    pub(super) fn validate(&self, head_dim: usize) -> Result<(), String> {
        if self.rotary_dim == 0 || !self.rotary_dim.is_multiple_of(2) || self.rotary_dim > head_dim {
            return Err(format!(
                "{} rotary dimensions do not fit a head of {head_dim}: an even number from 2 to {head_dim} is needed",
                self.rotary_dim
            ));
        }
        if !(self.theta > 0.0 && self.theta.is_finite()) {
            return Err(format!("the rotary base is {}; it must be positive", self.theta));
        }
        let half = self.rotary_dim / 2;
        let lists: &[&Vec<f64>] = match &self.scaling {
            RopeScaling::LongRope { short, long, .. } => &[short, long],
            RopeScaling::Divisors { divisors } => &[divisors],
            _ => &[],
        };
        for list in lists {
            if list.len() != half {
                return Err(format!("{} rope factors for {half} frequencies", list.len()));
            }
        }
        let numbers: Vec<f64> = match &self.scaling {
            RopeScaling::None => Vec::new(),
            RopeScaling::Linear { factor } => vec![*factor],
            RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_positions } => {
                vec![*factor, *low_frequency_factor, *high_frequency_factor, *original_positions as f64]
            }
            RopeScaling::LongRope { short, long, original_positions, magnitude } => {
                [&short[..], long, &[*magnitude, *original_positions as f64]].concat()
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original_positions, magnitude, .. } => {
                vec![*factor, *beta_fast, *beta_slow, *original_positions as f64, *magnitude]
            }
            RopeScaling::Dynamic { factor, original_positions } => vec![*factor, *original_positions as f64],
            RopeScaling::Divisors { divisors } => divisors.clone(),
        };
        if let Some(number) = numbers.iter().find(|number| !(**number > 0.0 && number.is_finite())) {
            return Err(format!("the rope scaling holds {number}; all its numbers must be positive"));
        }
        match self.scaling {
            RopeScaling::Llama3 { low_frequency_factor: low, high_frequency_factor: high, .. } if low >= high => {
                Err(format!("the rope scaling's low frequency factor, {low}, is not below its high one, {high}"))
            }
            RopeScaling::Yarn { beta_fast, beta_slow, .. } if beta_fast < beta_slow => {
                Err(format!("the rope scaling's beta_fast, {beta_fast}, is below its beta_slow, {beta_slow}"))
            }
            RopeScaling::Yarn { .. } if self.theta <= 1.0 => {
                Err(format!("YaRN needs a rotary base above 1; it is {}", self.theta))
            }
            RopeScaling::Dynamic { .. } if self.rotary_dim == 2 => {
                Err("dynamic rope scaling is not defined for 2 rotary dimensions; at least 4 are needed".into())
            }
            _ => Ok(()),
        }
    }

    /// The angle per position of each rotated pair, and the factor on cosines and sines, for sequences of `seq_len`.
    pub fn frequencies(&self, seq_len: usize) -> (Vec<f64>, f64) {
        let base = self.series(self.theta);
        let divided = |divisors: &[f64]| base.iter().zip(divisors).map(|(f, d)| f / d).collect();
        match &self.scaling {
            RopeScaling::None => (base, 1.0),
            RopeScaling::Linear { factor } => (base.iter().map(|f| f / factor).collect(), 1.0),
            RopeScaling::Divisors { divisors } => (divided(divisors), 1.0),
            RopeScaling::LongRope { short, long, original_positions, magnitude } => {
                (divided(if seq_len > *original_positions { long } else { short }), *magnitude)
            }
            RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_positions } => {
                let scale = |frequency: &f64| {
                    // How many turns the pair makes within the original context.
                    let turns = *original_positions as f64 * frequency / (2.0 * std::f64::consts::PI);
                    let kept = ((turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor))
                        .clamp(0.0, 1.0);
                    (1.0 - kept) * frequency / factor + kept * frequency
                };
                (base.iter().map(scale).collect(), 1.0)
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, truncate, original_positions, magnitude } => {
                let width = self.rotary_dim as f64;
                // The pair, counted in fractions, that turns so often within the original length.
                let pair = |turns: f64| {
                    let wavelength = *original_positions as f64 / (turns * 2.0 * std::f64::consts::PI);
                    width * wavelength.ln() / (2.0 * self.theta.ln())
                };
                let (mut first, mut last) = (pair(*beta_fast), pair(*beta_slow));
                if *truncate {
                    (first, last) = (first.floor(), last.ceil());
                }
                (first, last) = (first.max(0.0), last.min(width - 1.0));
                let ramp = if first == last { 0.001 } else { last - first };
                let scale = |(pair, frequency): (usize, &f64)| {
                    let divided = ((pair as f64 - first) / ramp).clamp(0.0, 1.0);
                    frequency / factor * divided + frequency * (1.0 - divided)
                };
                (base.iter().enumerate().map(scale).collect(), *magnitude)
            }
            RopeScaling::Dynamic { factor, original_positions } => {
                let times = seq_len.max(*original_positions) as f64 / *original_positions as f64;
                let width = self.rotary_dim as f64;
                let growth = (factor * times - (factor - 1.0)).powf(width / (width - 2.0));
                (self.series(self.theta * growth), 1.0)
            }
        }
    }

    /// The angles per position of a base, `base^(-2 i / rotary_dim)`.
    fn series(&self, base: f64) -> Vec<f64> {
        (0..self.rotary_dim / 2).map(|i| base.powf(-2.0 * i as f64 / self.rotary_dim as f64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: RopeScaling) -> Rope {
        Rope { theta: 10_000.0, rotary_dim: 8, scaling }
    }

    #[test]
    fn llama3_scaling_keeps_high_frequencies_and_divides_low_ones() {
        let plain = rope(RopeScaling::None).frequencies(1).0;
        let scaled = rope(RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_positions: 64,
        })
        .frequencies(1)
        .0;
        assert_eq!(scaled[0], plain[0]);
        assert!((scaled[3] - plain[3] / 8.0).abs() < 1e-12);
        assert!(scaled[1] < plain[1] && scaled[1] > plain[1] / 8.0, "the ramp: {scaled:?}");
    }

    #[test]
    fn long_rope_changes_beyond_the_original_length() {
        let rope = rope(RopeScaling::LongRope {
            short: vec![1.0; 4],
            long: vec![2.0; 4],
            original_positions: 16,
            magnitude: 1.25,
        });
        assert_eq!(rope.frequencies(16).0[0], 1.0);
        assert_eq!(rope.frequencies(17), (rope.frequencies(16).0.iter().map(|f| f / 2.0).collect(), 1.25));
    }

    fn assert_close(ours: &[f64], theirs: &[f64]) {
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - theirs).abs() <= 1e-6 * theirs, "{ours} is not {theirs}");
        }
    }

    /// Values of transformers 5.24, `ROPE_INIT_FUNCTIONS`, computed there in f32.
    #[test]
    fn yarn_and_dynamic_scaling_are_those_of_transformers() {
        let rope = |scaling| Rope { theta: 10_000.0, rotary_dim: 16, scaling };
        let yarn = |factor, truncate, beta_fast, beta_slow| {
            rope(RopeScaling::Yarn { factor, beta_fast, beta_slow, truncate, original_positions: 512, magnitude: 1.5 })
        };
        let whole = [1.0, 0.256_935_06, 0.0625, 0.013_834_965, 0.0025, 0.000_790_569_47, 0.000_25, 7.905_694_7e-5];
        let cut = [1.0, 0.316_227_76, 0.075_664_401, 0.010_796_109, 0.0025, 0.000_790_569_47, 0.000_25, 7.905_694_7e-5];
        let (frequencies, magnitude) = yarn(4.0, true, 32.0, 1.0).frequencies(9999);
        assert_close(&frequencies, &whole);
        assert_eq!(magnitude, 1.5);
        assert_close(&yarn(4.0, false, 16.0, 2.0).frequencies(1).0, &cut);
        let dynamic = rope(RopeScaling::Dynamic { factor: 2.0, original_positions: 64 });
        assert_eq!(dynamic.frequencies(64), rope(RopeScaling::None).frequencies(64));
        let grown = [
            1.0,
            0.259_412_83,
            0.067_295_007,
            0.017_457_189,
            0.004_528_618_4,
            0.001_174_781_6,
            0.000_304_753_4,
            7.905_694_7e-5,
        ];
        assert_close(&dynamic.frequencies(160).0, &grown);
    }
}
