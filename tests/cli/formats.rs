//! The same model in every layout and type.

use std::fs;
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use serde_json::Value;
use slim::checkpoint::{Checkpoint, DType};
use slim::model::Model;

use crate::bench::{Bench, village};
use crate::tiny;

/// Layers of the fixture without 2 and 5.
const KEPT: [usize; 6] = [0, 1, 3, 4, 6, 7];

fn load(path: &Path) -> Model {
    let checkpoint = Checkpoint::open(path).unwrap();
    Model::load(&checkpoint, &Device::Cpu, |_, _| {}).unwrap()
}

fn logits(model: &Model, layers: &[usize]) -> Tensor {
    let tokens: Vec<u32> = (0..48).map(|i| (i * 37 + 5) % 600).collect();
    model.forward(&tokens, layers).unwrap()
}

/// The largest difference as a share of the largest value.
fn relative_error(found: &Tensor, expected: &Tensor) -> f32 {
    let largest = |t: Tensor| -> f32 { t.abs().unwrap().max_all().unwrap().to_scalar().unwrap() };
    largest((found - expected).unwrap()) / largest(expected.clone())
}

/// The root mean square difference as a share of that of the values: what rounding every weight
/// does to all logits, where the largest difference is an accident of one of them.
fn rms_error(found: &Tensor, expected: &Tensor) -> f32 {
    let rms = |t: Tensor| -> f32 {
        let mean: f32 = t.sqr().unwrap().mean_all().unwrap().to_scalar().unwrap();
        mean.sqrt()
    };
    rms((found - expected).unwrap()) / rms(expected.clone())
}

#[test]
fn all_directions_give_the_logits_of_the_original_without_those_layers_and_can_be_asked() {
    let bench = Bench::new();
    let expected = logits(&load(&village()), &KEPT);
    bench
        .slim("prune --drop-layers 3 VILLAGE seven.gguf")
        .quietly();
    let seven = logits(&load(&village()), &[0, 1, 2, 4, 5, 6, 7]);
    let all: Vec<usize> = (0..7).collect();
    assert!(relative_error(&logits(&load(&bench.path("seven.gguf")), &all), &seven) < 1e-5);
    fs::create_dir(bench.path("beside")).unwrap();
    for (command, output) in [
        ("--drop-layers 2,5 VILLAGE", "hf-gguf.gguf"),
        ("--drop-layers 2,5 VILLAGE", "hf-hf"),
        (
            "--drop-layers 2,5 VILLAGE/model.safetensors",
            "beside/six.safetensors",
        ),
        // Layers 2 and 5 after layer 3 is gone are 2 and 4 of what is left.
        ("--drop-layers 2,4 seven.gguf", "gguf-gguf.gguf"),
        ("--drop-layers 2,4 seven.gguf", "gguf-hf"),
    ] {
        bench.slim(&format!("prune {command} {output}")).quietly();
        let model = load(&bench.path(output));
        let expected = match model.n_layers() {
            6 => expected.clone(),
            _ => logits(&load(&village()), &[0, 1, 4, 6, 7]),
        };
        let layers: Vec<usize> = (0..model.n_layers()).collect();
        let error = relative_error(&logits(&model, &layers), &expected);
        assert!(error < 1e-5, "{output}: {error}");
        let asked = "--items 1 --suite VILLAGE/suite";
        bench.slim(&format!("eval {output} {asked}")).quietly();
    }
}

