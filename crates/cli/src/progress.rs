//! The progress bar: on stderr, when that is a terminal and nobody asked for quiet.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::logging::Verbosity;

/// Shows how far a pass is.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar; an invisible one if it should not be seen.
    pub fn new(verbosity: Verbosity) -> Self {
        // Not drawn where stderr is no terminal.
        let target =
            if verbosity == Verbosity::Quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} blocks, {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Says what is being done.
    pub fn stage(&self, what: &'static str) {
        self.0.set_message(what);
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
