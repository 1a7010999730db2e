//! What the machine says of itself: its memory, what this process used, how wide its terminal is.

use std::fs;
use std::io::{self, IsTerminal};
use std::time::Instant;

use sinkscope_kernels::peak;
use sinkscope_model::pass::PassReport;
use sinkscope_report::envelope::{PassTiming, Timing};

/// Where the system does not say how much memory it has.
const ASSUMED_RAM: u64 = 8 << 30;
/// Columns where there is no terminal.
const PLAIN_WIDTH: usize = 100;
/// Lines longer than this are hard to read.
const MOST_WIDTH: usize = 120;

/// Half of RAM, or of what a control group allows of it.
pub fn default_memory() -> u64 {
    let ram = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kilobytes(&text, "MemTotal:"));
    let allowed = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    ram.unwrap_or(ASSUMED_RAM).min(allowed.unwrap_or(u64::MAX)) / 2
}

/// The most memory this process had resident (VmHWM), mapped file pages included; `None` where the system has no
/// /proc.
pub fn peak_memory() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The arithmetic bound of the current threads.
pub fn operations_per_second() -> f64 {
    peak::flops_per_second() * rayon::current_num_threads() as f64
}

/// What an output says of the time it took, the program having begun at `start`; `first` is the streamed pass, if there was one.
pub fn timing<'a>(
    start: Instant,
    passes: impl IntoIterator<Item = (&'a str, f64)>,
    first: Option<&PassReport>,
) -> Timing {
    Timing {
        passes: PassTiming::list(passes),
        tokens_per_second: first.map(|pass| pass.tokens as f64 / pass.seconds),
        fraction_of_bound: first.map(|pass| pass.flops / pass.seconds / operations_per_second()),
        peak_rss_bytes: peak_memory(),
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// Columns for results on stdout.
pub fn stdout_width() -> usize {
    if !io::stdout().is_terminal() {
        return PLAIN_WIDTH;
    }
    terminal_size::terminal_size_of(io::stdout()).map_or(PLAIN_WIDTH, |(width, _)| usize::from(width.0).min(MOST_WIDTH))
}

/// The bytes of a line `KEY   123 kB`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let text = "VmPeak:\t  9 kB\nVmHWM:\t    2048 kB\n";
        assert_eq!(kilobytes(text, "VmHWM:"), Some(2 << 20));
        assert_eq!(kilobytes(text, "VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_says_what_was_used() {
        assert!(peak_memory().is_some_and(|bytes| bytes > 100_000));
    }
}
