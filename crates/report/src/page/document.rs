//! A page as data.

use std::collections::BTreeMap;

use serde::Serialize;

use super::token_text::TokenText;
use crate::figure::Figure;
use crate::number::CellOf;

/// A page.
#[derive(Debug)]
pub struct Document {
    /// In the title bar and on top.
    pub title: String,
    /// In reading order.
    pub sections: Vec<Section>,
    /// What the numbers mean, by name; several texts where outputs differ.
    pub definitions: BTreeMap<String, Vec<String>>,
}

/// A part of the page under a heading.
#[derive(Debug)]
pub struct Section {
    /// Its anchor.
    pub id: String,
    pub heading: String,
    /// A model or a study, under which the sections after it stand.
    pub is_part: bool,
    /// From top to bottom.
    pub blocks: Vec<Block>,
}

/// Something in a section.
#[derive(Debug)]
pub enum Block {
    /// A paragraph.
    Words(String),
    /// Sentences, each with the anchor of the place that shows more.
    Findings(Vec<Finding>),
    Figure(Box<Figure>),
    /// The card of a head that is picked, beside the figure with this anchor.
    Heads(HeadCards),
    /// A text whose tokens are shaded.
    Text(TokenText),
    Table(Listing),
    /// Names and what they stand for.
    Facts(Vec<(String, String)>),
}

/// A sentence of a summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The sentence, with its figure.
    pub text: String,
    /// The anchor of the place that shows it.
    pub place: String,
    /// Those of the highest number are left out first where there are many.
    pub expendable: u8,
}

/// A table to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// What it lists.
    pub caption: String,
    /// Above the columns.
    pub headings: Vec<String>,
    /// One cell a column; cells that begin with a digit or a sign are set to the right.
    pub rows: Vec<Vec<String>>,
}

impl Listing {
    /// A row for each of `rows`: headings of columns with what stands in them.
    pub fn of<R>(
        caption: impl Into<String>,
        rows: impl IntoIterator<Item = R>,
        columns: &[(&str, CellOf<'_, R>)],
    ) -> Self {
        Self {
            caption: caption.into(),
            headings: columns.iter().map(|(heading, _)| (*heading).to_owned()).collect(),
            rows: rows.into_iter().map(|row| columns.iter().map(|(_, cell)| cell(&row)).collect()).collect(),
        }
    }
}

/// What is known of every head.
#[derive(Debug, Serialize)]
pub struct HeadCards {
    /// Its anchor.
    pub id: String,
    /// The heat map whose cells pick a head.
    pub figure: String,
    /// The text whose shading follows; empty without one.
    pub text: String,
    /// What the numbers are.
    pub names: Vec<String>,
    /// By layer and head: the numbers, ready to be read.
    pub cards: Vec<Vec<Vec<String>>>,
}

impl Document {
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.sections.iter().flat_map(|section| &section.blocks).filter_map(|block| match block {
            Block::Figure(figure) => Some(&**figure),
            _ => None,
        })
    }
}

impl Section {
    /// One without anything in it.
    pub fn new(id: impl Into<String>, heading: impl Into<String>) -> Self {
        Self { id: id.into(), heading: heading.into(), is_part: false, blocks: Vec::new() }
    }

    /// Its own anchor and those in it.
    pub fn anchors(&self) -> impl Iterator<Item = &str> {
        let within = self.blocks.iter().filter_map(|block| match block {
            Block::Figure(figure) => Some(figure.id.as_str()),
            Block::Heads(cards) => Some(cards.id.as_str()),
            Block::Text(text) => Some(text.id.as_str()),
            _ => None,
        });
        std::iter::once(self.id.as_str()).chain(within)
    }
}
