//! What is refused, by the server or by slim, and what the token does.

use std::net::TcpListener;

use serde_json::json;

use crate::server::*;

#[test]
fn a_refusal_says_what_to_do() {
    let cases: [(u16, &str, &[&str]); 7] = [
        (
            404,
            "RepoNotFound",
            &["knows no such repository", "HF_TOKEN"],
        ),
        (
            401,
            "",
            &[
                "knows no such repository",
                "the token in HF_TOKEN may read it",
            ],
        ),
        (401, "RepoNotFound", &["knows no such repository"]),
        (
            403,
            "GatedRepo",
            &[
                "accept their terms at http://127.0.0.1",
                "/owner/name",
                "HF_TOKEN",
            ],
        ),
        (401, "GatedRepo", &["accept their terms"]),
        (404, "RevisionNotFound", &["has no revision 'main'"]),
        (403, "", &["refuses it (403)", "HF_TOKEN"]),
    ];
    for (code, reason, told) in cases {
        let server = Server::new(move |_| Reply {
            headers: vec![("x-error-code", reason.to_owned())],
            ..status(code)
        });
        let error = place(&server.endpoint).fetch().unwrap_err();
        assert!(error.starts_with("hf:owner/name: "), "{error}");
        for part in told {
            assert!(error.contains(part), "{code} {reason}: {error}");
        }
        assert!(!error.contains("hf_secret"), "{error}");
        assert_eq!(
            server.log().len(),
            1,
            "{code} {reason}: it will not change its mind"
        );
    }
}

#[test]
fn without_a_token_a_private_repository_asks_for_one() {
    let server = Server::new(|_| status(401));
    let mut place = place(&server.endpoint);
    place.hub.token = None;
    let error = place.fetch().unwrap_err();
    assert!(error.contains("if it is private, set HF_TOKEN"), "{error}");
    assert!(!server.log()[0].headers.contains_key("authorization"));
}

#[test]
fn the_token_does_not_follow_to_another_host() {
    let store = Server::new(|asked| ranged(asked, weights()));
    let elsewhere = store.endpoint.clone();
    let server = Server::new(move |asked| {
        let moved = |to: String| Reply {
            headers: vec![
                ("location", to),
                ("x-linked-etag", format!("\"{}\"", sha256(&weights()))),
                ("x-linked-size", weights().len().to_string()),
            ],
            ..status(302)
        };
        match asked.path.as_str() {
            // First to another place of the same host, then to another host.
            path if path.ends_with(
                "/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors",
            ) =>
            {
                moved("/elsewhere/model".to_owned())
            }
            "/elsewhere/model" => moved(format!("{elsewhere}/store/model?signature=x")),
            _ => honest(asked),
        }
    });
    is_complete(&place(&server.endpoint).fetch().unwrap());
    let asked = store.log();
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].headers.contains_key("authorization"), "{asked:?}");
    let own = server.log();
    assert!(own.iter().any(|a| a.path == "/elsewhere/model"));
    assert!(
        own.iter()
            .all(|a| a.headers["authorization"] == "Bearer hf_secret")
    );
}

#[test]
fn redirections_without_end_or_to_other_protocols_are_not_followed() {
    for location in ["/again", "file:///etc/passwd", "//other.example/x", ""] {
        let server = Server::new(move |asked| match asked.path.starts_with("/api") {
            true => honest(asked),
            false => Reply {
                headers: vec![("location", location.to_owned())],
                ..status(302)
            },
        });
        let error = place(&server.endpoint).fetch().unwrap_err();
        assert!(
            error.contains("without end") || error.contains("does not follow"),
            "{error}"
        );
    }
}

#[test]
fn names_that_leave_the_folder_are_refused_before_anything_is_fetched() {
    for name in [
        "../../../evil",
        "/tmp/evil",
        "a/../../evil",
        "..",
        "a\\..\\evil",
        "a\0b",
        "",
    ] {
        let server = Server::new(move |asked| {
            let mut list = listing();
            list["siblings"][2]["rfilename"] = json!(name);
            match asked.path.starts_with("/api") {
                true => ok(list.to_string()),
                false => honest(asked),
            }
        });
        let place = place(&server.endpoint);
        let error = place.fetch().unwrap_err();
        assert!(error.contains("leaves the repository's folder"), "{error}");
        assert_eq!(server.log().len(), 1);
        place.is_clean();
    }
}

#[test]
fn digests_and_commits_that_are_paths_are_refused() {
    for (field, value) in [
        ("/sha", "../../evil"),
        ("/siblings/0/blobId", "../../evil"),
        ("/siblings/1/lfs/sha256", "../../../evil"),
    ] {
        let server = Server::new(move |asked| {
            let mut list = listing();
            *list.pointer_mut(field).unwrap() = json!(value);
            match asked.path.starts_with("/api") {
                true => ok(list.to_string()),
                false => honest(asked),
            }
        });
        let place = place(&server.endpoint);
        assert!(place.fetch().is_err(), "{field}");
        place.is_clean();
    }
}

#[test]
fn a_server_that_is_not_there_is_told_with_what_to_check() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = place(&format!("http://{free}")).fetch().unwrap_err();
    assert!(error.contains("127.0.0.1 cannot be reached"), "{error}");
    let server = Server::new(|_| ok("<html>a login page</html>"));
    let error = place(&server.endpoint).fetch().unwrap_err();
    assert!(error.contains("is HF_ENDPOINT right?"), "{error}");
}

#[test]
fn a_repository_without_wanted_files_is_an_error() {
    let server = Server::new(honest);
    let fetched = place(&server.endpoint)
        .hub
        .fetch(&model(), |name| name == "x", |_| ());
    let error = fetched.unwrap_err().to_string();
    assert!(error.contains("none of its 4 files"), "{error}");
}
