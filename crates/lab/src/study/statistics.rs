//! Means over seeds: how far they spread, and how sure they are.

use schemars::JsonSchema;
use serde::Serialize;
use sinkscope_anatomy::wide::mean;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Coverage of every interval.
const CONFIDENCE: f64 = 0.95;

/// A measure over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; `None` of a single value.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of these values; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mean = mean(values.iter().copied())?;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt());
        Some(Self { mean, deviation })
    }
}

/// The two-sided 95 % t interval of the mean of these values; `None` of fewer than two, or if one is not finite.
pub fn interval(values: &[f64]) -> Option<[f64; 2]> {
    if !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let Spread { mean, deviation } = Spread::of(values)?;
    let count = values.len() as f64;
    let t = StudentsT::new(0.0, 1.0, count - 1.0).ok()?.inverse_cdf(f64::midpoint(1.0, CONFIDENCE));
    let half = t * deviation? / count.sqrt();
    Some([mean - half, mean + half])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_and_intervals_are_those_worked_by_hand() {
        let spread = Spread::of(&[1.0, 2.0, 6.0]).expect("values");
        // Squares about 3: 4, 1, 9, over 2.
        assert_eq!((spread.mean, spread.deviation), (3.0, Some(7.0_f64.sqrt())));
        // t of 0.975 with 2 degrees of freedom is 4.302653, from the tables.
        let [low, high] = interval(&[1.0, 2.0, 6.0]).expect("an interval");
        let half = 4.302_653 * (7.0_f64 / 3.0).sqrt();
        assert!((low - (3.0 - half)).abs() < 1e-5 && (high - (3.0 + half)).abs() < 1e-5, "{low} {high}");
    }

    #[test]
    fn what_has_no_spread_says_so() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[2.0]), Some(Spread { mean: 2.0, deviation: None }));
        assert_eq!(interval(&[]), None);
        assert_eq!(interval(&[2.0]), None);
        assert_eq!(interval(&[2.0, 2.0, 2.0]), Some([2.0, 2.0]));
        assert_eq!(interval(&[2.0, f64::NAN]), None);
        assert_eq!(interval(&[2.0, f64::NEG_INFINITY]), None);
    }
}
