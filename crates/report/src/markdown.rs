//! Results as Markdown, for a page such as RESULTS.md.

use sinkscope_lab::study::StudyResults;

use crate::terminal::study::{CAPTION, Cells, TEST, condition, subject, verdict};

/// The table of a study and its claims. Ends in a newline.
pub fn study(results: &StudyResults) -> String {
    let subject = cell(&subject(results));
    if results.rows.iter().all(|row| row.runs.is_empty()) {
        return format!("**{subject}**: no run is finished yet.\n");
    }
    let mut text = format!("**{subject}**: {CAPTION}.\n\n");
    text += "| row | perplexity | sinks, % | mean max alpha | spike | over typical | seeds | paper: perplexity | sinks, % | spike |\n";
    text += "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    for row in &results.rows {
        let Cells { perplexity, sinks, mean_max_alpha, spike, over_typical, seeds, paper } =
            Cells::of(row, results.seeds.len());
        let name = if row.baseline { format!("**{}**", cell(&row.name)) } else { cell(&row.name) };
        let [paper_perplexity, paper_sinks, paper_spike] = paper;
        let cells = [
            name,
            perplexity,
            sinks,
            mean_max_alpha,
            spike,
            over_typical,
            seeds,
            paper_perplexity,
            paper_sinks,
            paper_spike,
        ];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    if results.claims.is_empty() {
        return text;
    }
    text += "\n";
    for claim in &results.claims {
        text += &format!("- **{}**: {}\n", verdict(claim.verdict), claim.text);
        for tested in &claim.conditions {
            text += &format!("  - {}: {}\n", verdict(tested.verdict), condition(tested, |name| format!("`{name}`")));
        }
    }
    text + "\n" + TEST + "\n"
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
