//! Connections that break, servers that are busy, contents that are wrong.

use std::fs;
use std::sync::Mutex;

use crate::server::*;

/// A server that answers a file's first requests badly and then as it should.
fn faulty(
    times: usize,
    name: &'static str,
    fault: impl Fn(Reply) -> Reply + Send + Sync + 'static,
) -> Server {
    let left = Mutex::new(times);
    Server::new(move |asked| {
        let reply = honest(asked);
        let mut left = left.lock().unwrap();
        if *left == 0 || !asked.path.contains(name) {
            return reply;
        }
        *left -= 1;
        fault(reply)
    })
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let server = faulty(2, "model.safetensors", |reply| Reply {
        cut: Some(1_000_000),
        ..reply
    });
    let place = place(&server.endpoint);
    is_complete(&place.fetch().unwrap());
    let asked = server.downloads("model.safetensors");
    let ranges: Vec<_> = asked
        .iter()
        .map(|a| a.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], None);
    let start = |range: &Option<String>| -> u64 {
        let range = range.as_ref().unwrap();
        range[6..range.len() - 1].parse().unwrap()
    };
    assert!(start(&ranges[1]) > 0, "{ranges:?}");
    assert!(start(&ranges[2]) > start(&ranges[1]), "{ranges:?}");
}

#[test]
fn a_later_run_goes_on_with_what_an_interrupted_one_left() {
    let server = Server::new(|asked| match asked.path.contains("model.safetensors") {
        true => Reply {
            cut: Some(500_000),
            ..ranged(asked, weights())
        },
        false => honest(asked),
    });
    let place = place(&server.endpoint);
    let partial = place
        .repo()
        .join("blobs")
        .join(sha256(&weights()) + ".slim-incomplete");
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &weights()[..2_600_000]).unwrap();
    is_complete(&place.fetch().unwrap());
    let asked = server.downloads("model.safetensors");
    assert_eq!(asked[0].headers["range"], "bytes=2600000-");
    assert!(!partial.exists());
}

#[test]
fn a_server_that_cannot_resume_or_a_wrong_beginning_costs_a_second_download() {
    for part in [
        weights()[..5].to_vec(),
        vec![7; 1000],
        vec![7; 3_000_000],
        vec![7; 4_000_000],
    ] {
        let server = Server::new(|asked| match asked.path.contains("model.safetensors") {
            true => ok(weights()),
            false => honest(asked),
        });
        let place = place(&server.endpoint);
        let partial = place
            .repo()
            .join("blobs")
            .join(sha256(&weights()) + ".slim-incomplete");
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(&partial, part).unwrap();
        is_complete(&place.fetch().unwrap());
    }
    // The server resumes, but what was there is not the file's beginning.
    let server = Server::new(honest);
    let place = place(&server.endpoint);
    let partial = place
        .repo()
        .join("blobs")
        .join(sha256(&weights()) + ".slim-incomplete");
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, vec![7; 1000]).unwrap();
    is_complete(&place.fetch().unwrap());
}

#[test]
fn another_content_than_was_promised_is_refused_and_not_kept() {
    for (name, content) in [
        ("model.safetensors", vec![1; 3_000_000]),
        ("config.json", vec![b' '; CONFIG.len()]),
    ] {
        let server = Server::new(move |asked| match asked.path.ends_with(name) {
            true => ok(content.clone()),
            false => honest(asked),
        });
        let place = place(&server.endpoint);
        let error = place.fetch().unwrap_err();
        assert!(
            error.contains(name) && error.contains("another content"),
            "{error}"
        );
        assert_eq!(
            server.downloads(name).len(),
            2,
            "once more, in case it was an accident"
        );
        assert!(
            !place
                .repo()
                .join("snapshots")
                .join(COMMIT)
                .join(name)
                .exists()
        );
    }
}

#[test]
fn a_content_longer_than_promised_is_not_read_to_its_end() {
    let server = Server::new(|asked| match asked.path.ends_with("notes.txt") {
        true => ok(vec![b'n'; 50_000_000]),
        false => honest(asked),
    });
    let place = place(&server.endpoint);
    let error = place.fetch().unwrap_err();
    assert!(error.contains("sub/notes.txt"), "{error}");
    let blobs = fs::read_dir(place.repo().join("blobs")).unwrap();
    let largest = blobs
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .max();
    assert_eq!(largest, Some(weights().len() as u64));
}

#[test]
fn a_busy_server_is_asked_again_when_it_says_so() {
    for fault in [429, 500, 502, 503] {
        let server = faulty(2, "/revision/", move |_| Reply {
            headers: vec![("retry-after", "0".to_owned())],
            ..status(fault)
        });
        is_complete(&place(&server.endpoint).fetch().unwrap());
        let server = faulty(2, "config.json", move |_| status(fault));
        is_complete(&place(&server.endpoint).fetch().unwrap());
    }
}

#[test]
fn a_server_that_stays_busy_is_given_up_with_advice() {
    let server = Server::new(|_| status(503));
    let error = place(&server.endpoint).fetch().unwrap_err();
    assert!(
        error.starts_with("hf:owner/name: 127.0.0.1 answers 503"),
        "{error}"
    );
    assert!(
        error.contains("5 times") && error.contains("HF_HUB_OFFLINE"),
        "{error}"
    );
    assert_eq!(server.log().len(), 5);

    let server = Server::new(|_| Reply {
        headers: vec![("retry-after", "3600".to_owned())],
        ..status(429)
    });
    let error = place(&server.endpoint).fetch().unwrap_err();
    assert!(error.contains("asks to wait 3600 s"), "{error}");
    assert_eq!(server.log().len(), 1);
}
