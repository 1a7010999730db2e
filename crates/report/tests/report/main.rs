//! The report of a hand-built examination: as text, as tables.

mod sample;
mod study;
mod tables;
mod terminal;
