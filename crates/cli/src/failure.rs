//! How a run ends: the exit status, and one message on stderr.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use sinkscope_anatomy::error::AnatomyError;
use sinkscope_lab::LabError;
use sinkscope_lab::interrupt::Signal;
use sinkscope_lab::study::Failure;
use sinkscope_model::ModelError;
use sinkscope_report::ReportError;
use sinkscope_report::escape_control;
use sinkscope_sources::SourceError;
use sinkscope_surgery::SurgeryError;

/// It failed while running.
const FAILED: u8 = 1;
/// The request or an input is wrong.
const WRONG: u8 = 2;

/// Results could not be printed. Apart from other errors, because a reader that has seen enough is none.
#[derive(Debug, thiserror::Error)]
#[error("standard output: cannot write ({0})")]
pub struct PrintError(#[source] pub io::Error);

/// A run or a study was asked to stop, and saved.
#[derive(Debug, thiserror::Error)]
#[error("{}: stopped by {} {done}, and saved; {how}", run.display(), signal.name())]
pub struct Interrupted {
    /// The directory.
    pub run: PathBuf,
    /// How far it came.
    pub done: String,
    /// What goes on.
    pub how: &'static str,
    /// What stopped it.
    pub signal: Signal,
}

/// Runs of a study could not be finished; the others are.
#[derive(Debug, thiserror::Error)]
#[error("{}", sentence(.0))]
pub struct RunsFailed(pub Vec<Failure>);

fn sentence(failures: &[Failure]) -> String {
    let of_each =
        failures.iter().map(|failure| format!("{:?} (seed {}): {}", failure.row, failure.seed, failure.reason));
    let runs = if failures.len() == 1 { "1 run".to_owned() } else { format!("{} runs", failures.len()) };
    format!("{runs} failed: {}", of_each.collect::<Vec<_>>().join("; "))
}

/// Says what went wrong, if anything, and gives the exit status.
pub fn conclude(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let status = status(&error);
    if status != 0 {
        // Nothing is left to tell the user if stderr is gone.
        let _ = writeln!(io::stderr(), "error: {}", message(&error));
    }
    ExitCode::from(status)
}

fn status(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(PrintError(source)) = cause.downcast_ref() {
            return if source.kind() == io::ErrorKind::BrokenPipe { 0 } else { FAILED };
        }
        if let Some(Interrupted { signal, .. }) = cause.downcast_ref() {
            return signal.exit_code();
        }
        if let Some(
            ReportError::Unusable { .. }
            | ReportError::Nothing { .. }
            | ReportError::Malformed { .. }
            | ReportError::NoFigures
            | ReportError::Records(_)
            | ReportError::Unreadable { .. },
        ) = cause.downcast_ref()
        {
            return WRONG;
        }
        // An output that cannot be written is the one thing in the lab that no request and no input is to blame for.
        if let Some(error) = cause.downcast_ref::<LabError>() {
            return if matches!(error, LabError::Io { .. } | LabError::Diverged(_)) { FAILED } else { WRONG };
        }
        // Every one of these is about the request, the model or the text. An examination hands on those it meets.
        if cause.is::<SourceError>()
            || cause.is::<ModelError>()
            || matches!(cause.downcast_ref(), Some(AnatomyError::Model(_)))
        {
            return WRONG;
        }
        // A directory that is taken is named by the request; one that cannot be written is nobody's fault.
        if let Some(SurgeryError::Save { source, .. }) = cause.downcast_ref() {
            return if source.kind() == io::ErrorKind::AlreadyExists { WRONG } else { FAILED };
        }
        if let Some(
            SurgeryError::Anatomy(AnatomyError::Model(_)) | SurgeryError::Operation { .. } | SurgeryError::Model(_),
        ) = cause.downcast_ref()
        {
            return WRONG;
        }
    }
    FAILED
}

/// The chain on one line, outermost first. A cause that the message before it already quotes is not repeated.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if message.contains(&cause) {
            continue;
        }
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(&cause);
    }
    escape_control(&message)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::anyhow;
    use sinkscope_anatomy::not_finite::{NonFiniteValue, NotFinite};
    use sinkscope_lab::trainer::Diverged;

    use super::*;

    fn missing() -> ModelError {
        SourceError::io("m.gguf", io::Error::from(io::ErrorKind::NotFound)).into()
    }

    #[test]
    fn statuses_are_those_of_the_contract() {
        let io = || io::Error::from(io::ErrorKind::BrokenPipe);
        let path = PathBuf::from("out");
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(status(&missing().into()), WRONG);
        assert_eq!(status(&anyhow!(missing()).context("while reading")), WRONG);
        assert_eq!(status(&AnatomyError::Model(missing()).into()), WRONG);
        assert_eq!(status(&SurgeryError::Model(missing()).into()), WRONG);
        assert_eq!(status(&SurgeryError::Anatomy(AnatomyError::Model(missing())).into()), WRONG);
        let operation = SurgeryError::Operation { operation: "o".into(), reason: "r".into() };
        assert_eq!(status(&operation.into()), WRONG);
        let broken = || {
            let value = NonFiniteValue::Nan;
            let (block, channel, text) = (1, Some(0), String::new());
            AnatomyError::NotFinite(NotFinite { block, channel, sequence: 0, position: 0, id: 7, text, value })
        };
        assert_eq!(status(&SurgeryError::Anatomy(broken()).into()), FAILED);
        assert_eq!(status(&broken().into()), FAILED);
        assert_eq!(status(&ReportError::Unusable { path: path.clone(), source: full() }.into()), WRONG);
        assert_eq!(status(&ReportError::NoFigures.into()), WRONG);
        assert_eq!(status(&ReportError::Write { path, source: io() }.into()), FAILED);
        assert_eq!(status(&LabError::Request("r".into()).into()), WRONG);
        assert_eq!(status(&LabError::Model(missing()).into()), WRONG);
        let diverged = Diverged { step: 3, what: "the loss is NaN".into() };
        assert_eq!(status(&LabError::Diverged(diverged).into()), FAILED);
        assert_eq!(status(&LabError::Io { path: "train.bin".into(), source: full() }.into()), FAILED);
        assert_eq!(status(&PrintError(io()).into()), 0);
        assert_eq!(status(&PrintError(full()).into()), FAILED);
        assert_eq!(status(&anyhow!("anything else")), FAILED);
    }

    #[test]
    fn messages_say_each_thing_once_on_one_line() {
        let not_found = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(message(&missing().into()), format!("cannot read m.gguf: {not_found}"));
        let wrapped = anyhow!("bad\nvalue \"x\"").context("model.gguf");
        assert_eq!(message(&wrapped), "model.gguf: bad\\nvalue \"x\"");
    }
}
