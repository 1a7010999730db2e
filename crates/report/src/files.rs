//! Files that appear whole or not at all.
//!
//! An [`OutputDirectory`] is tried before the work starts. Files are staged under temporary names beside their places,
//! and [`OutputDirectory::commit`] moves them there together. Dropped without a commit, it takes everything away again:
//! the staged files, and the directories it made if nothing else has come to live there. What a process that was stopped
//! suddenly has left is taken away by the next that uses the directory.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sinkscope_lab::files::{sweep, temporary};
use tempfile::NamedTempFile;

use crate::ReportError;

/// A directory that results go to.
#[derive(Debug)]
pub struct OutputDirectory {
    path: PathBuf,
    /// Directories that did not exist before, the innermost first.
    created: Vec<PathBuf>,
    staged: Vec<(String, NamedTempFile)>,
}

impl OutputDirectory {
    /// Makes the directory if it is not there, and checks that files can be created in it.
    ///
    /// # Errors
    /// [`ReportError::Unusable`] if it cannot be made, is not a directory, or cannot be written; nothing is left behind.
    pub fn prepare(path: &Path) -> Result<Self, ReportError> {
        let unusable = |source| ReportError::Unusable { path: path.to_owned(), source };
        if path.as_os_str().is_empty() {
            return Err(unusable(io::Error::new(io::ErrorKind::InvalidInput, "the path is empty")));
        }
        let directory = Self { path: path.to_owned(), created: missing(path), staged: Vec::new() };
        // What was created is taken away again when `directory` drops.
        fs::create_dir_all(path).map_err(|error| unusable(explain(path, error)))?;
        let mut trial = temporary(&directory.path, "trial").map_err(unusable)?;
        trial.write_all(b"trial").map_err(unusable)?;
        drop(trial);
        sweep(&directory.path).map_err(unusable)?;
        Ok(directory)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file under a temporary name; [`OutputDirectory::commit`] gives it its own. A name staged twice counts
    /// once, the last content.
    ///
    /// # Errors
    /// [`ReportError::Write`] if it cannot be written.
    pub fn stage(&mut self, name: &str, content: &[u8]) -> Result<(), ReportError> {
        let place = self.path.join(name);
        let write = || -> io::Result<NamedTempFile> {
            let mut file = temporary(&self.path, name)?;
            file.write_all(content)?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        let file = write().map_err(|source| ReportError::write(&place, source))?;
        self.staged.retain(|(staged, _)| staged != name);
        self.staged.push((name.to_owned(), file));
        Ok(())
    }

    /// Gives every staged file its name, replacing what was there, and makes that last on disk.
    ///
    /// # Errors
    /// [`ReportError::Write`] if a file cannot take its place; those not yet moved are taken away.
    pub fn commit(mut self) -> Result<(), ReportError> {
        let staged = std::mem::take(&mut self.staged);
        // A directory in a file's place is the one obstacle that can be seen beforehand.
        if let Some((name, _)) = staged.iter().find(|(name, _)| self.path.join(name).is_dir()) {
            let source = io::Error::new(io::ErrorKind::IsADirectory, "there is a directory in its place");
            return Err(ReportError::write(self.path.join(name), source));
        }
        for (name, file) in staged {
            let place = self.path.join(name);
            file.persist(&place).map_err(|error| ReportError::write(&place, error.error))?;
        }
        self.created.clear();
        sync_directory(&self.path).map_err(|source| ReportError::write(&self.path, source))
    }
}

impl Drop for OutputDirectory {
    fn drop(&mut self) {
        // Staged files first, so that the directories are empty.
        self.staged.clear();
        for path in &self.created {
            // Fails, as it should, if something else is in there by now.
            if fs::remove_dir(path).is_err() {
                break;
            }
        }
    }
}

/// Those of a directory and its ancestors that do not exist, innermost first.
fn missing(path: &Path) -> Vec<PathBuf> {
    path.ancestors()
        .filter(|ancestor| !ancestor.as_os_str().is_empty())
        .take_while(|ancestor| matches!(ancestor.try_exists(), Ok(false)))
        .map(Path::to_owned)
        .collect()
}

/// "File exists" does not say what is wrong with a file in a directory's place.
fn explain(path: &Path, error: io::Error) -> io::Error {
    let in_the_way = path.ancestors().find(|ancestor| ancestor.exists() && !ancestor.is_dir());
    match in_the_way {
        Some(file) if file == path => io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory"),
        Some(file) => io::Error::new(io::ErrorKind::NotADirectory, format!("{} is not a directory", file.display())),
        None => error,
    }
}

/// Makes renames in a directory last on disk, where the system has a way to.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_appear_together_at_commit() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("a/b");
        let mut out = OutputDirectory::prepare(&path).expect("usable");
        out.stage("x.json", b"old").expect("written");
        out.stage("x.json", b"{}").expect("written");
        out.stage("y.csv", b"a\n").expect("written");
        assert!(names(&path).iter().all(|name| name.starts_with('.')), "{:?}", names(&path));
        out.commit().expect("moved");
        assert_eq!(names(&path), ["x.json", "y.csv"]);
        assert_eq!(fs::read(path.join("x.json")).expect("there"), b"{}");
    }