#[test]
fn every_type_can_be_written_and_runs_as_precisely_as_the_type_allows() {
    let bench = Bench::new();
    let expected = logits(&load(&village()), &KEPT);
    let layers: Vec<usize> = (0..6).collect();
    for (name, dtype, bound) in [
        ("f32", DType::F32, 1e-5),
        ("bf16", DType::BF16, 1e-5),
        ("f16", DType::F16, 1e-3),
        ("q8_0", DType::Q8_0, 0.05),
    ] {
        for output in [format!("{name}.gguf"), name.to_owned()] {
            let folder = !output.ends_with(".gguf");
            if folder && dtype == DType::Q8_0 {
                continue;
            }
            bench
                .slim(&format!(
                    "prune --drop-layers 2,5 --outtype {name} VILLAGE {output}"
                ))
                .quietly();
            let checkpoint = Checkpoint::open(&bench.path(&output)).unwrap();
            for tensor in checkpoint.tensors() {
                let vector = tensor.shape.len() == 1;
                let wanted = match vector && !folder {
                    true => DType::F32,
                    false => dtype,
                };
                assert_eq!(tensor.dtype, wanted, "{output}: {}", tensor.name);
            }
            let found = logits(&load(&bench.path(&output)), &layers);
            let error = match dtype {
                DType::Q8_0 => rms_error(&found, &expected),
                _ => relative_error(&found, &expected),
            };
            assert!(error < bound, "{output}: {error}");
            println!("{output}: {error:.1e}");
        }
    }
}

#[test]
fn the_type_of_the_file_is_told_as_runtimes_read_it() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    for (name, file_type) in [("f32", 0), ("f16", 1), ("q8_0", 7), ("bf16", 32)] {
        let output = format!("{name}.gguf");
        bench
            .slim(&format!(
                "prune --drop-layers 1 --outtype {name} tiny {output}"
            ))
            .quietly();
        let mut file = fs::File::open(bench.path(&output)).unwrap();
        let content = Content::read(&mut file).unwrap();
        let told = content.metadata["general.file_type"].to_u32().unwrap();
        assert_eq!(told, file_type, "{name}");
    }
}

#[test]
fn the_same_input_and_options_give_the_same_bytes() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    bench
        .slim("prune --drop-layers 1 tiny source.gguf")
        .quietly();
    for source in ["tiny", "source.gguf"] {
        for outtype in ["keep", "f16"] {
            for (first, second, file) in [
                ("a.gguf", "b.gguf", ""),
                ("a", "b", "model.safetensors"),
                ("a", "b", "config.json"),
            ] {
                for output in [first, second] {
                    if !bench.path(output).exists() {
                        let options = format!("--drop-layers 2 --outtype {outtype}");
                        bench
                            .slim(&format!("prune {options} {source} {output}"))
                            .quietly();
                    }
                }
                let read = |output: &str| fs::read(bench.path(output).join(file));
                let read = |output| read(output).or_else(|_| fs::read(bench.path(output)));
                assert!(
                    read(first).unwrap() == read(second).unwrap(),
                    "{source} {outtype}"
                );
            }
            for output in ["a", "b"] {
                fs::remove_dir_all(bench.path(output)).unwrap();
                fs::remove_file(bench.path(&format!("{output}.gguf"))).unwrap();
            }
        }
    }
}

#[test]
fn kept_tensors_are_the_very_bytes_of_the_source() {
    let bench = Bench::new();
    bench
        .slim("prune --drop-layers 2,5 VILLAGE small")
        .quietly();
    let (source, small) = (
        Checkpoint::open(&village()).unwrap(),
        Checkpoint::open(&bench.path("small")).unwrap(),
    );
    let mut compared = 0;
    for tensor in small.tensors() {
        let original = match tensor.name.strip_prefix("model.layers.") {
            None => tensor.name.clone(),
            Some(rest) => {
                let (layer, rest) = rest.split_once('.').unwrap();
                let layer = KEPT[layer.parse::<usize>().unwrap()];
                format!("model.layers.{layer}.{rest}")
            }
        };
        let theirs = source.tensor(&original).unwrap();
        assert!(
            small.bytes(tensor) == source.bytes(theirs),
            "{}",
            tensor.name
        );
        compared += 1;
    }
    assert_eq!(compared, 6 * 9 + 2);
}

