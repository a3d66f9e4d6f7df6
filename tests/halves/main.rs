//! Half layers: what is written of them computes what the engine's mask computes of the source.

#[path = "../support/mod.rs"]
mod support;

mod again;
mod hostile;
mod refusals;
mod written;

use slim::arch::{Arch, KeepSet, parse_parts};
use slim::checkpoint::Checkpoint;
use slim::convert::Edits;
use slim::convert::quantise::Quantise;
use slim::eval::Mask;
use slim::model::{Model, Resources, Run};
use slim::prune::{Request, write};
use std::path::{Path, PathBuf};

/// The golden cases that fit, all of four layers.
const FITTING: [&str; 5] = ["llama", "llama_bias", "llama_linear", "mistral", "qwen2"];

/// A case of the repository.
fn golden(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    fixtures.join("golden").join(name)
}

/// What stays of a checkpoint when `dropped` goes, as the command line names it.
fn without(source: &Checkpoint, dropped: &str) -> KeepSet {
    let n_layers = Arch::of(source).unwrap().n_layers(source).unwrap();
    match dropped {
        "none" => KeepSet::all(n_layers),
        some => KeepSet::without_parts(n_layers, &parse_parts(some).unwrap()).unwrap(),
    }
}

/// What is written, beside what goes.
#[derive(Default)]
struct How<'a> {
    outtype: &'a str,
    edits: Edits,
    quantise: Quantise<'a>,
}

fn pruned(source: &Path, dropped: &str, how: &How, target: &Path) -> anyhow::Result<Checkpoint> {
    let source = Checkpoint::open(source)?;
    let keep = without(&source, dropped);
    let request = Request {
        edits: &how.edits,
        outtype: how.outtype.parse()?,
        quantise: how.quantise,
        source_digest: false,
        ..Request::new(&source, &keep, target)
    };
    Ok(Checkpoint::open(&write(&request, &|_| {})?)?)
}

fn as_type(outtype: &str) -> How<'_> {
    How {
        outtype,
        ..How::default()
    }
}

/// The whole model as one GGUF file.
fn as_gguf(source: &Path, outtype: &str, folder: &Path) -> PathBuf {
    let name = source.file_name().unwrap().to_string_lossy();
    let target = folder.join(format!("{name}.{outtype}.whole.gguf"));
    if !target.exists() {
        pruned(source, "none", &as_type(outtype), &target).unwrap();
    }
    target
}

/// The decoder's logits at every position under a keep set; `graph`: as candle's operations.
fn logits(checkpoint: &Checkpoint, keep: &KeepSet, graph: bool) -> Vec<f32> {
    let resources = Resources {
        graph,
        ..Resources::of(&candle_core::Device::Cpu)
    };
    let model = Model::open(checkpoint, &resources, |_, _| {}).unwrap();
    let tokens: Vec<u32> = (0..28).map(|i| (i * 37 + 5) % 250).collect();
    let frame = model.frame(Run::after(0, tokens.len())).unwrap();
    let mut hidden = model.embed(&tokens).unwrap();
    for layer in 0..model.n_layers() {
        let form = keep.form(layer);
        if !form.is_gone() {
            let next = model.layer_as(layer, form, &hidden, &frame, None);
            hidden = next.unwrap();
        }
    }
    let logits = model.logits(&hidden.squeeze(0).unwrap()).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

fn whole_logits(checkpoint: &Checkpoint, graph: bool) -> Vec<f32> {
    logits(checkpoint, &without(checkpoint, "none"), graph)
}
