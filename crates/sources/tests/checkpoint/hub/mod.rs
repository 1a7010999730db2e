//! Hub ids, against a server on the loopback interface, and from caches with and without it.

mod answers;
mod damage;
mod server;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sinkscope_sources::SourceError;
use sinkscope_sources::checkpoint::{Checkpoint, HubSettings, Metadata, Watch};

use self::server::{COMMIT, CONFIG, ID, Server, git_blob, offline, sha256};
use crate::write::{f32_bytes, safetensors};

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

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    checkpoint.tensor(name).unwrap().decode().unwrap()
}

fn root(cache: &Path) -> PathBuf {
    cache.join("models--anna--tiny-model")
}

/// The names in a folder of the repository in the cache, sorted.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The reason of a hub error, which must name the repository.
fn refusal(id: &str, settings: &HubSettings) -> String {
    match Checkpoint::open_hub(id, settings).unwrap_err() {
        SourceError::Hub { id: named, reason } => {
            assert_eq!(named, id);
            reason
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_model_in_one_file_is_downloaded_once_and_then_found_in_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::hub(&single());
    let settings = HubSettings { token: Some("hf_secret".into()), ..hub.settings(folder.path()) };
    let checkpoint = Checkpoint::open_hub(ID, &settings).unwrap();
    assert_eq!(checkpoint.name(), ID);
    assert_eq!(values(&checkpoint, "a"), [1.0, 2.0]);
    let Metadata::HuggingFace { folder: snapshot, config } = checkpoint.metadata() else { panic!("not a directory") };
    assert_eq!(config["model_type"], "llama");
    assert_eq!(std::fs::read(snapshot.join("tokenizer.json")).unwrap(), b"{}");
    assert_eq!(hub.asked()[0].token.as_deref(), Some("Bearer hf_secret"));

    // The layout is that of huggingface_hub, with nothing beside it.
    let root = root(folder.path());
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(names(&root.join("refs")), ["main"]);
    assert_eq!(snapshot, &root.join("snapshots").join(COMMIT));
    let mut blobs = vec![git_blob(CONFIG), git_blob(b"{}"), sha256(&weights("a", &[1.0, 2.0]))];
    blobs.sort();
    assert_eq!(names(&root.join("blobs")), blobs);
    #[cfg(unix)]
    assert_eq!(
        std::fs::read_link(snapshot.join("config.json")).unwrap(),
        Path::new("../../blobs").join(git_blob(CONFIG))
    );
    assert!(root.join(".no_exist").join(COMMIT).join("generation_config.json").is_file());

    let asked = hub.asked().len();
    assert_eq!(values(&Checkpoint::open_hub(ID, &settings).unwrap(), "a"), [1.0, 2.0]);
    assert_eq!(hub.asked().len(), asked, "what is cached is not asked for again");
    drop(hub);
    assert_eq!(values(&Checkpoint::open_hub(ID, &offline(folder.path())).unwrap(), "a"), [1.0, 2.0]);
    // Without the variable, a server that cannot be reached does not matter either.
    let unreachable = HubSettings { offline: false, ..offline(folder.path()) };
    assert_eq!(values(&Checkpoint::open_hub(ID, &unreachable).unwrap(), "a"), [1.0, 2.0]);
}

#[test]
fn a_sharded_model_is_downloaded_and_then_found_offline() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::hub(&sharded());
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
    let reason = refusal(ID, &Server::hub(&files).settings(folder.path()));
    assert!(reason.contains("model-00002-of-00002.safetensors"), "{reason}");
    assert_eq!(names(&root(folder.path()).join("refs")), [""; 0], "what is not whole has no name");
    files.push(last);
    let hub = Server::hub(&files);
    // The server that failed is gone; the first shard is kept, the second comes from the other server.
    let checkpoint = Checkpoint::open_hub(ID, &hub.settings(folder.path())).unwrap();
    assert_eq!(values(&checkpoint, "b"), [3.0]);
    assert!(hub.asked_for("model-00001-of-00002.safetensors").is_empty());
}

#[test]
fn progress_is_told_up_to_the_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(vec![]));
    let hub = Server::hub(&single());
    let log = seen.clone();
    let watch: Watch =
        Arc::new(move |download| log.lock().unwrap().push((download.file.to_owned(), download.done, download.size)));
    let settings = HubSettings { watch: Some(watch), ..hub.settings(folder.path()) };
    Checkpoint::open_hub(ID, &settings).unwrap();
    let size = weights("a", &[1.0, 2.0]).len() as u64;
    let seen = seen.lock().unwrap();
    let of_weights: Vec<_> = seen.iter().filter(|(file, ..)| file == "model.safetensors").collect();
    assert_eq!(of_weights.first().unwrap().1, 0);
    assert_eq!(of_weights.last().unwrap(), &&("model.safetensors".to_owned(), size, Some(size)));
}

#[test]
fn two_at_once_download_once() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::hub_but(&single(), |asked, answer| {
        let pause = if asked.path.starts_with("/storage") { 100 } else { 0 };
        std::thread::sleep(std::time::Duration::from_millis(pause));
        answer
    });
    let settings = hub.settings(folder.path());
    std::thread::scope(|scope| {
        let open = || values(&Checkpoint::open_hub(ID, &settings).unwrap(), "a");
        let both = [scope.spawn(open), scope.spawn(open)];
        for one in both {
            assert_eq!(one.join().unwrap(), [1.0, 2.0]);
        }
    });
    assert_eq!(hub.asked_for("/storage/model.safetensors").len(), 1);
}

/// As `huggingface_hub` leaves it: blobs by hash, links in the snapshot, one of them into a folder.
fn lay_out_by_hand(cache: &Path) -> PathBuf {
    let root = root(cache);
    let snapshot = root.join("snapshots").join(COMMIT);
    for folder in [root.join("blobs"), root.join("refs"), snapshot.clone()] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(root.join("refs/main"), COMMIT).unwrap();
    let tensors = weights("a", &[5.0]);
    for (hash, name, bytes) in
        [(git_blob(CONFIG), "config.json", CONFIG), (sha256(&tensors), "model.safetensors", &tensors)]
    {
        std::fs::write(root.join("blobs").join(&hash), bytes).unwrap();
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
    assert!(checkpoint.sha256().is_ok());

    // Online, the weights are not downloaded again; a missing tokeniser is added to the same commit.
    let hub = Server::hub(&single());
    let checkpoint = Checkpoint::open_hub(ID, &hub.settings(folder.path())).unwrap();
    assert_eq!(values(&checkpoint, "a"), [5.0]);
    assert!(hub.asked_for("model.safetensors").is_empty());
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
