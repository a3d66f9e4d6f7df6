//! A safetensors model with all that belongs to it: as a folder, or as a file with the other files
//! beside it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path};

use serde_json::json;

use super::writer::Plan;
use crate::checkpoint::Error;
use crate::checkpoint::atomic::{AtomicDir, AtomicFile, commit_together, parent_of};
use crate::checkpoint::deal::deal;
use crate::checkpoint::hf::{INDEX, SINGLE};
use crate::checkpoint::output::OutTensor;

/// The files that go with the tensors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Companions<'a> {
    /// Files whose content is at hand, `config.json` first of all: (name, content).
    pub text_files: &'a [(String, Cow<'a, [u8]>)],
    /// Files to copy, under their own names.
    pub copied: &'a [std::path::PathBuf],
    /// Names that may replace a different file beside the target.
    pub replacing: &'a [&'a str],
}

/// Where a companion's content is.
enum Content<'a> {
    Text(&'a [u8]),
    File(&'a Path),
}

impl<'a> Companions<'a> {
    /// (name, content) of each, after checking that the names are plain and that none is double.
    fn named(&self, target: &Path) -> Result<BTreeMap<&'a str, Content<'a>>, Error> {
        let texts = self.text_files.iter();
        let texts = texts.map(|(name, text)| (Path::new(name), Content::Text(text)));
        let files = self.copied.iter();
        let files = files.map(|path| {
            let name = Path::new(path.file_name().unwrap_or_default());
            (name, Content::File(path.as_path()))
        });
        let mut named = BTreeMap::new();
        for (path, content) in texts.chain(files) {
            let wrong =
                |problem| Error::output(target, format!("the file {}", path.display()), problem);
            let mut parts = path.components();
            let (Some(Component::Normal(_)), None, Some(name)) =
                (parts.next(), parts.next(), path.to_str())
            else {
                return Err(wrong("that is no plain file name"));
            };
            if named.insert(name, content).is_some() {
                return Err(wrong("there are two of this name"));
            }
        }
        Ok(named)
    }
}

impl Content<'_> {
    fn write(&self, mut to: &File, target: &Path) -> Result<(), Error> {
        match self {
            Self::Text(text) => to.write_all(text).map_err(Error::io("write", target)),
            Self::File(path) => {
                let mut from = File::open(path).map_err(Error::io("open", path))?;
                std::io::copy(&mut from, &mut to).map_err(Error::io("copy", path))?;
                Ok(())
            }
        }
    }

    fn equals(&self, existing: &Path) -> bool {
        let theirs = fs::read(existing);
        match self {
            Self::Text(text) => theirs.is_ok_and(|theirs| theirs == *text),
            Self::File(path) => {
                theirs.is_ok_and(|theirs| fs::read(path).is_ok_and(|f| f == theirs))
            }
        }
    }
}

/// Writes a Hugging Face folder, whole or not at all. The folder must be absent or empty.
///
/// The tensors go into `model.safetensors` or, where they are more than `max_shard_bytes`, into
/// `model-00001-of-0000N.safetensors` with an index: filled in the given order, a tensor larger
/// than a shard by itself. See [`write`](super::write) for `header_metadata` and `progress`.
///
/// # Errors
/// As for [`write`](super::write).
pub fn write_folder(
    target: &Path,
    companions: Companions<'_>,
    header_metadata: &BTreeMap<String, String>,
    tensors: &[OutTensor<'_>],
    max_shard_bytes: Option<u64>,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    let companions = companions.named(target)?;
    let shards = deal(target, tensors, max_shard_bytes, 1)?;
    let mut files = Vec::with_capacity(shards.len());
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => SINGLE.to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        files.push((name, Plan::new(target, header_metadata, shard)?));
    }
    let folder = AtomicDir::create(target)?;
    let create = |name: &str| {
        let path = folder.path().join(name);
        File::create_new(&path).map_err(Error::io("create", &path))
    };
    for (name, plan) in &files {
        plan.fill(&create(name)?, target, progress)?;
    }
    if files.len() > 1 {
        let names = files.iter().map(|(name, _)| name.as_str());
        let text = index(names.zip(&shards), target)?;
        Content::Text(text.as_bytes()).write(&create(INDEX)?, target)?;
    }
    for (name, content) in &companions {
        content.write(&create(name)?, target)?;
    }
    folder.commit()
}

/// The index as transformers writes it: sorted, indented by two.
fn index<'a>(
    shards: impl Iterator<Item = (&'a str, &'a Vec<&'a OutTensor<'a>>)>,
    target: &Path,
) -> Result<String, Error> {
    let mut total_size = 0u64;
    let mut weight_map = BTreeMap::new();
    for (name, shard) in shards {
        for tensor in shard {
            total_size = total_size.saturating_add(tensor.byte_len(target)?);
            if weight_map.insert(&tensor.name, name).is_some() {
                return Err(Error::output(
                    target,
                    tensor.what(),
                    "there are two of this name",
                ));
            }
        }
    }
    let index = json!({"metadata": {"total_size": total_size}, "weight_map": weight_map});
    Ok(format!("{index:#}\n"))
}

/// Writes one safetensors file and its companions beside it. Files that are there already with the
/// same content are left alone; those of another content only give way to a companion that is
/// named in `replacing`.
///
/// # Errors
/// As for [`write`](super::write); and a companion that would replace a different file, which is
/// found before anything is written.
pub fn write_beside(
    target: &Path,
    companions: Companions<'_>,
    header_metadata: &BTreeMap<String, String>,
    tensors: &[OutTensor<'_>],
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    let folder = parent_of(target);
    let tensors: Vec<_> = tensors.iter().collect();
    let plan = Plan::new(target, header_metadata, &tensors)?;
    let mut missing = Vec::new();
    for (name, content) in companions.named(target)? {
        let place = folder.join(name);
        if place.file_name() == target.file_name() {
            let problem = format!("{name} is the name of a file that belongs beside it");
            return Err(Error::target(target, problem));
        }
        if content.equals(&place) {
            continue;
        }
        let absent = fs::symlink_metadata(&place).is_err();
        if !absent && !companions.replacing.contains(&name) {
            let problem = format!(
                "a different {name} lies beside it, which belongs to another model; give a folder to write into instead"
            );
            return Err(Error::target(target, problem));
        }
        missing.push((place, content));
    }
    let output = AtomicFile::create(target)?;
    plan.fill(output.file(), target, progress)?;
    let mut written = Vec::with_capacity(missing.len() + 1);
    for (place, content) in missing {
        let file = AtomicFile::create(&place)?;
        content.write(file.file(), &place)?;
        written.push(file);
    }
    // The tensors last: who finds them finds all that belongs to them.
    written.push(output);
    commit_together(written)
}
