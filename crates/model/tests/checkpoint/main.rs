//! Checkpoints as users have them: sound, damaged, quantised, sharded, on a hub.
#![allow(clippy::unwrap_used, reason = "tests")]

mod quants;
mod write;
