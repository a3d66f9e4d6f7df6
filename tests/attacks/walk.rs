//! Everything that slim does with a file before it runs the model: shared by the tests that
//! replay the attacks and by the fuzz targets.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use slim::arch::{Arch, KeepSet, RopeScaling};
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::{TextTokenizer, Vocabulary, runnable};
use slim::model::Config;
use slim::prune::{Request, write};
use slim::verify::check_structure;

/// Opens the checkpoint at `input`, looks at all of it, and prunes layer 1 into `scratch`, in
/// both formats. What it wrote is removed.
///
/// # Errors
/// The first thing that slim does not accept.
pub fn walk(input: &Path, scratch: &Path) -> Result<()> {
    let checkpoint = Checkpoint::open(input)?;
    look(&checkpoint)?;
    // Neither of these waits for the other: a damaged vocabulary can be in a whole model.
    let vocabulary = vocabulary(&checkpoint);
    model(&checkpoint, scratch)?;
    vocabulary
}

/// Touches every byte and every value that the header promises.
fn look(checkpoint: &Checkpoint) -> Result<()> {
    let mut seen = 0;
    for tensor in checkpoint.tensors() {
        ensure!(
            checkpoint.tensor(&tensor.name) == Some(tensor),
            "not found by its name"
        );
        seen += checkpoint.bytes(tensor).len() as u64;
        checkpoint.release(tensor);
    }
    assert!(seen <= checkpoint.total_bytes(), "tensors overlap");
    for (key, value) in checkpoint
        .gguf()
        .iter()
        .flat_map(|metadata| metadata.iter())
    {
        assert!(!key.is_empty() && !format!("{value:?}").is_empty());
        let counted = value.elements().map(|elements| elements.count() as u64);
        assert_eq!(counted, value.array().map(|(_, count)| count), "{key}");
        let all = [
            value.iter_i64().map(Iterator::count),
            value.iter_str().map(Iterator::count),
        ];
        assert!(
            all.into_iter().flatten().all(|n| Some(n as u64) == counted),
            "{key}"
        );
    }
    Ok(())
}

fn vocabulary(checkpoint: &Checkpoint) -> Result<()> {
    let read = match (checkpoint.gguf(), checkpoint.hf()) {
        (Some(metadata), _) => Vocabulary::from_gguf(metadata)?,
        (_, Some(files)) => Vocabulary::from_hf(&files.dir, &files.config, None)?,
        _ => return Ok(()),
    };
    let written = read.to_hf();
    let _ = read.to_gguf();
    let _ = TextTokenizer::new(&read).map(|tokenizer| speak(&tokenizer));
    speak(&runnable(checkpoint)?);
    written?;
    Ok(())
}

/// Encoding and decoding may fail, and must come back.
fn speak(tokenizer: &TextTokenizer) {
    for text in ["", "abc ab<|end|>\u{0}é \u{1F600}1"] {
        if let Ok(ids) = tokenizer.encode(text, true) {
            let _ = tokenizer.decode(&ids);
        }
    }
    let _ = tokenizer.decode(&[0, 7, u32::MAX]);
    let _ = (
        tokenizer.bos(),
        tokenizer.eos(),
        tokenizer.end_ids(),
        tokenizer.chat_template(),
    );
}

fn model(checkpoint: &Checkpoint, scratch: &Path) -> Result<()> {
    let arch = Arch::of(checkpoint)?;
    let n_layers = arch.n_layers(checkpoint)?;
    let params = arch.params(checkpoint);
    let _ = RopeScaling::of(arch, checkpoint).map(|scaling| scaling.to_hf());
    arch.check_complete(checkpoint)?;
    let _ = params.and_then(|params| params.head_dim());
    let layers = arch.layers(checkpoint)?;
    let _ = (
        layers.rules(),
        layers.protected(),
        layers.all_alike(),
        layers.fields(),
    );
    let _ = Config::read(arch, checkpoint).and_then(|c| c.check_shapes(arch, checkpoint));
    let keep = KeepSet::without(n_layers, &[1])?;
    let _ = layers.check(&keep);
    let results = ["out.gguf", "out"].map(|name| prune(checkpoint, &keep, &scratch.join(name)));
    results.into_iter().collect()
}

/// Whatever is written is whole, and is what a second reader sees.
fn prune(checkpoint: &Checkpoint, keep: &KeepSet, target: &Path) -> Result<()> {
    let request = Request::new(checkpoint, keep, target);
    let written = write(&request, &|_| {});
    assert!(
        written.is_ok() == target.exists(),
        "{written:?}, or something was left behind"
    );
    written?;
    let reopened = Checkpoint::open(target).expect("slim opens what it wrote");
    check_structure(&reopened).expect("a second reader opens what slim wrote");
    let _ = fs::remove_file(target);
    let _ = fs::remove_dir_all(target);
    Ok(())
}
