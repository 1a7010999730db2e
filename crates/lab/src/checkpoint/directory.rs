//! The directory of a run: who may use it, how a checkpoint takes its place, and what is cleared away.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{MODEL_FILE, Resume};
use crate::LabError;
use crate::files::HashingWriter;

/// File that is locked while a process trains.
const LOCK: &str = ".lock";
/// Directory of the checkpoints.
const CHECKPOINTS: &str = "checkpoints";
/// A checkpoint that is being written.
pub(super) const WRITING: &str = ".writing";
/// A best checkpoint that is being made.
pub(super) const WRITING_BEST: &str = ".writing-best";
/// A directory in the place of a link, on its way out.
const REPLACED: &str = ".replaced";

/// Which of the two checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Last,
    Best,
}

impl Kind {
    /// Name of the link.
    fn link(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best",
        }
    }

    /// Beginning of the names of its directories.
    fn prefix(self) -> &'static str {
        match self {
            Self::Last => "step-",
            Self::Best => "best-",
        }
    }
}

/// The place of a checkpoint. Ordered by age within a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// `checkpoints/step-STEP.AGAIN`; `AGAIN` counts the checkpoints of the same step.
    Named { kind: Kind, step: u64, again: u32 },
    /// A directory where the link should be.
    InPlaceOfLink,
}

impl Entry {
    fn parse(kind: Kind, name: &str) -> Option<Self> {
        let digits = name.strip_prefix(kind.prefix())?;
        let (step, again) = digits.split_once('.').unwrap_or((digits, "0"));
        Some(Self::Named { kind, step: step.parse().ok()?, again: again.parse().ok()? })
    }

    /// Path from the directory of the run.
    fn relative(&self) -> PathBuf {
        match self {
            Self::Named { kind, step, again: 0 } => Path::new(CHECKPOINTS).join(format!("{}{step:08}", kind.prefix())),
            Self::Named { kind, step, again } => {
                Path::new(CHECKPOINTS).join(format!("{}{step:08}.{again}", kind.prefix()))
            }
            Self::InPlaceOfLink => PathBuf::from(Kind::Last.link()),
        }
    }

    pub(super) fn path(&self, run: &Path) -> PathBuf {
        run.join(self.relative())
    }

    fn age(&self) -> (u64, u32) {
        match self {
            Self::Named { step, again, .. } => (*step, *again),
            Self::InPlaceOfLink => (0, 0),
        }
    }
}

/// May this directory become or continue a run?
pub(super) fn check_use(run: &Path, resume: Resume) -> Result<(), LabError> {
    let names = names(run)?;
    // A process that was killed at once leaves nothing but the lock.
    let empty = names.iter().all(|name| name == LOCK);
    let ours = names.iter().any(|name| [LOCK, CHECKPOINTS, Kind::Last.link()].contains(&name.as_str()));
    match resume {
        _ if empty => Ok(()),
        Resume::No => Err(LabError::Request(format!(
            "{} is not empty: resume the run that is there, or choose another directory",
            run.display()
        ))),
        Resume::Yes if !ours => Err(LabError::Request(format!(
            "{} is not empty and holds no run that could be resumed: choose another directory",
            run.display()
        ))),
        Resume::Yes => Ok(()),
    }
}

pub(super) fn lock(run: &Path) -> Result<File, LabError> {
    let path = run.join(LOCK);
    let open = || File::options().create(true).truncate(false).write(true).open(&path);
    let file = open().map_err(|error| LabError::io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(LabError::Request(format!("another process is training in {}: wait for it or stop it", run.display())))
        }
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(LabError::io(&path, error)),
    }
}

/// An empty directory beside the checkpoints.
pub(super) fn fresh(run: &Path, name: &str) -> Result<PathBuf, LabError> {
    let path = run.join(CHECKPOINTS).join(name);
    remove(&path).and_then(|()| fs::create_dir_all(&path)).map_err(|error| LabError::io(&path, error))?;
    Ok(path)
}

/// Gives a finished directory its name among the checkpoints and makes it the last or the best one.
pub(super) fn place(run: &Path, finished: &Path, kind: Kind, step: u64) -> Result<Entry, LabError> {
    let taken = entries(run, kind)?.iter().map(Entry::age).filter(|age| age.0 == step).map(|age| age.1).max();
    let entry = Entry::Named { kind, step, again: taken.map_or(0, |again| again + 1) };
    let path = entry.path(run);
    fs::rename(finished, &path).map_err(|error| LabError::io(&path, error))?;
    sync(&run.join(CHECKPOINTS))?;
    switch(run, kind, &entry)?;
    Ok(entry)
}

/// Lets a link point to a checkpoint, in one atomic step.
fn switch(run: &Path, kind: Kind, entry: &Entry) -> Result<(), LabError> {
    let link = run.join(kind.link());
    let fresh = fresh_link(run, kind);
    let switch = || -> io::Result<()> {
        remove(&fresh)?;
        std::os::unix::fs::symlink(entry.relative(), &fresh)?;
        if fs::symlink_metadata(&link).is_ok_and(|metadata| metadata.is_dir()) {
            // Not in one step: but the new checkpoint is in its place, and would be found without the link.
            let replaced = run.join(CHECKPOINTS).join(REPLACED);
            remove(&replaced)?;
            fs::rename(&link, &replaced)?;
        }
        fs::rename(&fresh, &link)
    };
    switch().map_err(|error| LabError::io(&link, error))?;
    sync(run)
}

