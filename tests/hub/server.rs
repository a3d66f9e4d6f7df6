//! A server in this process that speaks the hub's protocol, and the repository that it holds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use slim::checkpoint::hub::{Hub, Kind, Repo};
use tempfile::TempDir;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a client sent.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

/// What it gets.
#[derive(Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The connection breaks after so many bytes of the body.
    pub cut: Option<usize>,
}

pub type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A server on a port of its own, until the process ends.
pub struct Server {
    pub endpoint: String,
    pub log: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn new(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (log.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (seen.clone(), answer.clone());
                thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { endpoint, log }
    }

    pub fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// Requests for the content of a file.
    pub fn downloads(&self, name: &str) -> Vec<Asked> {
        let end = format!("/{name}");
        let of = |asked: &Asked| asked.path.contains("/resolve/") && asked.path.ends_with(&end);
        self.log().into_iter().filter(of).collect()
    }
}

pub fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return;
    };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let asked = Asked {
        method,
        path,
        headers,
    };
    log.lock().unwrap().push(asked.clone());
    let reply = answer(&asked);
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    if !reply
        .headers
        .iter()
        .any(|(name, _)| *name == "content-length")
    {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = stream;
    let _ = stream.write_all((head + "\r\n").as_bytes());
    if asked.method != "HEAD" {
        let shown = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        let _ = stream.write_all(&reply.body[..shown]);
    }
    let _ = stream.flush();
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// What `git hash-object` prints.
pub fn git(content: &[u8]) -> String {
    let header = format!("blob {}\0", content.len());
    hex(&Sha1::new()
        .chain_update(header)
        .chain_update(content)
        .finalize())
}

pub fn weights() -> Vec<u8> {
    (0..3_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

pub const CONFIG: &[u8] = b"{\"model_type\": \"llama\"}\n";

/// The files of the repository `owner/name`.
pub fn listing() -> Value {
    let weights = weights();
    let lfs = json!({"sha256": sha256(&weights), "size": weights.len(), "pointerSize": 134});
    json!({"id": "owner/name", "sha": COMMIT, "siblings": [
        {"rfilename": "config.json", "size": CONFIG.len(), "blobId": git(CONFIG)},
        {"rfilename": "model.safetensors", "size": weights.len(), "blobId": "0".repeat(40), "lfs": lfs},
        {"rfilename": "sub/notes.txt", "size": 5, "blobId": git(b"notes")},
        {"rfilename": "pytorch_model.bin", "size": 9, "blobId": git(b"untouched")},
    ]})
}

pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
    Reply {
        status: 200,
        body: body.into(),
        ..Reply::default()
    }
}

pub fn status(status: u16) -> Reply {
    Reply {
        status,
        ..Reply::default()
    }
}

/// What an honest server answers.
pub fn honest(asked: &Asked) -> Reply {
    let resolve = format!("/owner/name/resolve/{COMMIT}/");
    match asked.path.strip_prefix(&resolve) {
        Some("config.json") => ok(CONFIG),
        Some("model.safetensors") => ranged(asked, weights()),
        Some("sub/notes.txt") => ok(&b"notes"[..]),
        _ if asked.path == "/api/models/owner/name/revision/main?blobs=true" => {
            ok(listing().to_string())
        }
        _ => status(404),
    }
}

/// The part of a content that a request's range wants.
pub fn ranged(asked: &Asked, content: Vec<u8>) -> Reply {
    let Some(range) = asked.headers.get("range") else {
        return ok(content);
    };
    let start: usize = range[6..range.len() - 1].parse().unwrap();
    let last = content.len() - 1;
    Reply {
        status: 206,
        headers: vec![(
            "content-range",
            format!("bytes {start}-{last}/{}", content.len()),
        )],
        body: content[start..].to_vec(),
        cut: None,
    }
}

pub struct Place {
    pub hub: Hub,
    pub folder: TempDir,
}

pub fn place(endpoint: &str) -> Place {
    let folder = TempDir::new().unwrap();
    let hub = Hub {
        endpoint: endpoint.to_owned(),
        token: Some("hf_secret".to_owned()),
        cache: folder.path().join("hub"),
        offline: false,
        pause: Duration::from_millis(1),
    };
    Place { hub, folder }
}

pub fn model() -> Repo {
    Repo::parse(Kind::Model, "hf:owner/name").unwrap()
}

pub fn wanted(name: &str) -> bool {
    !name.ends_with(".bin")
}

impl Place {
    pub fn fetch(&self) -> Result<PathBuf, String> {
        let fetched = self.hub.fetch(&model(), wanted, |_| ());
        fetched.map_err(|error| error.to_string())
    }

    pub fn repo(&self) -> PathBuf {
        self.folder.path().join("hub/models--owner--name")
    }

    /// Nothing may lie outside the cache, nor a file in it that nobody asked for.
    pub fn is_clean(&self) {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| name == "hub"), "{names:?}");
    }
}

pub fn is_complete(snapshot: &Path) {
    assert_eq!(fs::read(snapshot.join("config.json")).unwrap(), CONFIG);
    assert_eq!(
        fs::read(snapshot.join("model.safetensors")).unwrap(),
        weights()
    );
    assert_eq!(fs::read(snapshot.join("sub/notes.txt")).unwrap(), b"notes");
}
