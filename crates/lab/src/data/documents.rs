//! The documents of many files as a stream of batches, read on a thread of its own.
//!
//! Batches have fixed sizes and come in the order of the files, so that whatever is made of them batch by batch does not
//! depend on the number of threads.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sinkscope_sources::SourceError;
use sinkscope_sources::data::document::{self, Flow, Part};

use super::separator::{Cutter, Separator};
use crate::LabError;

/// Text in a batch, about.
const BATCH_BYTES: usize = 4 << 20;

/// Text that one thread takes at a time, about.
const GROUP_BYTES: usize = 128 << 10;

/// Batches read ahead.
const AHEAD: usize = 2;

/// A document, or a part of a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where its text ends in that of the batch; it begins where the piece before ends.
    end: usize,
    /// Whether the document began in an earlier piece.
    pub(super) continues: bool,
    /// A number evenly drawn by the document's first piece: equal documents have equal numbers.
    pub(super) lot: u64,
}

/// Some documents.
#[derive(Debug, Default)]
pub(super) struct Documents {
    text: String,
    pieces: Vec<Piece>,
}

impl Documents {
    /// Adds a piece.
    pub(super) fn add(&mut self, part: Part<'_>, lot: u64) {
        self.text.push_str(part.text);
        self.pieces.push(Piece { end: self.text.len(), continues: part.continues, lot });
    }

    /// Bytes of text.
    pub(super) fn bytes(&self) -> u64 {
        self.text.len() as u64
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The text of a piece.
    pub(super) fn text(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.pieces[index - 1].end };
        &self.text[start..self.pieces[index].end]
    }

    /// Ranges of pieces that threads take. They depend on the text alone.
    pub(super) fn groups(&self) -> Vec<std::ops::Range<usize>> {
        let (mut groups, mut first, mut start) = (Vec::new(), 0, 0);
        for (index, piece) in self.pieces.iter().enumerate() {
            if piece.end - start >= GROUP_BYTES || index + 1 == self.pieces.len() {
                groups.push(first..index + 1);
                (first, start) = (index + 1, piece.end);
            }
        }
        groups
    }
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Input {
    /// The file as named, or as found in a directory.
    pub path: String,
    /// SHA-256 of the file as it is stored, in lower-case hexadecimal.
    pub sha256: String,
    /// Documents in it.
    pub documents: u64,
    /// Bytes of text in them, unpacked.
    pub bytes: u64,
}

/// The files that `inputs` name: files as they are, and of directories, and directories in them, every file whose
/// extensions name a text format, in the order of their paths.
///
/// # Errors
/// If a directory cannot be read or holds no text, or an input is neither file nor directory.
pub(super) fn files(inputs: &[PathBuf]) -> Result<Vec<PathBuf>, LabError> {
    let mut files = Vec::new();
    for input in inputs {
        if input.is_dir() {
            let before = files.len();
            walk(input, &mut files)?;
            if files.len() == before {
                let reason = format!("no text in this directory; supported are {}", document::FORMATS);
                return Err(LabError::Request(format!("{}: {reason}", input.display())));
            }
        } else if input == Path::new(document::STANDARD_INPUT) || input.exists() && !input.is_file() {
            let reason = "not a file that can be read twice; write it to one";
            return Err(LabError::Request(format!("{}: {reason}", input.display())));
        } else {
            files.push(input.clone());
        }
    }
    if files.is_empty() {
        return Err(LabError::Request("no input was named; give files or directories".to_owned()));
    }
    Ok(files)
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), LabError> {
    let entries = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>());
    let mut entries = entries.map_err(|source| SourceError::Io { path: directory.to_owned(), source })?;
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        // A directory that a symbolic link names is passed over: links may go in circles.
        let link = entry.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        if entry.is_dir() && !link {
            walk(&entry, files)?;
        } else if entry.is_file() && document::is_text(&entry) {
            files.push(entry);
        }
    }
    Ok(())
}

/// Reads all `files`, the text of JSON and Parquet from `field`, and hands every batch to `take`, in order. Returns what was read.
///
/// # Errors
/// Of a file that cannot be read or is not what its extensions say, after the batches before; those of `take`.
pub(super) fn read(
    files: &[PathBuf],
    field: &str,
    separator: Separator,
    seed: u64,
    mut take: impl FnMut(Documents) -> Result<(), LabError>,
) -> Result<Vec<Input>, LabError> {
    std::thread::scope(|scope| {
        let (send, receive): (_, Receiver<Documents>) = sync_channel(AHEAD);
        let reader = Reader { send, seed, batch: Documents::default(), lot: 0 };
        let reader = scope.spawn(move || reader.read(files, field, separator));
        for batch in &receive {
            take(batch)?;
        }
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

struct Reader {
    send: SyncSender<Documents>,
    seed: u64,
    batch: Documents,
    /// That of the document which the last piece is of.
    lot: u64,
}

impl Reader {
    fn read(mut self, files: &[PathBuf], field: &str, separator: Separator) -> Result<Vec<Input>, LabError> {
        let mut inputs = Vec::with_capacity(files.len());
        for path in files {
            let (mut documents, mut bytes, flow) = (0, 0, Cell::new(Flow::More));
            let mut give = |part: Part<'_>| -> Result<(), SourceError> {
                if flow.get() == Flow::More && !part.text.is_empty() {
                    documents += u64::from(!part.continues);
                    bytes += part.text.len() as u64;
                    flow.set(self.give(part));
                }
                Ok(())
            };
            let (_, sha256) = if document::is_plain(path) {
                let mut cutter = Cutter::new(separator);
                document::read(path, field, &mut |part| cutter.cut(part.text, &mut give).map(|()| flow.get()))?
            } else {
                document::read(path, field, &mut |part| {
                    let part = if part.text.trim().is_empty() { Part { text: "", ..part } } else { part };
                    give(part).map(|()| flow.get())
                })?
            };
            if flow.get() == Flow::Enough {
                return Ok(inputs);
            }
            inputs.push(Input { path: path.display().to_string(), sha256, documents, bytes });
        }
        if !self.batch.pieces.is_empty() {
            let _ = self.send.send(self.batch);
        }
        Ok(inputs)
    }

    /// Adds a piece.
    fn give(&mut self, part: Part<'_>) -> Flow {
        if !part.continues {
            self.lot = lot(self.seed, part.text);
        }
        self.batch.add(part, self.lot);
        if self.batch.text.len() < BATCH_BYTES {
            return Flow::More;
        }
        // If nobody listens any more, the other side has failed and says so itself.
        if self.send.send(std::mem::take(&mut self.batch)).is_ok() { Flow::More } else { Flow::Enough }
    }
}

/// What decides whether a document is held out: the beginning of its SHA-256 with the seed.
pub(super) fn lot(seed: u64, text: &str) -> u64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(text).finalize();
    digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}
