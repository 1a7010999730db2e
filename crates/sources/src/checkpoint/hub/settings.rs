//! What the environment says about the hub: the variables of Hugging Face's own tools.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// That of `huggingface_hub`.
const TIMEOUT: Duration = Duration::from_secs(10);

const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// How far the download of a file is.
#[derive(Debug, Clone, Copy)]
pub struct Download<'a> {
    /// The file's name in the repository.
    pub file: &'a str,
    /// Bytes that are there, those of earlier runs included.
    pub done: u64,
    /// Bytes of the whole file, if the server says.
    pub size: Option<u64>,
}

/// Sees how far downloads are, some ten times a megabyte.
pub type Watch = Arc<dyn Fn(Download<'_>) + Send + Sync>;

/// Where models are downloaded from and kept.
#[derive(Clone)]
pub struct HubSettings {
    /// The server, without a slash at its end.
    pub endpoint: String,
    /// The folder that holds `models--OWNER--NAME`.
    pub cache: PathBuf,
    /// The token for private and gated repositories.
    pub token: Option<String>,
    /// Whether only the cache may be used.
    pub offline: bool,
    /// How long a server may send nothing, or take to accept a connection.
    pub timeout: Duration,
    /// The pauses before further attempts at a download that failed for a cause that may pass. A download that got
    /// further than before is given all of them again.
    pub pauses: Vec<Duration>,
    /// Who wants to know how far downloads are.
    pub watch: Option<Watch>,
}

impl HubSettings {
    /// Reads `HF_ENDPOINT`; `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else `huggingface/hub` in `XDG_CACHE_HOME` or
    /// `~/.cache`; `HF_TOKEN`, else the file `HF_TOKEN_PATH` or `token` in `HF_HOME`; `HF_HUB_OFFLINE`;
    /// `HF_HUB_DOWNLOAD_TIMEOUT`, in seconds, else 10.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`HubSettings::from_env`], with the value of a variable given by `variable`. An empty value counts as none.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let folder = |name: &str| text(name).map(PathBuf::from);
        let home = folder("HF_HOME").unwrap_or_else(|| {
            folder("XDG_CACHE_HOME")
                .or_else(|| Some(folder("HOME").or_else(|| folder("USERPROFILE"))?.join(".cache")))
                .unwrap_or_default()
                .join("huggingface")
        });
        let token_file = folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let stored_token = || {
            let token = std::fs::read_to_string(token_file).ok()?.trim().to_owned();
            (!token.is_empty()).then_some(token)
        };
        Self {
            endpoint: text("HF_ENDPOINT")
                .map_or_else(|| "https://huggingface.co".to_owned(), |url| url.trim_end_matches('/').to_owned()),
            cache: folder("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            token: text("HF_TOKEN").or_else(stored_token),
            offline: text("HF_HUB_OFFLINE")
                .is_some_and(|value| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")),
            timeout: text("HF_HUB_DOWNLOAD_TIMEOUT")
                .and_then(|seconds| seconds.parse().ok())
                .filter(|seconds| *seconds > 0)
                .map_or(TIMEOUT, Duration::from_secs),
            pauses: PAUSES.to_vec(),
            watch: None,
        }
    }

    pub(super) fn show(&self, download: Download<'_>) {
        if let Some(watch) = &self.watch {
            watch(download);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::path::Path;

    fn settings(pairs: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_variables(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn without_variables_the_users_ordinary_cache_is_used() {
        let found = settings(&[("HOME", "/nowhere/anna")]);
        assert_eq!(found.endpoint, "https://huggingface.co");
        assert_eq!(found.cache, Path::new("/nowhere/anna/.cache/huggingface/hub"));
        assert_eq!(found.token, None);
        assert!(!found.offline);
    }

    #[test]
    fn each_variable_is_honoured() {
        let home = ("HOME", "/nowhere/anna");
        assert_eq!(settings(&[home, ("XDG_CACHE_HOME", "/c")]).cache, Path::new("/c/huggingface/hub"));
        assert_eq!(settings(&[home, ("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/c")]).cache, Path::new("/h/hub"));
        assert_eq!(settings(&[home, ("HF_HOME", "/h"), ("HF_HUB_CACHE", "/k")]).cache, Path::new("/k"));
        assert_eq!(settings(&[home, ("HF_ENDPOINT", "http://127.0.0.1:9/")]).endpoint, "http://127.0.0.1:9");
        assert_eq!(settings(&[home, ("HF_ENDPOINT", "")]).endpoint, "https://huggingface.co");
        for (value, offline) in [("1", true), ("true", true), ("ON", true), ("0", false), ("", false), ("no", false)] {
            assert_eq!(settings(&[home, ("HF_HUB_OFFLINE", value)]).offline, offline, "{value:?}");
        }
        for (value, seconds) in [("30", 30), ("", 10), ("0", 10), ("soon", 10)] {
            let found = settings(&[home, ("HF_HUB_DOWNLOAD_TIMEOUT", value)]).timeout;
            assert_eq!(found, Duration::from_secs(seconds), "{value:?}");
        }
    }

    #[test]
    fn the_token_comes_from_the_variable_or_else_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(settings(&[("HF_HOME", home)]).token, None);
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(settings(&[("HF_HOME", home)]).token.as_deref(), Some("hf_file"));
        assert_eq!(settings(&[("HF_HOME", home), ("HF_TOKEN", " hf_var ")]).token.as_deref(), Some("hf_var"));
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, "hf_elsewhere").unwrap();
        let path = ("HF_TOKEN_PATH", elsewhere.to_str().unwrap());
        assert_eq!(settings(&[("HF_HOME", home), path]).token.as_deref(), Some("hf_elsewhere"));
    }
}
