//! The written files: what they compute, hold and say.

use crate::support::village;
use crate::{FITTING, How, as_gguf, as_type, golden, logits, pruned, whole_logits, without};
use slim::checkpoint::gguf::{self, Metadata, Value};
use slim::checkpoint::{Checkpoint, DType, Data, OutTensor};
use slim::convert::quantise::{Imatrix, Quantise};
use slim::convert::{Edit, Edits};
use slim::verify::check_structure;
use std::io::Write;
use std::path::Path;

/// Halves in the middle and at the end, beside whole layers; two in a row.
const DROPPED: [&str; 4] = [
    "1:attention,2:mlp",
    "0:mlp,2,3:attention",
    "1-2:attention,3:mlp",
    "0,1:mlp",
];

fn differing(found: &[f32], expected: &[f32]) -> usize {
    assert_eq!(found.len(), expected.len());
    let differs = |(found, expected): &(&f32, &f32)| found.to_bits() != expected.to_bits();
    found.iter().zip(expected).filter(differs).count()
}

#[test]
fn the_written_file_computes_the_bits_that_the_mask_computes_of_the_source() {
    let folder = tempfile::tempdir().unwrap();
    for name in FITTING {
        let hf = golden(name);
        let (plain, quantised) = (
            as_gguf(&hf, "f32", folder.path()),
            as_gguf(&hf, "q8_0", folder.path()),
        );
        // The source, what is asked for, and the whole model that computes as the result should.
        let ways = [
            (&hf, "f32", &plain),
            (&hf, "q8_0", &quantised),
            (&plain, "keep", &plain),
            (&plain, "q8_0", &quantised),
            (&quantised, "keep", &quantised),
        ];
        for (source, outtype, like) in ways {
            let like = Checkpoint::open(like).unwrap();
            for dropped in DROPPED {
                let what = format!("{} as {outtype} without {dropped}", source.display());
                let target = folder.path().join("halves.gguf");
                let ours = pruned(source, dropped, &as_type(outtype), &target).unwrap();
                check_structure(&ours).unwrap();
                let keep = without(&like, dropped);
                for graph in [false, true] {
                    let expected = logits(&like, &keep, graph);
                    let wrong = differing(&whole_logits(&ours, graph), &expected);
                    assert_eq!(wrong, 0, "{what}, graph: {graph}");
                    assert!(differing(&expected, &whole_logits(&like, graph)) > 0);
                }
            }
        }
    }
}

#[test]
fn a_safetensors_file_is_a_source_like_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama", "qwen2"] {
        let write = |source: &Path, target: &str| {
            let target = folder.path().join(target);
            pruned(source, "1:mlp,2:attention", &as_type("keep"), &target).unwrap()
        };
        let ours = write(&golden(name), "a.gguf");
        let same = write(&golden(name).join("model.safetensors"), "b.gguf");
        assert_eq!(ours.tensors().len(), same.tensors().len());
        for (ours_info, info) in ours.tensors().iter().zip(same.tensors()) {
            assert_eq!(ours_info.name, info.name);
            assert!(ours.bytes(ours_info) == same.bytes(info), "{}", info.name);
        }
    }
}

#[test]
fn tensors_of_whole_layers_and_kept_halves_are_copied_and_those_of_lost_ones_gone() {
    let folder = tempfile::tempdir().unwrap();
    let source = as_gguf(&golden("llama_bias"), "q8_0", folder.path());
    let target = folder.path().join("halves.gguf");
    let dropped = "0,1:mlp,2:attention";
    let ours = pruned(&source, dropped, &as_type("keep"), &target).unwrap();
    let source = Checkpoint::open(&source).unwrap();
    let (mut copied, mut zeroed) = (0, 0);
    for tensor in ours.tensors() {
        if ["gate", "up", "down"]
            .map(|part| format!("blk.0.ffn_{part}.weight"))
            .contains(&tensor.name)
        {
            assert_eq!(tensor.dtype, DType::F32);
            assert!(tensor.shape.contains(&32), "{tensor:?}");
            assert!(ours.bytes(tensor).iter().all(|&byte| byte == 0));
            zeroed += 1;
            continue;
        }
        let name = match tensor.name.strip_prefix("blk.") {
            None => tensor.name.clone(),
            Some(rest) => {
                let (layer, rest) = rest.split_once('.').unwrap();
                format!("blk.{}.{rest}", layer.parse::<usize>().unwrap() + 1)
            }
        };
        let old = source.tensor(&name).unwrap();
        assert_eq!((tensor.dtype, &tensor.shape), (old.dtype, &old.shape));
        assert!(ours.bytes(tensor) == source.bytes(old), "{name}");
        copied += 1;
    }
    let has = |start: &str| ours.tensors().iter().any(|t| t.name.starts_with(start));
    assert!(!has("blk.1.attn") && has("blk.1.ffn_norm") && has("blk.0.attn_q.bias"));
    assert!(ours.tensor("blk.0.ffn_down.bias").is_none() && has("blk.0.ffn_norm"));
    // Two globals, 7 + 1 of layer 0, 7 of layer 1, 16 of layer 2.
    let attention = 9;
    let mlp = 7;
    assert_eq!(
        (copied, zeroed),
        (2 + attention + 1 + mlp + attention + mlp, 3)
    );
}

