//! What servers answer when they do not serve, and who is blamed for it.

use sinkscope_sources::checkpoint::{Checkpoint, HubSettings};

use super::server::{Answer, COMMIT, CONFIG, ID, Server, git_blob, offline, sha256};
use super::{names, refusal, root, single, values, weights};

/// What a test makes of an answer.
type Change = fn(Answer) -> Answer;

const TOKEN: &str = "hf_secret";

/// What is said of a hub that answers everything so, without a token and with one; neither contains the token.
fn said_of(status: u16, code: &'static str) -> [String; 2] {
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::new(move |_| Answer::status(status).with("X-Error-Code", code));
    [None, Some(TOKEN.to_owned())].map(|token| {
        let reason = refusal(ID, &HubSettings { token, ..hub.settings(folder.path()) });
        assert!(reason.contains(&status.to_string()) && reason.contains(&hub.url()), "{reason}");
        assert!(!reason.contains(TOKEN), "{reason}");
        assert_eq!(names(&root(folder.path())), [""; 0]);
        reason
    })
}

#[test]
fn what_the_hub_lacks_or_refuses_gets_its_own_words() {
    for (status, code, words) in [
        (404, "RepoNotFound", "no such repository"),
        (401, "RepoNotFound", "no such repository, or it is private"),
        (401, "GatedRepo", "is gated"),
        (403, "GatedRepo", "is gated"),
        (404, "RevisionNotFound", "no revision main"),
        (404, "EntryNotFound", "has no config.json"),
        (403, "DisabledRepo", "is disabled"),
        (404, "", "no such repository, or no config.json"),
        (401, "", "no such repository"),
        (403, "", "private or gated"),
        (500, "", "try again later"),
        (429, "", "try again later"),
    ] {
        let [without, with] = said_of(status, code);
        assert!(without.contains(words) && with.contains(words), "{status} {code}: {without}\n{with}");
    }
    let [without, with] = said_of(401, "GatedRepo");
    assert!(without.contains("HF_TOKEN must hold a token"), "{without}");
    assert!(with.contains("is not one of an account with access"), "{with}");
}

#[test]
fn a_repository_without_safetensors_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::hub(&[("config.json", CONFIG.to_vec()), ("pytorch_model.bin", vec![1])]);
    let reason = refusal(ID, &hub.settings(folder.path()));
    assert!(reason.contains("model.safetensors") && reason.contains("safetensors weights"), "{reason}");
    let reason = refusal("not an id", &hub.settings(folder.path()));
    assert!(reason.contains("owner/name"), "{reason}");
}

#[test]
fn a_server_that_cannot_be_reached_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let reason = refusal(ID, &HubSettings { offline: false, ..offline(folder.path()) });
    assert!(reason.contains("http://127.0.0.1:1"), "{reason}");
    let endpoint = "huggingface.co".to_owned();
    let reason = refusal(ID, &HubSettings { offline: false, endpoint, ..offline(folder.path()) });
    assert!(reason.contains("HF_ENDPOINT"), "{reason}");
}

/// A hub that redirects weights to another host.
fn hub_with_storage(storage: &Server) -> Server {
    let storage = storage.url();
    Server::hub_but(&single(), move |asked, answer| {
        if asked.path.ends_with("model.safetensors") {
            answer.with("Location", format!("{storage}/bucket/weights?Signature=hidden"))
        } else {
            answer
        }
    })
}

#[test]
fn a_storage_that_refuses_is_blamed_and_not_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Server::new(|_| Answer::status(403));
    let hub = hub_with_storage(&storage);
    let settings = HubSettings { token: Some(TOKEN.into()), ..hub.settings(folder.path()) };
    let reason = refusal(ID, &settings);
    assert!(reason.contains(&format!("{} answered 403", storage.url())), "{reason}");
    assert!(reason.contains(&hub.url()) && reason.contains("token is not sent there"), "{reason}");
    assert!(!reason.contains("hidden") && !reason.contains(TOKEN) && !reason.contains("gated"), "{reason}");
    assert_eq!(storage.asked().len(), 3, "each pause of the settings is followed by another attempt");
    assert!(storage.asked().iter().all(|asked| asked.token.is_none()));
    assert!(hub.asked().iter().all(|asked| asked.token.as_deref() == Some("Bearer hf_secret")));
}

#[test]
fn an_expired_link_is_asked_for_anew() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Server::new(|asked| match asked.earlier {
        0 => Answer::status(403),
        _ => Answer::bytes(asked, &weights("a", &[1.0, 2.0])),
    });
    let hub = hub_with_storage(&storage);
    let checkpoint = Checkpoint::open_hub(ID, &hub.settings(folder.path())).unwrap();
    assert_eq!(values(&checkpoint, "a"), [1.0, 2.0]);
    assert_eq!(hub.asked_for("model.safetensors").len(), 2);
}

