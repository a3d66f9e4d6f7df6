//! Which files of a repository make a model.

use super::{Hub, Kind, PREFIX, Repo, Step};
use crate::checkpoint::Error;
use crate::checkpoint::gguf::split_name;
use crate::checkpoint::hf::{CONFIG, INDEX, SINGLE, is_shard, is_sidecar};
use std::path::{Path, PathBuf};

/// Names of files that a message lists, at most.
const SHOWN: usize = 24;

/// A model on the hub, as people name it: `hf:owner/name[@revision][:FILE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteModel {
    /// The repository.
    pub repo: Repo,
    /// One GGUF file of it: its name, or the end of its name, such as `Q4_K_M`. Absent, what the
    /// repository has as safetensors, or its only GGUF file.
    pub file: Option<String>,
}

impl RemoteModel {
    /// Whether a path names a model on the hub.
    pub fn is_named(path: &Path) -> bool {
        path.to_str().is_some_and(|text| text.starts_with(PREFIX))
    }

    /// Reads `hf:owner/name` or `hf:owner/name@revision`, either with `:FILE.gguf` or `:Q4_K_M`
    /// behind it.
    ///
    /// # Errors
    /// As of [`Repo::parse`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let named = text.strip_prefix(PREFIX).unwrap_or(text);
        let (repo, file) = match named.split_once(':') {
            Some((repo, file)) => (repo, Some(file.to_owned())),
            None => (named, None),
        };
        Ok(Self {
            repo: Repo::parse(Kind::Model, repo)?,
            file,
        })
    }

    /// Makes the model be in the cache, and gives what to open: a folder, or a GGUF file.
    ///
    /// # Errors
    /// As of [`Hub::fetch`]; a repository without such a file, with what it has instead.
    pub fn fetch(&self, hub: &Hub, progress: impl FnMut(Step)) -> Result<PathBuf, Error> {
        let mut gguf = None;
        let choose = |names: &[&str]| {
            let files = self.files(names)?;
            gguf = files
                .first()
                .filter(|name| name.ends_with(".gguf"))
                .cloned();
            Ok(files)
        };
        let snapshot = hub.fetch_chosen(&self.repo, choose, progress)?;
        Ok(match gguf {
            Some(name) => snapshot.join(name),
            None => snapshot,
        })
    }

    /// The files of a repository that the model needs; of a split GGUF file the first part first.
    fn files(&self, names: &[&str]) -> Result<Vec<String>, Error> {
        let mut ggufs: Vec<&str> = names.iter().copied().filter(|name| is_gguf(name)).collect();
        ggufs.sort_unstable();
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        if self.file.is_none() && names.iter().any(|name| is_weights(name)) {
            let belongs = |name: &&str| {
                is_weights(name) || [CONFIG, INDEX].contains(name) || is_sidecar(name)
            };
            return Ok(owned(names.iter().copied().filter(belongs).collect()));
        }
        let meant = |name: &&str| match &self.file {
            Some(file) => ends_in(name, file),
            None => true,
        };
        let chosen: Vec<&str> = ggufs.iter().copied().filter(meant).collect();
        match chosen.as_slice() {
            [first, rest @ ..] if rest.iter().all(|name| stem(name) == stem(first)) => {
                Ok(owned(chosen))
            }
            _ => Err(self.repo.error(self.advice(&ggufs, !chosen.is_empty()))),
        }
    }

    /// What to say where no one file is meant.
    fn advice(&self, ggufs: &[&str], several: bool) -> String {
        if ggufs.is_empty() {
            return format!(
                "has neither {SINGLE} nor shards nor a .gguf file; is it the right repository?"
            );
        }
        let mut shown: Vec<&str> = ggufs.iter().copied().take(SHOWN).collect();
        if shown.len() < ggufs.len() {
            shown.push("…");
        }
        let shown = shown.join(", ");
        match &self.file {
            Some(file) if several => format!("several files end in '{file}': give one of {shown}"),
            Some(file) => format!("no GGUF file of it ends in '{file}': it has {shown}"),
            None => format!(
                "holds GGUF files: say which, as {}:NAME with one of {shown}",
                self.repo
            ),
        }
    }
}

fn is_weights(name: &str) -> bool {
    name == SINGLE || is_shard(name)
}

fn is_gguf(name: &str) -> bool {
    name.ends_with(".gguf")
}

/// A GGUF file's name without its extension, and without the number of a part.
fn stem(name: &str) -> &str {
    split_name(name).unwrap_or_else(|| name.strip_suffix(".gguf").unwrap_or(name))
}

/// Whether a GGUF file is named by `end`: all of it, or what follows a `-`, `.`, `_` or `/`.
fn ends_in(name: &str, end: &str) -> bool {
    let end = end.strip_suffix(".gguf").unwrap_or(end).to_lowercase();
    let whole = name.strip_suffix(".gguf").unwrap_or(name);
    [whole, stem(name)].iter().any(|name| {
        let name = name.to_lowercase();
        let before = name.strip_suffix(&end);
        before.is_some_and(|before| before.is_empty() || before.ends_with(['-', '.', '_', '/']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GGUFS: &[&str] = &[
        "README.md",
        "m-Q4_K_M.gguf",
        "m-Q4_K_S.gguf",
        "big/m-Q8_0-00001-of-00002.gguf",
        "big/m-Q8_0-00002-of-00002.gguf",
    ];

    fn files(text: &str, names: &[&str]) -> Result<Vec<String>, String> {
        let model = RemoteModel::parse(text).map_err(|e| e.to_string())?;
        model.files(names).map_err(|e| e.to_string())
    }

    #[test]
    fn a_gguf_is_found_by_the_end_of_its_name_and_with_all_its_parts() {
        for named in ["q4_k_m", "Q4_K_M", "m-Q4_K_M.gguf"] {
            let found = files(&format!("hf:o/n:{named}"), GGUFS).unwrap();
            assert_eq!(found, ["m-Q4_K_M.gguf"]);
        }
        let found = files("hf:o/n@v1:Q8_0", GGUFS).unwrap();
        assert_eq!(found, GGUFS[3..]);
        assert_eq!(files("hf:o/n", &["one.gguf"]).unwrap(), ["one.gguf"]);
    }

    #[test]
    fn what_is_not_clear_is_asked_for_with_what_there_is() {
        for (named, names, words) in [
            ("hf:o/n", GGUFS, "hf:o/n:NAME with one of big/m-Q8_0"),
            ("hf:o/n:Q2_K", GGUFS, "no GGUF file of it ends in 'Q2_K'"),
            ("hf:o/n:M", &["a-m.gguf", "b-m.gguf"][..], "several files"),
            ("hf:o/n", &["pytorch_model.bin"], "right repository"),
        ] {
            let found = files(named, names).unwrap_err();
            assert!(found.contains(words), "{named}: {found}");
        }
    }

    #[test]
    fn safetensors_come_with_what_belongs_to_them_and_nothing_else() {
        let names = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "README.md",
            "pytorch_model.bin",
            "consolidated.safetensors",
            "onnx/tokenizer.json",
            "m-Q8_0.gguf",
        ];
        assert_eq!(files("hf:o/n", &names).unwrap(), names[..6]);
    }
}
