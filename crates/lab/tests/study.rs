//! Studies: the files that come with the program, files that are wrong, and runs that are stopped, fail or go side by
//! side.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sinkscope_lab::study::claim::Statistic;
use sinkscope_lab::study::results::DivergedRun;
use sinkscope_lab::study::{
    Outcome, Plan, Progress, Run, RunRequest, Selection, Study, Summaries, Verdict, run, tabulate,
};
use sinkscope_lab::trainer::Event;

const BASE: &str = r#"
[model]
layers = 1
d_model = 16
heads = 2
d_ffn = 24
[data]
source = "bigram-backcopy"
tokens = 12
triggers = 3
[training]
steps = 20
sequences = 4
seq_len = 12
[optimizer]
learning_rate = 0.01
warmup = 5
[watch]
every = 10
sequences = 4
seq_len = 12
"#;

const STUDY: &str = r#"
title = "Tiny"
base = "../base.toml"
seeds = [0, 3]
[[row]]
name = "plain"
baseline = true
[[row]]
name = "wild"
change.optimizer.learning_rate = 1e30
[[row]]
name = "Sandwich, all"
change.model.placement = "sandwich"
[[row]]
name = "plain again"
[[row]]
name = "odd"
change.model.kv_heads = 3
[[claim]]
text = "A sandwich has no larger spike"
conditions = [
    { row = "Sandwich, all", against = "plain", measure = "spike", statistic = "ratio", below = 1000 },
    { row = "plain", measure = "perplexity", above = 1 },
]
[[claim]]
text = "A wild rate lowers the loss"
conditions = [{ row = "wild", against = "plain", measure = "perplexity", statistic = "ratio", below = 1 }]
"#;

struct Lab(tempfile::TempDir);

impl Lab {
    fn new(study: &str) -> Self {
        let lab = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir(lab.path("studies")).expect("made");
        fs::write(lab.path("base.toml"), BASE).expect("written");
        fs::write(lab.path("studies/tiny.toml"), study).expect("written");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn study(&self) -> Study {
        Study::read(&self.path("studies/tiny.toml")).expect("a study")
    }

    fn refusal(&self) -> String {
        let error = Study::read(&self.path("studies/tiny.toml")).expect_err("refused").to_string();
        error.replace(self.0.path().to_str().expect("UTF-8"), "")
    }

    /// Runs what is missing; `stop` says when, by the number of steps done so far by all.
    fn run(&self, jobs: usize, results: &str, stop: usize) -> (Outcome, Vec<String>) {
        let study = self.study();
        let plan = Plan::new(&study).expect("a plan");
        let results = self.path(results);
        let steps = AtomicUsize::new(0);
        let begun = Mutex::new(Vec::new());
        let tell = |run: &Run, progress: Progress<'_>| match progress {
            Progress::Begun => begun.lock().expect("whole/tiny").push(run.slug.clone()),
            Progress::Training(Event::Step(_)) => {
                steps.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        };
        let request = RunRequest {
            study: &study.name,
            directory: &self.path(&format!("out-{jobs}")),
            results: &results,
            jobs,
            threads: 2,
            memory: 1 << 32,
            stop: &|| steps.load(Ordering::SeqCst) >= stop,
            tell: &tell,
        };
        let outcome = run(&plan, &Summaries::read(&results).expect("summaries"), request).expect("it runs");
        (outcome, begun.into_inner().expect("whole/tiny"))
    }

    fn files(&self, results: &str) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.path(results)).expect("a directory").map(|entry| entry.expect("an entry"));
        files
            .map(|file| (file.file_name().into_string().expect("UTF-8"), fs::read(file.path()).expect("a file")))
            .collect()
    }
}

