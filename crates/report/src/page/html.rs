//! A document as HTML.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Map, Value, json};

use super::document::{Block, Document, Finding, HeadCards, Listing, Section};
use super::interactive;
use super::token_text::TokenText;
use crate::ReportError;
use crate::envelope::VERSION;
use crate::figure::Figure;
use crate::text::escape_control;

const STYLE: &str = include_str!("page.css");
const PROGRAM: &str = include_str!("page.js");
/// The program of Plotly, as gzip: less than a third as long.
const PLOTLY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plotly.js.gz"));

/// What a browser may do with the page: nothing but run it.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:";

pub fn page(document: &Document) -> Result<String, ReportError> {
    let data = data(document)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="color-scheme" content="light dark";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content={ "sinkscope " (VERSION) };
                title { (escape_control(&document.title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header {
                    h1 { (escape_control(&document.title)) }
                    button #theme type="button" { "Dark or light" }
                }
                nav aria-label="Contents" {
                    ol {
                        @for section in &document.sections {
                            li.part[section.is_part] { a href={ "#" (section.id) } { (escape_control(&section.heading)) } }
                        }
                        li { a href="#definitions" { "Definitions" } }
                    }
                }
                main #content {
                    @for section in &document.sections { (part(section)) }
                    section #definitions {
                        h2 { "Definitions" }
                        details {
                            summary { "What every number means" }
                            dl {
                                @for (name, texts) in &document.definitions {
                                    dt { (name) }
                                    @for text in texts { dd { (escape_control(text)) } }
                                }
                            }
                        }
                    }
                }
                footer { p { "Made by sinkscope " (VERSION) "." } }
                noscript { p { "Figures and numbers need JavaScript, which this page runs without asking the network for anything." } }
                script #data type="application/json" { (PreEscaped(data)) }
                script #plotly type="text/plain" { (STANDARD.encode(PLOTLY)) }
                script { (PreEscaped(PROGRAM)) }
            }
        }
    };
    Ok(page.into_string())
}

/// What the page's program reads.
fn data(document: &Document) -> Result<String, ReportError> {
    let figures: Map<String, Value> =
        document.figures().map(|figure| (figure.id.clone(), interactive::figure(figure))).collect();
    let blocks = || document.sections.iter().flat_map(|section| &section.blocks);
    let texts: Vec<&TokenText> =
        blocks().filter_map(|block| if let Block::Text(text) = block { Some(text) } else { None }).collect();
    let heads: Vec<&HeadCards> =
        blocks().filter_map(|block| if let Block::Heads(heads) = block { Some(heads) } else { None }).collect();
    let data = json!({ "figures": figures, "texts": texts, "heads": heads });
    let text = serde_json::to_string(&data)
        .map_err(|source| ReportError::Json { name: super::PAGE_FILE.to_owned(), source })?;
    // Nothing in it may end the script, or begin a comment.
    Ok(text.replace('<', "\\u003c"))
}

fn part(section: &Section) -> Markup {
    html! {
        section.part[section.is_part] id=(section.id) {
            @if section.is_part { h2 { (escape_control(&section.heading)) } } @else { h3 { (escape_control(&section.heading)) } }
            @for block in &section.blocks {
                @match block {
                    Block::Words(words) => p { (escape_control(words)) },
                    Block::Findings(all) => (findings(all)),
                    Block::Figure(shown) => (figure(shown)),
                    Block::Heads(cards) => (heads(cards)),
                    Block::Text(text) => (token_text(text)),
                    Block::Table(listing) => (table(listing)),
                    Block::Facts(facts) => dl.facts {
                        @for (name, value) in facts { div { dt { (name) } dd { (escape_control(value)) } } }
                    },
                }
            }
        }
    }
}

fn findings(all: &[Finding]) -> Markup {
    html! {
        ol.findings {
            @for (index, finding) in all.iter().enumerate() {
                li id={ (finding.place) "-said-" (index) } {
                    (escape_control(&finding.text)) " "
                    a href={ "#" (finding.place) } aria-label={ "Show where: sentence " (index + 1) } { "↓" }
                }
            }
        }
    }
}

fn figure(figure: &Figure) -> Markup {
    html! {
        div.figure #(figure.id) {
            h4 { (escape_control(&figure.title)) @if let Some(paper) = &figure.paper { " " small { (paper) } } }
            figure { div.panels role="img" aria-label=(escape_control(&figure.alt)) {
                @for (index, panel) in figure.panels.iter().enumerate() {
                    div.panel {
                        @if !panel.title.is_empty() { p.title { (escape_control(&panel.title)) } }
                        div.plot data-figure=(figure.id) data-panel=(index) {}
                    }
                }
            }
            figcaption { (escape_control(&figure.caption)) " " strong { (escape_control(&figure.alt)) } } }
            details data-table=(figure.id) {
                summary aria-label={ "Numbers of: " (escape_control(&figure.title)) } { "Numbers" }
                button.csv type="button" data-figure=(figure.id) aria-label={ "Download as CSV: " (escape_control(&figure.title)) } {
                    "Download as CSV"
                }
                button.svg type="button" data-figure=(figure.id) aria-label={ "Download as SVG: " (escape_control(&figure.title)) } {
                    "Download as SVG"
                }
                div.table tabindex="0" role="region" aria-label={ "Numbers of: " (escape_control(&figure.title)) } {}
            }
        }
    }
}

/// Labels of a choice of layer and head.
fn pickers(layers: usize, heads: usize) -> Markup {
    let options = |count: usize| {
        html! { @for index in 0..count { option value=(index) { (index) } } }
    };
    html! {
        label { "Layer " select.layer { (options(layers)) } }
        label { "Head " select.head { (options(heads)) } }
    }
}

fn heads(cards: &HeadCards) -> Markup {
    let width = cards.cards.iter().map(Vec::len).max().unwrap_or(0);
    html! {
        div.heads id=(cards.id) {
            p.pick { (pickers(cards.cards.len(), width)) span.hint { "or click a cell above" } }
            dl.facts aria-live="polite" {}
            @if !cards.text.is_empty() {
                div.received role="img" aria-label="Attention that a key receives in this head, by its position" {}
            }
        }
    }
}

fn token_text(text: &TokenText) -> Markup {
    html! {
        div.token-text id=(text.id) {
            p.pick {
                label { input type="radio" name={ (text.id) "-by" } value="largest" checked; " by largest activation" }
                label { input type="radio" name={ (text.id) "-by" } value="received"; " by attention received" }
                (pickers(text.layers, text.heads))
            }
            p.scale aria-hidden="true" { span.low {} span.bar {} span.high {} }
            div.tokens tabindex="0" role="group" aria-label="Tokens; arrow keys, Home and End move from one to the next" {}
            p.about aria-live="polite" { "Point at a token." }
        }
    }
}

fn table(listing: &Listing) -> Markup {
    let is_number = |cell: &str| cell.starts_with(|first: char| first.is_ascii_digit() || "-+<>−".contains(first));
    html! {
        div.table tabindex="0" role="region" aria-label=(escape_control(&listing.caption)) {
            table {
                caption { (escape_control(&listing.caption)) }
                thead { tr { @for heading in &listing.headings { th scope="col" { (escape_control(heading)) } } } }
                tbody {
                    @for row in &listing.rows {
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                @if index == 0 {
                                    th.number[is_number(cell)] scope="row" { (escape_control(cell)) }
                                } @else {
                                    td.number[is_number(cell)] { (escape_control(cell)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