#[test]
fn a_file_that_is_pruned_again_names_its_own_source_and_layers() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    bench
        .slim("prune --drop-layers 1 tiny three.gguf")
        .quietly();
    bench
        .slim("prune --drop-layers 0 three.gguf two.gguf")
        .quietly();
    let inspected = bench.slim("inspect --json two.gguf").quietly();
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(inspected["slim"]["slim.source.name"], "three.gguf");
    assert_eq!(inspected["slim"]["slim.layers.kept"], "1-2");
    assert_eq!(inspected["slim"]["slim.source.block_count"], "3");
}

#[test]
fn shards_are_read_as_one_model() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    split(&bench, "tiny");
    bench
        .slim("prune --drop-layers 1 tiny shards.gguf")
        .quietly();
    tiny::write(&bench, "whole");
    bench
        .slim("prune --drop-layers 1 whole whole.gguf")
        .quietly();
    let bytes = |name| {
        let checkpoint = Checkpoint::open(&bench.path(name)).unwrap();
        let all = checkpoint.tensors().iter();
        let mut all: Vec<_> = all
            .map(|t| (t.name.clone(), checkpoint.bytes(t).to_vec()))
            .collect();
        all.sort();
        all
    };
    assert!(bytes("shards.gguf") == bytes("whole.gguf"));
    // One part by itself is no model.
    let ran = bench.slim("prune --drop-layers 1 tiny/model-00001-of-00002.safetensors x.gguf");
    assert_eq!(ran.unlike_an_error(&["one of 2 shards", "folder"]), None);
}

/// Deals the tensors of a folder's model out to two shards.
fn split(bench: &Bench, name: &str) {
    let folder = bench.path(name);
    let single = folder.join("model.safetensors");
    let bytes = fs::read(&single).unwrap();
    let whole = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut map = serde_json::Map::new();
    for shard in 0..2 {
        let file = format!("model-{:05}-of-00002.safetensors", shard + 1);
        let odd = |name: &str| name.len() % 2 == shard;
        let part: Vec<_> = whole
            .tensors()
            .into_iter()
            .filter(|(name, _)| odd(name))
            .collect();
        assert!(!part.is_empty());
        for (tensor, _) in &part {
            map.insert(tensor.clone(), Value::from(file.clone()));
        }
        safetensors::serialize_to_file(part, None, &folder.join(&file)).unwrap();
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    fs::remove_file(single).unwrap();
}

/// People ask for exactly this: quantised blocks are carried over, never decoded.
#[test]
fn blocks_of_a_type_that_nobody_knows_are_copied_as_they_are() {
    const NEWER_THAN_SLIM: u32 = 200;
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    bench
        .slim("prune --drop-layers 1 tiny three.gguf")
        .quietly();
    let mut bytes = fs::read(bench.path("three.gguf")).unwrap();
    for layer in 0..3 {
        let name = format!("blk.{layer}.ffn_up.weight");
        let at = bytes.windows(name.len()).position(|w| w == name.as_bytes());
        // Behind the name: the number of dimensions, two of them, the type.
        let ty = at.unwrap() + name.len() + 4 + 2 * 8;
        bytes[ty..ty + 4].copy_from_slice(&NEWER_THAN_SLIM.to_le_bytes());
    }
    fs::write(bench.path("new.gguf"), bytes).unwrap();
    bench
        .slim("prune --drop-layers 1 new.gguf two.gguf")
        .quietly();
    let open = |name| Checkpoint::open(&bench.path(name)).unwrap();
    let (new, two) = (open("new.gguf"), open("two.gguf"));
    let tensor = two.tensor("blk.1.ffn_up.weight").unwrap();
    assert_eq!(tensor.dtype.ggml_id(), Some(NEWER_THAN_SLIM));
    let source = new.tensor("blk.2.ffn_up.weight").unwrap();
    assert!(two.bytes(tensor) == new.bytes(source));
}
