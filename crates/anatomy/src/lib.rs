//! What is there: spikes, sinks and their causes, each with a written definition.

pub mod results;
