//! Files that appear whole or not at all: written under a temporary name, synced, renamed.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::LabError;

/// An empty file in a directory, beside the place of `name`, with the permissions of an ordinary new file.
///
/// # Errors
/// If it cannot be made.
pub fn temporary(directory: &Path, name: &str) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{name}.{}.", std::process::id());
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As every other program asks for; the umask takes its share.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory)
}

/// Removes from a directory what processes that are gone left half-written, stopped too suddenly to take it away. Does
/// nothing where the system does not say which processes there are.
///
/// # Errors
/// If the directory cannot be read, or a file not be removed.
pub fn sweep(directory: &Path) -> io::Result<()> {
    let processes = Path::new("/proc");
    if !processes.join("self").exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let writer = name.to_str().and_then(writer);
        if writer.is_some_and(|writer| !processes.join(writer.to_string()).exists()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The process that made a temporary file of this name.
fn writer(name: &str) -> Option<u32> {
    let (rest, _random) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    rest.rsplit_once('.')?.1.parse().ok()
}

/// Finds out whether files can be made in a directory, which is made if absent.
pub(crate) fn try_directory(directory: &Path) -> Result<(), LabError> {
    let attempt = fs::create_dir_all(directory).and_then(|()| temporary(directory, "attempt"));
    attempt.map(drop).map_err(|error| LabError::io(directory, error))
}

/// Writes a file in a directory that is made if absent.
pub(crate) fn write(directory: &Path, name: &str, content: &[u8]) -> Result<(), LabError> {
    let path = directory.join(name);
    let write = || -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let mut file = temporary(directory, name)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(&path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error| LabError::io(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_process_that_is_gone_left_is_swept_away_and_nothing_else() {
        let home = tempfile::tempdir().expect("a directory");
        let mut gone = std::process::Command::new("true").spawn().expect("a process");
        gone.wait().expect("an end");
        let left = format!(".train.bin.{}.aB3x9Z.tmp", gone.id());
        let kept = ["train.bin", ".train.bin.tmp", ".hidden.1.txt", ".a.b.aB3x9Z.tmp"];
        for name in kept.into_iter().chain([left.as_str()]) {
            fs::write(home.path().join(name), "").expect("written");
        }
        let ours = temporary(home.path(), "train.bin").expect("a file");
        sweep(home.path()).expect("swept");
        assert!(!home.path().join(left).exists());
        assert!(ours.path().exists() && kept.iter().all(|name| home.path().join(name).exists()));
    }
}
