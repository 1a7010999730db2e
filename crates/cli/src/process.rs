//! The process a command runs in: its command line, its threads, and what it says on stderr.

use sinkscope_kernels::InstructionSet;
use sinkscope_model::ModelError;

use crate::arguments::ProcessArguments;
use crate::logging::{self, Verbosity};
use crate::request::wrong;

/// More threads than any machine this runs on has cores. A thread that the system refuses too late aborts the process,
/// so a slip of the finger is caught here.
pub const MOST_THREADS: usize = 1024;

/// How a command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The command line, the program's name first.
    pub command: Vec<String>,
    /// Threads, 1 to [`MOST_THREADS`]; `None` for one a core.
    threads: Option<usize>,
    /// What is said on stderr.
    pub verbosity: Verbosity,
}

impl ProcessArguments {
    /// Checks every value.
    pub fn resolve(&self) -> Result<Process, ModelError> {
        match self.threads {
            Some(0) => Err(wrong("--threads", 0, "is too few; give at least 1, or leave it out for one per core")),
            Some(threads) if threads > MOST_THREADS => {
                Err(wrong("--threads", threads, &format!("is too many; give at most {MOST_THREADS}")))
            }
            threads => {
                Ok(Process { command: command_line(), threads, verbosity: Verbosity::new(self.quiet, self.verbose) })
            }
        }
    }
}

impl Process {
    /// Does the work of a command on its threads, and lets it say what it is to say.
    pub fn run(&self, work: impl FnOnce() -> anyhow::Result<()> + Send) -> anyhow::Result<()> {
        logging::start(self.verbosity);
        InstructionSet::chosen().map_err(ModelError::Request)?;
        // 0 leaves the number to rayon: one a core.
        let threads = self.threads.unwrap_or(0);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let refused = |error| ModelError::Request(format!("--threads {threads}: {error}; ask for fewer"));
        pool.map_err(refused)?.install(work)
    }
}

/// The command line as typed; the program by its name alone, wherever it lies.
fn command_line() -> Vec<String> {
    let typed = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once("sinkscope".to_owned()).chain(typed).collect()
}
