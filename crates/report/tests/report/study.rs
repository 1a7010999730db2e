//! The blocks of RESULTS.md that studies make, and a study as text.

use std::fs;
use std::path::Path;

use sinkscope_lab::study::{Study, Summaries, tabulate};
use sinkscope_report::markdown;

/// Set to write the blocks anew.
const RENEW: &str = "RENEW_RESULTS";
const END: &str = "<!-- end -->\n";

/// The page with what `render` makes of every name between its marks.
fn renewed(page: &str, render: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("<!-- study: ") {
        let (name, after) = after.split_once(" -->\n").expect("a mark that is closed");
        let (_, after) = after.split_once(END).unwrap_or_else(|| panic!("the block of {name} does not end"));
        text += &format!("{before}<!-- study: {name} -->\n\n{}\n{END}", render(name));
        rest = after;
    }
    text + rest
}

#[test]
fn the_page_of_results_says_what_the_summaries_say() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(home.join("RESULTS.md")).expect("RESULTS.md");
    let renewed = renewed(&page, |name| {
        let study = Study::read(&home.join(format!("studies/{name}.toml"))).expect("a study");
        let summaries = Summaries::read(&study.results).expect("summaries");
        markdown::study(&tabulate(&study, &summaries, None).expect("tables"))
    });
    if std::env::var_os(RENEW).is_some() {
        fs::write(home.join("RESULTS.md"), renewed).expect("written");
        return;
    }
    let different = renewed.lines().zip(page.lines()).find(|(new, old)| new != old);
    assert!(
        renewed == page,
        "RESULTS.md differs from results/ in {different:?}; {RENEW}=1 cargo test -p sinkscope-report results writes it anew"
    );
}

#[test]
fn blocks_are_renewed_and_nothing_else() {
    let page = "a\n<!-- study: x -->\nold\n<!-- end -->\nb\n<!-- study: y -->\n<!-- end -->\nc\n";
    let expected = "a\n<!-- study: x -->\n\nof x\n\n<!-- end -->\nb\n<!-- study: y -->\n\nof y\n\n<!-- end -->\nc\n";
    let render = |name: &str| format!("of {name}\n");
    assert_eq!(renewed(page, render), expected);
    assert_eq!(renewed(expected, render), expected);
}
