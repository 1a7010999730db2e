//! The progress bar: on stderr, when that is a terminal and nobody asked for quiet.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sinkscope_lab::study::{Plan, Run, Summaries};
use sinkscope_lab::trainer::{Record, StepReport};
use sinkscope_report::escape_control;
use sinkscope_sources::checkpoint::Watch;

use crate::logging::Verbosity;

const BYTES: &str = "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}";

/// Shows how far a pass is.
pub struct Progress {
    bar: ProgressBar,
    template: &'static str,
}

impl Progress {
    /// A bar; an invisible one if it should not be seen.
    pub fn new(verbosity: Verbosity) -> Self {
        Self::with_template(verbosity, "{msg} {wide_bar} {pos}/{len} blocks, {eta} left")
    }

    /// One that counts bytes; how many there are may be unknown.
    pub fn of_bytes(verbosity: Verbosity) -> Self {
        Self::with_template(verbosity, BYTES)
    }

    /// One that counts steps of training.
    pub fn of_steps(verbosity: Verbosity) -> Self {
        Self::with_template(verbosity, "{wide_bar} {pos}/{len} steps, {eta} left, {msg}")
    }

    fn with_template(verbosity: Verbosity, template: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), target(verbosity));
        set_template(&bar, template);
        Self { bar, template }
    }

    /// Says what is being done.
    pub fn stage(&self, what: impl Into<std::borrow::Cow<'static, str>>) {
        set_template(&self.bar, self.template);
        self.bar.set_message(what);
    }

    /// Who shows how far downloads are, in the place of the bar. The next stage brings the bar back.
    pub fn downloads(&self) -> Watch {
        let bar = self.bar.clone();
        Arc::new(move |download| {
            let what = format!("downloading {}", escape_control(download.file));
            let is_new = bar.message() != what;
            if is_new {
                set_template(&bar, BYTES);
                bar.set_message(what);
            }
            match download.size {
                Some(size) => bar.set_length(size),
                None => bar.unset_length(),
            }
            bar.set_position(download.done);
            if is_new {
                // What an earlier run left does not count as fast.
                bar.reset_eta();
            }
        })
    }

    /// Says how much of it is done where nobody knows how much there is.
    pub fn so_far(&self, done: u64) {
        self.bar.unset_length();
        self.bar.set_position(done);
    }

    /// Writes a line on stderr, above the bar if there is one.
    pub fn line(&self, text: &str) {
        // Nothing is lost if nobody reads it.
        self.bar.suspend(|| {
            let _ = writeln!(io::stderr(), "{text}");
        });
    }

    /// Says how much of it is done.
    pub fn set(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}

/// What is said of a look behind the loss.
pub fn after_loss(look: &Record) -> String {
    format!(", spike {:.1}, sinks {:.0} %", look.watched.spike, 100.0 * look.watched.sink_ratio)
}

/// Not drawn where stderr is no terminal.
fn target(verbosity: Verbosity) -> ProgressDrawTarget {
    if verbosity == Verbosity::Quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
}

/// Shows how far a study is: a bar of all steps, and one for each run under way.
pub struct StudyProgress {
    verbosity: Verbosity,
    all: MultiProgress,
    total: ProgressBar,
    under_way: Mutex<Vec<UnderWay>>,
}

struct UnderWay {
    slug: String,
    bar: ProgressBar,
    /// Steps done, of which the bar of all knows.
    steps: Option<u64>,
    last_look: String,
}

impl StudyProgress {
    /// Of the runs of a plan that have no summary.
    pub fn new(verbosity: Verbosity, plan: &Plan, summaries: &Summaries) -> Self {
        let missing = plan.missing(summaries);
        let all = MultiProgress::with_draw_target(target(verbosity));
        let total = all.add(ProgressBar::new(missing.iter().map(|run| run.recipe.training.steps).sum()));
        set_template(&total, "{wide_bar} {pos}/{len} steps of all runs, {eta} left");
        let progress = Self { verbosity, all, total, under_way: Mutex::default() };
        progress.line(&format!("{} of {} runs to train", missing.len(), plan.runs.len()));
        progress
    }

    /// A run begins or goes on.
    pub fn begin(&self, run: &Run) {
        let bar = self.all.add(ProgressBar::new(run.recipe.training.steps));
        set_template(&bar, "  {prefix} {wide_bar} {pos}/{len} steps, {msg}");
        bar.set_prefix(run.slug.clone());
        let under_way = UnderWay { slug: run.slug.clone(), bar, steps: None, last_look: String::new() };
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).push(under_way);
    }

    /// A step of it was done.
    pub fn step(&self, run: &Run, report: &StepReport) {
        self.of(run, |this| {
            // The first step after a resumption counts those before it.
            self.total.inc(report.step - this.steps.unwrap_or(0));
            this.steps = Some(report.step);
            this.bar.set_position(report.step);
            this.bar.set_message(format!("loss {:.3}{}", report.loss, this.last_look));
        });
    }

    /// It was looked at.
    pub fn look(&self, run: &Run, record: &Record) {
        self.of(run, |this| this.last_look = after_loss(record));
    }

    /// It is done, or failed.
    pub fn end(&self, run: &Run, how: &str) {
        self.of(run, |this| {
            self.total.inc(run.recipe.training.steps - this.steps.unwrap_or(0));
            this.bar.finish_and_clear();
        });
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).retain(|this| this.slug != run.slug);
        self.line(&format!("{} (seed {}): {how}", run.name, run.seed));
    }

    fn of(&self, run: &Run, what: impl FnOnce(&mut UnderWay)) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(this) = under_way.iter_mut().find(|this| this.slug == run.slug) {
            what(this);
        }
    }

    /// Writes a line on stderr, above the bars if there are any.
    fn line(&self, text: &str) {
        if self.verbosity != Verbosity::Quiet {
            self.all.suspend(|| {
                // Nothing is lost if nobody reads it.
                let _ = writeln!(io::stderr(), "{}", escape_control(text));
            });
        }
    }
}

fn set_template(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

impl Drop for StudyProgress {
    fn drop(&mut self) {
        let _ = self.all.clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
