//! The report of a hand-built examination: as text, as tables.

mod sample;
mod tables;
mod terminal;
