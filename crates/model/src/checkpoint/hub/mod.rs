//! Models named by a hub id, downloaded into the cache that Hugging Face's own tools use, in its layout:
//! `models--OWNER--NAME/{refs/main, snapshots/COMMIT/FILE, blobs/HASH}`.
//!
//! What is in the cache is used as it is. Otherwise `config.json` of `main` tells the commit, and everything else is
//! fetched from that commit, so that a repository which changes meanwhile is never mixed.

mod settings;

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::folder::{self, CONFIG, INDEX, SINGLE};
use crate::ModelError;

pub use settings::HubSettings;

/// Files that a model can do without, or that only the tokeniser needs.
const OPTIONAL: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "generation_config.json"];

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
pub(super) fn fetch(id: &str, settings: &HubSettings) -> Result<PathBuf, ModelError> {
    let repository = Repository { id, settings };
    let cached = repository.cached();
    if settings.offline {
        return cached.map_err(|missing| repository.absent(&missing));
    }
    let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
        .with_endpoint(settings.endpoint.clone())
        .with_token(settings.token.clone())
        .with_progress(false)
        .build()
        .map_err(|e| repository.failed(CONFIG, e).into_error(&repository))?;
    let folder = match cached {
        Ok(folder) => folder,
        Err(_) => repository.download(&api)?,
    };
    repository.complete(&api, &folder);
    Ok(folder)
}

/// A repository and where to get it.
struct Repository<'a> {
    id: &'a str,
    settings: &'a HubSettings,
}

/// Why a file could not be downloaded.
enum Failure {
    /// The server has no such file.
    Absent,
    /// Anything else.
    Other(String),
}

impl Failure {
    fn into_error(self, repository: &Repository<'_>) -> ModelError {
        let reason = match self {
            Failure::Absent => format!("{} has no such repository, or no {CONFIG} in it", repository.settings.endpoint),
            Failure::Other(reason) => reason,
        };
        ModelError::hub(repository.id, reason)
    }
}

