//! Files of the cache that are named after a hash of their content, as the hub's entity tags are: the SHA-256 of files
//! in large-file storage, the SHA-1 of a git blob otherwise.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::Digest;

use crate::SourceError;
use crate::checkpoint::digest;

/// The folder of a repository in the cache that holds contents.
pub(super) const BLOBS: &str = "blobs";

/// What the content of a file must hash to, in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ContentHash {
    Sha256(String),
    /// SHA-1 of `blob LENGTH`, a zero byte and the content, as git names it.
    GitBlob(String),
}

impl ContentHash {
    /// An entity tag, perhaps quoted or weak, or the name of a blob.
    pub(super) fn parse(etag: &str) -> Option<Self> {
        let hex = etag.trim().trim_start_matches("W/").trim_matches('"');
        match hex.len() {
            64 if is_lower_hex(hex) => Some(Self::Sha256(hex.to_owned())),
            40 if is_lower_hex(hex) => Some(Self::GitBlob(hex.to_owned())),
            _ => None,
        }
    }

    /// The name of the blob.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }

    /// The hash of the same kind that the content of a file has.
    pub(super) fn of_file(&self, path: &Path) -> Result<Self, SourceError> {
        Ok(match self {
            Self::Sha256(_) => Self::Sha256(hex::encode(digest::of_file(path)?)),
            Self::GitBlob(_) => {
                let mut file = File::open(path).map_err(|e| SourceError::io(path, e))?;
                let bytes = file.metadata().map_err(|e| SourceError::io(path, e))?.len();
                let mut hash = Sha1::new_with_prefix(format!("blob {bytes}\0"));
                digest::read_into(&mut hash, &mut file).map_err(|e| SourceError::io(path, e))?;
                Self::GitBlob(hex::encode(hash.finalize()))
            }
        })
    }

    /// What kind of hash it is.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::GitBlob(_) => "git blob SHA-1",
        }
    }
}

/// Whether a text consists of the digits of hashes.
pub(super) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The blob that a file of a snapshot links to, and what it must hash to. None for a file that is no such link, or is
/// not there.
fn blob_of(file: &Path) -> Option<(PathBuf, ContentHash)> {
    if !file.exists() {
        return None;
    }
    let target = fs::read_link(file).ok()?;
    let hash = ContentHash::parse(target.file_name()?.to_str()?)?;
    let blobs = fs::canonicalize(file.parent()?.join(target.parent()?)).ok()?;
    (blobs.file_name()? == BLOBS).then(|| (blobs.join(hash.name()), hash))
}

/// Holds a file of a snapshot to the name of its blob.
pub(super) fn check(file: &Path) -> Result<(), SourceError> {
    let Some((blob, expected)) = blob_of(file) else { return Ok(()) };
    let found = expected.of_file(&blob)?;
    if found == expected { Ok(()) } else { Err(damaged(&blob, file, &found)) }
}

/// As [`check`], but only where the hash takes no time: the hub keeps files of more than 10 MB in large-file storage.
pub(super) fn check_unless_large(file: &Path) -> Result<(), SourceError> {
    match blob_of(file) {
        Some((_, ContentHash::GitBlob(_))) => check(file),
        _ => Ok(()),
    }
}

/// Holds the SHA-256 of a file of a snapshot to the name of its blob.
pub(in crate::checkpoint) fn check_digest(file: &Path, sha256: &[u8; 32]) -> Result<(), SourceError> {
    match blob_of(file) {
        Some((blob, expected @ ContentHash::Sha256(_))) => {
            let found = ContentHash::Sha256(hex::encode(sha256));
            if found == expected { Ok(()) } else { Err(damaged(&blob, file, &found)) }
        }
        _ => Ok(()),
    }
}

/// What is said of a blob whose content has another hash than its name says.
pub(super) fn damaged(blob: &Path, file: &Path, found: &ContentHash) -> SourceError {
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    SourceError::malformed(
        blob,
        format!(
            "is damaged: this file of the cache is named after its {}, and now has {}; remove it (rm '{}') and run again \
             with access to the hub, to download {file} anew",
            found.kind(),
            found.name(),
            blob.display(),
        ),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_entity_tag_is_a_hash_or_nothing() {
        let (sha256, sha1) = ("0f".repeat(32), "a1".repeat(20));
        assert_eq!(ContentHash::parse(&format!("\"{sha256}\"")), Some(ContentHash::Sha256(sha256)));
        assert_eq!(ContentHash::parse(&format!("W/\"{sha1}\"")), Some(ContentHash::GitBlob(sha1)));
        for other in ["", "\"\"", "\"../../../../../../../../../../../../../etc\"", &"0F".repeat(32), &"g".repeat(40)] {
            assert_eq!(ContentHash::parse(other), None, "{other}");
        }
    }

    /// The hashes that `git hash-object` and `sha256sum` print.
    #[test]
    fn contents_hash_as_git_and_sha256sum_say() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "hello\n").unwrap();
        let git = ContentHash::parse("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        assert_eq!(git.of_file(&file).unwrap(), git);
        let sha256 = ContentHash::parse("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03").unwrap();
        assert_eq!(sha256.of_file(&file).unwrap(), sha256);
    }
}
