//! The `sinkscope` command.
fn main() {}
