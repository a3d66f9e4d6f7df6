//! Layers that are not all alike: what may go, and that what is written runs as it was chosen.

mod support;

use candle_core::{DType as CandleDType, Device, Tensor};
use slim::arch::{Arch, KeepSet, Layers};
use slim::checkpoint::{Checkpoint, DType};
use slim::convert::OutType;
use slim::model::Model;
use slim::prune::{Request, write};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use support::{REFUSED, golden_cases, relative_error};

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/golden")
        .join(name)
}

fn layers_of(checkpoint: &Checkpoint) -> Layers<'static> {
    Arch::of(checkpoint).unwrap().layers(checkpoint).unwrap()
}

/// All sets of at least one layer.
fn subsets(n_layers: usize) -> impl Iterator<Item = KeepSet> {
    (1u32..1 << n_layers).map(move |bits| {
        let gone: Vec<usize> = (0..n_layers).filter(|l| bits & (1 << l) == 0).collect();
        KeepSet::without(n_layers, &gone).unwrap()
    })
}

/// The field of config.json that lists the kinds, and whether runtimes compute them alike: in
/// these models the list follows a period, so the kind that belongs at an index is the list's own.
const LISTED: &[(&str, &str)] = &[
    ("gemma2", "layer_types"),
    ("gemma3_text", "layer_types"),
    ("gemma3_linear", "layer_types"),
    ("smollm3", "no_rope_layers"),
];

fn kinds(checkpoint: &Checkpoint, field: &str) -> Vec<String> {
    let config = &checkpoint.hf().unwrap().config;
    if let Some(list) = config.get(field).and_then(|value| value.as_array()) {
        return list.iter().map(|kind| kind.to_string()).collect();
    }
    // As transformers 4 wrote it for Gemma 3.
    let period = config["sliding_window_pattern"].as_u64().unwrap() as usize;
    let n_layers = config["num_hidden_layers"].as_u64().unwrap() as usize;
    let kind = |layer: usize| match (layer + 1).is_multiple_of(period) {
        true => "full_attention".to_owned(),
        false => "sliding_attention".to_owned(),
    };
    (0..n_layers).map(kind).collect()
}

#[test]
fn a_set_is_allowed_exactly_where_every_kept_layer_keeps_its_kind() {
    for (name, field) in LISTED {
        let checkpoint = Checkpoint::open(&case(name)).unwrap();
        let (layers, kinds) = (layers_of(&checkpoint), kinds(&checkpoint, field));
        let mut seen = [0, 0];
        for keep in subsets(layers.len()) {
            let mut kept = keep.layers().iter().enumerate();
            let right = kept.all(|(index, &layer)| kinds[layer] == kinds[index]);
            assert_eq!(layers.allows(&keep), right, "{name}: {keep}");
            seen[usize::from(right)] += 1;
        }
        assert!(seen[0] > 0 && seen[1] > 1, "{name}: {seen:?}");
    }
}

#[test]
fn the_nearest_sets_are_allowed_and_no_allowed_set_is_nearer() {
    for (name, _) in LISTED {
        let checkpoint = Checkpoint::open(&case(name)).unwrap();
        let layers = layers_of(&checkpoint);
        let n_layers = layers.len();
        let distance = |a: &KeepSet, b: &KeepSet| {
            let differs = |&layer: &usize| a.contains(layer) != b.contains(layer);
            (0..n_layers).filter(differs).count()
        };
        let allowed: Vec<KeepSet> = subsets(n_layers).filter(|set| layers.allows(set)).collect();
        for wanted in subsets(n_layers) {
            let proposed = layers.nearest(&wanted);
            assert!(
                proposed.iter().all(|set| layers.allows(set)),
                "{name}: {wanted}"
            );
            let pruned = allowed.iter().filter(|set| set.len() < n_layers);
            let nearest = pruned.map(|set| distance(set, &wanted)).min();
            let first = proposed.first().map(|set| distance(set, &wanted));
            assert_eq!(first, nearest, "{name}: {wanted}");
        }
    }
}

