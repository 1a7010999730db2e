//! One file on its way into the cache.
//!
//! It arrives as `blobs/HASH.incomplete`, which a later attempt or run goes on with. Only what has the size and the hash
//! that the hub states is renamed to `blobs/HASH` and linked.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;

use super::blob;
use super::cache::RepositoryCache;
use super::client::{Client, Described, Failure, Incoming};
use super::settings::{Download, HubSettings};

/// Where files come from and where they go.
pub(super) struct Downloader<'a> {
    pub(super) client: Client<'a>,
    pub(super) cache: &'a RepositoryCache,
    pub(super) settings: &'a HubSettings,
}

impl Downloader<'_> {
    /// Downloads a file of a revision into the snapshot of the commit that this revision is; returns the commit.
    ///
    /// What broke off is taken up again, after each pause of the settings; these begin anew when more has arrived.
    pub(super) fn file(&self, revision: &str, file: &str) -> Result<String, Failure> {
        let mut pauses = self.settings.pauses.iter();
        let mut furthest = 0;
        loop {
            let mut arrived = 0;
            let failure = match self.attempt(revision, file, &mut arrived) {
                Ok(commit) => return Ok(commit),
                Err(failure) => failure,
            };
            if arrived > furthest {
                furthest = arrived;
                pauses = self.settings.pauses.iter();
            }
            let may_pass = match failure {
                Failure::Passing(_) => true,
                Failure::Unreachable(_) => furthest > 0,
                Failure::Absent(_) | Failure::Final(_) => false,
            };
            match pauses.next().filter(|_| may_pass) {
                Some(pause) => thread::sleep(*pause),
                None => return Err(failure),
            }
        }
    }

    /// One attempt; `arrived` becomes the number of bytes that there are.
    fn attempt(&self, revision: &str, file: &str, arrived: &mut u64) -> Result<String, Failure> {
        let described = self.client.describe(revision, file)?;
        let commit = match &described.commit {
            Some(commit) if revision == "main" || commit == revision => commit.clone(),
            Some(_) => return Err(Failure::Final(format!("{file} came from another commit than asked for"))),
            None if revision != "main" => revision.to_owned(),
            None => {
                let hub = self.client.hub();
                return Err(Failure::Final(format!("{hub} does not say which commit {file} is of (X-Repo-Commit)")));
            }
        };
        let (blob, part) = (self.cache.blob(&described.hash), self.cache.part(&described.hash));
        let _lock = self.cache.lock(&described.hash, file).map_err(|e| cannot_write(&blob, &e))?;
        if blob.exists() {
            let found = described.hash.of_file(&blob).map_err(|e| Failure::Final(e.to_string()))?;
            if found != described.hash {
                return Err(Failure::Final(blob::damaged(&blob, Path::new(file), &found).to_string()));
            }
        } else {
            if let Some(folder) = blob.parent() {
                fs::create_dir_all(folder).map_err(|e| cannot_write(folder, &e))?;
            }
            self.receive(&described, &part, file, arrived)?;
            fs::rename(&part, &blob).map_err(|e| cannot_write(&blob, &e))?;
        }
        self.cache.link(&commit, file, &described.hash).map_err(|e| cannot_write(&blob, &e))?;
        Ok(commit)
    }

    /// Makes `part` the whole file, synced and checked.
    fn receive(&self, described: &Described, part: &Path, file: &str, arrived: &mut u64) -> Result<(), Failure> {
        let unwritable = |error| cannot_write(part, &error);
        let (mut target, mut had) = open_part(part).map_err(unwritable)?;
        if described.size.is_none_or(|size| had > size) {
            (target, had) = renew(part).map_err(unwritable)?;
        }
        let (mut host, mut end) = (self.client.hub(), had);
        if described.size != Some(had) {
            let content = self.client.content(described, had, file)?;
            if content.start < had {
                (target, had) = renew(part).map_err(unwritable)?;
            }
            host.clone_from(&content.host);
            end = self.copy(described, content, (&mut target, part), file, arrived)?;
        }
        target.sync_all().map_err(unwritable)?;
        let found = described.hash.of_file(part).map_err(|e| Failure::Final(e.to_string()))?;
        if found == described.hash {
            return Ok(());
        }
        *arrived = 0;
        fs::remove_file(part).map_err(unwritable)?;
        if had > 0 {
            let reason = format!(
                "{file} was completed from a part of an earlier download, and does not have the {} that {} states; nothing \
                 of it was kept",
                found.kind(),
                self.client.hub()
            );
            tracing::warn!("{reason}");
            return Err(Failure::Passing(reason));
        }
        Err(Failure::Final(format!(
            "{host} sent {end} bytes of {file} with the {} {}, and {} says that it is {}; nothing of it was kept",
            found.kind(),
            found.name(),
            self.client.hub(),
            described.hash.name()
        )))
    }

    /// Writes what arrives; returns where it ends.
    fn copy(
        &self,
        described: &Described,
        mut content: Incoming,
        (target, part): (&mut File, &Path),
        file: &str,
        arrived: &mut u64,
    ) -> Result<u64, Failure> {
        let size = described.size.or(content.size);
        let mut done = content.start;
        target.seek(SeekFrom::Start(done)).map_err(|e| cannot_write(part, &e))?;
        let mut buffer = vec![0; 1 << 17];
        let broken = loop {
            self.settings.show(Download { file, done, size });
            let read = match content.body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Some(self.client.broken(error, &content.host, file)),
            };
            target.write_all(&buffer[..read]).map_err(|e| cannot_write(part, &e))?;
            done += read as u64;
            *arrived = done;
            if size.is_some_and(|size| done > size) {
                break None;
            }
        };
        let failure = match (broken, size) {
            (Some(failure), _) => failure,
            (None, Some(size)) if done < size => {
                Failure::Passing(format!("{} ended {file} after {done} of {size} bytes", content.host))
            }
            (None, _) => return Ok(done),
        };
        Err(failure.with(&format!("; {done} bytes of it are kept, and the next run goes on from there")))
    }
}

/// The part that is there, or an empty one, and its length. What is no file is not written through.
///
/// It is neither cut short nor appended to: where locks do not work, another process may be writing the same bytes.
fn open_part(part: &Path) -> io::Result<(File, u64)> {
    match fs::symlink_metadata(part) {
        Ok(about) if about.is_file() => {
            let file = File::options().write(true).open(part)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        }
        Ok(_) => renew(part),
        Err(_) => Ok((File::create_new(part)?, 0)),
    }
}

/// An empty part in the place of the one that is there.
fn renew(part: &Path) -> io::Result<(File, u64)> {
    match fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok((File::create_new(part)?, 0))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Final(format!("cannot write {}: {error}", path.display()))
}
