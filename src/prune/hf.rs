//! Writing Hugging Face's layout: config.json edited in place or made from GGUF metadata,
//! tokenizer files carried along or rebuilt.

use super::Request;
use super::card::{CARD, SOURCE_CARD, card};
use super::provenance::{KEPT, Provenance, SHA256, SOURCE_LAYERS, VERSION};
use crate::arch::Arch;
use crate::checkpoint::safetensors::Companions;
use crate::checkpoint::{Checkpoint, DType, Format, HfFiles, OutTensor, parent_of, safetensors};
use crate::convert::vocabulary::Vocabulary;
use crate::convert::{OutType, Target, hf_config, kept_tensors, torch_name};
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The model's configuration: of all companions, the one that depends on the layers.
const CONFIG: &str = "config.json";

/// Shards are started anew at this size, as the hub's own tools do.
const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// The files beside the weights.
struct Beside {
    texts: Vec<(String, Cow<'static, [u8]>)>,
    copied: Vec<PathBuf>,
    /// What may replace another model's file.
    replacing: &'static [&'static str],
}

impl Beside {
    /// With a card of its own. The source's gets another name; a card that slim wrote before has it
    /// beside it already.
    fn present(&mut self, card: String) {
        let named = |name: &str| self.copied.iter().position(|path| path.ends_with(name));
        let (of_source, carried) = (named(CARD), named(SOURCE_CARD).is_some());
        let of_source = of_source.map(|at| self.copied.remove(at));
        let text = of_source
            .filter(|_| !carried)
            .and_then(|path| fs::read(path).ok());
        self.texts
            .extend(text.map(|text| (SOURCE_CARD.to_owned(), Cow::Owned(text))));
        self.texts
            .push((CARD.to_owned(), Cow::Owned(card.into_bytes())));
    }

    fn companions(&self) -> Companions<'_> {
        Companions {
            text_files: &self.texts,
            copied: &self.copied,
            replacing: self.replacing,
        }
    }
}

/// Writes the folder, or the file and what belongs beside it; gives what to open.
pub(super) fn write(request: &Request, arch: &Arch, progress: &dyn Fn(u64)) -> Result<PathBuf> {
    let (checkpoint, keep) = (request.checkpoint, request.keep);
    if request.outtype.is_quantised() {
        bail!(
            "safetensors has no {}: write a .gguf, or choose f32, f16 or bf16",
            request.outtype
        );
    }
    let tensors = kept_tensors(
        checkpoint,
        arch,
        keep,
        Target::HuggingFace,
        request.outtype,
        request.quantise,
        request.edits,
    )?;
    let provenance = Provenance::of(request, arch)?;
    let (mut config, mut beside) = match (checkpoint.hf(), checkpoint.gguf()) {
        (Some(files), _) => carried(files),
        (None, Some(metadata)) => {
            let vocabulary = Vocabulary::from_gguf(metadata)?;
            let config = hf_config(checkpoint, arch, &vocabulary, matrix_type(&tensors))?;
            (config, rebuilt(&vocabulary)?)
        }
        (None, None) => bail!("no metadata"),
    };
    // Every other field stays as it is.
    arch.rewrite_layer_fields(&mut config, keep, arch.n_layers(checkpoint)?)?;
    for (field, kinds) in arch.layers(checkpoint)?.needed_fields(keep) {
        config.insert(field.to_owned(), Value::Array(kinds));
    }
    config.insert("num_hidden_layers".to_owned(), json!(keep.len()));
    if let OutType::Only(dtype) = request.outtype {
        set_dtype(&mut config, dtype);
    }
    let text = serde_json::to_vec_pretty(&config)?;
    beside.texts.push((CONFIG.to_owned(), Cow::Owned(text)));
    let header = header(request, &provenance)?;
    match super::target_format(request.target)? {
        Format::HfFolder => {
            beside.present(card(request, &provenance));
            safetensors::write_folder(
                request.target,
                beside.companions(),
                &header,
                &tensors,
                Some(request.max_shard_bytes.unwrap_or(MAX_SHARD_BYTES)),
                progress,
            )?
        }
        _ => {
            if is_own(request.target) {
                beside.replacing = &[CONFIG];
            }
            safetensors::write_beside(
                request.target,
                beside.companions(),
                &header,
                &tensors,
                progress,
            )?
        }
    }
    Ok(request.target.to_owned())
}

/// Whether slim wrote what is at the target, and the config.json beside it describes nothing else:
/// then the same command with other layers may replace both.
fn is_own(target: &Path) -> bool {
    let old = Checkpoint::open(target);
    let header = old
        .ok()
        .and_then(|old| Some(old.hf()?.header_metadata.contains_key(VERSION)));
    let weights = |entry: &fs::DirEntry| {
        let path = entry.path();
        path.extension().is_some_and(|e| e == "safetensors")
            && path.file_name() != target.file_name()
    };
    let mut others = fs::read_dir(parent_of(target))
        .into_iter()
        .flatten()
        .flatten();
    header == Some(true) && !others.any(|entry| weights(&entry))
}

fn carried(files: &HfFiles) -> (Map<String, Value>, Beside) {
    let beside = Beside {
        texts: Vec::new(),
        copied: files.sidecars.clone(),
        replacing: &[],
    };
    (files.config.clone(), beside)
}

fn rebuilt(vocabulary: &Vocabulary) -> Result<Beside> {
    let mut texts: Vec<(String, Cow<'static, [u8]>)> = vocabulary
        .to_hf()?
        .into_iter()
        .map(|(name, bytes)| (name, Cow::Owned(bytes)))
        .collect();
    let ends = vocabulary.end_ids();
    let generation = json!({
        "bos_token_id": vocabulary.bos(),
        "eos_token_id": match ends.as_slice() {
            [one] => json!(one),
            several => json!(several),
        },
    });
    let generation = serde_json::to_vec_pretty(&generation)?;
    texts.push(("generation_config.json".to_owned(), Cow::Owned(generation)));
    Ok(Beside {
        texts,
        copied: Vec::new(),
        replacing: &[],
    })
}

fn matrix_type(tensors: &[OutTensor]) -> DType {
    let matrix = tensors.iter().find(|tensor| tensor.shape.len() > 1);
    matrix.map_or(DType::F32, |tensor| tensor.dtype)
}

/// transformers 5 writes `dtype`, 4 wrote `torch_dtype`.
fn set_dtype(config: &mut Map<String, Value>, dtype: DType) {
    let field = match config.contains_key("dtype") {
        true => "dtype",
        false => "torch_dtype",
    };
    config.insert(field.to_owned(), json!(torch_name(dtype)));
}

/// The header's own metadata, with the provenance as text.
fn header(request: &Request, provenance: &Provenance) -> Result<BTreeMap<String, String>> {
    let mut header = match request.checkpoint.hf() {
        Some(files) => files.header_metadata.clone(),
        None => BTreeMap::new(),
    };
    header.entry("format".to_owned()).or_insert("pt".to_owned());
    header.retain(|key, _| !key.starts_with("slim."));
    for (key, text) in &provenance.texts {
        header.insert((*key).to_owned(), text.clone());
    }
    let layers = provenance.source_layers.to_string();
    header.insert(SOURCE_LAYERS[1].to_owned(), layers);
    header.insert(KEPT.to_owned(), provenance.kept.to_string());
    if request.source_digest && !provenance.has_digest() {
        let digest = request.checkpoint.sha256();
        header.insert(SHA256.to_owned(), digest.context("hashing the source")?);
    }
    Ok(header)
}
