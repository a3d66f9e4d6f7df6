//! Files from a server that speaks the Hugging Face hub's protocol, into the hub's own cache.
//!
//! The cache is laid out as huggingface_hub lays it out, so transformers finds what slim fetched,
//! and slim what transformers fetched. Nothing is taken that does not match the digest which the
//! server named before it sent the file; what was cut off goes on where it stopped.

mod blob;
mod cache;
mod client;
mod listing;
mod model;
mod retry;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;
use cache::Cache;
pub use cache::Cached;
use client::Client;
use listing::Listing;
pub use model::RemoteModel;

/// How paths of the hub begin on the command line.
pub const PREFIX: &str = "hf:";

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Weights, configuration, tokenizer.
    Model,
    /// Data.
    Dataset,
}

/// One revision of a repository on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    /// What it holds.
    pub kind: Kind,
    /// `owner/name`, or the bare name of a few old ones.
    pub id: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

/// How far a fetch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'f> {
    /// The file that is being fetched.
    pub file: &'f str,
    /// Bytes that are there, of all wanted files.
    pub done: u64,
    /// Bytes of all wanted files.
    pub total: u64,
}

/// A server, a cache, and how to deal with them.
#[derive(Clone)]
pub struct Hub {
    /// Where the server is, such as `https://huggingface.co`.
    pub endpoint: String,
    /// Sent to the endpoint, and never to a host that it redirects to.
    pub token: Option<String>,
    /// The folder that holds `models--owner--name` and the like.
    pub cache: PathBuf,
    /// Take what the cache has and ask nobody.
    pub offline: bool,
    /// The first pause before something is tried again; each further one is twice as long.
    pub pause: Duration,
}

impl Kind {
    /// The kind as paths of the protocol and of the cache spell it.
    fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

impl Repo {
    /// Reads `hf:owner/name` or `hf:owner/name@revision`; without a revision it is `main`.
    ///
    /// # Errors
    /// Another form, or a name that the hub does not allow.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, Error> {
        let named = text.strip_prefix(PREFIX).unwrap_or(text);
        let (id, revision) = named.split_once('@').unwrap_or((named, "main"));
        let repo = Self {
            kind,
            id: id.to_owned(),
            revision: revision.to_owned(),
        };
        let parts = id.split('/').count();
        if parts > 2 || !id.split('/').all(is_name) || id.contains("--") {
            return Err(repo.error("no repository has such a name; give hf:owner/name"));
        }
        if !listing::is_plain(revision) {
            return Err(repo.error("no branch, tag or commit has such a name"));
        }
        Ok(repo)
    }

    fn error(&self, problem: impl Into<String>) -> Error {
        Error::Hub {
            repo: self.to_string(),
            problem: problem.into(),
        }
    }
}

