//! Claims about the rows of a study, and their verdicts. How they are tested is said in [`super::TEST`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_anatomy::wide::mean;

use super::statistics::{Effect, correlation, holm};
use crate::measure::{Measure, Unit};

/// The level of Holm's rule in favour of claims, and against. Not half of 5 %, because with few runs the tails of Welch's test are too
/// light where the rows spread differently: simulated, 1.5 % keeps the share of studies that say something false below 5 % up
/// to three times the spread.
pub const ERROR: f64 = 0.015;

/// Fewer runs of a row decide nothing: with three, one row that spreads three times as widely as the other takes the share of
/// false verdicts above 10 %.
pub const LEAST_RUNS: usize = 5;

/// Percentages below this one count as this in ratios, so that 0 % has one too.
pub const LEAST_PERCENT: f64 = 0.1;

/// Something that a study may show.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// In a sentence.
    pub text: String,
    /// What must hold, all of it.
    pub conditions: Vec<Condition>,
}

/// A row beside another, or a row alone, on one side of a bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The row.
    pub row: String,
    /// The row it is compared with; `None` if it stands alone.
    pub against: Option<String>,
    /// What is compared.
    pub measure: Measure,
    /// How; `None` if the row stands alone.
    pub statistic: Option<Statistic>,
    /// It is claimed to be less than this ...
    pub below: Option<f64>,
    /// ... or more than this; one of the two.
    pub above: Option<f64>,
}

/// How two rows are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// The row's value over the other's.
    Ratio,
    /// The row's value less the other's.
    Difference,
}

/// Whether a claim holds at the scale of the study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does.
    Agrees,
    /// It does not.
    Disagrees,
    /// The seeds do not tell.
    Undecided,
}

/// Where p values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Student's t, of a row alone or of pairs.
    Student,
    /// Welch's t, of two rows.
    Welch,
}

/// A claim with its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimResult {
    /// The claim.
    pub text: String,
    /// What follows from its conditions.
    pub verdict: Verdict,
    /// Each of them.
    pub conditions: Vec<Tested>,
}

/// A condition put to the test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tested {
    /// What was tested.
    #[serde(flatten)]
    pub condition: Condition,
    /// Runs of the row; of pairs, the pairs.
    pub seeds: usize,
    /// Runs of the row that it is compared with.
    #[serde(default)]
    pub against_seeds: Option<usize>,
    /// Runs that are left out because they diverged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub diverged: usize,
    /// The mean or the difference of means; the ratio of geometric means; `None` without a run or where a ratio is of values
    /// that are not positive.
    pub estimate: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// Where the rows are paired, the correlation of their values over seeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<f64>,
    /// Where the p values come from; `None` if nothing was tested.
    #[serde(default)]
    pub test: Option<Test>,
    /// How probable such values are, or values further on the claimed side, where the truth is the bound.
    #[serde(default)]
    pub p_agrees: Option<f64>,
    /// How probable such values are, or values further on the other side.
    #[serde(default)]
    pub p_disagrees: Option<f64>,
    /// If undecided: runs of each row that would decide it in four of five studies, were it as these runs estimate.
    #[serde(default)]
    pub runs_needed: Option<usize>,
    /// What follows.
    pub verdict: Verdict,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// How many tests a study makes, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its claims.
    pub claims: usize,
    /// Their conditions.
    pub conditions: usize,
    /// Whether rows are compared seed by seed.
    pub paired: bool,
}

impl Family {
    /// The level of the first step in favour, and against.
    fn levels(self) -> [f64; 2] {
        [self.claims, self.conditions].map(|count| ERROR / count.max(1) as f64)
    }
}

/// The values that a condition compares, on the scale of its test.
struct Compared {
    values: Vec<f64>,
    /// `None` of a row alone and of pairs.
    others: Option<Vec<f64>>,
    correlation: Option<f64>,
}

