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
    let prefix = format!(".{name}.");
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As every other program asks for; the umask takes its share.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory)
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