impl Repository<'_> {
    fn cache(&self) -> CacheRepo {
        Cache::new(self.settings.cache.clone()).model(self.id.to_owned())
    }

    /// The folder of the cached commit of `main`, if config and weights are complete; else the file missing.
    fn cached(&self) -> Result<PathBuf, String> {
        let config = self.cache().get(CONFIG).ok_or(CONFIG)?;
        let folder = config.parent().ok_or(CONFIG)?;
        if folder.join(SINGLE).exists() {
            return Ok(folder.to_owned());
        }
        let index = folder.join(INDEX);
        if !index.exists() {
            return Err(SINGLE.to_owned());
        }
        // An index that cannot be read is for the one who opens the folder to report.
        match folder::shards(&index).unwrap_or_default().into_iter().find(|shard| !folder.join(shard).exists()) {
            Some(shard) => Err(shard),
            None => Ok(folder.to_owned()),
        }
    }

    fn absent(&self, missing: &str) -> ModelError {
        let reason = format!(
            "{missing} is not in the cache {}, and HF_HUB_OFFLINE forbids downloading it; unset HF_HUB_OFFLINE, or \
             set HF_HOME to where the model is",
            self.settings.cache.display()
        );
        ModelError::hub(self.id, reason)
    }

    /// Downloads config and weights of the commit that `main` is now.
    fn download(&self, api: &Api) -> Result<PathBuf, ModelError> {
        tracing::info!(id = self.id, endpoint = self.settings.endpoint, "downloading");
        let main = api.model(self.id.to_owned());
        let config = main.download(CONFIG).map_err(|e| self.failed(CONFIG, e).into_error(self))?;
        let folder = config.parent().unwrap_or(&config).to_owned();
        match self.get(api, &folder, SINGLE) {
            Ok(()) => return Ok(folder),
            Err(Failure::Absent) => {}
            Err(other) => return Err(other.into_error(self)),
        }
        match self.get(api, &folder, INDEX) {
            Ok(()) => {}
            Err(Failure::Absent) => {
                let reason = format!(
                    "{} has neither {SINGLE} nor {INDEX} in this repository; a repository with safetensors weights is needed",
                    self.settings.endpoint
                );
                return Err(ModelError::hub(self.id, reason));
            }
            Err(other) => return Err(other.into_error(self)),
        }
        for shard in folder::shards(&folder.join(INDEX))? {
            self.get(api, &folder, &shard).map_err(|failure| match failure {
                Failure::Absent => ModelError::hub(self.id, format!("{INDEX} lists {shard}, which does not exist")),
                other @ Failure::Other(_) => other.into_error(self),
            })?;
        }
        Ok(folder)
    }

    /// Fetches the optional files that are neither there nor known not to exist. A model can be examined without them,
    /// so failures are only logged.
    fn complete(&self, api: &Api, folder: &Path) {
        for file in OPTIONAL {
            let marker = self.marker(folder, file);
            if folder.join(file).exists() || marker.exists() {
                continue;
            }
            match self.get(api, folder, file) {
                Ok(()) => {}
                // As huggingface_hub does, so that the server is asked only once.
                Err(Failure::Absent) => {
                    let made = marker.parent().map(fs::create_dir_all).transpose().and_then(|_| fs::write(&marker, ""));
                    tracing::debug!(id = self.id, file, recorded = made.is_ok(), "does not exist");
                }
                Err(Failure::Other(reason)) => tracing::warn!(id = self.id, file, reason, "could not be downloaded"),
            }
        }
    }

    /// The empty file that records that a commit has no such file.
    fn marker(&self, folder: &Path, file: &str) -> PathBuf {
        let commit = folder.file_name().unwrap_or_default();
        self.root().join(".no_exist").join(commit).join(file)
    }

    fn root(&self) -> PathBuf {
        self.settings.cache.join(Repo::model(self.id.to_owned()).folder_name())
    }

    /// Downloads one file of the commit whose snapshot is `folder`, unless it is there.
    fn get(&self, api: &Api, folder: &Path, file: &str) -> Result<(), Failure> {
        if folder.join(file).exists() {
            return Ok(());
        }
        let commit = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pinned = api.repo(Repo::with_revision(self.id.to_owned(), RepoType::Model, commit.clone()));
        let path = pinned.download(file).map_err(|e| self.failed(file, e))?;
        // The client records the commit as if it were a branch; other tools would list it as one.
        let _ = fs::remove_file(self.root().join("refs").join(commit));
        if path.parent() == Some(folder) {
            Ok(())
        } else {
            Err(Failure::Other(format!("{file} came from another commit than {CONFIG}; try again")))
        }
    }

    fn failed(&self, file: &str, error: ApiError) -> Failure {
        let endpoint = &self.settings.endpoint;
        let error = match error {
            ApiError::RequestError(error) => error,
            ApiError::LockAcquisition(lock) => {
                let lock = lock.display();
                return Failure::Other(format!(
                    "another process is downloading {file} (it holds {lock}); try again later"
                ));
            }
            ApiError::IoError(error) => return Failure::Other(format!("{file} could not be downloaded: {error}")),
            other => return Failure::Other(format!("{endpoint} gave no usable answer for {file}: {other}")),
        };
        let description = error.to_string();
        match error.into_response().map(|response| response.status()) {
            Some(404) => Failure::Absent,
            Some(status @ (401 | 403)) => Failure::Other(format!(
                "{endpoint} refused {file} (status {status}): there is no such repository, or it is private or gated and \
                 HF_TOKEN must hold a token with access to it"
            )),
            Some(status) => Failure::Other(format!("{endpoint} answered status {status} for {file}; try again later")),
            None => Failure::Other(format!("{file} could not be downloaded from {endpoint}: {description}")),
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
