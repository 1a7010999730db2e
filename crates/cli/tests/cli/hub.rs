//! Hub ids: fetched once from the hub, here a server on the loopback interface, and then taken from the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};
use tiny_http::{Header, Response, Server};

use crate::sinkscope;
use crate::tiny::Tiny;

const ID: &str = "anna/tiny-model";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Serves the files of a directory as `anna/tiny-model`.
struct Hub {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    fn serving(folder: PathBuf) -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").expect("a port"));
        let worker = server.clone();
        let thread =
            std::thread::spawn(move || worker.incoming_requests().for_each(|request| answer(request, &folder)));
        Self { server, thread: Some(thread) }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.server.server_addr())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.server.unblock();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn answer(request: tiny_http::Request, folder: &Path) {
    let file = request.url().strip_prefix(&format!("/{ID}/resolve/")).and_then(|rest| rest.split_once('/'));
    let file = file.filter(|(revision, _)| ["main", COMMIT].contains(revision)).map(|(_, file)| file.to_owned());
    let Some(bytes) = file.and_then(|file| fs::read(folder.join(file)).ok()) else {
        return drop(request.respond(Response::empty(404)));
    };
    let range = request.headers().iter().find(|header| header.field.equiv("Range"));
    let range = range.map(|header| header.value.to_string()).unwrap_or_default();
    let last = range.rsplit('-').next().and_then(|last| last.parse::<usize>().ok());
    let end = last.map_or(bytes.len(), |last| bytes.len().min(last + 1));
    let header = |name: &str, value: String| Header::from_bytes(name, value).expect("a header");
    // Only what a client asks for first and last: a byte, to learn the size, and everything.
    let response = Response::from_data(&bytes[..end])
        .with_status_code(206)
        .with_header(header("Content-Range", format!("bytes 0-{}/{}", end - 1, bytes.len())))
        .with_header(header("X-Repo-Commit", COMMIT.to_owned()))
        .with_header(header("ETag", format!("\"{}\"", sha256(&bytes))));
    drop(request.respond(response));
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Examines `ID` with a cache: exit status, stdout, stderr.
fn examine(tiny: &Tiny, cache: &Path, endpoint: Option<&str>) -> (i32, String, String) {
    let tokens = tiny.tokens(2, 12);
    let mut command = sinkscope(&["anatomy", ID, "--tokens", &tokens]);
    command.env("HF_HOME", cache);
    if let Some(endpoint) = endpoint {
        command.env("HF_ENDPOINT", endpoint).env_remove("HF_HUB_OFFLINE");
    }
    let output = command.output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

#[test]
fn fetched_once_and_then_without_the_hub() {
    let tiny = Tiny::new("llama");
    let cache = tiny.path("cache");
    let hub = Hub::serving(tiny.model());
    let (status, stdout, stderr) = examine(&tiny, &cache, Some(&hub.endpoint()));
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("Perplexity") && stdout.contains(ID), "{stdout}");
    drop(hub);
    let (status, again, stderr) = examine(&tiny, &cache, None);
    assert_eq!((status, stderr.as_str()), (0, ""));
    // All but the line of times.
    let results = |text: &str| text.lines().filter(|line| !line.contains("tokens/s")).collect::<Vec<_>>().join("\n");
    assert_eq!(results(&again), results(&stdout));
}

#[test]
fn unknown_to_the_hub() {
    let tiny = Tiny::new("llama");
    let hub = Hub::serving(tiny.path("nothing"));
    let (status, stdout, stderr) = examine(&tiny, &tiny.path("cache"), Some(&hub.endpoint()));
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(ID) && stderr.matches('\n').count() == 1, "{stderr}");
}

#[test]
fn offline_and_not_in_the_cache() {
    let tiny = Tiny::new("llama");
    let (status, stdout, stderr) = examine(&tiny, &tiny.path("cache"), None);
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains(ID) && stderr.contains("HF_HUB_OFFLINE"), "{stderr}");
}

/// Snapshots of links into `blobs`, as `huggingface_hub` lays them out.
#[cfg(unix)]
#[test]
fn a_cache_that_python_filled() {
    let tiny = Tiny::new("llama");
    let repository = tiny.path("cache/hub/models--anna--tiny-model");
    let snapshot = repository.join("snapshots").join(COMMIT);
    for folder in ["refs", "blobs"] {
        fs::create_dir_all(repository.join(folder)).expect("created");
    }
    fs::create_dir_all(&snapshot).expect("created");
    fs::write(repository.join("refs/main"), COMMIT).expect("written");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let bytes = fs::read(tiny.model().join(file)).expect("read");
        let blob = sha256(&bytes);
        fs::write(repository.join("blobs").join(&blob), bytes).expect("written");
        std::os::unix::fs::symlink(format!("../../blobs/{blob}"), snapshot.join(file)).expect("linked");
    }
    let (status, stdout, stderr) = examine(&tiny, &tiny.path("cache"), None);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.contains(ID), "{stdout}");
}

/// One bit of one weight, as of a disk that forgets: nothing is printed that was computed with it.
#[cfg(unix)]
#[test]
fn a_weight_of_the_cache_that_changed() {
    let tiny = Tiny::new("llama");
    let (cache, hub) = (tiny.path("cache"), Hub::serving(tiny.model()));
    assert_eq!(examine(&tiny, &cache, Some(&hub.endpoint())).0, 0);
    let snapshot = cache.join("hub/models--anna--tiny-model/snapshots").join(COMMIT);
    let blob = fs::canonicalize(snapshot.join("model.safetensors")).expect("a blob");
    let mut bytes = fs::read(&blob).expect("read");
    *bytes.last_mut().expect("weights") ^= 1;
    fs::write(&blob, bytes).expect("written");
    let (status, stdout, stderr) = examine(&tiny, &cache, None);
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("is damaged") && stderr.contains(&format!("rm '{}'", blob.display())), "{stderr}");
}
