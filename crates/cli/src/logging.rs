//! What is said on stderr while running: warnings, and with `-v` what is being done.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors alone.
    Quiet,
    /// Progress and warnings.
    Normal,
    /// And what is being done.
    Verbose,
    /// And how.
    Debug,
}

impl Verbosity {
    /// From the options.
    pub fn new(quiet: bool, verbose: u8) -> Self {
        match (quiet, verbose) {
            (true, _) => Self::Quiet,
            (false, 0) => Self::Normal,
            (false, 1) => Self::Verbose,
            (false, _) => Self::Debug,
        }
    }

    fn level(self) -> LevelFilter {
        match self {
            Self::Quiet => LevelFilter::ERROR,
            Self::Normal => LevelFilter::WARN,
            Self::Verbose => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
        }
    }
}

/// Sends the program's own messages to stderr; those of other crates stay unsaid.
pub fn start(verbosity: Verbosity) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(colour(&io::stderr()))
        .without_time()
        .with_target(false);
    let ours = Targets::new().with_target("sinkscope", verbosity.level());
    // Fails only if something listens already; then it keeps listening.
    let _ = tracing_subscriber::registry().with(lines).with(ours).try_init();
}

/// Whether to colour what goes to a stream: a terminal, and no NO_COLOR (any value but the empty one).
pub fn colour(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    stream.is_terminal() && !refused && !dumb
}
