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
A condition compares two rows by the difference of their means, of logarithms where it is of a ratio (percentages below 0.1 count \
as 0.1), or takes a row alone. Its two p values are the probabilities of such runs, or of runs further from the bound, where the \
truth is the bound: by Welch's t, and by Student's for a row alone or where the study pairs rows by seed. A claim agrees if the largest p value of its conditions passes \
Holm's rule over the study's claims at 1.5 %; a condition disagrees if its own passes Holm's rule over all conditions at 1.5 %, and \
with it the claim; so that of studies whose truths lie on the bounds 5 % at most say something false. Undecided is the rest, rows of \
fewer than five runs, and runs that do not differ. Runs that diverged are left out, and counted. Intervals are of 95 %, of each \
condition by itself.";
