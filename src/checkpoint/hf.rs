//! The files of a Hugging Face layout: which ones hold the tensors, and what lies beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Error;

/// The model's configuration.
pub(crate) const CONFIG: &str = "config.json";
/// All tensors in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// Which shard holds which tensor.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Published configurations stay under 1 MB.
const MAX_CONFIG: u64 = 4 << 20;
/// As large as a safetensors header may be, which names the same tensors.
const MAX_INDEX: u64 = 100_000_000;

/// What stands beside the tensors in a Hugging Face layout.
#[derive(Clone, Debug)]
pub struct HfFiles {
    /// The folder of the tensors.
    pub dir: PathBuf,
    /// `config.json`: key order and the text of numbers are kept.
    pub config: Map<String, Value>,
    /// `__metadata__` of the safetensors header (of all shards; the first to name a key wins).
    pub header_metadata: BTreeMap<String, String>,
    /// Tokenizer, templates, generation settings, licence and card, by name: what a copy of the
    /// model must have beside it.
    pub sidecars: Vec<PathBuf>,
}

impl HfFiles {
    /// Reads what lies in `dir`, except the tensors.
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(CONFIG);
        if !path.exists() {
            return Err(Error::layout(
                &path,
                "is missing; slim needs the model's config.json beside its tensors",
            ));
        }
        let text = read_capped(&within(dir, CONFIG)?, MAX_CONFIG)?;
        let config = serde_json::from_slice(&text)
            .map_err(|e| Error::layout(&path, format!("is no JSON object: {e}")))?;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            header_metadata: BTreeMap::new(),
            sidecars: sidecars(dir)?,
        })
    }
}

/// Files that belong to a model whatever its weights: (prefix, suffix) of their names.
const SIDECARS: &[(&str, &str)] = &[
    ("tokenizer", ""),
    ("special_tokens_map", ".json"),
    ("added_tokens", ".json"),
    ("generation_config", ".json"),
    ("chat_template", ""),
    ("vocab", ""),
    ("merges", ".txt"),
    ("spiece", ".model"),
    ("sentencepiece", ".model"),
    ("preprocessor_config", ".json"),
    ("processor_config", ".json"),
    ("configuration_", ".py"),
    ("modeling_", ".py"),
    ("tokenization_", ".py"),
    ("LICENSE", ""),
    ("LICENCE", ""),
    ("NOTICE", ""),
    ("USE_POLICY", ""),
    ("README", ""),
];

/// Whether a file is one of a model's shards: `model-00001-of-00003.safetensors`.
pub(crate) fn is_shard(name: &str) -> bool {
    let inner = name.strip_prefix("model-");
    let inner = inner.and_then(|rest| rest.strip_suffix(".safetensors"));
    inner.is_some_and(|inner| inner.contains("-of-"))
}

/// Whether a file belongs to a model whatever its weights.
pub(crate) fn is_sidecar(name: &str) -> bool {
    let known =
        |(prefix, suffix): &(&str, &str)| name.starts_with(prefix) && name.ends_with(suffix);
    !name.contains('/') && SIDECARS.iter().any(known)
}

fn sidecars(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if is_sidecar(name) && entry.path().is_file() {
            within(dir, name)?;
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The files that hold the tensors of the folder, by name, and the index if it has one.
pub(crate) fn weight_files(dir: &Path) -> Result<(Vec<PathBuf>, Option<Index>), Error> {
    if dir.join(SINGLE).exists() {
        return Ok((vec![within(dir, SINGLE)?], None));
    }
    let Some(index) = Index::read(dir)? else {
        return Err(Error::layout(dir, no_weights(dir)));
    };
    let files = index.files().into_iter().map(|name| within(dir, name));
    Ok((files.collect::<Result<_, _>>()?, Some(index)))
}

/// What to say of a folder without safetensors, by what it has instead.
fn no_weights(dir: &Path) -> String {
    let names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let ends = |suffix: &str| names.iter().find(|name| name.ends_with(suffix));
    if let Some(gguf) = ends(".gguf") {
        return format!(
            "is a folder without {SINGLE}; to open the GGUF file in it, give {gguf} itself"
        );
    }
    if ends(".bin").is_some() || ends(".pt").is_some() || ends(".pth").is_some() {
        return format!(
            "holds pickled weights only, which run code when they are opened; save the model as {SINGLE} first"
        );
    }
    match ends(".safetensors") {
        Some(other) => {
            format!("has neither {SINGLE} nor {INDEX}; to open {other}, give that file itself")
        }
        None => format!("has neither {SINGLE} nor {INDEX}"),
    }
}

/// `model.safetensors.index.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Index {
    #[serde(skip)]
    pub path: PathBuf,
    /// Tensor → name of its shard.
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// The index of `dir`, if there is one.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(INDEX);
        if !path.exists() {
            return Ok(None);
        }
        let text = read_capped(&within(dir, INDEX)?, MAX_INDEX)?;
        let index: Self = serde_json::from_slice(&text)
            .map_err(|e| Error::layout(&path, format!("is no index of shards: {e}")))?;
        if index.weight_map.is_empty() {
            return Err(Error::layout(&path, "names no tensors"));
        }
        Ok(Some(Self { path, ..index }))
    }

    /// The shards' names, sorted.
    pub(crate) fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

/// The path of `name` in `dir`, if it cannot lead anywhere else. A link may point into the folder,
/// or, in a hub cache (`…/snapshots/REVISION/`), to the cache's own `blobs`.
pub(crate) fn within(dir: &Path, name: impl AsRef<Path>) -> Result<PathBuf, Error> {
    let name = name.as_ref();
    let path = dir.join(name);
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    if name.as_os_str().is_empty() || !name.components().all(plain) {
        return Err(Error::layout(
            dir,
            format!("its index names the file {name:?}, which leaves the folder; it is not opened"),
        ));
    }
    let home = fs::canonicalize(dir).map_err(Error::io("open", dir))?;
    let real = fs::canonicalize(&path).map_err(Error::io("open", &path))?;
    // A pipe would be waited for, a device read without end.
    if !real.is_file() && real.starts_with(&home) {
        return Err(Error::layout(&path, "is no regular file"));
    }
    let blobs = home
        .parent()
        .filter(|parent| parent.ends_with("snapshots"))
        .and_then(Path::parent)
        .map(|cache| cache.join("blobs"));
    if real.starts_with(&home) || blobs.is_some_and(|blobs| real.starts_with(blobs)) {
        Ok(path)
    } else {
        Err(Error::layout(
            &path,
            format!(
                "is a link to {}, outside the model's folder; copy the file into the folder if you trust it",
                real.display()
            ),
        ))
    }
}

/// The content of a text file that is no larger than `limit`.
fn read_capped(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut text = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut text)
        .map_err(Error::io("read", path))?;
    if text.len() as u64 > limit {
        return Err(Error::layout(
            path,
            format!("is larger than {limit} bytes, more than any model needs"),
        ));
    }
    Ok(text)
}
