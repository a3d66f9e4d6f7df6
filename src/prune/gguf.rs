//! Writing GGUF: from GGUF with the keys that depend on the layers rewritten, from Hugging Face
//! with the keys that the stock converter would write.

use super::Request;
use super::base_model::name_source;
use super::provenance::{KEPT, KEPT_HALVES, Provenance, SHA256, SOURCE_LAYERS, pruned_name};
use super::size_label::size_label;
use crate::arch::Arch;
use crate::checkpoint::gguf::{self, Parts, Value, keys};
use crate::checkpoint::hub::Cached;
use crate::checkpoint::{DType, OutTensor, check_target};
use crate::convert::{
    OutType, QUANTIZATION_VERSION, Target, file_type, gguf_metadata, kept_tensors,
};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::thread;

/// Keys of a split source: what is written is split anew or not at all.
const SPLIT: &str = "split.";

type Entries<'a> = Vec<(String, Value<'a>)>;

/// Writes the file, or the parts of a split one; gives the one to open.
pub(super) fn write(request: &Request, arch: &Arch, progress: &dyn Fn(u64)) -> Result<PathBuf> {
    let (checkpoint, keep) = (request.checkpoint, request.keep);
    if checkpoint.gguf().is_none() {
        // GGUF has no words for every pattern that config.json can list layer by layer.
        arch.layers(checkpoint)?.by_arrays(true).check_kinds(keep)?;
    }
    let tensors = kept_tensors(
        checkpoint,
        arch,
        keep,
        Target::Gguf,
        request.outtype,
        request.quantise,
        request.edits,
    )?;
    let parts = Parts::new(request.target, &tensors, request.max_shard_bytes)?;
    let sources: Vec<&Path> = checkpoint.files().collect();
    for path in parts.paths() {
        check_target(path, &sources)?;
    }
    let label = size_label(&tensors);
    let mut entries: Entries = match checkpoint.gguf() {
        Some(metadata) => metadata
            .iter()
            .filter(|(key, _)| !key.starts_with(SPLIT))
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
        None => gguf_metadata(
            checkpoint,
            arch,
            &source_name(request),
            &label,
            main_type(&tensors),
            request.tokenizer_pre,
        )?,
    };
    let provenance = Provenance::of(request, arch)?;
    rewrite(&mut entries, request, arch, &label)?;
    if let Some(number) = outtype_number(request) {
        set(&mut entries, keys::FILE_TYPE, Value::u32(number));
    }
    if request.outtype.is_quantised() {
        let version = Value::u32(QUANTIZATION_VERSION);
        set(&mut entries, keys::QUANTIZATION_VERSION, version);
        for (key, value) in request.quantise.entries() {
            set(&mut entries, key, value);
        }
    }
    append(&mut entries, &provenance);
    let wants_digest = request.source_digest && !provenance.has_digest();
    if wants_digest {
        // Its place: the digest is known last.
        entries.push((SHA256.to_owned(), Value::str(&"0".repeat(64))));
    }
    // The digest is read while the tensors are copied, and the header is written last.
    thread::scope(|scope| {
        let hash = || scope.spawn(|| checkpoint.sha256());
        let digest = wants_digest.then(hash);
        let finish = |entries: &mut [(String, Value<'_>)]| {
            let Some(digest) = digest else { return Ok(()) };
            let digest = match digest.join() {
                Ok(digest) => digest?,
                Err(_) => return Err("the source could not be hashed".into()),
            };
            if let Some((_, value)) = entries.iter_mut().find(|(key, _)| key == SHA256) {
                *value = Value::str(&digest);
            }
            Ok(())
        };
        gguf::write_parts(&parts, &entries, finish, progress)
    })?;
    Ok(parts.paths().next().unwrap_or(request.target).to_owned())
}

fn outtype_number(request: &Request) -> Option<u32> {
    match request.outtype {
        OutType::Keep => None,
        OutType::Only(dtype) => file_type(dtype),
        OutType::Mix(recipe) => Some(recipe.file_type),
    }
}

/// A name for people, from the folder or file that holds the model.
fn source_name(request: &Request) -> String {
    let path = request.checkpoint.path();
    if let Some(Cached { id, .. }) = Cached::at(path) {
        return named(id.rsplit('/').next().unwrap_or(&id));
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = match path.is_dir() {
        true => Some(path.as_path()),
        false => path.parent(),
    };
    let name = folder.and_then(|folder| folder.file_name());
    match name {
        Some(name) => named(&name.to_string_lossy()),
        None => "model".to_owned(),
    }
}

fn named(folder: &str) -> String {
    folder.replace(['-', '_'], " ")
}

/// The type that holds most of the weights.
fn main_type(tensors: &[OutTensor]) -> DType {
    let size = |dtype: DType| -> u64 {
        let of_type = tensors.iter().filter(|tensor| tensor.dtype == dtype);
        of_type
            .map(|tensor| tensor.shape.iter().product::<u64>())
            .sum()
    };
    let dtypes = tensors.iter().map(|tensor| tensor.dtype);
    dtypes
        .max_by_key(|&dtype| size(dtype))
        .unwrap_or(DType::F32)
}

/// Rewrites what depends on the layers.
fn rewrite(entries: &mut Entries, request: &Request, arch: &Arch, label: &str) -> Result<()> {
    let (n_layers, kept) = (arch.n_layers(request.checkpoint)?, request.keep);
    if let Some(metadata) = request.checkpoint.gguf() {
        for (key, value) in arch.gguf_layer_keys(metadata, kept, n_layers)? {
            set(entries, &key, value);
        }
    }
    for (key, flags) in arch.layers(request.checkpoint)?.needed_arrays(kept) {
        set(entries, &arch.key(key), Value::bools(&flags));
    }
    let block_count = u32::try_from(kept.len())?;
    set(
        entries,
        &arch.key(keys::BLOCK_COUNT),
        Value::u32(block_count),
    );
    if !kept.is_whole(n_layers) {
        name_source(entries, Cached::at(request.checkpoint.path()));
        set(entries, keys::SIZE_LABEL, Value::str(label));
        let name = entries.iter().find(|(key, _)| key == keys::NAME);
        let name = name
            .and_then(|(_, value)| value.as_str())
            .unwrap_or("model");
        let name = pruned_name(name, kept, n_layers);
        set(entries, keys::NAME, Value::str(&name));
    }
    match kept.halves().is_empty() {
        true => Ok(()),
        false => rename(entries, request, arch),
    }
}

/// The same keys in the architecture whose layers may lack a half, with what each of them has.
fn rename(entries: &mut Entries, request: &Request, arch: &Arch) -> Result<()> {
    let written = arch.written_as(request.keep)?;
    let (old, new) = (arch.key(""), written.key(""));
    for (key, _) in entries.iter_mut() {
        if let Some(suffix) = key.strip_prefix(&old) {
            *key = format!("{new}{suffix}");
        }
    }
    let name = Value::str(written.gguf_name());
    set(entries, keys::ARCHITECTURE, name);
    for (key, values) in arch.kept_sizes(request.checkpoint, request.keep)? {
        set(entries, &written.key(key), Value::i32s(&values));
    }
    Ok(())
}

/// Replaces a value where its key stands; adds a missing key at the end.
fn set<'a>(entries: &mut Entries<'a>, key: &str, value: Value<'a>) {
    match entries.iter_mut().find(|(known, _)| known == key) {
        Some((_, old)) => *old = value,
        None => entries.push((key.to_owned(), value)),
    }
}

/// Adds the provenance. A file that was pruned before keeps only the newest.
fn append(entries: &mut Entries, provenance: &Provenance) {
    entries.retain(|(key, _)| !key.starts_with("slim."));
    for (key, text) in &provenance.texts {
        entries.push(((*key).to_owned(), Value::str(text)));
    }
    let kept: Vec<i32> = provenance.kept.layers().iter().map(|&l| l as i32).collect();
    let layers = Value::u32(provenance.source_layers as u32);
    entries.push((SOURCE_LAYERS[0].to_owned(), layers));
    entries.push((KEPT.to_owned(), Value::i32s(&kept)));
    let halves = provenance.kept.kept().filter(|part| part.half.is_some());
    let halves: Vec<String> = halves.map(|part| part.to_string()).collect();
    if !halves.is_empty() {
        entries.push((KEPT_HALVES.to_owned(), Value::str(&halves.join(","))));
    }
}
