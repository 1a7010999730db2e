//! Downloads that break off or come wrong, and caches that have gone bad: nothing of it is computed with.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sinkscope_sources::checkpoint::{Checkpoint, HubSettings};

use super::server::{Answer, COMMIT, CONFIG, ID, Server, git_blob, offline, sha256};
use super::{names, refusal, root, single, values, weights};

/// What happens to a file.
type Damage = fn(&mut Vec<u8>);

const STORED: &str = "/storage/model.safetensors";

fn tensors() -> Vec<u8> {
    weights("a", &[1.0, 2.0])
}

/// Writes what an earlier run left of the weights.
fn leave_part(cache: &Path, bytes: &[u8]) -> PathBuf {
    let blobs = root(cache).join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", sha256(&tensors())));
    fs::write(&part, bytes).unwrap();
    part
}

/// Where the requests for the stored weights began.
fn starts(hub: &Server) -> Vec<usize> {
    hub.asked_for(STORED).iter().map(|asked| asked.range.unwrap().0).collect()
}

/// Opens the model, which must be right and leave no part.
fn is_right(cache: &Path, hub: &Server) {
    let checkpoint = Checkpoint::open_hub(ID, &hub.settings(cache)).unwrap();
    assert_eq!(values(&checkpoint, "a"), [1.0, 2.0]);
    checkpoint.sha256().unwrap();
    assert!(names(&root(cache).join("blobs")).iter().all(|name| !name.contains('.')));
}

#[test]
fn a_part_is_gone_on_with() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Server::hub(&single()));
    leave_part(folder.path(), &tensors()[..40]);
    is_right(folder.path(), &hub);
    assert_eq!(starts(&hub), [40]);
}

#[test]
fn a_part_that_is_complete_is_only_checked() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Server::hub(&single()));
    leave_part(folder.path(), &tensors());
    is_right(folder.path(), &hub);
    assert_eq!(starts(&hub), [0_usize; 0]);
}

#[test]
fn a_damaged_part_is_downloaded_anew() {
    for length in [40, tensors().len(), tensors().len() + 9] {
        let (folder, hub) = (tempfile::tempdir().unwrap(), Server::hub(&single()));
        leave_part(folder.path(), &vec![0; length]);
        is_right(folder.path(), &hub);
        assert_eq!(starts(&hub).last(), Some(&0), "{length}");
    }
}

#[cfg(unix)]
#[test]
fn a_part_that_is_a_link_is_not_written_through() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Server::hub(&single()));
    let (cache, outside) = (folder.path().join("cache"), folder.path().join("outside"));
    fs::write(&outside, "precious").unwrap();
    let part = leave_part(&cache, &[]);
    fs::remove_file(&part).unwrap();
    std::os::unix::fs::symlink(&outside, &part).unwrap();
    is_right(&cache, &hub);
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
}

#[test]
fn a_body_that_ends_early_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::hub_but(&single(), |asked, answer| match (&*asked.path, asked.earlier) {
        (STORED, 0) => Answer { sent: Some(answer.body.len() / 2), ..answer },
        _ => answer,
    });
    is_right(folder.path(), &hub);
    let starts = starts(&hub);
    assert!(starts.len() > 2 && starts.is_sorted() && starts[0] == 0, "{starts:?}");
}

#[test]
fn a_body_that_never_comes_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::hub_but(&single(), |asked, answer| match &*asked.path {
        STORED => Answer { sent: Some(if asked.range == Some((0, None)) { 40 } else { 0 }), ..answer },
        _ => answer,
    });
    let reason = refusal(ID, &hub.settings(folder.path()));
    assert!(reason.contains("model.safetensors") && reason.contains("40 bytes"), "{reason}");
    assert_eq!(starts(&hub), [0, 40, 40]);
    let hash = sha256(&tensors());
    assert!(!root(folder.path()).join("blobs").join(&hash).exists());
    assert!(!root(folder.path()).join("refs/main").exists());
    // The next run goes on from there.
    let hub = Server::hub(&single());
    is_right(folder.path(), &hub);
    assert_eq!(starts(&hub), [40]);
}

