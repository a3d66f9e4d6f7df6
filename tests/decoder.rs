//! The decoder against transformers (golden files in ../shared) and candle-transformers.

mod support;

use candle_core::{DType, Device, Tensor};
use slim::checkpoint::Checkpoint;
use slim::importance::cosine_distances;
use slim::model::{Form, KvCache, Model, Resources, Run};
use std::path::{Path, PathBuf};
use support::{REFUSED, golden_cases, relative_error};

fn load(path: &Path) -> Model {
    let checkpoint = Checkpoint::open(path).unwrap();
    Model::load(&checkpoint, &Device::Cpu, |_, _| {}).unwrap()
}

struct Golden {
    input_ids: Vec<u32>,
    layer_io: Tensor,
    logits: Tensor,
    greedy: Vec<u32>,
}

impl Golden {
    fn read(folder: &Path) -> Self {
        let tensors =
            candle_core::safetensors::load(folder.join("golden.safetensors"), &Device::Cpu)
                .unwrap();
        let ids = |name: &str| -> Vec<u32> {
            let ids = tensors[name].to_dtype(DType::U32).unwrap();
            ids.to_vec1().unwrap()
        };
        Self {
            input_ids: ids("input_ids"),
            greedy: match tensors.contains_key("greedy") {
                true => ids("greedy"),
                false => ids("greedy16_24"),
            },
            layer_io: tensors["layer_io"].clone(),
            logits: tensors["logits"].clone(),
        }
    }
}

/// The same as candle's operations, as they run on a GPU.
fn as_graph(path: &Path) -> Model {
    let resources = Resources {
        graph: true,
        ..Resources::of(&Device::Cpu)
    };
    Model::open(&Checkpoint::open(path).unwrap(), &resources, |_, _| {}).unwrap()
}

fn runnable() -> Vec<(String, PathBuf)> {
    let mut cases = golden_cases();
    cases.retain(|(name, _)| !name.ends_with(REFUSED));
    cases
}

fn all_layers(model: &Model) -> Vec<usize> {
    (0..model.n_layers()).collect()
}

#[test]
fn logits_are_those_of_transformers_from_either_format() {
    for (_, folder) in runnable() {
        let expected = Golden::read(&folder);
        let mut sources = vec![folder.clone()];
        let converted = ["converted.f32.gguf", "converted.bf16.gguf"];
        sources.extend(
            converted
                .map(|file| folder.join(file))
                .into_iter()
                .filter(|p| p.exists()),
        );
        for path in sources {
            let model = load(&path);
            let logits = model
                .forward(&expected.input_ids, &all_layers(&model))
                .unwrap();
            let graph = as_graph(&path);
            let graph = graph
                .forward(&expected.input_ids, &all_layers(&model))
                .unwrap();
            for logits in [&logits, &graph] {
                let error = relative_error(logits, &expected.logits);
                println!("{}: relative error {error:.1e}", path.display());
                assert!(error < 1e-4, "{}: {error}", path.display());
            }
        }
    }
}

#[test]
fn hidden_states_and_block_influence_of_every_layer_are_those_of_transformers() {
    for (name, folder) in runnable() {
        let expected = Golden::read(&folder);
        // Block influence of transformers' hidden states; ../shared has it in golden.json.
        let text = std::fs::read_to_string(folder.join("golden.json")).ok();
        let influences: Option<serde_json::Value> =
            text.map(|text| serde_json::from_str(&text).unwrap());
        let model = load(&folder);
        let tokens = &expected.input_ids;
        let frame = model.frame(Run::after(0, tokens.len())).unwrap();
        let mut hidden = model.embed(tokens).unwrap();
        for layer in 0..model.n_layers() {
            let before = hidden.squeeze(0).unwrap();
            assert!(relative_error(&before, &expected.layer_io.get(layer).unwrap()) < 1e-4);
            hidden = model.layer(layer, &hidden, &frame).unwrap();
            let distances = cosine_distances(&before, &hidden.squeeze(0).unwrap()).unwrap();
            let mean = distances.iter().sum::<f32>() / distances.len() as f32;
            let Some(influences) = &influences else {
                continue;
            };
            let theirs = influences["bi"][layer].as_f64().unwrap();
            assert!(
                (f64::from(mean) - theirs).abs() < 1e-4,
                "{name} layer {layer}"
            );
        }
        let last = expected.layer_io.get(model.n_layers()).unwrap();
        assert!(relative_error(&hidden.squeeze(0).unwrap(), &last) < 1e-4);
    }
}

#[test]
fn greedy_text_with_a_cache_is_that_of_transformers() {
    for (name, folder) in runnable() {
        let expected = Golden::read(&folder).greedy;
        for model in [load(&folder), as_graph(&folder)] {
            let mut caches = vec![KvCache::default(); model.n_layers()];
            // 24 tokens: the repository's cases begin with 8, those of ../shared with 16.
            let prompt = match name.starts_with("fixtures") {
                true => 8,
                false => expected.len() - 24,
            };
            let mut tokens = expected[..prompt].to_vec();
            let mut fed = 0;
            while tokens.len() < expected.len() {
                let frame = model.frame(Run::after(fed, tokens.len() - fed)).unwrap();
                let mut hidden = model.embed(&tokens[fed..]).unwrap();
                for (layer, cache) in caches.iter_mut().enumerate() {
                    hidden = model
                        .layer_as(layer, Form::WHOLE, &hidden, &frame, Some((cache, &[0])))
                        .unwrap();
                }
                let last = hidden.squeeze(0).unwrap();
                let last = last.narrow(0, tokens.len() - fed - 1, 1).unwrap();
                let logits = model.logits(&last).unwrap().squeeze(0).unwrap();
                fed = tokens.len();
                tokens.push(logits.argmax(0).unwrap().to_scalar().unwrap());
            }
            assert_eq!(tokens, expected, "{name}");
        }
    }
}

#[test]
fn a_long_text_at_once_is_what_it_is_piece_by_piece() {
    for (name, open) in [
        ("llama", load as fn(&Path) -> Model),
        ("gemma2", load),
        ("llama", as_graph),
        ("gemma2", as_graph),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden");
        let model = open(&folder.join(name));
        // Longer than two stretches of queries, and pieces shorter than one.
        let tokens: Vec<u32> = (0..700).map(|i| (i * 37 + i * i % 11) % 256).collect();
        let whole = model.forward(&tokens, &all_layers(&model)).unwrap();
        let mut caches = vec![KvCache::default(); model.n_layers()];
        let mut parts = Vec::new();
        for (i, piece) in tokens.chunks(90).enumerate() {
            let frame = model.frame(Run::after(i * 90, piece.len())).unwrap();
            let mut hidden = model.embed(piece).unwrap();
            for (layer, cache) in caches.iter_mut().enumerate() {
                hidden = model
                    .layer_as(layer, Form::WHOLE, &hidden, &frame, Some((cache, &[0])))
                    .unwrap();
            }
            parts.push(model.logits(&hidden.squeeze(0).unwrap()).unwrap());
        }
        let parts = Tensor::cat(&parts, 0).unwrap();
        let error = relative_error(&parts, &whole);
        assert!(error < 1e-5, "{name}: {error}");
    }
}