#[test]
fn a_group_is_the_fewest_layers_that_can_go_with_one() {
    for (name, _) in LISTED {
        let checkpoint = Checkpoint::open(&case(name)).unwrap();
        let layers = layers_of(&checkpoint);
        let (all, costs) = (KeepSet::all(layers.len()), vec![1.0; layers.len()]);
        for layer in 0..layers.len() {
            let group = layers.group(layer, &all, &costs, &[]);
            let others = subsets(layers.len()).filter(|set| layers.allows(set));
            let fewest = others
                .filter(|set| !set.contains(layer))
                .map(|set| set.len())
                .max();
            assert_eq!(
                Some(layers.len() - group.len()),
                fewest,
                "{name}: layer {layer}"
            );
            assert!(group.contains(&layer) && layers.allows(&all.drop_layers(&group)));
        }
    }
}

#[test]
fn layers_that_must_stay_are_in_no_group() {
    let checkpoint = Checkpoint::open(&case("smollm3")).unwrap();
    let layers = layers_of(&checkpoint);
    let last = layers.len() - 1;
    let (all, costs) = (KeepSet::all(layers.len()), vec![1.0; layers.len()]);
    for layer in 1..last {
        let group = layers.group(layer, &all, &costs, &[0, last]);
        assert!(!group.contains(&0) && !group.contains(&last), "{group:?}");
    }
    assert!(layers.group(0, &all, &costs, &[0, last]).is_empty());
}

/// A model in memory with the logits that it gives under a keep set.
fn logits(path: &Path, keep: Option<&KeepSet>) -> Tensor {
    let checkpoint = Checkpoint::open(path).unwrap();
    let model = Model::load(&checkpoint, &Device::Cpu, |_, _| {}).unwrap();
    let all = KeepSet::all(model.n_layers());
    let tokens: Vec<u32> = (0..28).map(|i| (i * 37 + 5) % 250).collect();
    model
        .forward(&tokens, keep.unwrap_or(&all).layers())
        .unwrap()
}

fn prune(source: &Path, target: &Path, keep: &KeepSet, layer_arrays: bool) {
    let checkpoint = Checkpoint::open(source).unwrap();
    let request = Request {
        outtype: OutType::Only(DType::F32),
        layer_arrays,
        ..Request::new(&checkpoint, keep, target)
    };
    write(&request, &|_| {}).unwrap();
}

/// Sets that the pattern allows: without the first, a middle and the last group.
fn some_allowed(layers: &Layers) -> Vec<KeepSet> {
    let (all, costs) = (KeepSet::all(layers.len()), vec![1.0; layers.len()]);
    let around = [0, layers.len() / 2, layers.len() - 1];
    let groups = around.map(|layer| layers.group(layer, &all, &costs, &[]));
    groups.iter().map(|group| all.drop_layers(group)).collect()
}

#[test]
fn what_is_written_computes_what_was_chosen_in_every_architecture_and_format() {
    let folder = tempfile::tempdir().unwrap();
    for (name, source) in golden_cases() {
        // GGUF has no word for the window of Mistral 7B v0.1: see docs/formats.md.
        if name.ends_with(REFUSED) || name == "fixtures/golden/mistral" {
            continue;
        }
        let checkpoint = Checkpoint::open(&source).unwrap();
        for keep in some_allowed(&layers_of(&checkpoint)) {
            let expected = logits(&source, Some(&keep));
            let first = folder.path().join("first.gguf");
            prune(&source, &first, &keep, false);
            let error = relative_error(&logits(&first, None), &expected);
            assert!(error < 1e-5, "{name} → GGUF {keep}: {error}");
            let same = folder
                .path()
                .join(format!("{}-{keep}", name.replace('/', "_")));
            prune(&source, &same, &keep, false);
            let error = relative_error(&logits(&same, None), &expected);
            assert!(error < 1e-5, "{name} → folder {keep}: {error}");
        }
    }
}