impl Condition {
    /// What is wrong with it, its rows aside.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        let ((Some(bound), None) | (None, Some(bound))) = (self.below, self.above) else {
            return Err("give one bound, below or above".to_owned());
        };
        if !bound.is_finite() {
            return Err(format!("a bound of {bound} divides nothing"));
        }
        match (&self.against, self.statistic) {
            (Some(_), None) => Err("say by which statistic the rows are compared, ratio or difference".to_owned()),
            (None, Some(_)) => Err("a statistic compares two rows; say against which".to_owned()),
            (Some(against), _) if *against == self.row => Err(format!("{against} is compared with itself")),
            (Some(_), Some(Statistic::Ratio)) if bound <= 0.0 => {
                Err(format!("a ratio is never below {bound}; give a bound above 0"))
            }
            _ => Ok(()),
        }
    }

    fn is_ratio(&self) -> bool {
        self.statistic == Some(Statistic::Ratio)
    }

    /// A value on the scale of the test: not finite where there is no ratio.
    fn scaled(&self, value: f64) -> f64 {
        match (self.is_ratio(), self.measure.about().unit) {
            (false, _) => value,
            (true, Unit::Percent(_)) if value >= 0.0 => value.max(LEAST_PERCENT).ln(),
            (true, _) => value.ln(),
        }
    }

    fn compared(&self, values: &[(u64, f64)], others: &[(u64, f64)], paired: bool) -> Compared {
        let scaled = |of: &[(u64, f64)]| of.iter().map(|(_, value)| self.scaled(*value)).collect::<Vec<f64>>();
        if self.statistic.is_none() {
            return Compared { values: scaled(values), others: None, correlation: None };
        }
        if !paired {
            return Compared { values: scaled(values), others: Some(scaled(others)), correlation: None };
        }
        let pair = |(seed, value): &(u64, f64)| {
            let (_, other) = others.iter().find(|(of, _)| of == seed)?;
            Some((self.scaled(*value), self.scaled(*other)))
        };
        let pairs: Vec<(f64, f64)> = values.iter().filter_map(pair).collect();
        let values = pairs.iter().map(|(value, other)| value - other).collect();
        Compared { values, others: None, correlation: correlation(&pairs) }
    }

    /// Tests it on the values of the row and of the one it is compared with, both by seed. Of a row alone, `others` is
    /// not looked at. The verdict is left to [`judge`], which sees all tests of a study.
    pub fn test(&self, values: &[(u64, f64)], others: &[(u64, f64)], family: Family) -> Tested {
        let Compared { values, others, correlation } = self.compared(values, others, family.paired);
        let rows: Vec<&[f64]> = std::iter::once(values.as_slice()).chain(others.as_deref()).collect();
        let effect = match &others {
            Some(others) => Effect::between(&values, others),
            None => Effect::of(&values),
        };
        let back = |value: f64| if self.is_ratio() { value.exp() } else { value };
        let mean = |of: &[f64]| mean(of.iter().copied()).unwrap_or(f64::NAN);
        let estimate = mean(&values) - others.as_deref().map_or(0.0, mean);
        let mut tested = Tested {
            condition: self.clone(),
            seeds: values.len(),
            against_seeds: others.as_ref().map(Vec::len),
            diverged: 0,
            estimate: estimate.is_finite().then(|| back(estimate)),
            interval: effect.and_then(|effect| effect.interval()).map(|ends| ends.map(back)),
            correlation,
            test: None,
            p_agrees: None,
            p_disagrees: None,
            runs_needed: None,
            verdict: Verdict::Undecided,
        };
        let Some((effect, bound)) = effect.zip(self.below.or(self.above)) else { return tested };
        let bound = if self.is_ratio() { bound.ln() } else { bound };
        let is_claimed = (effect.estimate < bound) == self.below.is_some();
        let [agrees, disagrees] = family.levels();
        tested.runs_needed = effect
            .runs_needed(bound, if is_claimed { agrees } else { disagrees }, &rows)
            .map(|runs| runs.max(LEAST_RUNS));
        if rows.iter().any(|row| row.len() < LEAST_RUNS) {
            return tested;
        }
        let test = if others.is_some() { Test::Welch } else { Test::Student };
        let Some([low, high]) = effect.tails(bound) else { return tested };
        let [agrees, disagrees] = if self.below.is_some() { [low, high] } else { [high, low] };
        (tested.test, tested.p_agrees, tested.p_disagrees) = (Some(test), Some(agrees), Some(disagrees));
        tested
    }
}

