//! Text and token files of every kind, and everything that can be wrong with them.
#![allow(clippy::unwrap_used)]

mod columns;
mod conversations;
mod errors;
mod files;
mod loading;