#[test]
fn any_set_can_be_written_for_runtimes_that_read_one_flag_a_layer() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["gemma2", "gemma3_text"] {
        let source = case(name);
        let checkpoint = Checkpoint::open(&source).unwrap();
        let layers = layers_of(&checkpoint);
        let keep = KeepSet::without(layers.len(), &[1]).unwrap();
        assert!(!layers.allows(&keep));
        let expected = logits(&source, Some(&keep));
        for target in [format!("{name}.gguf"), name.to_owned()] {
            let target = folder.path().join(target);
            prune(&source, &target, &keep, true);
            let error = relative_error(&logits(&target, None), &expected);
            assert!(error < 1e-5, "{}: {error}", target.display());
        }
        let written = Checkpoint::open(&folder.path().join(format!("{name}.gguf"))).unwrap();
        let arch = Arch::of(&written).unwrap();
        let flags = written
            .gguf()
            .unwrap()
            .get(&arch.key("attention.sliding_window_pattern"));
        let flags: Vec<bool> = flags
            .unwrap()
            .elements()
            .unwrap()
            .map(|f| f.as_bool().unwrap())
            .collect();
        let kinds = kinds(&checkpoint, "layer_types");
        let windowed = |layer: &usize| kinds[*layer].contains("sliding");
        assert_eq!(
            flags,
            keep.layers().iter().map(windowed).collect::<Vec<_>>()
        );
    }
}

/// A gemma of `n_layers` layers, the fixture's own over and over.
fn deeper(name: &str, n_layers: usize, folder: &Path) {
    let source = case(name);
    std::fs::create_dir(folder).unwrap();
    let tensors = candle_core::safetensors::load(source.join("model.safetensors"), &Device::Cpu);
    let tensors = tensors.unwrap();
    let mut deep: HashMap<String, Tensor> = HashMap::new();
    let text = std::fs::read_to_string(source.join("config.json")).unwrap();
    let mut config: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).unwrap();
    let types = kinds(&Checkpoint::open(&source).unwrap(), "layer_types");
    // The period of the pattern, so that a repeated layer keeps its kind.
    let is_full = |kind: &String| kind.contains("full_attention");
    let period = 1 + types.iter().position(is_full).unwrap();
    for (name, tensor) in tensors {
        let tensor = tensor.to_dtype(CandleDType::F32).unwrap();
        let Some((layer, rest)) = name
            .strip_prefix("model.layers.")
            .and_then(|rest| rest.split_once('.'))
        else {
            deep.insert(name, tensor);
            continue;
        };
        let layer: usize = layer.parse().unwrap();
        for copy in (layer..n_layers).step_by(period).filter(|_| layer < period) {
            deep.insert(format!("model.layers.{copy}.{rest}"), tensor.clone());
        }
    }
    candle_core::safetensors::save(&deep, folder.join("model.safetensors")).unwrap();
    let kind = |i: usize| types[i % period].trim_matches('"');
    let kinds: Vec<_> = (0..n_layers).map(kind).collect();
    config.insert("layer_types".to_owned(), kinds.into());
    config["num_hidden_layers"] = n_layers.into();
    // As in the published models of this depth: hidden size over heads, here not head_dim.
    let heads = config["num_attention_heads"].as_u64().unwrap();
    let wide = config["hidden_size"].as_u64().unwrap() / heads;
    assert_ne!(wide, config["head_dim"].as_u64().unwrap());
    config["query_pre_attn_scalar"] = wide.into();
    std::fs::write(
        folder.join("config.json"),
        serde_json::to_vec(&config).unwrap(),
    )
    .unwrap();
    for file in ["tokenizer.model", "tokenizer_config.json", "tokenizer.json"] {
        let _ = std::fs::copy(source.join(file), folder.join(file));
    }
}

#[test]
fn gemma_27b_keeps_its_attention_scale_at_another_depth() {
    let folder = tempfile::tempdir().unwrap();
    for (name, n_layers, dropped) in [("gemma2", 46, 2..4), ("gemma3_text", 62, 6..12)] {
        let source = folder.path().join(name);
        deeper(name, n_layers, &source);
        let dropped: Vec<usize> = dropped.collect();
        let keep = KeepSet::without(n_layers, &dropped).unwrap();
        let whole = folder.path().join(format!("{name}.gguf"));
        prune(&source, &whole, &KeepSet::all(n_layers), false);
        let same = relative_error(&logits(&whole, None), &logits(&source, None));
        assert!(same < 1e-4, "{name}: {same}");
        let expected = logits(&source, Some(&keep));
        for (from, to) in [(&source, "a.gguf"), (&whole, "b.gguf"), (&whole, "back")] {
            let target = folder.path().join(format!("{name}-{to}"));
            prune(from, &target, &keep, false);
            let error = relative_error(&logits(&target, None), &expected);
            assert!(error < 1e-4, "{name} → {to}: {error}");
        }
    }
}