#[test]
fn a_failing_row_keeps_no_other_from_finishing_and_jobs_change_nothing() {
    let lab = Lab::new(STUDY);
    let (one, begun) = lab.run(1, "one/tiny", usize::MAX);
    // Seed by seed; a row that is another's twin is not run again.
    assert_eq!(begun, ["plain-0", "wild-0", "sandwich-all-0", "odd-0", "plain-3", "wild-3", "sandwich-all-3", "odd-3"]);
    let (two, _) = lab.run(2, "two/tiny", usize::MAX);
    assert_eq!(one, two);
    assert_eq!((one.found, one.finished, one.stopped), (0, 6, false));
    let failed: Vec<_> = one.failures.iter().map(|failure| (failure.row.as_str(), failure.seed)).collect();
    assert_eq!(failed, [("odd", 0), ("odd", 3)]);
    assert!(one.failures[0].reason.contains("key-value"), "{one:?}");
    assert_eq!(lab.files("one/tiny").len(), 6);
    assert!(lab.files("one/tiny") == lab.files("two/tiny"));
    let texts = lab.files("one/tiny").into_values().map(|file| String::from_utf8(file).expect("UTF-8"));
    assert_eq!(texts.filter(|text| text.contains("\"diverged\"")).count(), 2, "a key of those that did alone");
    let text = String::from_utf8(lab.files("one/tiny").into_values().next().expect("a summary")).expect("UTF-8");
    assert!(!text.contains(lab.0.path().to_str().expect("UTF-8")) && !text.contains("seconds"), "{text}");

    let study = lab.study();
    let summaries = Summaries::read(&lab.path("one/tiny")).expect("summaries");
    let results = tabulate(&study, &summaries, Some(&Plan::new(&study).expect("a plan"))).expect("tables");
    assert_eq!(results, tabulate(&study, &summaries, None).expect("tables without data"));
    assert_eq!(results.rows.iter().map(|row| row.runs.len()).collect::<Vec<_>>(), [2, 0, 2, 2, 0]);
    assert_eq!(results.rows.iter().map(|row| row.diverged.len()).collect::<Vec<_>>(), [0, 2, 0, 0, 0]);
    let DivergedRun { seed, diverged, summary } = &results.rows[1].diverged[1];
    assert_eq!((*seed, diverged.step, results.rows[1].figures), (3, 1, None));
    assert_eq!((diverged.what.as_str(), summary.looks.len()), ("the loss is NaN", 1));
    assert_eq!((results.claims[1].verdict, results.claims[1].conditions[0].diverged), (Verdict::Undecided, 2));
    assert_eq!(results.rows[0].figures, results.rows[3].figures);
    let [ratio, alone] = &results.claims[0].conditions[..] else { panic!("two conditions") };
    assert!(ratio.estimate.is_some_and(|ratio| ratio > 1.0) && alone.interval.is_some(), "{alone:?}");
    assert_eq!(
        (results.claims[0].verdict, ratio.runs_needed),
        (Verdict::Undecided, Some(5)),
        "two runs decide nothing"
    );
    assert_eq!(results.unused, Vec::<String>::new());
}

#[test]
fn a_stopped_study_goes_on_and_repeats_nothing() {
    let lab = Lab::new(STUDY);
    let (whole, _) = lab.run(1, "whole/tiny", usize::MAX);
    fs::remove_dir_all(lab.path("out-1")).expect("removed");
    // In the middle of the second run that trains.
    let (stopped, _) = lab.run(1, "parts/tiny", 33);
    assert_eq!((stopped.finished, stopped.stopped), (2, true));
    let modified = || {
        fs::metadata(lab.path("parts/tiny").join(lab.files("parts/tiny").keys().next().expect("one/tiny")))
            .expect("there")
    };
    let before = modified().modified().expect("a time");
    let (rest, begun) = lab.run(1, "parts/tiny", usize::MAX);
    assert_eq!((rest.found, rest.finished, rest.stopped), (3, 4, false), "a finished run is of two rows");
    assert!(!begun.contains(&"plain-0".to_owned()), "{begun:?}");
    assert_eq!(rest.failures, whole.failures);
    assert!(lab.files("whole/tiny") == lab.files("parts/tiny"));
    assert_eq!(modified().modified().expect("a time"), before);
    let (again, begun) = lab.run(1, "parts/tiny", usize::MAX);
    assert_eq!((again.found, again.finished), (8, 0));
    assert_eq!(begun, ["odd-0", "odd-3"], "what diverged is not trained for ever");
    // A run that was finished, but whose summary is gone, is not trained again either.
    let kept = lab.files("parts/tiny");
    fs::remove_dir_all(lab.path("parts/tiny")).expect("removed");
    assert_eq!(lab.run(1, "parts/tiny", usize::MAX).0.finished, 6);
    assert!(kept == lab.files("parts/tiny"));
}