fn array(metadata: &Metadata, key: &str) -> Vec<i64> {
    let value = metadata.get(key).unwrap();
    value.iter_i64().unwrap().collect()
}

#[test]
fn metadata_are_those_of_the_source_under_the_new_name_with_one_size_a_layer() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["mistral", "qwen2"] {
        let hf = golden(name);
        let whole = as_gguf(&hf, "f32", folder.path());
        let prefix = match name {
            "qwen2" => "qwen2.",
            _ => "llama.",
        };
        for source in [&hf, &whole] {
            let target = folder.path().join("halves.gguf");
            let dropped = "0,2:attention,3:mlp";
            let ours = pruned(source, dropped, &as_type("f32"), &target).unwrap();
            let (ours, whole) = (ours.gguf().unwrap(), Checkpoint::open(&whole).unwrap());
            assert_eq!(ours.get_str("general.architecture"), Some("deci"));
            assert_eq!(ours.get_u64("deci.block_count"), Some(3));
            assert_eq!(array(ours, "deci.attention.head_count"), [4, 0, 4]);
            assert_eq!(array(ours, "deci.attention.head_count_kv"), [2, 0, 2]);
            let width = whole
                .gguf()
                .unwrap()
                .get_u64(&format!("{prefix}feed_forward_length"));
            let width = width.unwrap() as i64;
            assert_eq!(array(ours, "deci.feed_forward_length"), [width, width, 32]);
            assert_eq!(array(ours, "slim.layers.kept"), [1, 2, 3]);
            assert_eq!(
                ours.get_str("slim.layers.kept_halves"),
                Some("2:mlp,3:attention")
            );
            let title = ours.get_str("general.name").unwrap();
            let words = "(3 of 4 layers, 1 without attention, 1 without MLP)";
            assert!(title.ends_with(words), "{title}");
            const CHANGED: [&str; 4] = [
                "block_count",
                "head_count",
                "head_count_kv",
                "feed_forward_length",
            ];
            for (key, value) in whole.gguf().unwrap().iter() {
                let key = match key.strip_prefix(prefix) {
                    Some(suffix) if CHANGED.contains(&suffix.trim_start_matches("attention.")) => {
                        continue;
                    }
                    Some(suffix) => format!("deci.{suffix}"),
                    None => key.to_owned(),
                };
                if key.starts_with("general.") || key.starts_with("slim.") {
                    continue;
                }
                assert_eq!(ours.get(&key), Some(value), "{name}: {key}");
            }
            assert!(ours.iter().all(|(key, _)| !key.starts_with(prefix)));
        }
    }
}

#[test]
fn a_set_of_whole_layers_is_written_as_the_architecture_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("whole.gguf");
    let ours = pruned(&golden("llama"), "1", &as_type("keep"), &target).unwrap();
    let metadata = ours.gguf().unwrap();
    assert_eq!(metadata.get_str("general.architecture"), Some("llama"));
    assert!(metadata.get("slim.layers.kept_halves").is_none());
}

#[test]
fn a_mix_counts_the_zeros_as_an_mlp_and_leaves_them_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let dropped = "1:mlp,3:attention";
    let write = |outtype: &str| {
        let target = folder.path().join(format!("{outtype}.gguf"));
        pruned(&village(), dropped, &as_type(outtype), &target).unwrap()
    };
    let (mixed, whole) = (
        write("q4_k_m"),
        Checkpoint::open(&as_gguf(&village(), "q4_k_m", folder.path())).unwrap(),
    );
    let mut quantised = 0;
    for tensor in mixed.tensors() {
        let old = whole.tensor(&tensor.name).unwrap();
        let zeroed = tensor.name.starts_with("blk.1.ffn_") && tensor.shape.len() == 2;
        match zeroed {
            true => assert_eq!(tensor.dtype, DType::F32),
            // Values are counted without the layer that has none.
            false if tensor.name.ends_with("attn_v.weight") => {}
            false => assert_eq!(tensor.dtype, old.dtype, "{}", tensor.name),
        }
        quantised += usize::from(tensor.dtype.is_quantised());
    }
    assert!(quantised > 40, "{quantised}");
    // As many places as there are values: the first and the last of seven get more bits.
    let value = |layer: usize| {
        mixed
            .tensor(&format!("blk.{layer}.attn_v.weight"))
            .unwrap()
            .dtype
    };
    assert_ne!(value(7), value(1));
}

