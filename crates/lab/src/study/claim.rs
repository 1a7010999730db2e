//! Claims about the rows of a study, and their verdicts. How they are tested is said in [`super::TEST`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::statistics::{Spread, interval};
use crate::measure::Measure;

/// Something that a study may show.
#[derive(Debug, Clone, PartialEq, Deserialize)]
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

/// A condition put to the test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tested {
    /// What was tested.
    #[serde(flatten)]
    pub condition: Condition,
    /// Seeds that the row, and the one it is compared with, have.
    pub seeds: usize,
    /// Seeds that are left out because a run diverged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub diverged: usize,
    /// The mean of the differences or of the row's values, the geometric mean of the ratios; `None` without a seed or
    /// where a ratio is of values that are not positive.
    pub estimate: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// What follows.
    pub verdict: Verdict,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(count: &usize) -> bool {
    *count == 0
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

    /// Tests it on the values of the row and of the one it is compared with, both by seed. Of a row alone, `others` is
    /// not looked at.
    pub fn test(&self, values: &[(u64, f64)], others: &[(u64, f64)]) -> Tested {
        let is_ratio = self.statistic == Some(Statistic::Ratio);
        let compared = |&(seed, value): &(u64, f64)| {
            let Some(statistic) = self.statistic else { return Some(value) };
            let (_, other) = others.iter().find(|(of, _)| *of == seed)?;
            Some(match statistic {
                // Not a number, or infinite, where a value is not positive.
                Statistic::Ratio => value.ln() - other.ln(),
                Statistic::Difference => value - other,
            })
        };
        let compared: Vec<f64> = values.iter().filter_map(compared).collect();
        let back = |value: f64| if is_ratio { value.exp() } else { value };
        let mean = Spread::of(&compared).map(|spread| spread.mean).filter(|mean| mean.is_finite());
        let interval = interval(&compared).map(|ends| ends.map(back));
        let verdict = match (interval, self.below, self.above) {
            (Some([_, high]), Some(bound), _) if high < bound => Verdict::Agrees,
            (Some([low, _]), Some(bound), _) if low > bound => Verdict::Disagrees,
            (Some([low, _]), _, Some(bound)) if low > bound => Verdict::Agrees,
            (Some([_, high]), _, Some(bound)) if high < bound => Verdict::Disagrees,
            _ => Verdict::Undecided,
        };
        let (estimate, seeds) = (mean.map(back), compared.len());
        Tested { condition: self.clone(), seeds, diverged: 0, estimate, interval, verdict }
    }
}

impl Verdict {
    /// Of a claim whose conditions have these.
    pub fn of_all(verdicts: &[Self]) -> Self {
        if verdicts.contains(&Self::Disagrees) {
            Self::Disagrees
        } else if verdicts.iter().all(|verdict| *verdict == Self::Agrees) {
            Self::Agrees
        } else {
            Self::Undecided
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(statistic: Option<Statistic>, below: Option<f64>, above: Option<f64>) -> Condition {
        let against = statistic.map(|_| "b".to_owned());
        Condition { row: "a".into(), against, measure: Measure::Spike, statistic, below, above }
    }

    fn verdict(condition: &Condition, values: &[(u64, f64)], others: &[(u64, f64)]) -> Verdict {
        condition.test(values, others).verdict
    }

    #[test]
    fn differences_are_paired_by_seed() {
        let below = condition(Some(Statistic::Difference), Some(0.0), None);
        // Differences -1, -2, -3: mean -2, deviation 1, half 4.302653 / sqrt(3) = 2.484; the seeds stand in another
        // order, and one of each row has no partner.
        let (values, others) =
            ([(0, 9.0), (1, 18.0), (2, 27.0), (7, 1.0)], [(2, 30.0), (1, 20.0), (0, 10.0), (8, 5.0)]);
        let tested = below.test(&values, &others);
        assert_eq!((tested.seeds, tested.estimate, tested.verdict), (3, Some(-2.0), Verdict::Undecided));
        let [low, high] = tested.interval.expect("an interval");
        assert!((low + 4.4841).abs() < 1e-4 && (high - 0.4841).abs() < 1e-4, "{low} {high}");
        let wider = condition(Some(Statistic::Difference), Some(0.5), None);
        assert_eq!(verdict(&wider, &values, &others), Verdict::Agrees);
        let above = condition(Some(Statistic::Difference), None, Some(0.5));
        assert_eq!(verdict(&above, &values, &others), Verdict::Disagrees);
    }

    #[test]
    fn ratios_are_compared_by_their_logarithms() {
        // Ratios 1/2 and 1/8: the geometric mean is 1/4; log2 -1 and -3 have deviation sqrt(2), half 12.7062.
        let half = condition(Some(Statistic::Ratio), Some(0.5), None);
        let tested = half.test(&[(0, 1.0), (1, 1.0)], &[(0, 2.0), (1, 8.0)]);
        assert!((tested.estimate.expect("a mean") - 0.25).abs() < 1e-12);
        let [low, high] = tested.interval.expect("an interval");
        assert!(
            (low.log2() + 2.0 + 12.7062).abs() < 1e-3 && (high.log2() + 2.0 - 12.7062).abs() < 1e-3,
            "{low} {high}"
        );
        assert_eq!(tested.verdict, Verdict::Undecided);
        let equal = half.test(&[(0, 1.0), (1, 2.0)], &[(0, 4.0), (1, 8.0)]);
        assert_eq!(equal.verdict, Verdict::Agrees);
    }

    #[test]
    fn rows_alone_and_values_without_sense() {
        let alone = condition(None, None, Some(0.3));
        assert_eq!(verdict(&alone, &[(0, 0.5), (1, 0.52)], &[]), Verdict::Agrees);
        assert_eq!(verdict(&alone, &[(0, 0.1), (1, 0.1)], &[]), Verdict::Disagrees);
        assert_eq!(verdict(&alone, &[(0, 0.5)], &[]), Verdict::Undecided);
        assert_eq!(alone.test(&[], &[]).estimate, None);
        let ratio = condition(Some(Statistic::Ratio), Some(0.5), None);
        for other in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let tested = ratio.test(&[(0, 0.0), (1, 0.0)], &[(0, other), (1, other)]);
            assert_eq!((tested.estimate, tested.interval, tested.verdict), (None, None, Verdict::Undecided), "{other}");
        }
    }

    #[test]
    fn a_claim_is_as_good_as_its_worst_condition() {
        use Verdict::{Agrees, Disagrees, Undecided};
        assert_eq!(Verdict::of_all(&[Agrees, Agrees]), Agrees);
        assert_eq!(Verdict::of_all(&[Agrees, Undecided]), Undecided);
        assert_eq!(Verdict::of_all(&[Undecided, Disagrees, Agrees]), Disagrees);
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