#[test]
fn what_another_study_has_finished_is_not_run_again() {
    let lab = Lab::new(STUDY);
    lab.run(1, "all/first", usize::MAX);
    fs::remove_dir_all(lab.path("out-1")).expect("removed");
    let (outcome, _) = lab.run(1, "all/second", usize::MAX);
    assert_eq!(outcome.finished, 6);
    assert!(!lab.path("out-1/runs").exists());
    assert!(lab.files("all/first") == lab.files("all/second"));
}

#[test]
fn what_belongs_to_no_run_is_named() {
    let lab = Lab::new(STUDY);
    lab.run(2, "kept/tiny", usize::MAX);
    fs::write(lab.path("studies/tiny.toml"), STUDY.replace("\"sandwich\"", "\"output\"")).expect("written");
    fs::write(lab.path("kept/tiny/0.json"), "{").expect("written");
    let summaries = Summaries::read(&lab.path("kept/tiny")).expect("summaries");
    let results = tabulate(&lab.study(), &summaries, None).expect("tables");
    assert_eq!(results.rows.iter().map(|row| row.runs.len()).collect::<Vec<_>>(), [2, 0, 0, 2, 0]);
    assert_eq!(results.unused.len(), 2, "{:?}", results.unused);
    assert!(matches!(summaries.damaged(), [(name, reason)] if name == "0.json" && reason.contains("EOF")));
    assert_eq!(results.claims[0].verdict, Verdict::Undecided);
    assert_eq!(results.claims[0].conditions[0].seeds, 0);
}

#[test]
fn slices_are_of_rows_and_seeds_that_there_are() {
    let study = Lab::new(STUDY).study();
    let plan = Plan::new(&study).expect("a plan");
    let select = |rows: &[&str], seeds: &[u64]| {
        let rows = rows.iter().map(|row| (*row).to_owned()).collect();
        plan.select(&study, &Selection { rows, seeds: seeds.to_vec() }).map_err(|error| error.to_string())
    };
    assert_eq!(select(&[], &[]).expect("all").runs.len(), 10);
    let slugs = |plan: Plan| plan.runs.into_iter().map(|run| run.slug).collect::<Vec<_>>();
    assert_eq!(slugs(select(&["odd", "plain"], &[3]).expect("two/tiny")), ["plain-3", "odd-3"]);
    assert_eq!(select(&["plane"], &[]).expect_err("refused"), "there is no row \"plane\": did you mean plain?");
    assert_eq!(select(&[], &[1]).expect_err("refused"), "there is no seed 1: the seeds are [0, 3]");
}

