//! Checkpoints as users have them: sound, damaged, quantised, sharded, on a hub.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod folder;
mod gguf;
mod hub;
mod mutations;
mod quants;
mod write;
