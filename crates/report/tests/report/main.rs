//! The report of a hand-built examination: as text, as tables.

mod page;
mod sample;
mod study;
mod tables;
mod terminal;