fn fresh_link(run: &Path, kind: Kind) -> PathBuf {
    run.join(format!(".{}.new", kind.link()))
}

/// Checkpoints that could be resumed, the newest first.
pub(super) fn candidates(run: &Path) -> Result<Vec<Entry>, LabError> {
    let mut entries = entries(run, Kind::Last)?;
    let last = run.join(Kind::Last.link());
    match fs::symlink_metadata(&last) {
        Ok(metadata) if metadata.is_dir() => entries.push(Entry::InPlaceOfLink),
        Ok(_) if entries.is_empty() => {
            return Err(LabError::malformed(last, "the checkpoint that it points to is gone, and there is no other"));
        }
        _ => {}
    }
    Ok(entries)
}

/// Lets `last` point to a checkpoint, if it does not.
pub(super) fn point_to(run: &Path, entry: &Entry) -> Result<(), LabError> {
    let same = fs::read_link(run.join(Kind::Last.link())).is_ok_and(|target| target == entry.relative());
    if same || *entry == Entry::InPlaceOfLink { Ok(()) } else { switch(run, Kind::Last, entry) }
}

/// Removes what a killed process left half done.
pub(super) fn remove_leftovers(run: &Path) -> Result<(), LabError> {
    let in_checkpoints = [WRITING, WRITING_BEST, REPLACED].map(|name| run.join(CHECKPOINTS).join(name));
    let links = [Kind::Last, Kind::Best].map(|kind| fresh_link(run, kind));
    in_checkpoints.iter().chain(&links).try_for_each(|path| remove(path).map_err(|error| LabError::io(path, error)))
}

/// If the best checkpoint lost its link, gives it back.
pub(super) fn restore_best(run: &Path) -> Result<(), LabError> {
    match entries(run, Kind::Best)?.first() {
        Some(newest) if !run.join(Kind::Best.link()).join(MODEL_FILE).exists() => switch(run, Kind::Best, newest),
        _ => Ok(()),
    }
}

/// Removes every checkpoint but the last and the best one. What cannot be removed stays.
pub(super) fn remove_older(run: &Path, last: &Entry) {
    let best = fs::read_link(run.join(Kind::Best.link())).ok();
    for kind in [Kind::Last, Kind::Best] {
        for entry in entries(run, kind).unwrap_or_default() {
            if entry != *last && Some(entry.relative()) != best {
                // The next save tries again.
                let _ = fs::remove_dir_all(entry.path(run));
            }
        }
    }
}

/// Checkpoints of a kind, the newest first.
fn entries(run: &Path, kind: Kind) -> Result<Vec<Entry>, LabError> {
    let mut entries: Vec<_> =
        names(&run.join(CHECKPOINTS))?.iter().filter_map(|name| Entry::parse(kind, name)).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.age()));
    Ok(entries)
}

/// Names in a directory; none if it is absent.
fn names(path: &Path) -> Result<Vec<String>, LabError> {
    let read = || -> io::Result<Vec<String>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| LabError::io(path, error)),
    }
}

/// Removes a file, link or directory, if there is one.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The same file under another name: one more link where the file system has them, else a copy.
pub(super) fn link_or_copy(from: &Path, to: &Path) -> Result<(), LabError> {
    let copy = || -> io::Result<()> {
        fs::copy(from, to)?;
        File::open(to)?.sync_all()
    };
    fs::hard_link(from, to).or_else(|_| copy()).map_err(|error| LabError::io(to, error))
}

/// Makes the names in a directory last on disk.
pub(super) fn sync(path: &Path) -> Result<(), LabError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| LabError::io(path, error))
}

/// Makes the name of a directory last on disk. One may use a directory whose parent one may not read, so this can fail.
pub(super) fn sync_parent(path: &Path) {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = sync(parent);
}

/// Writes and syncs a file; gives its SHA-256.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<String, LabError> {
    write_hashed(path, |writer| writer.write_all(content))
}

/// Writes and syncs a file of what `fill` writes; gives its SHA-256.
pub(super) fn write_hashed(
    path: &Path,
    fill: impl FnOnce(&mut HashingWriter<File>) -> io::Result<()>,
) -> Result<String, LabError> {
    let write = || -> io::Result<String> {
        let mut writer = HashingWriter::new(File::create_new(path)?);
        fill(&mut writer)?;
        let (file, digest) = writer.finish()?;
        file.sync_all().map(|()| digest)
    };
    write().map_err(|error| LabError::io(path, error))
}

/// Reads a file, if its SHA-256 is the one expected.
pub(super) fn read(path: &Path, expected: &str) -> Result<Vec<u8>, LabError> {
    let content = fs::read(path).map_err(|error| LabError::io(path, error))?;
    let found = hex::encode(Sha256::digest(&content));
    if found == expected {
        return Ok(content);
    }
    Err(LabError::malformed(path, format!("its SHA-256 is {found}, and state.json says {expected}")))
}