impl std::fmt::Display for Repo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}", self.id)?;
        match self.revision.as_str() {
            "main" => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

/// A part of a repository's name: up to 96 letters, digits, `-`, `_` and `.`, no dot at its ends.
fn is_name(part: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let edge = |end: Option<&u8>| end.is_some_and(|b| !b"-.".contains(b));
    let bytes = part.as_bytes();
    bytes.len() <= 96
        && bytes.iter().copied().all(allowed)
        && edge(bytes.first())
        && edge(bytes.last())
        && !part.contains("..")
}

/// The wanted files of a repository, with the hub and the cache that the environment names
/// ([`Hub::from_env`]): the folder of its snapshot.
///
/// # Errors
/// Those of [`Hub::fetch`].
pub fn fetch(
    repo: &Repo,
    wanted: impl Fn(&str) -> bool,
    progress: impl FnMut(Step),
) -> Result<PathBuf, Error> {
    Hub::from_env()?.fetch(repo, wanted, progress)
}

impl Hub {
    /// The hub as huggingface_hub's variables say: `HF_ENDPOINT`; `HF_TOKEN`, or the file
    /// `HF_TOKEN_PATH` or `$HF_HOME/token`; `HF_HUB_CACHE`, or `$HF_HOME/hub`;
    /// `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`.
    ///
    /// # Errors
    /// No place for a cache, or an endpoint that is no http address.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_variables(|name| env::var(name).ok())
    }

    /// [`Hub::from_env`] with other variables.
    ///
    /// # Errors
    /// Those of [`Hub::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let folder = |name: &str| set(name).map(PathBuf::from);
        let user = || Some(folder("HOME")?.join(".cache"));
        let caches = folder("XDG_CACHE_HOME").or_else(user);
        let home = folder("HF_HOME").or_else(|| Some(caches?.join("huggingface")));
        let in_home = |name: &str| Some(home.as_ref()?.join(name));
        let error = |what: &str, problem: &str| Error::Hub {
            repo: what.to_owned(),
            problem: problem.to_owned(),
        };
        let cache = folder("HF_HUB_CACHE").or_else(|| in_home("hub"));
        let cache = cache.ok_or_else(|| {
            error(
                "HF_HUB_CACHE",
                "no place for downloads: neither it nor HF_HOME nor HOME is set; set one to a folder",
            )
        })?;
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(error(
                "HF_ENDPOINT",
                "is no http address; unset it or set it to one",
            ));
        }
        let token_file = folder("HF_TOKEN_PATH").or_else(|| in_home("token"));
        let stored = || fs::read_to_string(token_file?).ok();
        let token = set("HF_TOKEN").or_else(stored);
        let token = token.map(|token| token.trim().to_owned());
        let yes = |name: &str| {
            let value = set(name).unwrap_or_default().to_ascii_lowercase();
            ["1", "on", "yes", "true"].contains(&value.as_str())
        };
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.filter(|token| !token.is_empty()),
            cache,
            offline: yes("HF_HUB_OFFLINE") || yes("TRANSFORMERS_OFFLINE"),
            pause: Duration::from_secs(1),
        })
    }

    /// Makes the wanted files of a repository be in the cache, and gives the folder that holds
    /// them under their names.
    ///
    /// # Errors
    /// No such repository, revision or wanted file; no permission; a server that does not answer
    /// or sends something else than it promised; a full disk. Each says what to do.
    pub fn fetch(
        &self,
        repo: &Repo,
        wanted: impl Fn(&str) -> bool,
        progress: impl FnMut(Step),
    ) -> Result<PathBuf, Error> {
        let choose = |names: &[&str]| {
            let chosen = names.iter().filter(|name| wanted(name));
            let chosen: Vec<String> = chosen.map(|name| (*name).to_owned()).collect();
            match chosen.is_empty() {
                true => Err(repo.error(format!(
                    "none of its {} files is one that slim reads; is it the right repository?",
                    names.len()
                ))),
                false => Ok(chosen),
            }
        };
        self.fetch_chosen(repo, choose, progress)
    }

    /// The same with the files that are chosen of all.
    fn fetch_chosen(
        &self,
        repo: &Repo,
        choose: impl FnOnce(&[&str]) -> Result<Vec<String>, Error>,
        mut progress: impl FnMut(Step),
    ) -> Result<PathBuf, Error> {
        let cache = Cache::of(&self.cache, repo);
        if self.offline {
            return self.cached(repo, &cache, choose);
        }
        let client = Client::new(self, repo)?;
        let listing = Listing::fetch(&client, choose)?;
        let sizes = listing.files.values().map(|file| file.size);
        let total = sizes.fold(0, u64::saturating_add);
        let mut done = 0;
        for (name, file) in &listing.files {
            let mut step = |bytes: u64| {
                let done = done + bytes;
                progress(Step {
                    file: name,
                    done,
                    total,
                });
            };
            step(0);
            blob::fetch(&client, &cache, &listing.commit, name, file, &mut step)?;
            cache.link(&listing.commit, name, &file.digest)?;
            done += file.size;
            progress(Step {
                file: name,
                done,
                total,
            });
        }
        cache.remember(&repo.revision, &listing.commit)?;
        Ok(cache.snapshot(&listing.commit))
    }

    /// The snapshot that the cache has.
    fn cached(
        &self,
        repo: &Repo,
        cache: &Cache,
        choose: impl FnOnce(&[&str]) -> Result<Vec<String>, Error>,
    ) -> Result<PathBuf, Error> {
        let chosen = |folder: &PathBuf| {
            let names = cache::names(folder);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            choose(&names).is_ok()
        };
        let found = cache.known(&repo.revision).filter(chosen);
        found.ok_or_else(|| {
            repo.error(format!(
                "is not in the cache {}, and HF_HUB_OFFLINE forbids to fetch it; unset it, or give \
                 a folder",
                self.cache.display()
            ))
        })
    }
}

impl std::fmt::Debug for Hub {
    /// Without the token, which must not get into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// For `map_err`: an I/O failure in the cache.
fn io<'a>(doing: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
    Error::io(doing, path)
}