    #[test]
    fn without_commit_nothing_is_left() {
        let home = tempfile::tempdir().expect("a directory");
        let mut out = OutputDirectory::prepare(&home.path().join("a/b")).expect("usable");
        out.stage("x.json", b"{}").expect("written");
        drop(out);
        assert!(names(home.path()).is_empty());
    }

    #[test]
    fn without_commit_what_was_there_stays() {
        let home = tempfile::tempdir().expect("a directory");
        fs::write(home.path().join("x.json"), "before").expect("written");
        let mut out = OutputDirectory::prepare(home.path()).expect("usable");
        out.stage("x.json", b"after").expect("written");
        drop(out);
        assert_eq!(names(home.path()), ["x.json"]);
        assert_eq!(fs::read(home.path().join("x.json")).expect("there"), b"before");
    }

    #[test]
    fn directories_that_others_moved_into_stay() {
        let home = tempfile::tempdir().expect("a directory");
        let out = OutputDirectory::prepare(&home.path().join("a/b")).expect("usable");
        fs::write(home.path().join("a/other"), "").expect("written");
        drop(out);
        assert_eq!(names(home.path()), ["a"]);
        assert_eq!(names(&home.path().join("a")), ["other"]);
    }

    #[test]
    fn a_directory_in_a_files_place_fails_before_anything_moves() {
        let home = tempfile::tempdir().expect("a directory");
        fs::create_dir(home.path().join("y.csv")).expect("made");
        let mut out = OutputDirectory::prepare(home.path()).expect("usable");
        out.stage("x.json", b"{}").expect("written");
        out.stage("y.csv", b"a\n").expect("written");
        let error = out.commit().expect_err("y.csv is in the way").to_string();
        assert!(error.contains("y.csv") && error.contains("directory in its place"), "{error}");
        assert_eq!(names(home.path()), ["y.csv"]);
    }

    #[test]
    fn a_file_in_the_directorys_place_is_named() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("file");
        fs::write(&file, "").expect("written");
        for path in [file.clone(), file.join("below")] {
            let error = OutputDirectory::prepare(&path).expect_err("a file is in the way");
            assert!(matches!(error, ReportError::Unusable { .. }));
            let message = error.to_string();
            assert!(message.contains("not a directory") && message.contains("file"), "{message}");
        }
        assert_eq!(names(home.path()), ["file"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_system_that_takes_no_files_is_found_out() {
        for path in ["/proc", "/proc/sinkscope/deep"] {
            let error = OutputDirectory::prepare(Path::new(path)).expect_err("nobody can write there");
            assert!(matches!(error, ReportError::Unusable { .. }), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_have_ordinary_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().expect("a directory");
        fs::write(home.path().join("ordinary"), "").expect("written");
        let mut out = OutputDirectory::prepare(home.path()).expect("usable");
        out.stage("ours", b"1").expect("written");
        out.commit().expect("moved");
        let mode = |name| fs::metadata(home.path().join(name)).expect("there").permissions().mode();
        assert_eq!(mode("ours"), mode("ordinary"));
    }
}
