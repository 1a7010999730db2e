//! The report of a hand-built examination: as text, as tables; and figures on paper.

mod drawing;
mod page;
mod results;
mod sample;
mod study;
mod tables;
mod terminal;