#[test]
fn a_token_stays_with_the_hub_when_all_of_it_has_moved() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = Server::hub(&single());
    let url = elsewhere.url();
    let hub = Server::new(move |asked| Answer::status(307).with("Location", format!("{url}{}", asked.path)));
    let settings = HubSettings { token: Some(TOKEN.into()), ..hub.settings(folder.path()) };
    assert_eq!(values(&Checkpoint::open_hub(ID, &settings).unwrap(), "a"), [1.0, 2.0]);
    assert!(elsewhere.asked().iter().all(|asked| asked.token.is_none()));
    assert!(hub.asked().iter().all(|asked| asked.token.is_some()));
}

#[test]
fn a_renamed_repository_is_followed_with_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::hub_but(&single(), |asked, answer| match asked.path.strip_prefix("/old/name") {
        Some(rest) => Answer::status(307).with("Location", format!("/{ID}{rest}")),
        None => answer,
    });
    let settings = HubSettings { token: Some(TOKEN.into()), ..hub.settings(folder.path()) };
    assert_eq!(values(&Checkpoint::open_hub("old/name", &settings).unwrap(), "a"), [1.0, 2.0]);
    assert!(hub.asked().iter().all(|asked| asked.token.is_some()));
    assert_eq!(names(folder.path()), [".locks", "models--old--name"]);
}

#[test]
fn redirections_without_end_or_place_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (location, words) in [("/again", "more than 10 times"), ("file:///etc/passwd", "without a place")] {
        let hub = Server::new(move |_| Answer::status(302).with("Location", location));
        let reason = refusal(ID, &hub.settings(folder.path()));
        assert!(reason.contains(words) && reason.contains(&hub.url()), "{reason}");
    }
}

#[test]
fn names_from_a_server_do_not_become_paths() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("a/b/c");
    let changes: [(Change, &str); 4] = [
        (|answer| answer.with("ETag", "\"../../../../outside\""), "states no hash of config.json"),
        (|answer| answer.with("ETag", "\"d41d8cd98f00b204e9800998ecf8427e\""), "states no hash of config.json"),
        (|answer| answer.with("X-Repo-Commit", "../../../../outside"), "X-Repo-Commit"),
        (|answer| answer.with("X-Repo-Commit", "main"), "X-Repo-Commit"),
    ];
    for (change, words) in changes {
        let hub = Server::hub_but(&single(), move |_, answer| change(answer));
        let reason = refusal(ID, &hub.settings(&cache));
        assert!(reason.contains(words), "{reason}");
    }
    assert!(!cache.join("models--anna--tiny-model").exists());
    for shard in ["../../../../outside", "/outside", "..", "a\\b"] {
        let index = serde_json::json!({"weight_map": {"a": shard}}).to_string();
        let hub =
            Server::hub(&[("config.json", CONFIG.to_vec()), ("model.safetensors.index.json", index.into_bytes())]);
        let error = Checkpoint::open_hub(ID, &hub.settings(&cache)).unwrap_err().to_string();
        assert!(error.contains(&format!("{shard:?}")), "{error}");
        std::fs::remove_dir_all(&cache).unwrap();
    }
    assert_eq!(names(folder.path()), ["a"]);
    assert_eq!(names(&folder.path().join("a/b")), [""; 0]);
}

#[test]
fn a_commit_that_changes_meanwhile_is_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Server::hub_but(&single(), |asked, answer| {
        if asked.path.contains(COMMIT) { answer.with("X-Repo-Commit", "f".repeat(40)) } else { answer }
    });
    let reason = refusal(ID, &hub.settings(folder.path()));
    assert!(reason.contains("model.safetensors came from another commit"), "{reason}");
}

/// Mirrors may keep everything in one place and state the hash as a plain entity tag.
#[test]
fn a_mirror_without_redirections_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = weights("a", &[4.0]);
    let hub = Server::new(move |asked| {
        let (bytes, etag) = if asked.path.ends_with("config.json") && !asked.path.contains("generation") {
            (CONFIG, git_blob(CONFIG))
        } else if asked.path.ends_with("/model.safetensors") {
            (&*tensors, sha256(&tensors))
        } else {
            return Answer::status(404);
        };
        if asked.path.contains("tokenizer") {
            return Answer::status(404);
        }
        // It knows no ranges.
        Answer { body: bytes.to_vec(), ..Answer::status(200) }
            .with("X-Repo-Commit", COMMIT)
            .with("ETag", format!("W/\"{etag}\""))
    });
    assert_eq!(values(&Checkpoint::open_hub(ID, &hub.settings(folder.path())).unwrap(), "a"), [4.0]);
}
