//! huggingface_hub's cache on disk:
//!
//! ```text
//! models--owner--name/
//!   blobs/DIGEST                 each content once
//!   snapshots/COMMIT/config.json → ../../blobs/DIGEST
//!   refs/main                    the commit that main was when it was last asked for
//! ```

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::listing::{Digest, is_plain};
use super::{Repo, io};
use crate::checkpoint::Error;

/// The folder of one repository.
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(super) fn of(cache: &Path, repo: &Repo) -> Self {
        let name = format!("{}--{}", repo.kind.plural(), repo.id.replace('/', "--"));
        Self {
            folder: cache.join(name),
        }
    }

    /// The files of a commit, by name.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where a content is kept. Its folder exists afterwards.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn blob(&self, digest: &Digest) -> Result<PathBuf, Error> {
        let blobs = self.folder.join("blobs");
        fs::create_dir_all(&blobs).map_err(io("create", &blobs))?;
        Ok(blobs.join(digest.hex()))
    }

    /// The snapshot of a revision, if it is there.
    pub(super) fn known(&self, revision: &str) -> Option<PathBuf> {
        let named = fs::read_to_string(self.folder.join("refs").join(revision)).ok();
        let commit = named.as_deref().map_or(revision, str::trim);
        let folder = self.snapshot(commit);
        (is_plain(commit) && folder.is_dir()).then_some(folder)
    }

    /// Notes which commit a branch or tag stands for.
    ///
    /// # Errors
    /// The cache cannot be written to.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<(), Error> {
        let path = self.folder.join("refs").join(revision);
        if revision == commit || fs::read_to_string(&path).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        let folder = parent(&path);
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        let write = || {
            // As readable as the process makes its files: caches are shared.
            let mode = Permissions::from_mode(0o666);
            let mut file = tempfile::Builder::new()
                .permissions(mode)
                .tempfile_in(folder)?;
            file.write_all(commit.as_bytes())?;
            file.persist(&path).map_err(|e| e.error)
        };
        write().map(drop).map_err(io("write", &path))
    }

    /// Gives a content its name in a snapshot. Whatever bore the name is replaced.
    ///
    /// # Errors
    /// The cache cannot be written to.
    pub(super) fn link(&self, commit: &str, name: &str, digest: &Digest) -> Result<(), Error> {
        let path = self.snapshot(commit).join(name);
        let up = "../".repeat(name.split('/').count() + 1);
        let content = PathBuf::from(format!("{up}blobs/{}", digest.hex()));
        if fs::read_link(&path).is_ok_and(|known| known == content) {
            return Ok(());
        }
        let folder = parent(&path);
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        let link = || {
            let made = tempfile::Builder::new().make_in(folder, |at| symlink(&content, at))?;
            made.persist(&path).map_err(|e| e.error)
        };
        link().map(drop).map_err(io("link", &path))
    }
}

/// A model of the cache, told by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// `owner/name`.
    pub id: String,
    /// The commit, in hexadecimal.
    pub commit: String,
}

impl Cached {
    /// Whose snapshot a path is, or is in: `…/models--owner--name/snapshots/COMMIT/…`.
    pub fn at(path: &Path) -> Option<Self> {
        let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
        parts.windows(3).rev().find_map(|parts| match parts {
            [repo, "snapshots", commit] => Some(Self {
                id: repo.strip_prefix("models--")?.replace("--", "/"),
                commit: (*commit).to_owned(),
            }),
            _ => None,
        })
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// The paths of all files below a folder.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![String::new()];
    while let Some(below) = open.pop() {
        let entries = fs::read_dir(folder.join(&below));
        for entry in entries.into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let name = format!("{below}{name}");
            // A link to a folder is no file of the hub's, and might lead in circles.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(name + "/"),
                Ok(_) => names.push(name),
                Err(_) => {}
            }
        }
    }
    names
}
