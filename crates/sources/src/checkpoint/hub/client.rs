//! What the hub is asked, and what its answers mean.
//!
//! The hub describes a file (commit, hash, size) and serves it, or redirects to a storage host. The token goes to the
//! hub alone. No address is printed beyond its host: those of storage carry signatures.

use std::io;

use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body, BodyReader};
use url::Url;

use super::blob::ContentHash;
use super::cache::is_commit;
use super::settings::HubSettings;

const MAX_REDIRECTS: usize = 10;

/// A connection to the hub, for one repository.
pub(super) struct Client<'a> {
    id: &'a str,
    settings: &'a HubSettings,
    endpoint: Url,
    agent: Agent,
}

/// What the hub says of a file.
pub(super) struct Described {
    pub(super) hash: ContentHash,
    /// The commit that the revision asked for is.
    pub(super) commit: Option<String>,
    pub(super) size: Option<u64>,
    place: Url,
}

/// A file, or the rest of it.
pub(super) struct Incoming {
    /// The byte that comes first.
    pub(super) start: u64,
    /// The size of the whole file.
    pub(super) size: Option<u64>,
    /// Who sends it.
    pub(super) host: String,
    pub(super) body: BodyReader<'static>,
}

/// Why a file could not be downloaded.
#[derive(Debug)]
pub(super) enum Failure {
    /// The revision has no such file.
    Absent(String),
    /// A cause that may pass.
    Passing(String),
    /// A server could not be reached.
    Unreachable(String),
    /// Anything else.
    Final(String),
}

impl Failure {
    /// The same, with more to say.
    pub(super) fn with(mut self, more: &str) -> Self {
        match &mut self {
            Self::Absent(reason) | Self::Passing(reason) | Self::Unreachable(reason) | Self::Final(reason) => {
                reason.push_str(more);
            }
        }
        self
    }

    pub(super) fn reason(self) -> String {
        match self {
            Self::Absent(reason) | Self::Passing(reason) | Self::Unreachable(reason) | Self::Final(reason) => reason,
        }
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(id: &'a str, settings: &'a HubSettings) -> Result<Self, String> {
        let endpoint = Url::parse(&settings.endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or("HF_ENDPOINT is not an address of a server; expected one such as https://huggingface.co")?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("sinkscope/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(settings.timeout))
            .timeout_connect(Some(settings.timeout))
            .timeout_recv_response(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout))
            .timeout_per_write(Some(settings.timeout))
            .build()
            .new_agent();
        Ok(Self { id, settings, endpoint, agent })
    }

    /// The host of the hub, as messages name it.
    pub(super) fn hub(&self) -> String {
        host(&self.endpoint)
    }

    /// Asks for the commit, the hash and the size of a file.
    pub(super) fn describe(&self, revision: &str, file: &str) -> Result<Described, Failure> {
        let mut url = self.address(revision, file)?;
        let (mut commit, mut size) = (None, None);
        for _ in 0..=MAX_REDIRECTS {
            // One byte tells the size. Not every mirror answers HEAD.
            let response = self.get(&url, "bytes=0-0", file)?;
            let stated = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            commit = commit.or_else(|| stated("x-repo-commit").filter(|text| is_commit(text)).map(str::to_owned));
            size = size.or_else(|| stated("x-linked-size").and_then(|bytes| bytes.parse().ok()));
            let linked = stated("x-linked-etag");
            if response.status().is_redirection() {
                let next = redirected(&url, &response, file)?;
                if let Some(etag) = linked {
                    return Ok(Described { hash: self.hash(etag, file)?, commit, size, place: next });
                }
                url = next;
                continue;
            }
            if !response.status().is_success() {
                return Err(self.refusal(&url, &response, revision, file));
            }
            let etag = linked.or_else(|| stated("etag")).unwrap_or_default();
            let size = size.or_else(|| whole_size(&response));
            return Ok(Described { hash: self.hash(etag, file)?, commit, size, place: url });
        }
        Err(endless(&url, file))
    }

    /// Begins to receive a file that was described, from the byte `start` on where the server can do that.
    pub(super) fn content(&self, described: &Described, start: u64, file: &str) -> Result<Incoming, Failure> {
        let mut url = described.place.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.get(&url, &format!("bytes={start}-"), file)?;
            if response.status().is_redirection() {
                url = redirected(&url, &response, file)?;
                continue;
            }
            let size = whole_size(&response);
            let start = match response.status() {
                StatusCode::OK => 0,
                StatusCode::PARTIAL_CONTENT if first_byte(&response) == Some(start) => start,
                StatusCode::PARTIAL_CONTENT => {
                    return Err(Failure::Final(format!("{} sent another part of {file} than asked for", host(&url))));
                }
                _ => return Err(self.refusal(&url, &response, described.commit.as_deref().unwrap_or("main"), file)),
            };
            if let (Some(said), Some(sent)) = (described.size, size)
                && said != sent
            {
                let reason =
                    format!("{} holds {sent} bytes of {file}, which {} says has {said}", host(&url), self.hub());
                return Err(Failure::Final(reason));
            }
            return Ok(Incoming { start, size, host: host(&url), body: response.into_body().into_reader() });
        }
        Err(endless(&url, file))
    }

    /// What it means that a body broke off.
    pub(super) fn broken(&self, error: io::Error, host: &str, file: &str) -> Failure {
        self.explain(ureq::Error::from(error), host, file)
    }

    fn address(&self, revision: &str, file: &str) -> Result<Url, Failure> {
        let mut url = self.endpoint.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::Final("HF_ENDPOINT cannot have paths below it".into()))?
            .pop_if_empty()
            .extend(self.id.split('/'))
            .extend(["resolve", revision, file]);
        Ok(url)
    }

