//! RESULTS.md is `docs/RESULTS.md.jinja` with the figures of `results/`: none of them is typed.

use std::fs;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde::Deserialize;
use sinkscope_lab::measure::Measure;
use sinkscope_lab::study::claim::{ClaimResult, Tested};
use sinkscope_lab::study::results::{RowResult, StudyResults};
use sinkscope_lab::study::statistics::correlation;
use sinkscope_lab::study::{Study, Summaries, TEST, Verdict, tabulate};
use sinkscope_report::figure::drawing;
use sinkscope_report::figures::study::emergence;
use sinkscope_report::markdown;
use sinkscope_report::study_tables::study_tables;

/// Set to write the page and its plots anew.
const RENEW: &str = "RENEW_RESULTS";

fn renew() -> bool {
    std::env::var_os(RENEW).is_some()
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a committed file must be, written if it is to be written anew.
fn hold(place: &str, text: &str) {
    let file = home().join(place);
    if renew() {
        fs::write(&file, text).expect("written");
    }
    let old = fs::read_to_string(&file).expect("a file");
    let different = text.lines().zip(old.lines()).find(|(new, old)| new != old);
    assert!(
        text == old,
        "{place} differs from results/ in {different:?}; to write it anew:\n{RENEW}=1 cargo test -p sinkscope-report --features figures results"
    );
}

fn tables(name: &str) -> Result<StudyResults, Error> {
    let failed = |error: sinkscope_lab::LabError| Error::new(ErrorKind::InvalidOperation, error.to_string());
    let study = Study::read(&home().join(format!("studies/{name}.toml"))).map_err(failed)?;
    let summaries = Summaries::read(&home().join("results").join(name)).map_err(failed)?;
    tabulate(&study, &summaries, None).map_err(failed)
}

/// A study's table, claims and plot.
fn study(name: &str) -> Result<String, Error> {
    let results = tables(name)?;
    let text = markdown::study(&results);
    if results.rows.iter().all(|row| row.runs.is_empty()) {
        return Ok(text.trim_end().to_owned());
    }
    let figure = emergence(&results, &study_tables(&results).expect("tables")).expect("a figure");
    let place = format!("docs/{name}-over-training.svg");
    if drawing::ready().is_ok() {
        hold(&place, &drawing::svg(&figure).expect("a drawing"));
    }
    Ok(format!("{text}\n![{}: loss, sinks and largest activation over training]({place})", results.title))
}

/// The rows of a study by name, each as in `study.json`.
fn rows(study: &str) -> Result<Value, Error> {
    let rows = tables(study)?.rows;
    Ok(Value::from_pairs(rows.into_iter().map(|row| (row.name.clone(), Value::from(Serde(row))))))
}

/// The claims of a study by their texts, each as in `study.json`.
fn claims(study: &str) -> Result<Value, Error> {
    let claims = tables(study)?.claims;
    Ok(Value::from_pairs(claims.into_iter().map(|claim| (claim.text.clone(), Value::from(Serde(claim))))))
}

/// The condition on which a claim's verdict hangs, with its measure in words: the one that contradicts it most surely, or the one
/// that is least sure.
fn deciding(claim: Value) -> Result<Value, Error> {
    let claim = ClaimResult::deserialize(claim)?;
    let p = |tested: &&Tested| match claim.verdict {
        Verdict::Disagrees => -tested.p_disagrees.unwrap_or(1.0),
        _ => tested.p_agrees.unwrap_or(1.0),
    };
    let needed = |tested: &&Tested| tested.runs_needed.unwrap_or(usize::MAX);
    let last = |a: &&Tested, b: &&Tested| p(a).total_cmp(&p(b)).then(needed(a).cmp(&needed(b)));
    // Of equals the first.
    let found = claim.conditions.iter().rev().max_by(last);
    let found = found.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "a claim without conditions"))?;
    let words = found.condition.measure.about().words;
    let fields =
        serde_json::to_value(found).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let fields =
        fields.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), Value::from(Serde(value.clone()))));
    Ok(Value::from_pairs(fields.chain([("words".to_owned(), Value::from(words))])))
}

