//! Models named by a hub id, downloaded into the cache that Hugging Face's own tools use, in its layout:
//! `models--OWNER--NAME/{refs/main, snapshots/COMMIT/FILE, blobs/HASH}`.
//!
//! What is in the cache is used as it is. Otherwise `config.json` of `main` tells the commit, and everything else is
//! fetched from that commit, so that a repository which changes meanwhile is never mixed.
//!
//! A file enters the cache when its size and hash are those that the hub states. Blobs are named after their hashes, so
//! a file of the cache can be checked without the hub too: settings and tokeniser each time a model is opened, weights
//! when [`Checkpoint::sha256`](super::Checkpoint::sha256) reads them, which every result does, or when they cannot be opened.

mod blob;
mod cache;
mod client;
mod download;
mod settings;

use std::path::{Path, PathBuf};

use self::cache::RepositoryCache;
use self::client::{Client, Failure};
use self::download::Downloader;
use super::folder::{self, CONFIG, INDEX, SINGLE};
use crate::SourceError;

pub(super) use blob::check_digest;
pub use settings::{Download, HubSettings, Watch};

/// Files that a model can do without, or that only the tokeniser needs.
const OPTIONAL: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// Whether a text has the form `owner/name`, and is not plainly a path.
pub(super) fn looks_like_id(model: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && !part.contains("..")
    };
    let is_file = [".gguf", ".safetensors", ".json", ".bin"].iter().any(|ending| model.ends_with(ending));
    !is_file && model.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// The folder in the cache that holds the model, after downloading what is missing.
///
/// # Errors
/// If the repository or a file it needs does not exist, cannot be downloaded, or may not be.
pub(super) fn fetch(id: &str, settings: &HubSettings) -> Result<PathBuf, SourceError> {
    let repository = Repository { id, settings, cache: RepositoryCache::new(&settings.cache, id) };
    let cached = repository.cached();
    if settings.offline {
        return cached.map(|(folder, _)| folder).map_err(|missing| repository.absent(&missing));
    }
    match cached {
        Ok((folder, commit)) => {
            // A start that needs nothing of the hub does not wait long for it.
            let once = HubSettings { pauses: vec![], ..settings.clone() };
            repository.complete(&repository.downloader(&once)?, &folder, &commit);
            Ok(folder)
        }
        Err(_) => repository.download(&repository.downloader(settings)?),
    }
}

/// Holds the files of a snapshot, but large weights, to the names of their blobs.
pub(super) fn check_snapshot(folder: &Path) -> Result<(), SourceError> {
    [CONFIG, INDEX].iter().chain(&OPTIONAL).try_for_each(|file| blob::check(&folder.join(file)))
}

/// As [`check_snapshot`], for weights.
pub(super) fn check_small_weights(files: &[PathBuf]) -> Result<(), SourceError> {
    files.iter().try_for_each(|file| blob::check_unless_large(file))
}

/// Says of a file that cannot be understood, or has weights that are no numbers, that it is damaged, if the cache knows.
pub(super) fn or_damaged(error: SourceError) -> SourceError {
    match &error {
        SourceError::Malformed { path, .. } | SourceError::Tensor { path, .. } => {
            blob::check(path).err().unwrap_or(error)
        }
        _ => error,
    }
}

/// A repository, where to get it and where it goes.
struct Repository<'a> {
    id: &'a str,
    settings: &'a HubSettings,
    cache: RepositoryCache,
}