#[test]
fn files_that_are_wrong_are_refused_with_what_would_be_right() {
    for (from, to, message) in [
        (
            "seeds = [0, 3]",
            "seedz = [0, 3]",
            "/studies/tiny.toml: line 4: seedz is no key of a study: did you mean seeds?",
        ),
        ("seeds = [0, 3]", "seeds = []", "/studies/tiny.toml: a study has at least one row and one seed"),
        ("seeds = [0, 3]", "seeds = [3, 3]", "/studies/tiny.toml: seeds: 3 is there twice"),
        (
            "model.placement = \"sandwich\"",
            "model.placemend = \"sandwich\"",
            "/studies/tiny.toml: row \"Sandwich, all\": model.placemend is no key of a recipe: did you mean \
             model.placement?",
        ),
        (
            "model.placement = \"sandwich\"",
            "model.placement = \"sandwhich\"",
            "/studies/tiny.toml: row \"Sandwich, all\": model.placement cannot be sandwhich: did you mean sandwich?",
        ),
        (
            "model.placement = \"sandwich\"",
            "seed = 5",
            "/studies/tiny.toml: row \"Sandwich, all\": change.seed changes nothing; list it in seeds",
        ),
        (
            "name = \"plain again\"",
            "name = \"plain,\"",
            "/studies/tiny.toml: two rows have a name that is plain as a file's; name one otherwise",
        ),
        (
            "name = \"plain again\"",
            "name = \"again\"\nbaseline = true",
            "/studies/tiny.toml: two rows are the baseline; mark one",
        ),
        (
            "against = \"plain\"",
            "against = \"plian\"",
            "/studies/tiny.toml: claim \"A sandwich has no larger spike\": there is no row \"plian\": did you mean \
             plain?",
        ),
        (
            ", statistic = \"ratio\"",
            "",
            "/studies/tiny.toml: claim \"A sandwich has no larger spike\": say by which statistic the rows are compared, \
             ratio or difference",
        ),
        (
            "measure = \"spike\"",
            "measure = \"spikes\"",
            "/studies/tiny.toml: line 22: claim[0].conditions[0].measure cannot be spikes: did you mean spike?",
        ),
    ] {
        assert!(STUDY.contains(from), "{from}");
        assert_eq!(Lab::new(&STUDY.replacen(from, to, 1)).refusal(), message, "{to}");
    }
    let missing = Lab::new(&STUDY.replace("../base.toml", "../bass.toml")).refusal();
    assert!(missing.contains("bass.toml: is no recipe that can be read"), "{missing}");
}

#[test]
fn the_studies_are_studies_of_models_and_the_paper_agrees_with_its_claims() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../studies");
    let mut tables = Vec::new();
    for entry in fs::read_dir(directory).expect("studies") {
        let path = entry.expect("an entry").path();
        let study = Study::read(&path).expect("a study");
        tables.extend(study.table.clone());
        assert_eq!(study.rows.iter().filter(|row| row.baseline).count(), 1, "{}", study.name);
        for (index, row) in study.rows.iter().enumerate() {
            // As many tokens as the prepared text of the base recipe.
            let architecture = row.recipe.architecture(2048);
            assert!(architecture.is_ok(), "{}, {}: {architecture:?}", study.name, row.name);
            let twin = study.rows[..index].iter().find(|other| other.recipe == row.recipe);
            assert!(twin.is_none(), "{}: {} changes nothing in {twin:?}", study.name, row.name);
        }
        for claim in &study.claims {
            for condition in &claim.conditions {
                let paper = |name: &String| study.rows[study.row(name).expect("a row")].paper.of(condition.measure);
                let other = condition.against.as_ref().map(paper);
                let figure = match (paper(&condition.row), other, condition.statistic) {
                    (Some(value), Some(Some(other)), Some(Statistic::Ratio)) => value / other,
                    (Some(value), Some(Some(other)), Some(Statistic::Difference)) => value - other,
                    (Some(value), None, None) => value,
                    _ => continue,
                };
                let holds = condition.below.is_none_or(|bound| figure < bound)
                    && condition.above.is_none_or(|bound| figure > bound);
                assert!(holds, "{}: {}: {condition:?}: {figure}", study.name, claim.text);
            }
        }
    }
    tables.sort();
    assert_eq!(tables, ["Table 3", "Table 4", "Table 5", "Table 6", "Table 7", "Table 8"]);
}