/// Spearman's rank correlation of two measures over the means of a study's rows.
fn rank_correlation(study: &str, one: Value, other: Value) -> Result<f64, Error> {
    let (one, other) = (Measure::deserialize(one)?, Measure::deserialize(other)?);
    let rows = tables(study)?.rows;
    let means = |measure| {
        let of = |row: &RowResult| Some(row.figures?.of(measure)?.mean);
        rows.iter().filter_map(of).collect::<Vec<f64>>()
    };
    let ranks =
        |values: &[f64]| values.iter().map(|a| values.iter().filter(|b| *b < a).count() as f64).collect::<Vec<_>>();
    let pairs: Vec<(f64, f64)> = ranks(&means(one)).into_iter().zip(ranks(&means(other))).collect();
    correlation(&pairs).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "rows that do not differ"))
}

/// Blocks in a row, the embedding apart, whose largest magnitudes differ by a tenth at most: the longest such row.
fn plateau(largest: Value) -> Result<usize, Error> {
    let largest = Vec::<f64>::deserialize(largest)?;
    let blocks = &largest[1.min(largest.len())..];
    let is_flat = |of: &[f64]| {
        let (least, most) = of.iter().fold((f64::MAX, 0.0_f64), |(least, most), &of| (least.min(of), most.max(of)));
        most <= 1.1 * least
    };
    let from = |first: usize| (first + 1..=blocks.len()).take_while(|&end| is_flat(&blocks[first..end])).count();
    Ok((0..blocks.len()).map(from).max().unwrap_or(0))
}

/// In a few digits.
fn short(value: f64) -> String {
    figure(value, Some(if value.abs() < 10.0 { 2 } else { 1 }))
}

/// With so many decimals, and thousands separated.
fn figure(value: f64, decimals: Option<usize>) -> String {
    let text = format!("{:.*}", decimals.unwrap_or(0), value.abs());
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |(w, r)| (w, format!(".{r}")));
    let groups: Vec<&str> =
        whole.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).expect("digits")).collect();
    let sign = if value < 0.0 && text.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) { "-" } else { "" };
    format!("{sign}{}{rest}", groups.join(","))
}

/// The same with its sign, whichever it is.
fn signed(value: f64, decimals: Option<usize>) -> String {
    let text = figure(value, decimals);
    if text.starts_with('-') { text } else { format!("+{text}") }
}

/// A share of one in percent, without the mark.
fn percent(share: f64, decimals: Option<usize>) -> String {
    figure(100.0 * share, decimals)
}

/// What the sentence beside it says in words must hold.
fn check(holds: bool) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::InvalidOperation, "what the page says here does not hold")) }
}

fn render(template: &str, context: Value) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
        .set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()?);
    environment.add_function("study", study);
    environment.add_function("rows", rows);
    environment.add_function("claims", claims);
    environment.add_function("deciding", deciding);
    environment.add_function("rank_correlation", rank_correlation);
    environment.add_filter("plateau", plateau);
    environment.add_filter("short", short);
    environment.add_global("test_of_claims", TEST);
    environment.add_function("check", check);
    environment.add_filter("figure", figure);
    environment.add_filter("signed", signed);
    environment.add_filter("percent", percent);
    environment.render_str(template, context)
}

#[test]
fn the_page_of_results_says_what_the_summaries_say() {
    if let Err(missing) = drawing::ready() {
        eprintln!("plots: skipped: {missing}");
    }
    let template = fs::read_to_string(home().join("docs/RESULTS.md.jinja")).expect("a template");
    let smollm2 = fs::read_to_string(home().join("results/smollm2.json")).expect("figures");
    let smollm2: serde_json::Value = serde_json::from_str(&smollm2).expect("JSON");
    let page = render(&template, context! { smollm2 => Value::from(Serde(&smollm2)) });
    hold("RESULTS.md", &page.unwrap_or_else(|error| panic!("docs/RESULTS.md.jinja: {error:#}")));
}

#[test]
fn what_does_not_hold_is_not_written() {
    let of = |template: &str| render(template, context! { x => 1234.5 });
    let page = of("{% do check(x > 1000) %}\n{{ x|figure }} {{ -x|figure(2) }} {{ x|signed(1) }} {{ 0.5|percent }}");
    assert_eq!(page.expect("a page"), "1,234 -1,234.50 +1,234.5 50");
    assert!(of("{% do check(x > 2000) %}").is_err());
    assert!(of("{{ y }}").is_err());
    assert!(of("{{ rows('decoupling')['no such row'].figures }}").is_err());
}