#[test]
fn an_imatrix_of_the_source_holds_for_what_stays_of_each_layer() {
    let folder = tempfile::tempdir().unwrap();
    let name = |layer: usize, part: &str| format!("blk.{layer}.{part}.weight");
    let columns = |part: &str| if part == "ffn_down" { 352 } else { 128 };
    let parts = ["attn_v", "ffn_down", "ffn_up"];
    let sums = (0..8).flat_map(|layer| parts.map(|part| (name(layer, part), columns(part))));
    let tensor = |name: String, values: Vec<f32>| OutTensor {
        name,
        dtype: DType::F32,
        shape: vec![1, values.len() as u64],
        data: Data::Stream(Box::new(move |out: &mut dyn Write| {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            Ok(out.write_all(&bytes)?)
        })),
    };
    let tensors: Vec<OutTensor> = sums
        .flat_map(|(name, n)| {
            let values = (0..n).map(|i| 1.0 + (i % 7) as f32).collect();
            [
                tensor(format!("{name}.in_sum2"), values),
                tensor(format!("{name}.counts"), vec![1.0]),
            ]
        })
        .collect();
    let path = folder.path().join("imatrix.gguf");
    let keys = [("general.type".to_owned(), Value::str("imatrix"))];
    gguf::write(&path, &keys, &tensors, |_| Ok(()), &|_| {}).unwrap();
    let imatrix = Imatrix::open(&path).unwrap();
    let write = |dropped: &str, outtype: &'static str| {
        let how = How {
            outtype,
            quantise: Quantise {
                imatrix: Some(&imatrix),
                ..Default::default()
            },
            ..How::default()
        };
        let target = folder.path().join(format!("{dropped}-{outtype}.gguf"));
        pruned(&village(), dropped, &how, &target).unwrap()
    };
    let (ours, whole) = (write("0,2:mlp,3:attention", "q5_1"), write("none", "q5_1"));
    for (new, old, part) in [(0, 1, "ffn_down"), (1, 2, "attn_v"), (2, 3, "ffn_down")] {
        let (new, old) = (
            ours.tensor(&name(new, part)).unwrap(),
            whole.tensor(&name(old, part)).unwrap(),
        );
        assert!(new.dtype.is_quantised());
        assert!(ours.bytes(new) == whole.bytes(old), "{}", old.name);
    }
    assert_eq!(ours.tensor(&name(1, "ffn_down")).unwrap().dtype, DType::F32);
}

#[test]
fn weights_of_the_halves_that_stay_can_be_edited() {
    let folder = tempfile::tempdir().unwrap();
    for case in ["llama_bias", "qwen2"] {
        let hf = golden(case);
        let whole = as_gguf(&hf, "f32", folder.path());
        let random = |n: usize| {
            let mut random = fastrand::Rng::with_seed(n as u64);
            (0..n)
                .map(|_| random.f32() - 0.5)
                .collect::<Vec<f32>>()
                .into()
        };
        let mut edits = Edits::default();
        edits.insert("blk.1.attn_output.weight", Edit::Scale(0.5));
        edits.insert("blk.1.attn_q.weight", Edit::Values(random(32 * 32)));
        edits.insert("blk.1.attn_k.bias", Edit::Values(random(16)));
        edits.insert("blk.2.ffn_down.weight", Edit::Output(random(32 * 32)));
        let how = How {
            outtype: "f32",
            edits,
            ..How::default()
        };
        let edited = pruned(&hf, "none", &how, &folder.path().join("edited.gguf")).unwrap();
        let dropped = "0:mlp,1:mlp,2:attention";
        let expected = logits(&edited, &without(&edited, dropped), false);
        for source in [&hf, &whole] {
            let target = folder.path().join("halves.gguf");
            let ours = pruned(source, dropped, &how, &target).unwrap();
            let found = whole_logits(&ours, false);
            let scale = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() <= 1e-6 * scale,
                    "{case}: {found} {expected}"
                );
            }
        }
    }
}
