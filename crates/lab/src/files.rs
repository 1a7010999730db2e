//! Files that appear whole or not at all: written under a temporary name, synced, renamed.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::LabError;

/// An empty file in a directory, beside the place of `name`, with the permissions of an ordinary new file.
///
/// # Errors
/// If it cannot be made.
pub fn temporary(directory: &Path, name: &str) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{name}.{}-{}.", processes().unwrap_or_default(), std::process::id());
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As every other program asks for; the umask takes its share.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory)
}

/// Removes from a directory what processes that are gone left half-written, stopped too suddenly to take it away; as far as
/// that can be known, and done. Files of other machines are left alone.
///
/// # Errors
/// If the directory cannot be read.
pub fn sweep(directory: &Path) -> io::Result<()> {
    let here = processes();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let gone = |(processes, id): (&str, u32)| {
            here.as_deref() == Some(processes) && !Path::new("/proc").join(id.to_string()).exists()
        };
        if name.to_str().and_then(writer).is_some_and(gone) {
            // Another process may sweep too.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Which processes numbers are of: those since this machine was started, in this container; `None` if the system does not say.
fn processes() -> Option<String> {
    let start = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let container = fs::read_link("/proc/self/ns/pid").ok()?;
    let number: String = container.to_str()?.chars().filter(char::is_ascii_digit).collect();
    Some(format!("{}-{number}", start.split('-').next()?))
}

/// The process that made a temporary file of this name, and which processes its number is of.
fn writer(name: &str) -> Option<(&str, u32)> {
    let (rest, _random) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let (processes, id) = rest.rsplit_once('.')?.1.rsplit_once('-')?;
    Some((processes, id.parse().ok()?))
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

/// A new file, and the checksum of what has been written to it.
pub(crate) struct HashingWriter<W: Write> {
    file: BufWriter<W>,
    hasher: Sha256,
}

impl<W: Write> HashingWriter<W> {
    pub(crate) fn new(file: W) -> Self {
        Self { file: BufWriter::with_capacity(1 << 20, file), hasher: Sha256::new() }
    }

    /// The file, and its SHA-256.
    pub(crate) fn finish(self) -> io::Result<(W, String)> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((file, hex::encode(self.hasher.finalize())))
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
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
        let left = format!(".train.bin.{}-{}.aB3x9Z.tmp", processes().expect("Linux"), gone.id());
        let elsewhere = format!(".train.bin.0123abcd-1-{}.aB3x9Z.tmp", gone.id());
        let kept = ["train.bin", ".train.bin.tmp", ".hidden.1.txt", ".a.b.aB3x9Z.tmp", elsewhere.as_str()];
        for name in kept.into_iter().chain([left.as_str()]) {
            fs::write(home.path().join(name), "").expect("written");
        }
        let ours = temporary(home.path(), "train.bin").expect("a file");
        sweep(home.path()).expect("swept");
        assert!(!home.path().join(left).exists());
        assert!(ours.path().exists() && kept.iter().all(|name| home.path().join(name).exists()));
    }
}
