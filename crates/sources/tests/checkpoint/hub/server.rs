//! A server on the loopback interface that speaks as the hub does, and as badly as a test wants.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use sinkscope_sources::checkpoint::HubSettings;

pub const ID: &str = "anna/tiny-model";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const CONFIG: &[u8] = br#"{"model_type": "llama"}"#;

/// What a client asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub token: Option<String>,
    /// First and last byte.
    pub range: Option<(usize, Option<usize>)>,
    /// How often the same path and range were asked for before.
    pub earlier: usize,
}

/// What the server says to that.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// How many bytes of the body are sent, if not all.
    pub sent: Option<usize>,
    /// How long the connection then stays open.
    pub pause: Duration,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self { status, headers: vec![], body: vec![], sent: None, pause: Duration::ZERO }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.into()));
        self
    }

    /// Part of a file, as asked for.
    pub fn bytes(asked: &Asked, bytes: &[u8]) -> Self {
        let Some((first, last)) = asked.range else {
            return Self { body: bytes.to_vec(), ..Self::status(200) };
        };
        let end = last.map_or(bytes.len(), |last| bytes.len().min(last + 1));
        if first >= end {
            return Self::status(416).with("Content-Range", format!("bytes */{}", bytes.len()));
        }
        Self { body: bytes[first..end].to_vec(), ..Self::status(206) }
            .with("Content-Range", format!("bytes {first}-{}/{}", end - 1, bytes.len()))
    }
}

/// Answers requests, each on a connection of its own.
pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, asked, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(vec![])), Arc::new(answer));
        let (stopped, log) = (stop.clone(), asked.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, log) = (answer.clone(), log.clone());
                std::thread::spawn(move || serve(&stream.unwrap(), &*answer, &log));
            }
        });
        Self { address, stop, thread: Some(thread), asked }
    }

    /// A hub with these files, each weight file behind a redirection to its storage.
    pub fn hub(files: &[(&str, Vec<u8>)]) -> Self {
        Self::hub_but(files, |_, answer| answer)
    }

    /// A hub that changes some answers.
    pub fn hub_but(
        files: &[(&str, Vec<u8>)],
        change: impl Fn(&Asked, Answer) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let files: BTreeMap<String, Vec<u8>> = files.iter().map(|(n, b)| ((*n).to_owned(), b.clone())).collect();
        Self::new(move |asked| change(asked, as_the_hub(asked, &files)))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Settings for tests: this hub, a cache, a short patience.
    pub fn settings(&self, cache: &Path) -> HubSettings {
        HubSettings { endpoint: self.url(), offline: false, ..offline(cache) }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn asked_for(&self, ending: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.path.ends_with(ending)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Settings for tests without a hub.
pub fn offline(cache: &Path) -> HubSettings {
    HubSettings {
        endpoint: "http://127.0.0.1:1".into(),
        cache: cache.to_owned(),
        token: None,
        offline: true,
        timeout: Duration::from_secs(5),
        pauses: vec![Duration::ZERO; 2],
        watch: None,
    }
}

fn serve(stream: &TcpStream, answer: &dyn Fn(&Asked) -> Answer, log: &Mutex<Vec<Asked>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let (mut token, mut range) = (None, None);
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        match name.to_lowercase().as_str() {
            "authorization" => token = Some(value.to_owned()),
            "range" => {
                let (first, last) = value.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                range = Some((first.parse().unwrap(), last.parse().ok()));
            }
            _ => {}
        }
    }
    let asked = {
        let mut log = log.lock().unwrap();
        let earlier = log.iter().filter(|asked| asked.path == path && asked.range == range).count();
        log.push(Asked { path, token, range, earlier });
        log.last().unwrap().clone()
    };
    let answer = answer(&asked);
    let mut head = format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head.extend([name, ": ", value.as_str(), "\r\n"]);
    }
    head += "Connection: close\r\n\r\n";
    let sent = answer.sent.unwrap_or(answer.body.len());
    // The client may have heard enough.
    let mut stream = stream;
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer.body[..sent]));
    std::thread::sleep(answer.pause);
}

fn as_the_hub(asked: &Asked, files: &BTreeMap<String, Vec<u8>>) -> Answer {
    let parts: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
    let (file, stored) = match parts[..] {
        ["anna", "tiny-model", "resolve", "main" | COMMIT, file] => (file, false),
        ["storage", file] => (file, true),
        _ => return Answer::status(404).with("X-Error-Code", "RepoNotFound"),
    };
    let Some(bytes) = files.get(file) else {
        return Answer::status(404).with("X-Error-Code", "EntryNotFound");
    };
    if stored {
        return Answer::bytes(asked, bytes).with("ETag", "\"of the storage\"");
    }
    if file.ends_with(".safetensors") {
        return Answer::status(302)
            .with("Location", format!("/storage/{file}"))
            .with("X-Repo-Commit", COMMIT)
            .with("X-Linked-Size", bytes.len().to_string())
            .with("X-Linked-ETag", format!("\"{}\"", sha256(bytes)));
    }
    Answer::bytes(asked, bytes).with("X-Repo-Commit", COMMIT).with("ETag", format!("\"{}\"", git_blob(bytes)))
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub fn git_blob(bytes: &[u8]) -> String {
    hex::encode(Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}
