//! Studies: rows of recipes times seeds, as the paper's tables, and claims about them that are put to a test.
//!
//! A [`Study`] is a file that names a base recipe and what each row changes in it. A [`Plan`] is its runs, each with a
//! key: the digest of everything that decides its result. [`run`] trains what has no [`Summary`] yet, several runs at a
//! time, and leaves one; summaries are small, hold no times, paths or host names, and are kept with the study, so that
//! no machine repeats a run. [`tabulate`] makes tables and verdicts of them.

pub mod claim;
pub mod file;
pub mod plan;
pub mod results;
pub mod runner;
pub mod slurm;
pub mod statistics;
pub mod summary;

pub use claim::Verdict;
pub use file::Study;
pub use plan::{Plan, Run, Selection};
pub use results::{StudyResults, tabulate};
pub use runner::{Failure, Outcome, Progress, RunRequest, run};
pub use summary::{Summaries, Summary};

use crate::measure::MEASURES;

/// Raised by hand when a change of the program changes what runs come to, so that older summaries count no longer.
pub const NUMERICS_VERSION: u32 = 1;

/// What the numbers of a study mean, by name.
pub fn definitions() -> impl Iterator<Item = (&'static str, &'static str)> {
    MEASURES.iter().map(|about| (about.name, about.definition)).chain([("verdict", TEST)])
}

/// How claims are tested.
pub const TEST: &str = "\
A condition compares a row with another, seed by seed, by the mean of the ratios' logarithms or of the differences; or it \
takes a row alone, by its mean. It agrees if the two-sided 95 % t interval of that mean over seeds lies on the claimed \
side of the bound, disagrees if it lies on the other, and is undecided otherwise, with fewer than two seeds, or where a \
ratio is of values that are not positive. Runs that diverged are left out, and counted. A claim agrees if all its \
conditions do, and disagrees if any does.";
