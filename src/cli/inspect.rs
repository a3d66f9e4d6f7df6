//! `slim inspect MODEL`

use super::Passed;
use super::{printable, show, show_json};
use crate::arch::{Arch, Half, KeepSet, Layers, Part, ranges};
use crate::checkpoint::Checkpoint;
use crate::model::Config;
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// A .safetensors or .gguf file, a Hugging Face folder, or hf:owner/name[@revision][:FILE]
    pub(super) model: PathBuf,
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
    let layers = arch.layers(&checkpoint)?;
    let lacking = arch.lacking(&checkpoint)?;
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
            "can": abilities(arch, &checkpoint),
            "pattern": layers.rules(),
            "may_go": groups(&layers),
            "lacking": lacking.iter().map(ToString::to_string).collect::<Vec<_>>(),
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
        ("slim can", abilities(arch, &checkpoint).join(", ")),
    ];
    rows.extend(layers.rules().into_iter().map(|rule| ("pattern", rule)));
    rows.push(("may go", may_go(&layers)));
    rows.extend(without(&lacking));
    rows.extend(
        provenance
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone())),
    );
    let mut text = format!("{}\n", args.model.display());
    for (key, value) in rows {
        text += &format!("{:<24} {}\n", printable(key), printable(&value));
    }
    show(&text)?;
    Ok(true)
}

/// What slim can do with such a checkpoint.
fn abilities(arch: &Arch, checkpoint: &Checkpoint) -> Vec<&'static str> {
    let runs = Config::read(arch, checkpoint).is_ok() && arch.check_keys(checkpoint).is_ok();
    match (runs, arch.in_hugging_face()) {
        (true, true) => vec!["prune", "convert", "score"],
        (true, false) => vec!["prune", "score"],
        (false, _) => vec!["prune (--drop-layers)"],
    }
}

/// The layers that are not whole.
fn without(lacking: &[Part]) -> Option<(&'static str, String)> {
    let kinds = [
        (Some(Half::Attention), "without attention"),
        (Some(Half::Mlp), "without MLP"),
        (None, "without either"),
    ];
    let found = kinds.into_iter().filter_map(|(half, what)| {
        let layers = lacking.iter().filter(|part| part.half == half);
        let layers: Vec<usize> = layers.map(|part| part.layer).collect();
        (!layers.is_empty()).then(|| format!("{what}: {}", ranges(&layers)))
    });
    let found: Vec<String> = found.collect();
    (!found.is_empty()).then(|| ("half layers", found.join("; ")))
}

/// For every layer the fewest that can go with it, by original index; a layer that must stay has
/// none.
fn groups(layers: &Layers) -> BTreeMap<usize, String> {
    let all = KeepSet::all(layers.len());
    // What goes together with a layer should stand near it.
    let near = |layer: usize| {
        (0..layers.len())
            .map(|l| l.abs_diff(layer) as f64)
            .collect()
    };
    let group = |layer: usize| -> Option<String> {
        let costs: Vec<f64> = near(layer);
        let group = layers.group(layer, &all, &costs, &layers.protected());
        (!group.is_empty()).then(|| ranges(&group))
    };
    let found = |layer: usize| group(layer).map(|group| (layer, group));
    (0..layers.len()).filter_map(found).collect()
}

fn may_go(layers: &Layers) -> String {
    let last = layers.len() - 1;
    if let Some(reason) = layers.refused() {
        return format!("none: {reason}");
    }
    if layers.all_alike() {
        return format!(
            "0-{last}: all layers are alike (prune protects the first and the last unless --free-ends)"
        );
    }
    let mut distinct: Vec<String> = Vec::new();
    for group in groups(layers).into_values() {
        if !distinct.contains(&group) {
            distinct.push(group);
        }
    }
    match distinct.is_empty() {
        true => "none".to_owned(),
        false => format!("together, at the least: {}", distinct.join(" or ")),
    }
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
                let layers = value.iter_i64()?.map(usize::try_from);
                let kept: Result<Vec<usize>, _> = layers.collect();
                Some(crate::arch::ranges(&kept.ok()?))
            };
            let text = value.as_str().map(str::to_owned);
            let number = || value.as_u64().map(|n| n.to_string());
            let text = text.or_else(number).or_else(layers);
            (key.to_owned(), text.unwrap_or_default())
        })
        .collect()
}
