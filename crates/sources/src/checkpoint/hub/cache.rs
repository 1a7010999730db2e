//! The layout of a repository in the cache, which is that of `huggingface_hub`.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::blob::{self, BLOBS, ContentHash};

pub(super) struct RepositoryCache {
    /// `models--OWNER--NAME`.
    root: PathBuf,
    locks: PathBuf,
}

impl RepositoryCache {
    /// Of a hub id.
    pub(super) fn new(cache: &Path, id: &str) -> Self {
        let name = format!("models--{}", id.replace('/', "--"));
        Self { root: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    /// The commit that `main` was when it was downloaded.
    pub(super) fn main(&self) -> Option<String> {
        let commit = fs::read_to_string(self.root.join("refs/main")).ok()?.trim().to_owned();
        is_commit(&commit).then_some(commit)
    }

    /// Records what `main` is, once its snapshot is whole.
    pub(super) fn set_main(&self, commit: &str) -> io::Result<()> {
        let refs = self.root.join("refs");
        fs::create_dir_all(&refs)?;
        fs::write(refs.join("main"), commit)
    }

    /// The folder that holds the files of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Where the content of that hash is, or will be.
    pub(super) fn blob(&self, hash: &ContentHash) -> PathBuf {
        self.root.join(BLOBS).join(hash.name())
    }

    /// Where it is while it arrives.
    pub(super) fn part(&self, hash: &ContentHash) -> PathBuf {
        self.root.join(BLOBS).join(format!("{}.incomplete", hash.name()))
    }

    /// Makes a file of a snapshot of a blob.
    pub(super) fn link(&self, commit: &str, file: &str, hash: &ContentHash) -> io::Result<()> {
        let snapshot = self.snapshot(commit);
        fs::create_dir_all(&snapshot)?;
        let link = snapshot.join(file);
        match link_to_blob(&self.blob(hash), hash, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !link.exists() => {
                // A link to a blob that somebody removed.
                fs::remove_file(&link)?;
                link_to_blob(&self.blob(hash), hash, &link)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    /// Whether it is recorded that a commit has no such file.
    pub(super) fn is_known_absent(&self, commit: &str, file: &str) -> bool {
        self.marker(commit, file).exists()
    }

    /// Records it, so that the server is asked only once.
    pub(super) fn set_absent(&self, commit: &str, file: &str) {
        let marker = self.marker(commit, file);
        let made = marker.parent().map(fs::create_dir_all).transpose().and_then(|_| fs::write(&marker, ""));
        tracing::debug!(file, recorded = made.is_ok(), "does not exist");
    }

    fn marker(&self, commit: &str, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(commit).join(file)
    }

    /// Waits until no other process downloads that content. The lock is the one of `huggingface_hub`.
    ///
    /// It only saves a second download: where a file system has no locks, two processes write the same bytes at the same
    /// places.
    pub(super) fn lock(&self, hash: &ContentHash, file: &str) -> io::Result<File> {
        fs::create_dir_all(&self.locks)?;
        let path = self.locks.join(format!("{}.lock", hash.name()));
        let lock = File::options().create(true).truncate(false).write(true).open(&path)?;
        if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            tracing::warn!("another process is downloading {file}; waiting for it (lock {})", path.display());
            let _ = lock.lock();
        }
        Ok(lock)
    }
}

/// Whether a text can be the name of a commit. Others may not become parts of paths.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && blob::is_lower_hex(text)
}

#[cfg(unix)]
fn link_to_blob(_: &Path, hash: &ContentHash, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(Path::new("../..").join(BLOBS).join(hash.name()), link)
}

/// As `huggingface_hub` does where links need a privilege.
#[cfg(not(unix))]
fn link_to_blob(blob: &Path, _: &ContentHash, link: &Path) -> io::Result<()> {
    fs::rename(blob, link)
}
