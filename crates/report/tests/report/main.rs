//! The report of a hand-built examination: as text, as tables; and, with the feature `figures`, figures on paper.

#[cfg(feature = "figures")]
mod drawing;
mod page;
mod results;
mod sample;
mod study;
mod tables;
mod terminal;