/// Decides the claims of a study, all of them together: in favour over claims, each as sure as its least sure condition, and
/// against over conditions, both by Holm's rule at [`ERROR`].
pub fn judge(claims: &mut [ClaimResult]) {
    let least_sure = |claim: &ClaimResult| {
        let all = claim.conditions.iter().map(|tested| tested.p_agrees);
        all.reduce(|a, b| Some(a?.max(b?))).flatten()
    };
    let (agree, level) = holm(&claims.iter().map(least_sure).collect::<Vec<_>>(), ERROR);
    let against: Vec<_> = claims.iter().flat_map(|claim| &claim.conditions).map(|tested| tested.p_disagrees).collect();
    let mut disagree = holm(&against, ERROR).0.into_iter();
    for (claim, agrees) in claims.iter_mut().zip(agree) {
        for tested in &mut claim.conditions {
            let is_agreed = agrees || tested.p_agrees.is_some_and(|p| p <= level);
            tested.verdict = match disagree.next() {
                Some(true) => Verdict::Disagrees,
                _ if is_agreed => Verdict::Agrees,
                _ => Verdict::Undecided,
            };
            tested.runs_needed = tested.runs_needed.filter(|_| tested.verdict == Verdict::Undecided);
        }
        claim.verdict = if claim.conditions.iter().any(|tested| tested.verdict == Verdict::Disagrees) {
            Verdict::Disagrees
        } else if agrees {
            Verdict::Agrees
        } else {
            Verdict::Undecided
        };
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Normal};

    use super::*;

    const ALONE: Family = Family { claims: 1, conditions: 1, paired: false };

    fn condition(statistic: Option<Statistic>, below: Option<f64>, above: Option<f64>) -> Condition {
        let against = statistic.map(|_| "b".to_owned());
        Condition { row: "a".into(), against, measure: Measure::Standout, statistic, below, above }
    }

    fn seeds(values: &[f64]) -> Vec<(u64, f64)> {
        values.iter().enumerate().map(|(seed, value)| (seed as u64, *value)).collect()
    }

    fn judged(conditions: Vec<Tested>) -> Vec<Verdict> {
        let verdict = Verdict::Undecided;
        let mut claims = [ClaimResult { text: String::new(), verdict, conditions }];
        judge(&mut claims);
        let [claim] = claims;
        std::iter::once(claim.verdict).chain(claim.conditions.iter().map(|tested| tested.verdict)).collect()
    }

    fn verdict(condition: &Condition, values: &[f64], others: &[f64]) -> Verdict {
        judged(vec![condition.test(&seeds(values), &seeds(others), ALONE)])[0]
    }

    #[test]
    fn rows_are_compared_whatever_their_seeds() {
        let below = condition(Some(Statistic::Difference), Some(0.0), None);
        let (values, others) =
            ([1.0, 2.0, 3.0, 4.0, 5.0], [(7, 6.0), (8, 7.0), (9, 8.0), (1, 9.0), (2, 10.0), (3, 8.0)]);
        let tested = below.test(&seeds(&values), &others, ALONE);
        assert_eq!((tested.seeds, tested.against_seeds, tested.estimate), (5, Some(6), Some(-5.0)));
        assert!(tested.test == Some(Test::Welch) && tested.p_agrees.is_some_and(|p| p < 0.001), "{tested:?}");
        assert_eq!(judged(vec![tested]), [Verdict::Agrees, Verdict::Agrees]);
    }

    #[test]
    fn pairs_are_compared_seed_by_seed_and_say_how_they_correlate() {
        let below = condition(Some(Statistic::Difference), Some(0.0), None);
        let values: Vec<(u64, f64)> = (0..6).map(|seed| (seed, 10.0 * seed as f64)).collect();
        let others: Vec<(u64, f64)> =
            (1..8).rev().map(|seed| (seed, 10.0 * seed as f64 + 1.0 + 0.1 * seed as f64)).collect();
        let tested = below.test(&values, &others, Family { paired: true, ..ALONE });
        // Differences -1.1 to -1.5 of seeds 1 to 5.
        assert!((tested.estimate.expect("a mean") + 1.3).abs() < 1e-12);
        assert_eq!((tested.seeds, tested.against_seeds, tested.test), (5, None, Some(Test::Student)));
        assert!(tested.correlation.expect("one") > 0.999);
        assert_eq!(judged(vec![tested])[0], Verdict::Agrees);
        assert_eq!(below.test(&values, &others, ALONE).estimate.map(f64::signum), Some(-1.0));
    }

    #[test]
    fn ratios_are_compared_by_their_logarithms() {
        let half = condition(Some(Statistic::Ratio), Some(0.5), None);
        let tested = half.test(&seeds(&[1.0, 2.0, 4.0]), &seeds(&[8.0, 16.0, 32.0]), ALONE);
        assert!((tested.estimate.expect("a ratio") - 0.125).abs() < 1e-12);
        // Logarithms to base 2 of deviation 1: half 2.776445 (t of 4 degrees) times the root of 2/3.
        let [low, high] = tested.interval.expect("an interval").map(|end| end.log2() + 3.0);
        let half = 2.776_445_1 * (2.0_f64 / 3.0).sqrt();
        assert!((low + half).abs() < 1e-5 && (high - half).abs() < 1e-5, "{low} {high}");
        assert_eq!((tested.verdict, tested.p_agrees), (Verdict::Undecided, None), "three runs decide nothing");
    }

    #[test]
    fn no_sinks_at_all_count_as_a_tenth_of_a_percent() {
        let half = Condition { measure: Measure::SinkPercent, ..condition(Some(Statistic::Ratio), Some(0.5), None) };
        let tested = half.test(&seeds(&[0.0; 5]), &seeds(&[10.0, 12.0, 9.0, 8.0, 11.0]), ALONE);
        assert!((0.005..0.015).contains(&tested.estimate.expect("a ratio")), "{tested:?}");
        assert_eq!(judged(vec![tested])[0], Verdict::Agrees);
    }

    #[test]
    fn rows_alone_and_values_without_sense() {
        let alone = condition(None, None, Some(0.3));
        assert_eq!(verdict(&alone, &[0.5, 0.52, 0.49, 0.51, 0.5], &[]), Verdict::Agrees);
        assert_eq!(verdict(&alone, &[0.1, 0.12, 0.1, 0.09, 0.1], &[]), Verdict::Disagrees);
        assert_eq!(verdict(&alone, &[0.5, 0.52, 0.49, 0.51], &[]), Verdict::Undecided, "too few");
        assert_eq!(verdict(&alone, &[0.5; 6], &[]), Verdict::Undecided, "no spread");
        assert_eq!(alone.test(&[], &[], ALONE).estimate, None);
        let ratio = condition(Some(Statistic::Ratio), Some(0.5), None);
        for other in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let tested = ratio.test(&seeds(&[0.0; 6]), &seeds(&[other; 6]), ALONE);
            assert_eq!((tested.estimate, tested.interval, tested.p_agrees), (None, None, None), "{other}");
        }
    }

    #[test]
    fn a_claim_is_as_good_as_its_worst_condition() {
        use Verdict::{Agrees, Disagrees, Undecided};
        let tested = |p: f64| {
            let alone = condition(None, None, Some(0.0)).test(&[], &[], ALONE);
            Tested { p_agrees: Some(p), p_disagrees: Some(1.0 - p), ..alone }
        };
        assert_eq!(judged(vec![tested(0.001), tested(0.012)]), [Agrees, Agrees, Agrees]);
        assert_eq!(judged(vec![tested(0.001), tested(0.03)]), [Undecided, Agrees, Undecided]);
        assert_eq!(judged(vec![tested(0.001), tested(0.995)]), [Disagrees, Agrees, Disagrees]);
        // Against it two conditions are tested, and 0.01 is not enough for either.
        assert_eq!(judged(vec![tested(0.5), tested(0.99)]), [Undecided; 3]);
        let unknown = condition(None, None, Some(0.0)).test(&[], &[], ALONE);
        assert_eq!(judged(vec![tested(0.001), unknown]), [Undecided, Agrees, Undecided]);
    }

    /// Shares of simulated studies in which a claim agrees, and in which one disagrees. Of every claim so many conditions;
    /// logarithms of rows lie `off` from the bound, on the claimed side, and spread `spread` times as far as the baseline's.
    fn simulated(rng: &mut ChaCha8Rng, runs: [usize; 2], spread: f64, off: f64) -> [f64; 2] {
        const CLAIMS: [usize; 5] = [6, 4, 2, 1, 6];
        const STUDIES: usize = 400;
        let conditions = CLAIMS.iter().sum();
        let family = Family { claims: CLAIMS.len(), conditions, paired: false };
        let ratio = condition(Some(Statistic::Ratio), Some(0.5), None);
        let mut draw = |count: usize, mean: f64, deviation: f64| {
            let normal = Normal::new(mean, deviation).expect("a distribution");
            let values = normal.sample_iter(&mut *rng).take(count).map(f64::exp);
            seeds(&values.collect::<Vec<f64>>())
        };
        let mut count = [0.0; 2];
        for _ in 0..STUDIES {
            // A baseline for each of three measures.
            let baselines: Vec<_> = (0..3).map(|_| draw(runs[1], 0.0, 1.0)).collect();
            let mut claims: Vec<ClaimResult> = CLAIMS
                .iter()
                .map(|&conditions| {
                    let row = |at: usize| {
                        let values = draw(runs[0], 0.5_f64.ln() - off, spread);
                        ratio.test(&values, &baselines[at % 3], family)
                    };
                    let conditions = (0..conditions).map(row).collect();
                    ClaimResult { text: String::new(), verdict: Verdict::Undecided, conditions }
                })
                .collect();
            judge(&mut claims);
            let any = |verdict| f64::from(claims.iter().any(|claim| claim.verdict == verdict));
            count = [count[0] + any(Verdict::Agrees), count[1] + any(Verdict::Disagrees)];
        }
        count.map(|count| count / STUDIES as f64)
    }

    #[test]
    fn of_studies_without_an_effect_five_in_a_hundred_say_something_false_at_most() {
        let mut rng = ChaCha8Rng::seed_from_u64(25);
        for runs in [[5, 5], [6, 6], [6, 10]] {
            for spread in [0.3, 1.0, 3.0] {
                let [agrees, disagrees] = simulated(&mut rng, runs, spread, 0.0);
                eprintln!("{runs:?} runs, spread {spread}: {agrees} agree, {disagrees} disagree");
                assert!(agrees + disagrees <= 0.05, "{runs:?} runs, spread {spread}: {agrees} + {disagrees}");
            }
        }
    }

    #[test]
    fn an_effect_of_three_deviations_is_found() {
        let mut rng = ChaCha8Rng::seed_from_u64(26);
        let [agrees, disagrees] = simulated(&mut rng, [6, 10], 1.0, 3.0);
        assert!(agrees > 0.8 && disagrees == 0.0, "{agrees} agree, {disagrees} disagree");
        let [agrees, disagrees] = simulated(&mut rng, [6, 10], 1.0, -3.0);
        assert!(agrees == 0.0 && disagrees > 0.95, "{agrees} agree, {disagrees} disagree");
    }

    #[test]
    fn conditions_that_say_nothing_are_refused() {
        for (condition, part) in [
            (condition(None, None, None), "one bound"),
            (condition(None, Some(1.0), Some(2.0)), "one bound"),
            (condition(None, Some(f64::NAN), None), "divides nothing"),
            (condition(Some(Statistic::Ratio), Some(0.0), None), "above 0"),
            (Condition { against: None, ..condition(Some(Statistic::Ratio), Some(1.0), None) }, "against which"),
            (Condition { statistic: None, ..condition(Some(Statistic::Ratio), Some(1.0), None) }, "which statistic"),
            (Condition { row: "b".into(), ..condition(Some(Statistic::Ratio), Some(1.0), None) }, "with itself"),
        ] {
            let message = condition.check().expect_err("refused");
            assert!(message.contains(part), "{message}");
        }
    }
}
