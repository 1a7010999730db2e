//! A study as text.

use std::path::Path;

use sinkscope_lab::measure::Measure;
use sinkscope_lab::recipe::Recipe;
use sinkscope_lab::recipe_file;
use sinkscope_lab::study::claim::{ClaimResult, Condition, Statistic, Test, Tested};
use sinkscope_lab::study::file::Row;
use sinkscope_lab::study::results::{RowResult, StudyResults};
use sinkscope_lab::study::summary::ShortLook;
use sinkscope_lab::study::{NUMERICS_VERSION, Summary, Verdict};
use sinkscope_lab::trainer::{Diverged, Look, Record, Timing};
use sinkscope_lab::watch::Watched;
use sinkscope_report::study_tables::study_tables;
use sinkscope_report::terminal::Style;
use sinkscope_report::{markdown, terminal};
use unicode_width::UnicodeWidthStr;

fn recipe() -> Recipe {
    let text = "model = { layers = 1, d_model = 16, heads = 2 }\ndata = { source = \"bigram-backcopy\" }\n\
                training = { steps = 20, sequences = 4, seq_len = 12 }\n";
    recipe_file::parse(text, Path::new("r.toml")).expect("a recipe")
}

/// What a look shows.
fn record(perplexity: f64, sink_ratio: f64, spike: f64) -> Record {
    Record {
        tokens: 960,
        loss: Some(2.5),
        gradient_norm: Some(1.0),
        learning_rate: Some(1e-4),
        watched: Watched {
            nll: f64::ln(perplexity),
            perplexity,
            spike,
            spike_at: None,
            spike_over_typical: Some(spike / 2.0),
            stage: None,
            sink_ratio,
            sink_ratio_gu: None,
            mean_max_alpha: 0.3 + sink_ratio / 10.0,
            sink_ratio_by_layer: vec![sink_ratio],
            largest_by_block: vec![0.5, spike / 2.0, spike],
            typical_by_block: vec![0.5, 1.0, 2.0],
            frobenius: Vec::new(),
            detail: None,
        },
    }
}

/// A look at a run that does well.
pub fn look(step: u64) -> Look {
    let gained = step as f64 / 100.0;
    let record = Record { tokens: 48 * step, ..record(50.0 / (1.0 + gained), 0.1 * gained, 10.0 + 100.0 * gained) };
    Look { step, record, timing: Timing { tokens_per_second: Some(1000.0), seconds: gained } }
}

/// A row whose runs came to these perplexities, shares of sinks and spikes, seed by seed.
fn row(name: &str, runs: &[(f64, f64, f64)], paper: (f64, f64, f64)) -> RowResult {
    let summary = |&(perplexity, sink_ratio, spike): &(f64, f64, f64)| Summary {
        numerics: NUMERICS_VERSION,
        variants: std::collections::BTreeMap::new(),
        study: "sample".into(),
        row: name.into(),
        seed: 0,
        recipe: recipe(),
        data: "ab".into(),
        parameters: 4096,
        tokens: 960,
        last: record(perplexity, sink_ratio, spike),
        looks: [10, 20].map(|step| ShortLook::from(&look(step))).into(),
        // A perplexity of 0 stands for none.
        diverged: (perplexity == 0.0).then(|| Diverged { step: 20, what: "the loss is NaN".into() }),
    };
    let (perplexity, sink_percent, spike) = paper;
    let known = perplexity > 0.0;
    let row = Row {
        name: name.into(),
        slug: String::new(),
        baseline: name == "pre-norm",
        seeds: vec![0, 1, 2],
        paper: sinkscope_lab::study::file::Paper {
            perplexity: known.then_some(perplexity),
            sink_percent: known.then_some(sink_percent),
            spike: known.then_some(spike),
        },
        recipe: recipe(),
    };
    RowResult::new(&row, (0..).zip(runs.iter().map(summary)))
}

