//! What the values of a few seeds say of a mean: how far they spread, an interval, and how probable they are on the other side of
//! a bound.

use schemars::JsonSchema;
use serde::Serialize;
use sinkscope_anatomy::wide::mean;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Coverage of every interval.
const CONFIDENCE: f64 = 0.95;

/// How often a test finds an effect that is as the runs estimate it, with as many runs as `Effect::runs_needed` says.
const POWER: f64 = 0.8;

/// The most runs of a row that are worth naming.
const MOST_RUNS: usize = 200;

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

    /// The mean, and the square of its standard error.
    fn mean_and_error_squared(values: &[f64]) -> Option<(f64, f64)> {
        let Self { mean, deviation } = Self::of(values)?;
        Some((mean, deviation?.powi(2) / values.len() as f64))
    }
}

/// A mean, or a difference of two, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// The mean or the difference.
    pub estimate: f64,
    /// Its standard error, above 0.
    error: f64,
    /// Degrees of freedom of the t distribution.
    freedom: f64,
}

impl Effect {
    /// The mean of these values; `None` of fewer than two, if one is not finite, or if they do not spread: equal values of a
    /// few seeds do not say that others would be equal too.
    pub fn of(values: &[f64]) -> Option<Self> {
        let (estimate, square) = Spread::mean_and_error_squared(values)?;
        Self::if_sure(Self { estimate, error: square.sqrt(), freedom: values.len() as f64 - 1.0 })
    }

    /// The mean of the values less that of the others, which may spread otherwise (Welch, Biometrika 34, 1947).
    pub fn between(values: &[f64], others: &[f64]) -> Option<Self> {
        let ((mean, a), (other, b)) =
            (Spread::mean_and_error_squared(values)?, Spread::mean_and_error_squared(others)?);
        let freedom = |square: f64, of: &[f64]| square.powi(2) / (of.len() as f64 - 1.0);
        Self::if_sure(Self {
            estimate: mean - other,
            error: (a + b).sqrt(),
            freedom: (a + b).powi(2) / (freedom(a, values) + freedom(b, others)),
        })
    }

    fn if_sure(self) -> Option<Self> {
        (self.estimate.is_finite() && self.error > 0.0 && self.freedom.is_finite()).then_some(self)
    }

    fn distribution(freedom: f64) -> Option<StudentsT> {
        StudentsT::new(0.0, 1.0, freedom).ok()
    }

    /// The two-sided 95 % interval.
    pub fn interval(&self) -> Option<[f64; 2]> {
        let half = Self::distribution(self.freedom)?.inverse_cdf(f64::midpoint(1.0, CONFIDENCE)) * self.error;
        Some([self.estimate - half, self.estimate + half])
    }

    /// How probable values as low as these are where the truth is `bound`, and values as high.
    pub fn tails(&self, bound: f64) -> Option<[f64; 2]> {
        let t = (self.estimate - bound) / self.error;
        let distribution = Self::distribution(self.freedom)?;
        Some([distribution.cdf(t), distribution.cdf(-t)])
    }

    /// Runs of each row with which a test at `level` would find the effect in `POWER` of studies, if it is as these values
    /// estimate it and spread as they do; `None` if they are more than `MOST_RUNS`.
    pub fn runs_needed(&self, bound: f64, level: f64, rows: &[&[f64]]) -> Option<usize> {
        let squares: f64 = rows.iter().filter_map(|row| Spread::of(row)?.deviation).map(|d| d * d).sum();
        let enough = |runs: &usize| {
            let count = *runs as f64;
            let Some(t) = Self::distribution((count - 1.0) * rows.len() as f64) else { return false };
            let reach = t.inverse_cdf(1.0 - level) + t.inverse_cdf(POWER);
            reach * (squares / count).sqrt() <= (self.estimate - bound).abs()
        };
        (2..=MOST_RUNS).find(enough)
    }
}

/// The two-sided 95 % t interval of the mean of these values, where there is one.
pub fn interval(values: &[f64]) -> Option<[f64; 2]> {
    Effect::of(values)?.interval()
}

/// Pearson's correlation of pairs; `None` where one side does not vary.
pub fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let means = [mean(pairs.iter().map(|pair| pair.0))?, mean(pairs.iter().map(|pair| pair.1))?];
    let sum = |of: fn(f64, f64) -> f64| pairs.iter().map(|(a, b)| of(a - means[0], b - means[1])).sum::<f64>();
    let correlation = sum(|a, b| a * b) / (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt();
    correlation.is_finite().then_some(correlation)
}

