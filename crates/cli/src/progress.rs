//! The progress bar: on stderr, when that is a terminal and nobody asked for quiet.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::logging::Verbosity;

/// Shows how far a pass is.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar; an invisible one if it should not be seen.
    pub fn new(verbosity: Verbosity) -> Self {
        Self::with_template(verbosity, "{msg} {wide_bar} {pos}/{len} blocks, {eta} left")
    }

    /// One that counts bytes; how many there are may be unknown.
    pub fn of_bytes(verbosity: Verbosity) -> Self {
        Self::with_template(verbosity, "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}")
    }

    /// One that counts steps of training.
    pub fn of_steps(verbosity: Verbosity) -> Self {
        Self::with_template(verbosity, "{wide_bar} {pos}/{len} steps, {eta} left, {msg}")
    }

    fn with_template(verbosity: Verbosity, template: &str) -> Self {
        // Not drawn where stderr is no terminal.
        let target =
            if verbosity == Verbosity::Quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Says what is being done.
    pub fn stage(&self, what: impl Into<std::borrow::Cow<'static, str>>) {
        self.0.set_message(what);
    }

    /// Says how much of it is done where nobody knows how much there is.
    pub fn so_far(&self, done: u64) {
        self.0.unset_length();
        self.0.set_position(done);
    }

    /// Writes a line on stderr, above the bar if there is one.
    pub fn line(&self, text: &str) {
        // Nothing is lost if nobody reads it.
        self.0.suspend(|| {
            let _ = writeln!(io::stderr(), "{text}");
        });
    }

    /// Says how much of it is done.
    pub fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