    fn is_hub(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    fn get(&self, url: &Url, range: &str, file: &str) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(url.as_str()).header(header::RANGE, range);
        if let Some(token) = self.settings.token.as_ref().filter(|_| self.is_hub(url)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.call().map_err(|error| self.explain(error, &host(url), file))
    }

    fn explain(&self, error: ureq::Error, host: &str, file: &str) -> Failure {
        let broken = |kind| {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        };
        match error {
            ureq::Error::Timeout(_) => Failure::Passing(format!(
                "{host} sent nothing of {file} for {} s (HF_HUB_DOWNLOAD_TIMEOUT)",
                self.settings.timeout.as_secs_f64()
            )),
            ureq::Error::Http(_) => Failure::Final(
                "the token (HF_TOKEN or the token file) or HF_ENDPOINT has a character that cannot be sent".into(),
            ),
            ureq::Error::Io(error) if broken(error.kind()) => {
                Failure::Passing(format!("{host} ended the connection before {file} was complete"))
            }
            ureq::Error::Protocol(error) => {
                Failure::Passing(format!("{host} gave no usable answer for {file}: {error}"))
            }
            error => Failure::Unreachable(format!("{file} could not be downloaded from {host}: {error}")),
        }
    }

    fn hash(&self, etag: &str, file: &str) -> Result<ContentHash, Failure> {
        ContentHash::parse(etag).ok_or_else(|| {
            Failure::Final(format!(
                "{} states no hash of {file} (ETag {etag:?}; expected a SHA-256 or the SHA-1 of a git blob), so that what \
                 arrives could not be checked",
                self.hub()
            ))
        })
    }

    /// What an answer other than success means.
    fn refusal(&self, url: &Url, response: &Response<Body>, revision: &str, file: &str) -> Failure {
        let status = response.status();
        let answered = format!("{} answered {status} for {file}", host(url));
        let stated =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let code = stated("x-error-code");
        if !self.is_hub(url) && code != "EntryNotFound" {
            let hub = self.hub();
            let reason = format!(
                "{answered}; {hub} redirects there, and the token is not sent there, so it is not the cause: the link may \
                 have expired, or a proxy or firewall be in the way; try again later"
            );
            return if status == StatusCode::NOT_FOUND { Failure::Final(reason) } else { Failure::Passing(reason) };
        }
        let said: String = stated("x-error-message").chars().take(300).collect();
        let answered = if said.is_empty() { answered } else { format!("{answered} ({said})") };
        let id = self.id;
        let token = match self.settings.token {
            Some(_) => "the token (HF_TOKEN or the token file) is not one of an account with access",
            None => "HF_TOKEN must hold a token of an account with access",
        };
        let ungated = format!("access must be asked for at {}/{id}", self.hub());
        match (status, code) {
            (_, "RepoNotFound") => {
                Failure::Final(format!("{answered}: there is no such repository, or it is private and {token}"))
            }
            (_, "RevisionNotFound") => Failure::Final(format!("{answered}: the repository has no revision {revision}")),
            (_, "GatedRepo") => Failure::Final(format!("{answered}: the repository is gated; {ungated}, and {token}")),
            (_, "DisabledRepo") => Failure::Final(format!("{answered}: the repository is disabled")),
            (StatusCode::NOT_FOUND, "EntryNotFound") => {
                Failure::Absent(format!("{answered}: the repository has no {file}"))
            }
            (StatusCode::NOT_FOUND, _) => {
                Failure::Absent(format!("{answered}: there is no such repository, or no {file} in it"))
            }
            (StatusCode::UNAUTHORIZED, _) if self.settings.token.is_some() => Failure::Final(format!(
                "{answered}: there is no such repository, or the token (HF_TOKEN or the token file) is not valid or not \
                 one of an account with access"
            )),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Failure::Final(format!(
                "{answered}: there is no such repository, or it is private or gated ({ungated}) and {token}"
            )),
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => {
                Failure::Passing(format!("{answered}; try again later"))
            }
            _ if status.is_server_error() => Failure::Passing(format!("{answered}; try again later")),
            _ => Failure::Final(answered),
        }
    }
}

/// Scheme, host and port.
fn host(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn endless(url: &Url, file: &str) -> Failure {
    Failure::Final(format!("{} redirects {file} more than {MAX_REDIRECTS} times", host(url)))
}

/// Where a redirection leads.
fn redirected(url: &Url, response: &Response<Body>, file: &str) -> Result<Url, Failure> {
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| url.join(location).ok()).filter(|next| match next.scheme() {
        "https" => true,
        // What was asked for in secret does not come in public.
        "http" => url.scheme() == "http",
        _ => false,
    });
    next.ok_or_else(|| {
        let status = response.status();
        Failure::Final(format!("{} answered {status} for {file}, without a place that can be followed", host(url)))
    })
}

/// `Content-Range: bytes FIRST-LAST/SIZE`.
fn content_range(response: &Response<Body>) -> Option<(&str, &str)> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.trim().strip_prefix("bytes")?.trim().split_once('/')
}

fn first_byte(response: &Response<Body>) -> Option<u64> {
    content_range(response)?.0.split_once('-')?.0.parse().ok()
}

/// The size of the file that an answer is a part of, or all of.
fn whole_size(response: &Response<Body>) -> Option<u64> {
    match response.status() {
        StatusCode::OK => response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok(),
        _ => content_range(response)?.1.parse().ok(),
    }
}
