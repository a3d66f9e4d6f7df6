//! `slim inspect MODEL`

use super::Passed;
use super::{show, show_json};
use crate::arch::Arch;
use crate::checkpoint::Checkpoint;
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// A .safetensors or .gguf file, or a Hugging Face folder
    model: PathBuf,
    /// The machine's version on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    let checkpoint = Checkpoint::open(&args.model)?;
    let arch = Arch::of(&checkpoint)?;
    arch.check_complete(&checkpoint)?;
    let n_layers = arch.n_layers(&checkpoint)?;
    let mut types: BTreeMap<String, u64> = BTreeMap::new();
    let mut parameters = 0u64;
    for tensor in checkpoint.tensors() {
        *types.entry(tensor.dtype.name().into_owned()).or_default() += 1;
        parameters += tensor.shape.iter().product::<u64>();
    }
    let provenance = provenance(&checkpoint);
    if args.json {
        let found = json!({
            "path": args.model,
            "architecture": arch.name,
            "n_layers": n_layers,
            "parameters": parameters,
            "bytes": checkpoint.total_bytes(),
            "tensors": checkpoint.tensors().len(),
            "types": types,
            "may_go": format!("0-{}", n_layers - 1),
            "slim": provenance,
        });
        show_json(&found)?;
        return Ok(true);
    }
    let types: Vec<String> = types.iter().map(|(t, n)| format!("{t} × {n}")).collect();
    let mut rows = vec![
        ("architecture", arch.name.clone()),
        ("layers", n_layers.to_string()),
        ("parameters", format!("{:.1} M", parameters as f64 / 1e6)),
        (
            "size",
            format!("{:.1} MB", checkpoint.total_bytes() as f64 / 1e6),
        ),
        ("tensors", types.join(", ")),
        (
            "may go",
            format!(
                "0-{}: all layers are alike (prune protects the first and the last unless --free-ends)",
                n_layers - 1
            ),
        ),
    ];
    rows.extend(
        provenance
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone())),
    );
    let mut text = format!("{}\n", args.model.display());
    for (key, value) in rows {
        text += &format!("{key:<24} {value}\n");
    }
    show(&text)?;
    Ok(true)
}

/// What an earlier run of slim wrote into the file.
fn provenance(checkpoint: &Checkpoint) -> BTreeMap<String, String> {
    let ours = |key: &str| key.starts_with("slim.");
    if let Some(files) = checkpoint.hf() {
        let header = files.header_metadata.iter().filter(|(key, _)| ours(key));
        return header.map(|(k, v)| (k.clone(), v.clone())).collect();
    }
    let Some(metadata) = checkpoint.gguf() else {
        return BTreeMap::new();
    };
    let entries = metadata.iter().filter(|(key, _)| ours(key));
    entries
        .map(|(key, value)| {
            let layers = || -> Option<String> {
                let kept: Vec<usize> = value.iter_i64()?.map(|layer| layer as usize).collect();
                Some(crate::arch::ranges(&kept))
            };
            let text = value.as_str().map(str::to_owned);
            let number = || value.as_u64().map(|n| n.to_string());
            let text = text.or_else(number).or_else(layers);
            (key.to_owned(), text.unwrap_or_default())
        })
        .collect()
}
