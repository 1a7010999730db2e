//! Hub ids, against a server on the loopback interface, and from caches with and without it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sinkscope_model::ModelError;
use sinkscope_model::checkpoint::{Checkpoint, HubSettings, Metadata};
use tiny_http::{Header, Response, Server};

use crate::write::{f32_bytes, safetensors};

const ID: &str = "anna/tiny-model";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONFIG: &[u8] = br#"{"model_type": "llama"}"#;

/// Answers `/ID/resolve/REVISION/FILE` as the hub does: ranges, the commit and an etag in the headers, and for weights a
/// redirection to storage.
struct Hub {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A path asked for, with the token.
type Asked = (String, Option<String>);

impl Hub {
    fn serving(files: &[(&str, Vec<u8>)]) -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(n, bytes)| ((*n).to_owned(), bytes.clone())).collect();
        let asked = Arc::new(Mutex::new(vec![]));
        let (worker, log) = (server.clone(), asked.clone());
        let thread = std::thread::spawn(move || {
            for request in worker.incoming_requests() {
                let token = request.headers().iter().find(|h| h.field.equiv("Authorization"));
                log.lock().unwrap().push((request.url().to_owned(), token.map(|h| h.value.to_string())));
                answer(request, &files);
            }
        });
        Self { server, thread: Some(thread), asked }
    }

    fn settings(&self, cache: &Path) -> HubSettings {
        let endpoint = format!("http://{}", self.server.server_addr());
        HubSettings { endpoint, cache: cache.to_owned(), token: None, offline: false }
    }

    fn asked_for(&self, file: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(url, _)| url.ends_with(file)).count()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.server.unblock();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name.as_bytes(), value.as_bytes()).unwrap()
}

fn answer(request: tiny_http::Request, files: &BTreeMap<String, Vec<u8>>) {
    let url = request.url().to_owned();
    let parts: Vec<&str> = url.trim_start_matches('/').split('/').collect();
    let (file, stored) = match parts[..] {
        ["anna", "tiny-model", "resolve", "main" | COMMIT, file] => (file, false),
        ["storage", file] => (file, true),
        ["anna", "gated", ..] => return request.respond(Response::empty(401)).unwrap(),
        ["anna", "broken", ..] => return request.respond(Response::empty(500)).unwrap(),
        _ => return request.respond(Response::empty(404)).unwrap(),
    };
    let Some(bytes) = files.get(file) else {
        return request.respond(Response::empty(404)).unwrap();
    };
    let etag = format!("\"etag-{file}\"");
    if file.ends_with(".safetensors") && !stored {
        let host = request.headers().iter().find(|h| h.field.equiv("Host")).unwrap().value.to_string();
        let response = Response::empty(302)
            .with_header(header("Location", &format!("http://{host}/storage/{file}")))
            .with_header(header("X-Repo-Commit", COMMIT))
            .with_header(header("X-Linked-ETag", &etag));
        return request.respond(response).unwrap();
    }
    let range = request.headers().iter().find(|h| h.field.equiv("Range")).unwrap().value.to_string();
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let end = last.parse::<usize>().map_or(bytes.len(), |last| last + 1);
    let response = Response::from_data(&bytes[first..end])
        .with_status_code(206)
        .with_header(header("Content-Range", &format!("bytes {first}-{}/{}", end - 1, bytes.len())))
        .with_header(header("X-Repo-Commit", COMMIT))
        .with_header(header("ETag", &etag));
    request.respond(response).unwrap();
}

fn weights(name: &str, values: &[f32]) -> Vec<u8> {
    safetensors(&[(name, "F32", &[values.len()], &f32_bytes(values))])
}

fn single() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", CONFIG.to_vec()),
        ("model.safetensors", weights("a", &[1.0, 2.0])),
        ("tokenizer.json", b"{}".to_vec()),
    ]
}

fn sharded() -> Vec<(&'static str, Vec<u8>)> {
    let index = r#"{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    vec![
        ("config.json", CONFIG.to_vec()),
        ("model.safetensors.index.json", index.into()),
        ("model-00001-of-00002.safetensors", weights("a", &[1.0, 2.0])),
        ("model-00002-of-00002.safetensors", weights("b", &[3.0])),
    ]
}

fn offline(cache: &Path) -> HubSettings {
    HubSettings { endpoint: "http://127.0.0.1:1".into(), cache: cache.to_owned(), token: None, offline: true }
}

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    checkpoint.tensor(name).unwrap().decode().unwrap()
}