impl Repository<'_> {
    fn downloader<'a>(&'a self, settings: &'a HubSettings) -> Result<Downloader<'a>, SourceError> {
        let client = Client::new(self.id, settings).map_err(|reason| SourceError::hub(self.id, reason))?;
        Ok(Downloader { client, cache: &self.cache, settings })
    }

    /// The folder of the cached commit of `main` and the commit, if config and weights are complete; else the file missing.
    fn cached(&self) -> Result<(PathBuf, String), String> {
        let commit = self.cache.main().ok_or(CONFIG)?;
        let folder = self.cache.snapshot(&commit);
        let index = folder.join(INDEX);
        if !folder.join(CONFIG).exists() {
            return Err(CONFIG.to_owned());
        }
        if !folder.join(SINGLE).exists() {
            if !index.exists() {
                return Err(SINGLE.to_owned());
            }
            // An index that cannot be read is for the one who opens the folder to report.
            let shards = folder::shards(&index).unwrap_or_default();
            if let Some(shard) = shards.into_iter().find(|shard| !folder.join(shard).exists()) {
                return Err(shard);
            }
        }
        Ok((folder, commit))
    }

    fn absent(&self, missing: &str) -> SourceError {
        let reason = format!(
            "{missing} is not in the cache {}, and HF_HUB_OFFLINE forbids downloading it; unset HF_HUB_OFFLINE, or \
             set HF_HOME to where the model is",
            self.settings.cache.display()
        );
        SourceError::hub(self.id, reason)
    }

    /// Downloads the commit that `main` is now. The cache names that commit when all of it is there.
    fn download(&self, downloader: &Downloader<'_>) -> Result<PathBuf, SourceError> {
        tracing::info!(id = self.id, endpoint = downloader.client.hub(), "downloading");
        let failed = |failure: Failure| SourceError::hub(self.id, failure.reason());
        let commit = downloader.file("main", CONFIG).map_err(failed)?;
        let folder = self.cache.snapshot(&commit);
        let get =
            |file: &str| if folder.join(file).exists() { Ok(()) } else { downloader.file(&commit, file).map(drop) };
        match get(SINGLE) {
            Err(Failure::Absent(_)) => {
                get(INDEX).map_err(|failure| match failure {
                    Failure::Absent(_) => SourceError::hub(
                        self.id,
                        format!(
                            "{} has neither {SINGLE} nor {INDEX} in this repository; a repository with safetensors \
                             weights is needed",
                            downloader.client.hub()
                        ),
                    ),
                    other => failed(other),
                })?;
                for shard in folder::shards(&folder.join(INDEX)).map_err(or_damaged)? {
                    get(&shard).map_err(|failure| match failure {
                        Failure::Absent(_) => {
                            SourceError::hub(self.id, format!("{INDEX} lists {shard}, which does not exist"))
                        }
                        other => failed(other),
                    })?;
                }
            }
            other => other.map_err(failed)?,
        }
        for file in OPTIONAL {
            match get(file) {
                Err(Failure::Absent(_)) => self.cache.set_absent(&commit, file),
                other => other.map_err(failed)?,
            }
        }
        self.cache.set_main(&commit).map_err(|e| SourceError::io(&folder, e))?;
        Ok(folder)
    }

    /// Fetches the optional files that are neither there nor known not to exist, for a cache that another tool filled. The
    /// first failure ends it, since a model that is in the cache is examined without the hub too.
    fn complete(&self, downloader: &Downloader<'_>, folder: &Path, commit: &str) {
        for file in OPTIONAL {
            if folder.join(file).exists() || self.cache.is_known_absent(commit, file) {
                continue;
            }
            match downloader.file(commit, file) {
                Ok(_) => {}
                Err(Failure::Absent(_)) => self.cache.set_absent(commit, file),
                Err(failure) => {
                    tracing::warn!("{}: {file} is not in the cache, and may be missed: {}", self.id, failure.reason());
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::looks_like_id;

    #[test]
    fn ids_are_told_from_paths() {
        for id in ["HuggingFaceTB/SmolLM2-135M", "openai-community/gpt2", "a/b.c", "EleutherAI/pythia-70m"] {
            assert!(looks_like_id(id), "{id}");
        }
        for path in ["gpt2", "./a/b", "../a", "/a/b", "a/b/c", "a/", "/b", "models/x.gguf", "a/..", "~/a", "a b/c", ""]
        {
            assert!(!looks_like_id(path), "{path}");
        }
    }
}
