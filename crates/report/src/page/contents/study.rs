//! What is said of a study.

use sinkscope_lab::measure::Unit;
use sinkscope_lab::study::StudyResults;
use sinkscope_lab::study::results::RowResult;

use super::shown;
use crate::ReportError;
use crate::figures::study;
use crate::number::value;
use crate::page::document::{Block, Listing, Section};
use crate::page::sentences;
use crate::study_tables::study_tables;
use crate::terminal::study as words;

/// Its table, its plots, and its claims with their verdicts; anchors under a prefix.
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
    let row = |row: &RowResult| {
        let mut cells = words::cells(row.name.clone() + if row.baseline { " (baseline)" } else { "" }, row, results);
        // An interval of what is a ratio already would say little.
        for (cell, about) in
            cells[1..].iter_mut().zip(words::shown(results)).filter(|(_, about)| about.unit != Unit::Times)
        {
            if let Some([low, high]) = row.interval(about.measure) {
                *cell = format!("{cell} ({} to {})", value(low), value(high));
            }
        }
        cells
    };
    Listing {
        caption: format!(
            "{}, with the 95 % t interval of the mean{}",
            words::CAPTION,
            if words::is_of_paper(results) { ", beside the paper's 7B models" } else { "" }
        ),
        headings: words::headings(results, ["paper: "; 3]),
        rows: results.rows.iter().map(row).collect(),
    }
}
