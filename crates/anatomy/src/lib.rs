//! What is there: spikes, sinks and their causes, each with a written definition.
//!
//! Start at [`definitions`]. [`examination`] turns a request into taps on a pass and the taps into [`results`]; each of
//! [`residual`] (with [`lifecycle`] and [`spikes`]), [`sinks`], [`nll`] and [`token_page`] is one tap.

pub mod bootstrap;
pub mod census;
pub mod definitions;
pub mod error;
pub mod examination;
pub mod head_room;
pub mod lifecycle;
pub mod magnitude;
pub mod median;
pub mod nll;
pub mod not_finite;
pub mod pictures;
pub mod positions;
pub mod probe;
pub mod received;
pub mod regularities;
pub mod residual;
pub mod results;
pub mod sample;
pub mod sink_tokens;
pub mod sinks;
pub mod spikes;
pub mod taps;
pub mod token_page;
pub mod tokens;
pub mod tsne;
pub mod wide;
