//! Where files come from and where they lie.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;
use slim::checkpoint::hub::{Hub, Kind, Repo};
use tempfile::TempDir;

use crate::server::*;

#[test]
fn files_lie_where_transformers_looks_for_them() {
    let server = Server::new(honest);
    let place = place(&server.endpoint);
    let mut steps = Vec::new();
    let snapshot = place
        .hub
        .fetch(&model(), wanted, |step| steps.push((step.done, step.total)))
        .unwrap();
    assert_eq!(snapshot, place.repo().join("snapshots").join(COMMIT));
    is_complete(&snapshot);
    assert!(!snapshot.join("pytorch_model.bin").exists());
    let link = |name: &str| fs::read_link(snapshot.join(name)).unwrap();
    assert_eq!(
        link("config.json"),
        Path::new("../../blobs").join(git(CONFIG))
    );
    assert_eq!(
        link("sub/notes.txt"),
        Path::new("../../../blobs").join(git(b"notes"))
    );
    assert_eq!(
        link("model.safetensors"),
        Path::new("../../blobs").join(sha256(&weights()))
    );
    assert_eq!(
        fs::read_to_string(place.repo().join("refs/main")).unwrap(),
        COMMIT
    );
    let total = (CONFIG.len() + weights().len() + 5) as u64;
    assert_eq!(steps.last(), Some(&(total, total)));
    assert!(
        steps.windows(2).all(|pair| pair[0].0 <= pair[1].0),
        "{steps:?}"
    );
    let asked = server.log();
    assert!(
        asked
            .iter()
            .all(|a| a.headers["authorization"] == "Bearer hf_secret")
    );

    // A second time only the list is asked for.
    place.fetch().unwrap();
    assert_eq!(server.log().len(), asked.len() + 1);
}

#[test]
fn what_is_in_the_cache_is_not_fetched_again() {
    let server = Server::new(honest);
    let place = place(&server.endpoint);
    let blobs = place.repo().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(sha256(&weights())), weights()).unwrap();
    is_complete(&place.fetch().unwrap());
    assert_eq!(server.downloads("model.safetensors").len(), 0);
}

#[test]
fn data_sets_have_addresses_and_folders_of_their_own() {
    let server = Server::new(|asked| {
        let resolve = format!("/datasets/owner/data/resolve/{COMMIT}/a%20b/%2541.csv");
        match asked.path.as_str() {
            "/api/datasets/owner/data/revision/refs%2Fpr%2F1?blobs=true" => ok(json!({
                "sha": COMMIT,
                "siblings": [{"rfilename": "a b/%41.csv", "size": 4, "blobId": git(b"1,2\n")}],
            })
            .to_string()),
            path if path == resolve => ok(&b"1,2\n"[..]),
            _ => status(404),
        }
    });
    let place = place(&server.endpoint);
    let repo = Repo::parse(Kind::Dataset, "hf:owner/data@refs/pr/1").unwrap();
    let snapshot = place.hub.fetch(&repo, |_| true, |_| ()).unwrap();
    assert_eq!(fs::read(snapshot.join("a b/%41.csv")).unwrap(), b"1,2\n");
    let folder = place.folder.path().join("hub/datasets--owner--data");
    assert_eq!(
        fs::read_to_string(folder.join("refs/refs/pr/1")).unwrap(),
        COMMIT
    );
}