pub fn sample() -> StudyResults {
    let tested = |against: Option<&str>, statistic, bounds: (Option<f64>, Option<f64>), interval, verdict| Tested {
        condition: Condition {
            row: "sandwich".into(),
            against: against.map(Into::into),
            measure: if statistic == Some(Statistic::Difference) { Measure::SinkPercent } else { Measure::Spike },
            statistic,
            below: bounds.0,
            above: bounds.1,
        },
        seeds: 6,
        against_seeds: against.map(|_| 10),
        diverged: 0,
        estimate: Some(0.31),
        interval,
        correlation: None,
        test: against.map(|_| Test::Welch),
        p_agrees: interval.map(|_| 0.001),
        p_disagrees: interval.map(|_| 0.999),
        runs_needed: (verdict == Verdict::Undecided).then_some(14),
        verdict,
    };
    let conditions = vec![
        tested(Some("pre-norm"), Some(Statistic::Ratio), (Some(0.5), None), Some([0.28, 0.35]), Verdict::Agrees),
        tested(Some("pre-norm"), Some(Statistic::Difference), (None, Some(-10.0)), None, Verdict::Undecided),
        tested(None, None, (None, Some(0.3)), Some([-4.0, 1234.5]), Verdict::Undecided),
    ];
    StudyResults {
        numerics: 1,
        study: "sample".into(),
        title: "Norms | and more".into(),
        table: Some("Table 5".into()),
        seeds: vec![0, 1, 2],
        rows: vec![
            row("pre-norm", &[(10.0, 0.5, 3800.0), (10.5, 0.4, 3900.0), (10.2, 0.6, 3600.0)], (10.1, 46.0, 3818.0)),
            row("sandwich", &[(9.8, 0.45, 52.0)], (9.8, 44.7, 520.0)),
            row("DynamicTanh", &[], (0.0, 0.0, 0.0)),
        ],
        claims: vec![ClaimResult {
            text: "Normalisation decouples the two".into(),
            verdict: Verdict::Undecided,
            conditions,
        }],
        unused: Vec::new(),
    }
}

#[test]
fn a_study_on_a_terminal() {
    insta::assert_snapshot!(terminal::study(&sample(), &Style::new(100, false)));
    for width in [80, 100, 120] {
        let text = terminal::study(&sample(), &Style::new(width, false));
        assert!(text.lines().all(|line| line.width() <= width), "{text}");
    }
}

#[test]
fn a_study_as_markdown() {
    insta::assert_snapshot!(markdown::study(&sample()));
    let unfinished = StudyResults { rows: vec![row("a", &[], (1.0, 1.0, 1.0))], ..sample() };
    assert_eq!(markdown::study(&unfinished), "**Norms \\| and more (Table 5)**: no run is finished yet.\n");
}

#[test]
fn runs_that_diverged_are_counted_and_in_no_mean() {
    const WILD: (f64, f64, f64) = (0.0, 0.9, 1e9);
    let rows = vec![
        row("often", &[WILD, WILD, WILD], (0.0, 0.0, 0.0)),
        row("once", &[(10.0, 0.5, 40.0), WILD, (12.0, 0.5, 40.0)], (0.0, 0.0, 0.0)),
        row("unfinished", &[(10.0, 0.5, 40.0), WILD], (0.0, 0.0, 0.0)),
    ];
    let mut study = StudyResults { rows, ..sample() };
    study.claims[0].conditions[0].diverged = 1;
    let markdown = markdown::study(&study);
    for line in [
        "| often |  |  |  |  |  |  | 3 of 3 diverged |",
        "| once | 11.00 ± 1.41 | 50.0 ± 0.0 | 0.350 ± 0.000 | 40.00 ± 0.00 | 20.00 ± 0.00 | 1.00 ± 0.00 | 1 of 3 diverged |",
        "claimed below 0.5; 6 and 10 runs, without 1 that diverged",
    ] {
        assert!(markdown.contains(line), "{markdown}");
    }
    assert!(markdown.contains("| 1 of 3, 1 diverged |"), "{markdown}");
    let table = &study_tables(&study).expect("tables")[0];
    let csv = String::from_utf8(table.to_csv().expect("CSV")).expect("UTF-8");
    assert!(csv.contains("once,false,2,1,"), "{csv}");
}

#[test]
fn a_study_as_tables() {
    let tables = study_tables(&sample()).expect("tables");
    let csv = tables.iter().map(|table| String::from_utf8(table.to_csv().expect("CSV")).expect("UTF-8"));
    insta::assert_snapshot!(csv.collect::<Vec<_>>().join("\n"));
}
