//! What is said of a study.

use sinkscope_lab::study::results::RowResult;
use sinkscope_lab::study::{Measure, StudyResults};

use super::shown;
use crate::ReportError;
use crate::figures::study;
use crate::number::value;
use crate::page::document::{Block, Listing, Section};
use crate::page::sentences;
use crate::study_tables::study_tables;
use crate::terminal::study as words;

/// Its table, its plots, and its claims with their verdicts; anchors under a prefix.
///
/// # Errors
/// [`ReportError::Table`] if its results contradict each other.
pub fn section(results: &StudyResults, prefix: &str) -> Result<Section, ReportError> {
    let mut section = Section { is_part: true, ..Section::new(format!("{prefix}study"), words::subject(results)) };
    let blocks = &mut section.blocks;
    blocks.push(Block::Findings(sentences::of_study(results, prefix)));
    blocks.push(Block::Table(rows_of_study(results)));
    if results.rows.iter().any(|row| !row.runs.is_empty()) {
        let tables = study_tables(results)?;
        blocks.push(shown(study::rows(results, &tables)?, prefix));
        blocks.push(shown(study::emergence(results, &tables)?, prefix));
    }
    if !results.claims.is_empty() {
        let rows = results.claims.iter().flat_map(|claim| {
            let line = |verdict, text: String| vec![words::verdict(verdict).to_owned(), text];
            let conditions = claim
                .conditions
                .iter()
                .map(move |tested| line(tested.verdict, format!("– {}", words::condition(tested, str::to_owned))));
            std::iter::once(line(claim.verdict, claim.text.clone())).chain(conditions)
        });
        blocks.push(Block::Table(Listing {
            caption: "Claims, each with its conditions".into(),
            headings: ["verdict", "claim"].map(String::from).into(),
            rows: rows.collect(),
        }));
        blocks.push(Block::Words(words::TEST.into()));
    }
    Ok(section)
}

fn rows_of_study(results: &StudyResults) -> Listing {
    let mut headings: Vec<String> =
        ["row", "perplexity", "sinks, %", "mean max alpha", "spike", "over typical", "seeds"].map(String::from).into();
    let of_paper = words::is_of_paper(results);
    if of_paper {
        headings.extend(["paper: perplexity", "paper: sinks, %", "paper: spike"].map(String::from));
    }
    let row = |row: &RowResult| {
        let words::Cells { perplexity, sinks, mean_max_alpha, spike, over_typical, seeds, paper } =
            words::Cells::of(row, results.seeds.len());
        let name = row.name.clone() + if row.baseline { " (baseline)" } else { "" };
        let within = |cell: String, measure| {
            let interval = row.interval(measure);
            cell + &interval.map_or_else(String::new, |[low, high]| format!(" ({} to {})", value(low), value(high)))
        };
        let (perplexity, sinks) = (within(perplexity, Measure::Perplexity), within(sinks, Measure::SinkPercent));
        let (mean_max_alpha, spike) = (within(mean_max_alpha, Measure::MeanMaxAlpha), within(spike, Measure::Spike));
        let mut cells = vec![name, perplexity, sinks, mean_max_alpha, spike, over_typical, seeds];
        if of_paper {
            cells.extend(paper);
        }
        cells
    };
    Listing {
        caption: format!(
            "{}, with the 95 % t interval of the mean{}",
            words::CAPTION,
            if of_paper { ", beside the paper's 7B models" } else { "" }
        ),
        headings,
        rows: results.rows.iter().map(row).collect(),
    }
}