/// The reason of a hub error, which must name the repository.
fn refusal(id: &str, settings: &HubSettings) -> String {
    match Checkpoint::open_hub(id, settings).unwrap_err() {
        ModelError::Hub { id: named, reason } => {
            assert_eq!(named, id);
            reason
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_model_in_one_file_is_downloaded_once_and_then_found_in_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::serving(&single());
    let settings = HubSettings { token: Some("hf_secret".into()), ..hub.settings(folder.path()) };
    let checkpoint = Checkpoint::open_hub(ID, &settings).unwrap();
    assert_eq!(checkpoint.name(), ID);
    assert_eq!(values(&checkpoint, "a"), [1.0, 2.0]);
    let Metadata::HuggingFace { folder: snapshot, config } = checkpoint.metadata() else { panic!("not a directory") };
    assert_eq!(config["model_type"], "llama");
    assert_eq!(std::fs::read(snapshot.join("tokenizer.json")).unwrap(), b"{}");
    assert_eq!(hub.asked.lock().unwrap()[0].1.as_deref(), Some("Bearer hf_secret"));

    // The layout is that of huggingface_hub, with nothing beside it.
    let root = folder.path().join("models--anna--tiny-model");
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(std::fs::read_dir(root.join("refs")).unwrap().count(), 1);
    assert_eq!(snapshot, &root.join("snapshots").join(COMMIT));
    assert!(snapshot.join("model.safetensors").is_symlink());
    assert!(root.join("blobs/etag-model.safetensors").is_file());
    assert!(root.join(".no_exist").join(COMMIT).join("generation_config.json").is_file());

    let asked = hub.asked.lock().unwrap().len();
    assert_eq!(values(&Checkpoint::open_hub(ID, &settings).unwrap(), "a"), [1.0, 2.0]);
    assert_eq!(hub.asked.lock().unwrap().len(), asked, "what is cached is not asked for again");
    drop(hub);
    assert_eq!(values(&Checkpoint::open_hub(ID, &offline(folder.path())).unwrap(), "a"), [1.0, 2.0]);
    // Without the variable, a server that cannot be reached does not matter either.
    let unreachable = HubSettings { offline: false, ..offline(folder.path()) };
    assert_eq!(values(&Checkpoint::open_hub(ID, &unreachable).unwrap(), "a"), [1.0, 2.0]);
}

#[test]
fn a_sharded_model_is_downloaded_and_then_found_offline() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::serving(&sharded());
    let checkpoint = Checkpoint::open_hub(ID, &hub.settings(folder.path())).unwrap();
    assert_eq!((values(&checkpoint, "a"), values(&checkpoint, "b")), (vec![1.0, 2.0], vec![3.0]));
    drop(hub);
    let again = Checkpoint::open_hub(ID, &offline(folder.path())).unwrap();
    assert_eq!(values(&again, "b"), [3.0]);
    assert_eq!(again.sha256().unwrap(), checkpoint.sha256().unwrap());
}

#[test]
fn a_download_cut_short_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = sharded();
    let last = files.pop().unwrap();
    let reason = refusal(ID, &Hub::serving(&files).settings(folder.path()));
    assert!(reason.contains("model-00002-of-00002.safetensors"), "{reason}");
    files.push(last);
    let hub = Hub::serving(&files);
    // The server that failed is gone; the first shard is kept, the second comes from the other server.
    let checkpoint = Checkpoint::open_hub(ID, &hub.settings(folder.path())).unwrap();
    assert_eq!(values(&checkpoint, "b"), [3.0]);
    assert_eq!(hub.asked_for("model-00001-of-00002.safetensors"), 0);
}

/// As `huggingface_hub` leaves it: blobs by hash, links in the snapshot, one of them into a folder.
fn lay_out_by_hand(cache: &Path) -> PathBuf {
    let root = cache.join("models--anna--tiny-model");
    let snapshot = root.join("snapshots").join(COMMIT);
    for folder in [root.join("blobs"), root.join("refs"), snapshot.clone()] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(root.join("refs/main"), COMMIT).unwrap();
    for (hash, name, bytes) in
        [("ab12", "config.json", CONFIG.to_vec()), ("cd34", "model.safetensors", weights("a", &[5.0]))]
    {
        std::fs::write(root.join("blobs").join(hash), bytes).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(Path::new("../../blobs").join(hash), snapshot.join(name)).unwrap();
        #[cfg(not(unix))]
        std::fs::copy(root.join("blobs").join(hash), snapshot.join(name)).unwrap();
    }
    snapshot
}

#[test]
fn a_cache_written_by_huggingface_hub_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = lay_out_by_hand(folder.path());
    let checkpoint = Checkpoint::open_hub(ID, &offline(folder.path())).unwrap();
    assert_eq!(values(&checkpoint, "a"), [5.0]);
    assert_eq!(checkpoint.path(), snapshot);

    // Online, the weights are not downloaded again; a missing tokeniser is added to the same commit.
    let hub = Hub::serving(&single());
    let checkpoint = Checkpoint::open_hub(ID, &hub.settings(folder.path())).unwrap();
    assert_eq!(values(&checkpoint, "a"), [5.0]);
    assert_eq!(hub.asked_for("model.safetensors"), 0);
    assert!(snapshot.join("tokenizer.json").exists());
}

#[test]
fn offline_and_absent_says_so_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let reason = refusal(ID, &offline(folder.path()));
    assert!(reason.contains("config.json") && reason.contains("HF_HUB_OFFLINE"), "{reason}");
    let snapshot = lay_out_by_hand(folder.path());
    std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    let reason = refusal(ID, &offline(folder.path()));
    assert!(reason.contains("model.safetensors") && reason.contains("HF_HUB_OFFLINE"), "{reason}");
}

#[test]
fn what_the_server_lacks_or_refuses_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::serving(&[("config.json", CONFIG.to_vec()), ("pytorch_model.bin", vec![1])]);
    let settings = hub.settings(folder.path());
    let reason = refusal("anna/no-such-model", &settings);
    assert!(reason.contains("no such repository") && reason.contains("config.json"), "{reason}");
    let reason = refusal(ID, &settings);
    assert!(reason.contains("model.safetensors") && reason.contains("safetensors weights"), "{reason}");
    let reason = refusal("anna/gated", &settings);
    assert!(reason.contains("401") && reason.contains("HF_TOKEN"), "{reason}");
    let reason = refusal("anna/broken", &settings);
    assert!(reason.contains("500"), "{reason}");
    let reason = refusal("not an id", &settings);
    assert!(reason.contains("owner/name"), "{reason}");
}

#[test]
fn a_server_that_cannot_be_reached_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let reason = refusal(ID, &HubSettings { offline: false, ..offline(folder.path()) });
    assert!(reason.contains("http://127.0.0.1:1"), "{reason}");
}