#[test]
fn a_list_without_digests_is_completed_from_the_headers() {
    let server = Server::new(|asked| {
        let names = ["config.json", "model.safetensors", "pytorch_model.bin"];
        let siblings: Vec<_> = names
            .iter()
            .map(|name| json!({"rfilename": name}))
            .collect();
        let tagged = |reply: Reply, name, tag: String| Reply {
            headers: [reply.headers.clone(), vec![(name, tag)]].concat(),
            ..reply
        };
        match asked.path.as_str() {
            path if path.starts_with("/api") => {
                ok(json!({"sha": COMMIT, "siblings": siblings}).to_string())
            }
            path if path.ends_with("config.json") => {
                tagged(honest(asked), "etag", format!("W/\"{}\"", git(CONFIG)))
            }
            _ => tagged(
                honest(asked),
                "x-linked-etag",
                format!("\"{}\"", sha256(&weights())),
            ),
        }
    });
    let listed = place(&server.endpoint);
    let snapshot = listed.fetch().unwrap();
    assert_eq!(fs::read(snapshot.join("config.json")).unwrap(), CONFIG);
    assert_eq!(
        fs::read(snapshot.join("model.safetensors")).unwrap(),
        weights()
    );
    assert_eq!(server.downloads("pytorch_model.bin").len(), 0);

    let server = Server::new(|asked| match asked.path.starts_with("/api") {
        true => ok(json!({"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}).to_string()),
        false => honest(asked),
    });
    let error = place(&server.endpoint).fetch().unwrap_err();
    assert!(error.contains("names no digest of config.json"), "{error}");
}

#[test]
fn offline_takes_what_the_cache_has_and_asks_nobody() {
    let server = Server::new(honest);
    let mut place = place(&server.endpoint);
    place.hub.offline = true;
    let error = place.fetch().unwrap_err();
    assert!(
        error.contains("is not in the cache") && error.contains("HF_HUB_OFFLINE"),
        "{error}"
    );
    place.hub.offline = false;
    let fetched = place.fetch().unwrap();
    let asked = server.log().len();
    place.hub.offline = true;
    assert_eq!(place.fetch().unwrap(), fetched);
    let by_commit = Repo::parse(Kind::Model, &format!("owner/name@{COMMIT}")).unwrap();
    assert_eq!(
        place.hub.fetch(&by_commit, wanted, |_| ()).unwrap(),
        fetched
    );
    let nested = place
        .hub
        .fetch(&model(), |name| name == "sub/notes.txt", |_| ());
    assert_eq!(nested.unwrap(), fetched);
    assert!(
        place
            .hub
            .fetch(&model(), |name| name == "absent", |_| ())
            .is_err()
    );
    assert_eq!(server.log().len(), asked);
}

#[test]
fn two_at_once_fetch_each_content_once() {
    let server = Server::new(|asked| {
        thread::sleep(Duration::from_millis(20));
        honest(asked)
    });
    let place = place(&server.endpoint);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| is_complete(&place.fetch().unwrap()));
        }
    });
    assert_eq!(server.downloads("model.safetensors").len(), 1);
}

#[test]
fn names_are_read_as_people_write_them() {
    let parsed = |text: &str| {
        Repo::parse(Kind::Model, text)
            .map(|r| (r.id, r.revision))
            .ok()
    };
    let pair = |id: &str, revision: &str| Some((id.to_owned(), revision.to_owned()));
    assert_eq!(parsed("hf:owner/name"), pair("owner/name", "main"));
    assert_eq!(
        parsed("owner/na.me-1_b@v1.0"),
        pair("owner/na.me-1_b", "v1.0")
    );
    assert_eq!(parsed("hf:gpt2"), pair("gpt2", "main"));
    assert_eq!(
        parsed("hf:owner/name@refs/pr/1"),
        pair("owner/name", "refs/pr/1")
    );
    for wrong in [
        "hf:",
        "hf:a/b/c",
        "hf:../x",
        "hf:a/..",
        "hf:a/b@",
        "hf:a/b@../x",
        "hf:a b",
        "hf:/a",
        "hf:a--b/c",
        "hf:.a/b",
        "hf:a/b@/x",
    ] {
        assert_eq!(parsed(wrong), None, "{wrong}");
    }
}

#[test]
fn the_environment_is_read_as_huggingface_hub_reads_it() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("token"), " hf_stored\n").unwrap();
    let home = folder.path().to_str().unwrap().to_owned();
    let hub = |set: &[(&str, &str)]| {
        let find = |name: &str| set.iter().find(|(known, _)| *known == name);
        Hub::from_variables(|name| find(name).map(|(_, value)| (*value).to_owned()))
    };
    let found = hub(&[("HOME", "/home/me")]).unwrap();
    assert_eq!(found.endpoint, "https://huggingface.co");
    assert_eq!(found.cache, Path::new("/home/me/.cache/huggingface/hub"));
    assert_eq!((found.token, found.offline), (None, false));
    let found = hub(&[
        ("HF_HOME", &home),
        ("HF_HUB_OFFLINE", "YES"),
        ("HF_TOKEN", ""),
    ])
    .unwrap();
    assert_eq!(found.cache, folder.path().join("hub"));
    assert_eq!(
        (found.token.as_deref(), found.offline),
        (Some("hf_stored"), true)
    );
    let set = [
        ("HF_HOME", &*home),
        ("HF_HUB_CACHE", "/c"),
        ("HF_TOKEN", "t"),
        ("HF_ENDPOINT", "http://h/"),
    ];
    let found = hub(&set).unwrap();
    assert_eq!(
        (found.cache.as_path(), &*found.endpoint),
        (Path::new("/c"), "http://h")
    );
    assert_eq!(found.token.as_deref(), Some("t"));
    assert!(!format!("{:?}", hub(&set).unwrap()).contains("\"t\""));
    assert!(hub(&[]).is_err());
    assert!(hub(&[("HOME", "/h"), ("HF_ENDPOINT", "huggingface.co")]).is_err());
}