/// Which of the hypotheses with these p values are refused so that one that is true is refused in a share `level` of all families at
/// most (Holm, Scandinavian Journal of Statistics 6, 1979); those without a p value count as hypotheses. And the level at which
/// the first that stands was tested.
pub fn holm(p: &[Option<f64>], level: f64) -> (Vec<bool>, f64) {
    let mut order: Vec<(f64, usize)> = p.iter().enumerate().map(|(at, p)| (p.unwrap_or(1.0), at)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut refused = vec![false; p.len()];
    for (rank, &(value, at)) in order.iter().enumerate() {
        let level = level / (p.len() - rank) as f64;
        if value > level {
            return (refused, level);
        }
        refused[at] = true;
    }
    (refused, level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-6 * expected.abs().max(1.0), "{value} is not {expected}");
    }

    #[test]
    fn spreads_and_intervals_are_those_worked_by_hand() {
        let spread = Spread::of(&[1.0, 2.0, 6.0]).expect("values");
        // Squares about 3: 4, 1, 9, over 2.
        assert_eq!((spread.mean, spread.deviation), (3.0, Some(7.0_f64.sqrt())));
        // t of 0.975 with 2 degrees of freedom is 4.302653, from the tables.
        let [low, high] = interval(&[1.0, 2.0, 6.0]).expect("an interval");
        let half = 4.302_652_7 * (7.0_f64 / 3.0).sqrt();
        close(low, 3.0 - half);
        close(high, 3.0 + half);
    }

    #[test]
    fn what_has_no_spread_says_so() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[2.0]), Some(Spread { mean: 2.0, deviation: None }));
        for values in [&[][..], &[2.0], &[2.0, 2.0, 2.0], &[2.0, f64::NAN], &[2.0, f64::NEG_INFINITY]] {
            assert_eq!(interval(values), None, "{values:?}");
        }
        assert_eq!(Effect::between(&[1.0, 1.0], &[2.0, 2.0]), None);
        assert_eq!(Effect::between(&[1.0], &[2.0, 3.0]), None);
    }

    /// As scipy 1.17 has it: `ttest_ind(a, b, equal_var=False)`.
    #[test]
    fn two_rows_are_compared_as_by_scipy() {
        let (a, b) = ([2.1, 2.5, 1.9, 2.8, 2.2], [3.0, 2.9, 4.1, 3.3, 2.4, 3.8]);
        let effect = Effect::between(&a, &b).expect("an effect");
        let [low, high] = effect.tails(0.0).expect("p values");
        close(effect.estimate, -0.95);
        close(effect.freedom, 8.105_079_429_323_08);
        close(low, 0.006_433_808_080_099_424_6);
        close(high, 1.0 - low);
        let ends = effect.interval().expect("an interval");
        close(ends[0], -1.638_323_166_263_792_7);
        close(ends[1], -0.261_676_833_736_208_2);
        close(effect.tails(-0.4).expect("p values")[0], 0.051_404_518_908_314_25);
    }

    #[test]
    fn correlations_are_those_of_numpy() {
        close(correlation(&[(1.0, 2.0), (2.0, 1.0), (4.0, 5.0), (7.0, 6.0)]).expect("one"), 0.899_735_410_842_437_2);
        assert_eq!(correlation(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(correlation(&[]), None);
    }

    #[test]
    fn holm_stops_at_the_first_hypothesis_that_stands() {
        // By hand: 0.01 <= 0.05/4, 0.015 <= 0.05/3, 0.03 > 0.05/2.
        let (refused, level) = holm(&[Some(0.03), Some(0.01), Some(0.015), None], 0.05);
        assert_eq!((refused, level), (vec![false, true, true, false], 0.025));
        assert_eq!(holm(&[Some(0.04)], 0.05), (vec![true], 0.05));
        assert_eq!(holm(&[], 0.05).0, Vec::<bool>::new());
    }

    #[test]
    fn runs_that_would_decide_are_as_in_the_tables_of_power() {
        // Two rows of deviation 1 that lie 1 apart, two-sided 5 %: 17 a group (Cohen, 1988, table 2.4.1).
        let rows: [&[f64]; 2] = [&[-1.0, 0.0, 1.0], &[0.0, 1.0, 2.0]];
        let effect = Effect::between(rows[0], rows[1]).expect("an effect");
        assert_eq!(effect.runs_needed(0.0, 0.025, &rows), Some(17));
        assert_eq!(effect.runs_needed(-0.999, 0.025, &rows), None);
    }
}
