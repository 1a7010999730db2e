//! The progress bar: on stderr, when that is a terminal and nobody asked for quiet.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sinkscope_lab::study::{Plan, Run, Summaries};
use sinkscope_lab::trainer::{Record, StepReport};
use sinkscope_report::escape_control;
use sinkscope_sources::checkpoint::Watch;

use crate::logging::Verbosity;

const BYTES: &str = "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}";

/// From one line to the next where there is no bar.
const EVERY: Duration = Duration::from_secs(10);

/// Lines in the place of a bar, where stderr is no terminal.
struct Lines(Option<Mutex<Instant>>);

impl Lines {
    fn new(verbosity: Verbosity) -> Self {
        let wanted = verbosity != Verbosity::Quiet && !io::stderr().is_terminal();
        Self(wanted.then(|| Mutex::new(Instant::now())))
    }

    /// Writes a line if the last one is old enough.
    fn tell(&self, every: Duration, bar: &ProgressBar, unit: &str) {
        let Some(last) = &self.0 else { return };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= every {
            *last = Instant::now();
            // Nothing is lost if nobody reads it.
            let _ = writeln!(io::stderr(), "{}", line(bar, unit));
        }
    }
}

/// How far a bar is, in words.
fn line(bar: &ProgressBar, unit: &str) -> String {
    let (message, done) = (escape_control(&bar.message()), bar.position());
    let of = bar.length().map_or_else(String::new, |length| format!(" of {length}"));
    let left = HumanDuration(bar.eta());
    let what = if message.is_empty() { String::new() } else { format!("{message}: ") };
    format!("{what}{done}{of} {unit}, {left} left")
}

/// Shows how far a pass is.
pub struct Progress {
    bar: ProgressBar,
    template: &'static str,
    unit: &'static str,
    lines: Lines,
}

impl Progress {
    /// A bar; an invisible one if it should not be seen.
    pub fn new(verbosity: Verbosity) -> Self {
        Self::with_template(verbosity, "{msg} {wide_bar} {pos}/{len} blocks, {eta} left", "blocks")
    }

    /// One that counts bytes; how many there are may be unknown.
    pub fn of_bytes(verbosity: Verbosity) -> Self {
        Self::with_template(verbosity, BYTES, "bytes")
    }

    /// One that counts steps of training.
    pub fn of_steps(verbosity: Verbosity) -> Self {
        Self::with_template(verbosity, "{wide_bar} {pos}/{len} steps, {eta} left, {msg}", "steps")
    }

    fn with_template(verbosity: Verbosity, template: &'static str, unit: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), target(verbosity));
        set_template(&bar, template);
        Self { bar, template, unit, lines: Lines::new(verbosity) }
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
        self.lines.tell(EVERY, &self.bar, self.unit);
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
        self.lines.tell(EVERY, &self.bar, self.unit);
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
    lines: Lines,
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
        let progress = Self { verbosity, all, total, lines: Lines::new(verbosity), under_way: Mutex::default() };
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
        self.lines.tell(EVERY, &self.total, "steps of all runs");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_far_it_is_and_not_too_often() {
        let bar = ProgressBar::hidden();
        bar.set_length(60);
        bar.set_position(12);
        bar.set_message("examining");
        assert!(line(&bar, "blocks").starts_with("examining: 12 of 60 blocks, "), "{}", line(&bar, "blocks"));
        let lines = Lines(Some(Mutex::new(Instant::now())));
        let last = || *lines.0.as_ref().expect("lines").lock().expect("a time");
        let before = last();
        lines.tell(Duration::from_secs(3600), &bar, "blocks");
        assert_eq!(last(), before);
        lines.tell(Duration::ZERO, &bar, "blocks");
        assert!(last() > before);
    }
}
