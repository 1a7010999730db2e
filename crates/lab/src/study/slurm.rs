//! Runs as jobs of a Slurm cluster: for every run that is missing a batch script of one line, which runs that row and seed of
//! the study where the cluster has room. Each leaves its summary where all processes of the study look for it.
//!
//! `sbatch` reads further options (partition, account, time) from the environment, `SBATCH_PARTITION` and so on.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::plan::Run;
use crate::LabError;
use crate::files;

/// Where scripts and logs go, in the directory of the study.
pub const SLURM_DIRECTORY: &str = "slurm";

/// What all jobs of a study have in common.
#[derive(Debug, Clone, Copy)]
pub struct Jobs<'a> {
    /// The study's name, which begins that of every job.
    pub study: &'a str,
    /// The program, an absolute path.
    pub program: &'a Path,
    /// The study's file.
    pub file: &'a Path,
    /// The directory of runs and tables, on a disk that all machines share.
    pub directory: &'a Path,
    /// Where summaries of all studies are kept.
    pub results: &'a Path,
    /// Cores of a job.
    pub threads: usize,
}

/// A job that the cluster has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// `ROW-SEED`.
    pub slug: String,
    /// Its number, as `sbatch` gives it.
    pub job: String,
}

/// Submits runs, one job each.
///
/// # Errors
/// [`LabError::Io`] if a script cannot be written, [`LabError::Request`] if `sbatch` is not there or refuses a script; the
/// jobs before it are with the cluster then.
pub fn submit(jobs: &Jobs<'_>, runs: &[&Run]) -> Result<Vec<Submitted>, LabError> {
    let directory = jobs.directory.join(SLURM_DIRECTORY);
    runs.iter()
        .map(|run| {
            let name = format!("{}.sh", run.slug);
            files::write(&directory, &name, script(jobs, run, &directory).as_bytes())?;
            let job = sbatch(&directory.join(name))?;
            Ok(Submitted { slug: run.slug.clone(), job })
        })
        .collect()
}

/// The batch script of a run.
fn script(jobs: &Jobs<'_>, run: &Run, directory: &Path) -> String {
    let path = |path: &Path| quoted(&path.display().to_string());
    // Slurm takes options up to the end of the line; names of jobs are for people.
    let log: PathBuf = directory.join(format!("{}.log", run.slug));
    format!(
        "#!/bin/sh\n#SBATCH --job-name={}-{}\n#SBATCH --cpus-per-task={}\n#SBATCH --output={}\n\
         exec {} study {} --out {} --results {} --row {} --seed {} --threads {} --quiet\n",
        jobs.study,
        run.slug,
        jobs.threads,
        path(&log),
        path(jobs.program),
        path(jobs.file),
        path(jobs.directory),
        path(jobs.results),
        quoted(&run.name),
        run.seed,
        jobs.threads,
    )
}

/// A word for the shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Gives a script to the cluster; the number of its job.
fn sbatch(script: &Path) -> Result<String, LabError> {
    let failed = |reason: String| LabError::Request(format!("sbatch --parsable {}: {reason}", script.display()));
    let output = Command::new("sbatch").arg("--parsable").arg(script).output().map_err(|error| {
        failed(format!("cannot be run ({error}); submit from a machine of a Slurm cluster, or use --launcher local"))
    })?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    // The number, and the cluster's name behind a semicolon where there are several.
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.trim().split(';').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_stay_words() {
        assert_eq!(quoted("sandwich, QK input"), "'sandwich, QK input'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