#[test]
fn a_server_that_stalls_is_asked_again_and_then_named() {
    let patience = |settings| HubSettings { timeout: Duration::from_millis(150), ..settings };
    let stall = |answer| Answer { sent: Some(40), pause: Duration::from_secs(3), ..answer };
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::hub_but(&single(), move |asked, answer| match (&*asked.path, asked.range) {
        (STORED, Some((0, _))) => stall(answer),
        _ => answer,
    });
    let begun = Instant::now();
    let checkpoint = Checkpoint::open_hub(ID, &patience(hub.settings(folder.path()))).unwrap();
    assert_eq!(values(&checkpoint, "a"), [1.0, 2.0]);
    assert_eq!(starts(&hub), [0, 40]);

    let silent = Server::new(|_| {
        Answer { pause: Duration::from_secs(3), sent: Some(0), body: vec![0], ..Answer::status(200) }
            .with("X-Repo-Commit", COMMIT)
            .with("ETag", git_blob(CONFIG))
    });
    let folder = tempfile::tempdir().unwrap();
    let reason = refusal(ID, &patience(silent.settings(folder.path())));
    assert!(reason.contains("sent nothing") && reason.contains("0.15 s") && reason.contains(&silent.url()), "{reason}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn other_bytes_than_the_hub_states_are_refused() {
    for (file, ending) in [("model.safetensors", STORED), ("config.json", "/config.json")] {
        let folder = tempfile::tempdir().unwrap();
        let hub = Server::hub_but(&single(), move |asked, mut answer| {
            if asked.path.ends_with(ending) && asked.range != Some((0, Some(0))) {
                *answer.body.last_mut().unwrap() ^= 1;
            }
            answer
        });
        let reason = refusal(ID, &hub.settings(folder.path()));
        assert!(
            reason.contains(file) && reason.contains(&hub.url()) && reason.contains("nothing of it was kept"),
            "{reason}"
        );
        let found = names(&root(folder.path()).join("blobs"));
        assert_eq!(found.len(), usize::from(file == "model.safetensors"), "{found:?}");
        assert!(!root(folder.path()).join("refs/main").exists());
    }
}

#[test]
fn another_size_than_the_hub_states_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::hub_but(&single(), |asked, answer| {
        if asked.path.ends_with("resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors") {
            answer.with("X-Linked-Size", "12345")
        } else {
            answer
        }
    });
    let reason = refusal(ID, &hub.settings(folder.path()));
    assert!(reason.contains("model.safetensors") && reason.contains("12345"), "{reason}");
}

#[test]
fn a_place_that_cannot_be_written_to_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(root(folder.path())).unwrap();
    fs::write(root(folder.path()).join("blobs"), "no folder").unwrap();
    let reason = refusal(ID, &Server::hub(&single()).settings(folder.path()));
    assert!(reason.contains("cannot write") && reason.contains("blobs"), "{reason}");
}

#[cfg(unix)]
#[test]
fn a_damaged_blob_is_named_with_how_to_remove_it() {
    let cases: [(&str, Damage); 5] = [
        ("config.json", |bytes| bytes[2] ^= 1),
        ("tokenizer.json", |bytes| bytes.push(b' ')),
        ("model.safetensors", |bytes| bytes.truncate(bytes.len() / 2)),
        ("model.safetensors", Vec::clear),
        ("model.safetensors", |bytes| *bytes.last_mut().unwrap() ^= 1),
    ];
    for (file, damage) in cases {
        let (folder, hub) = (tempfile::tempdir().unwrap(), Server::hub(&single()));
        is_right(folder.path(), &hub);
        let blob = fs::canonicalize(root(folder.path()).join("snapshots").join(COMMIT).join(file)).unwrap();
        let mut bytes = fs::read(&blob).unwrap();
        damage(&mut bytes);
        fs::write(&blob, &bytes).unwrap();
        for settings in [offline(folder.path()), hub.settings(folder.path())] {
            let error = Checkpoint::open_hub(ID, &settings).and_then(|checkpoint| checkpoint.sha256()).unwrap_err();
            let error = error.to_string();
            let remove = format!("rm '{}'", blob.display());
            assert!(error.contains("is damaged") && error.contains(&remove) && error.contains(file), "{error}");
        }
        // Removed as the message says, it is downloaded anew.
        fs::remove_file(&blob).unwrap();
        is_right(folder.path(), &hub);
    }
}

#[cfg(unix)]
#[test]
fn a_blob_damaged_to_weights_that_are_no_numbers_is_called_damaged() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Server::hub(&single()));
    is_right(folder.path(), &hub);
    let blob = root(folder.path()).join("blobs").join(sha256(&tensors()));
    fs::write(&blob, weights("a", &[1.0, f32::NAN])).unwrap();
    let checkpoint = Checkpoint::open_hub(ID, &offline(folder.path())).unwrap();
    let error = checkpoint.tensor("a").unwrap().decode().unwrap_err().to_string();
    assert!(error.contains("is damaged") && error.contains(&blob.display().to_string()), "{error}");
}

/// Weights that somebody else downloaded and that are part of another snapshot are not taken on trust.
#[test]
fn a_damaged_blob_that_another_commit_shares_is_not_linked() {
    let (folder, hub) = (tempfile::tempdir().unwrap(), Server::hub(&single()));
    let blobs = root(folder.path()).join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let mut bytes = tensors();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(blobs.join(sha256(&tensors())), &bytes).unwrap();
    let reason = refusal(ID, &hub.settings(folder.path()));
    assert!(reason.contains("is damaged") && reason.contains("rm '"), "{reason}");
}
