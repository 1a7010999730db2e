//! Results as Markdown, for a page such as RESULTS.md.

use sinkscope_lab::study::StudyResults;

use crate::terminal::study::{CAPTION, TEST, cells, condition, headings, is_of_paper, subject, verdict};
use crate::text::wrap;

/// Columns of a paragraph.
const WIDTH: usize = 120;

/// The table of a study and its claims. Ends in a newline.
pub fn study(results: &StudyResults) -> String {
    let subject = cell(&subject(results));
    if results.rows.iter().all(|row| row.runs.is_empty() && row.diverged.is_empty()) {
        return format!("**{subject}**: no run is finished yet.\n");
    }
    let beside = if is_of_paper(results) { ", beside the paper's 7B models" } else { "" };
    let headings = headings(results, ["paper: ", "", ""]);
    let (names, columns) = (headings.join(" | "), "---:|".repeat(headings.len() - 1));
    let mut text = format!("**{subject}**: {CAPTION}{beside}.\n\n| {names} |\n|---|{columns}\n");
    for row in &results.rows {
        let name = if row.baseline { format!("**{}**", cell(&row.name)) } else { cell(&row.name) };
        text += &("| ".to_owned() + &cells(name, row, results).join(" | ") + " |\n");
    }
    if results.claims.is_empty() {
        return text;
    }
    let claims = results.claims.iter().flat_map(|claim| {
        let conditions = claim.conditions.iter().map(|tested| {
            format!("  - {}: {}", verdict(tested.verdict), condition(tested, |name| format!("`{name}`")))
        });
        std::iter::once(format!("- **{}**: {}", verdict(claim.verdict), claim.text)).chain(conditions)
    });
    text + "\n" + &claims.collect::<Vec<_>>().join("\n") + "\n\n" + &wrap(TEST, WIDTH)
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
