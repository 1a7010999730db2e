//! A study's tables and verdicts, from the summaries of its runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NUMERICS_VERSION;
use super::claim::{ClaimResult, Condition, Family, Tested, Verdict, judge};
use super::file::{Paper, Row, Study};
use super::plan::Plan;
use super::statistics::{Spread, interval};
use super::summary::{Summaries, Summary};
use crate::LabError;
use crate::measure::{About, Figures, Measure};
use crate::recipe::Recipe;
use crate::trainer::Diverged;

/// What a study shows so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyResults {
    /// [`NUMERICS_VERSION`] of the program that made the runs.
    pub numerics: u32,
    /// The study's file without its ending.
    pub study: String,
    /// What it is about.
    pub title: String,
    /// The paper's table.
    pub table: Option<String>,
    /// Seeds that rows are to have.
    pub seeds: Vec<u64>,
    /// In the order of the file.
    pub rows: Vec<RowResult>,
    /// In the order of the file.
    pub claims: Vec<ClaimResult>,
    /// Files of summaries that belong to no run of the study as it is now.
    pub unused: Vec<String>,
}

/// A row with what its runs came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "StoredRow")]
pub struct RowResult {
    /// Its name.
    pub name: String,
    /// Whether it is the baseline.
    pub baseline: bool,
    /// How many seeds it is to have; 0 where it is not known.
    pub seeds: usize,
    /// What the paper has.
    pub paper: Paper,
    /// Over the seeds of finished runs; `None` if there is none.
    pub figures: Option<Figures<Option<Spread>>>,
    /// The finished runs.
    pub runs: Vec<RunResult>,
    /// The runs that diverged: they count in no figure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diverged: Vec<DivergedRun>,
}

/// A run that has no figures, because it diverged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DivergedRun {
    /// Its seed.
    pub seed: u64,
    /// Where.
    #[serde(flatten)]
    pub diverged: Diverged,
    /// All of it.
    pub summary: Summary,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "StoredRun")]
pub struct RunResult {
    /// Its seed.
    pub seed: u64,
    /// The last look.
    #[serde(flatten)]
    pub figures: Figures<Option<f64>>,
    /// All of it.
    pub summary: Summary,
}

/// What is read of a run; the rest follows from it.
#[derive(Deserialize, JsonSchema)]
struct StoredRun {
    seed: u64,
    summary: Summary,
}

impl From<StoredRun> for RunResult {
    fn from(StoredRun { seed, summary }: StoredRun) -> Self {
        Self { seed, figures: summary.figures(), summary }
    }
}

/// What is read of a row; the rest follows from it.
#[derive(Deserialize, JsonSchema)]
struct StoredRow {
    name: String,
    baseline: bool,
    #[serde(default)]
    seeds: usize,
    paper: Paper,
    runs: Vec<RunResult>,
    #[serde(default)]
    diverged: Vec<DivergedRun>,
}

impl From<StoredRow> for RowResult {
    fn from(StoredRow { name, baseline, seeds, paper, runs, diverged }: StoredRow) -> Self {
        // Only what all of them have.
        let spread = |about: &About| {
            let values: Option<Vec<f64>> = runs.iter().map(|run| run.figures.of(about.measure)).collect();
            Spread::of(&values?)
        };
        let figures = (!runs.is_empty()).then(|| Figures::each(spread));
        Self { name, baseline, seeds, paper, figures, runs, diverged }
    }
}

impl RowResult {
    /// Of a row and the summaries of its runs, by seed.
    pub fn new(row: &Row, all: impl Iterator<Item = (u64, Summary)>) -> Self {
        let (mut runs, mut diverged) = (Vec::<RunResult>::new(), Vec::new());
        for (seed, summary) in all {
            match summary.diverged.clone() {
                Some(at) => diverged.push(DivergedRun { seed, diverged: at, summary }),
                None => runs.push(StoredRun { seed, summary }.into()),
            }
        }
        let (name, seeds) = (row.name.clone(), row.seeds.len());
        StoredRow { name, baseline: row.baseline, seeds, paper: row.paper, runs, diverged }.into()
    }

    /// The two-sided 95 % t interval of a measure's mean over seeds; `None` with fewer than two.
    pub fn interval(&self, measure: Measure) -> Option<[f64; 2]> {
        let values: Option<Vec<f64>> = self.runs.iter().map(|run| run.figures.of(measure)).collect();
        interval(&values?)
    }

    fn by_seed(&self, measure: Measure) -> Vec<(u64, f64)> {
        self.runs.iter().filter_map(|run| Some((run.seed, run.figures.of(measure)?))).collect()
    }
}

impl Summary {
    /// What a table shows of it.
    pub fn figures(&self) -> Figures<Option<f64>> {
        Figures::each(|about| about.figure(&self.last.watched))
    }
}

/// The tables of a study from the summaries that there are. Those of `plan` are found by their keys; without it, where
/// the data need not be at hand, those of any data count.
///
/// # Errors
/// If there are summaries of one recipe on different data, and no plan.
pub fn tabulate(study: &Study, summaries: &Summaries, plan: Option<&Plan>) -> Result<StudyResults, LabError> {
    let find = |row: usize, seed: u64| match plan {
        Some(plan) => {
            let run = plan.runs.iter().find(|run| run.row == row && run.seed == seed);
            Ok(run.and_then(|run| summaries.of_run(run)))
        }
        None => summaries.of_recipe(&Recipe { seed, ..study.rows[row].recipe.clone() }),
    };
    let mut used = Vec::new();
    let mut rows = Vec::with_capacity(study.rows.len());
    for (index, row) in study.rows.iter().enumerate() {
        let mut runs = Vec::new();
        for &seed in &row.seeds {
            if let Some(summary) = find(index, seed)? {
                used.push(summary);
                runs.push((seed, summary.clone()));
            }
        }
        rows.push(RowResult::new(row, runs.into_iter()));
    }
    let row = |name: &str| rows.iter().find(|row| row.name == name);
    let values = |name: &str, measure| row(name).map(|row| row.by_seed(measure)).unwrap_or_default();
    let conditions = study.claims.iter().map(|claim| claim.conditions.len()).sum();
    let family = Family { claims: study.claims.len(), conditions, paired: study.paired };
    let test = |condition: &Condition| {
        let others = condition.against.as_ref().map(|other| values(other, condition.measure)).unwrap_or_default();
        let compared = [Some(condition.row.as_str()), condition.against.as_deref()];
        let diverged = compared.into_iter().flatten().filter_map(row).map(|row| row.diverged.len()).sum();
        Tested { diverged, ..condition.test(&values(&condition.row, condition.measure), &others, family) }
    };
    let tested = study.claims.iter().map(|claim| ClaimResult {
        text: claim.text.clone(),
        verdict: Verdict::Undecided,
        conditions: claim.conditions.iter().map(test).collect(),
    });
    let mut claims: Vec<ClaimResult> = tested.collect();
    judge(&mut claims);
    Ok(StudyResults {
        numerics: NUMERICS_VERSION,
        study: study.name.clone(),
        title: study.title.clone(),
        table: study.table.clone(),
        seeds: study.seeds.clone(),
        claims,
        rows,
        unused: summaries.unused(&used),
    })
}
