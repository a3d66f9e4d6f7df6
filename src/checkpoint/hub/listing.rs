//! Which files a revision has, and what each must hash to.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::client::{Client, encoded};
use crate::checkpoint::Error;

/// The longest list of files that is read.
const MAX_LISTING: u64 = 64 << 20;

/// A revision, resolved.
pub(super) struct Listing {
    /// The commit, in hexadecimal.
    pub(super) commit: String,
    /// The chosen files by path.
    pub(super) files: BTreeMap<String, RemoteFile>,
}

/// One file as the server promises it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    pub(super) size: u64,
    pub(super) digest: Digest,
}

/// What a file must hash to; it is also the file's name among the cache's blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Digest {
    /// SHA-256 of the content, of files in large file storage.
    Sha256(String),
    /// SHA-1 of git's header and the content.
    Git(String),
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Digest {
    /// A digest by its hexadecimal form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        match text.len() {
            _ if !text.bytes().all(|b| b.is_ascii_hexdigit()) => None,
            64 => Some(Self::Sha256(text)),
            40 => Some(Self::Git(text)),
            _ => None,
        }
    }

    pub(super) fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::Git(hex) => hex,
        }
    }
}

impl Listing {
    /// Asks for the files of the client's revision that are chosen of all their names.
    ///
    /// # Errors
    /// What the client or the choice reports; a list that is none, or that names files outside the
    /// repository.
    pub(super) fn fetch(
        client: &Client,
        choose: impl FnOnce(&[&str]) -> Result<Vec<String>, Error>,
    ) -> Result<Self, Error> {
        let repo = client.repo;
        let (kind, id) = (repo.kind.plural(), &repo.id);
        let revision = encoded(&repo.revision, false);
        let url = format!("/api/{kind}/{id}/revision/{revision}?blobs=true");
        let text = client.text(&url, MAX_LISTING)?;
        let info: Info = serde_json::from_slice(&text).map_err(|e| {
            repo.error(format!(
                "{} answered with something else than a list of files ({e}); is HF_ENDPOINT right?",
                client.hub.endpoint
            ))
        })?;
        let Some(Digest::Git(commit)) = Digest::parse(&info.sha) else {
            return Err(repo.error(format!("the server calls its commit {:?}", info.sha)));
        };
        if let Some(file) = info.siblings.iter().find(|file| !is_plain(&file.rfilename)) {
            return Err(repo.error(format!(
                "the server lists a file {:?}, which leaves the repository's folder; nothing was \
                 fetched",
                file.rfilename
            )));
        }
        let names: Vec<&str> = info.siblings.iter().map(|file| &*file.rfilename).collect();
        let chosen = choose(&names)?;
        let chosen = info
            .siblings
            .into_iter()
            .filter(|file| chosen.contains(&file.rfilename));
        let promised = chosen.map(|file| {
            let known = match file.promised() {
                Some(known) => known,
                None => client.headers_of(&commit, &file.rfilename)?,
            };
            Ok((file.rfilename, known))
        });
        let files = promised.collect::<Result<_, Error>>()?;
        Ok(Self { commit, files })
    }
}

impl Sibling {
    /// What the list promises; some servers list names only, and the headers of the file itself
    /// say the rest.
    fn promised(&self) -> Option<RemoteFile> {
        let (digest, size) = match &self.lfs {
            Some(lfs) => (&lfs.sha256, lfs.size),
            None => (&self.blob_id, self.size),
        };
        Some(RemoteFile {
            digest: Digest::parse(digest.as_deref()?)?,
            size: size?,
        })
    }
}

/// Whether a path from elsewhere stays in the folder that it is joined to.
pub(super) fn is_plain(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let clean = |c: char| !c.is_control() && c != '\\';
    path.len() <= 1024 && path.split('/').all(part) && path.chars().all(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_folder_are_plain() {
        for path in [
            "config.json",
            "onnx/model.onnx",
            "a..b",
            "..a/b",
            "refs/pr/1",
        ] {
            assert!(is_plain(path), "{path}");
        }
        let long = "a".repeat(2000);
        for path in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a\\..\\b",
            "a\0b",
            "a\nb",
            &long,
        ] {
            assert!(!is_plain(path), "{path:?}");
        }
    }

    #[test]
    fn digests_are_told_by_their_length() {
        assert!(
            matches!(Digest::parse(&"0A".repeat(32)), Some(Digest::Sha256(hex)) if hex.starts_with("0a"))
        );
        assert!(matches!(
            Digest::parse(&"0a".repeat(20)),
            Some(Digest::Git(_))
        ));
        for text in ["", "../../x", "0a", &"g".repeat(40)] {
            assert_eq!(Digest::parse(text), None);
        }
    }
}
