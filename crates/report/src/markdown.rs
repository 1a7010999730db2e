//! Results as Markdown, for a page such as RESULTS.md.

use sinkscope_lab::study::StudyResults;

use crate::terminal::study::{CAPTION, Cells, TEST, condition, is_of_paper, subject, verdict};
use crate::text::wrap;

/// Columns of a paragraph.
const WIDTH: usize = 120;

/// The table of a study and its claims. Ends in a newline.
pub fn study(results: &StudyResults) -> String {
    let subject = cell(&subject(results));
    if results.rows.iter().all(|row| row.runs.is_empty() && row.diverged.is_empty()) {
        return format!("**{subject}**: no run is finished yet.\n");
    }
    let is_of_paper = is_of_paper(results);
    let (beside, headings, columns) = if is_of_paper {
        (", beside the paper's 7B models", " paper: perplexity | sinks, % | spike |", 9)
    } else {
        ("", "", 6)
    };
    let mut text = format!(
        "**{subject}**: {CAPTION}{beside}.\n\n\
         | row | perplexity | sinks, % | mean max alpha | spike | over typical | seeds |{headings}\n\
         |---|{}\n",
        "---:|".repeat(columns)
    );
    for row in &results.rows {
        let Cells { perplexity, sinks, mean_max_alpha, spike, over_typical, seeds, paper } =
            Cells::of(row, results.seeds.len());
        let name = if row.baseline { format!("**{}**", cell(&row.name)) } else { cell(&row.name) };
        let mut cells = vec![name, perplexity, sinks, mean_max_alpha, spike, over_typical, seeds];
        if is_of_paper {
            cells.extend(paper);
        }
        text += &("| ".to_owned() + &cells.join(" | ") + " |\n");
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
