//! Conversion against llama.cpp's own converter (golden files in ../shared), there and back.

mod support;

use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use slim::arch::{Arch, KeepSet};
use slim::checkpoint::gguf::Metadata;
use slim::checkpoint::{Checkpoint, DType};
use slim::convert::OutType;
use slim::prune::{Request, write};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::{REFUSED, golden_cases, village};

fn convertible() -> Vec<(String, PathBuf)> {
    let mut cases = golden_cases();
    cases.retain(|(name, _)| !name.ends_with(REFUSED));
    cases
}

const TYPES: [(&str, DType); 3] = [
    ("f32", DType::F32),
    ("f16", DType::F16),
    ("bf16", DType::BF16),
];

/// Llama 3's scaling without a frequency between its two limits: GGUF stores only the factors,
/// from which config.json's words cannot be told.
const WORDLESS: &str = "fixtures/golden/llama";

/// Writes all layers of a checkpoint to a target.
fn convert(source: &Path, target: &Path, outtype: OutType) {
    try_convert(source, target, outtype).unwrap();
}

fn try_convert(source: &Path, target: &Path, outtype: OutType) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(source).unwrap();
    let arch = Arch::of(&checkpoint).unwrap();
    let keep = KeepSet::all(arch.n_layers(&checkpoint).unwrap());
    let request = Request {
        outtype,
        ..Request::new(&checkpoint, &keep, target)
    };
    write(&request, &|_| {}).map(drop)
}

/// Key → (type, encoded value), without what may differ: the name and our provenance.
fn comparable(metadata: &Metadata) -> BTreeMap<String, (u32, Vec<u8>)> {
    metadata
        .iter()
        .filter(|(key, _)| *key != "general.name" && !key.starts_with("slim."))
        .map(|(key, value)| {
            let encoded = (value.ty().id(), value.encoded().to_vec());
            (key.to_owned(), encoded)
        })
        .collect()
}

#[test]
fn hugging_face_to_gguf_is_what_the_stock_converter_writes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, source) in convertible() {
        for (suffix, dtype) in TYPES {
            let stock = source.join(format!("converted.{suffix}.gguf"));
            if !stock.exists() {
                continue;
            }
            let target = folder.path().join("out.gguf");
            convert(&source, &target, OutType::Only(dtype));
            let (ours, theirs) = (
                Checkpoint::open(&target).unwrap(),
                Checkpoint::open(&stock).unwrap(),
            );
            assert_eq!(
                comparable(ours.gguf().unwrap()),
                comparable(theirs.gguf().unwrap()),
                "{name} {suffix}"
            );
            assert_eq!(ours.tensors().len(), theirs.tensors().len());
            for (our, their) in ours.tensors().iter().zip(theirs.tensors()) {
                assert_eq!(our.name, their.name, "{name} {suffix}");
                assert_eq!((our.dtype, &our.shape), (their.dtype, &their.shape));
                assert!(
                    ours.bytes(our) == theirs.bytes(their),
                    "{} differs",
                    our.name
                );
            }
        }
    }
}

#[test]
fn hugging_face_to_gguf_is_what_the_stock_converter_is_recorded_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let sha256 = |bytes: &[u8]| -> String {
        let digest = Sha256::digest(bytes);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let mut seen = 0;
    for (name, source) in convertible() {
        let Ok(text) = std::fs::read_to_string(source.join("converted.json")) else {
            continue;
        };
        let recorded: Json = serde_json::from_str(&text).unwrap();
        for (suffix, dtype) in TYPES {
            let target = folder.path().join("out.gguf");
            convert(&source, &target, OutType::Only(dtype));
            let ours = Checkpoint::open(&target).unwrap();
            let expect = |list: &str, id: &str| -> BTreeMap<String, Json> {
                // The other types list only what differs from f32.
                let all = ["f32", suffix].into_iter();
                let all = all.flat_map(|dtype| recorded[dtype][list].as_array().unwrap());
                let named =
                    all.map(|entry| (entry[id].as_str().unwrap().to_owned(), entry.clone()));
                named.filter(|(key, _)| key != "general.name").collect()
            };
            let keys = expect("metadata", "key");
            let found = comparable(ours.gguf().unwrap());
            let names = |map: Vec<&String>| map.into_iter().cloned().collect::<Vec<_>>();
            assert_eq!(
                names(found.keys().collect()),
                names(keys.keys().collect()),
                "{name} {suffix}"
            );
            for (key, (ty, bytes)) in &found {
                let theirs = &keys[key];
                assert_eq!(
                    theirs["type"].as_u64(),
                    Some(u64::from(*ty)),
                    "{name} {key}"
                );
                assert_eq!(
                    theirs["sha256"],
                    sha256(bytes),
                    "{name} {suffix} {key}: {theirs}"
                );
            }
            let tensors = expect("tensors", "name");
            assert_eq!(ours.tensors().len(), tensors.len(), "{name} {suffix}");
            for tensor in ours.tensors() {
                let theirs = &tensors[&tensor.name];
                let id = theirs["type"].as_u64().unwrap();
                assert_eq!(
                    tensor.dtype.ggml_id().map(u64::from),
                    Some(id),
                    "{}",
                    tensor.name
                );
                let digest = sha256(ours.bytes(tensor));
                assert_eq!(theirs["sha256"], digest, "{name} {suffix} {}", tensor.name);
            }
            seen += 1;
        }
    }
    assert!(seen >= 51, "{seen}");
}

#[test]
fn gguf_to_hugging_face_gives_the_original_weights_back() {
    let folder = tempfile::tempdir().unwrap();
    for (name, source) in convertible() {
        // Where the stock converter refused the tokenizer, ours stands in.
        let mut stock = source.join("converted.f32.gguf");
        if !stock.exists() {
            stock = folder.path().join("source.gguf");
            convert(&source, &stock, OutType::Only(DType::F32));
        }
        let target = folder.path().join(name.replace('/', "_"));
        let original = Checkpoint::open(&source).unwrap();
        let dtype = original.tensors()[0].dtype;
        if name == WORDLESS {
            let error = try_convert(&stock, &target, OutType::Only(dtype)).unwrap_err();
            assert!(error.to_string().contains("no words"), "{error}");
            continue;
        }
        convert(&stock, &target, OutType::Only(dtype));
        let back = Checkpoint::open(&target).unwrap();
        assert_eq!(back.tensors().len(), original.tensors().len());
        for theirs in original.tensors() {
            let ours = back.tensor(&theirs.name).unwrap();
            assert_eq!(ours.shape, theirs.shape);
            assert!(
                back.bytes(ours) == original.bytes(theirs),
                "{name}: {} differs",
                theirs.name
            );
        }
        for field in [
            "num_hidden_layers",
            "hidden_size",
            "rms_norm_eps",
            "vocab_size",
        ] {
            let number = |checkpoint: &Checkpoint| {
                let config = &checkpoint.hf().unwrap().config;
                config.get(field).and_then(|value| value.as_f64()).unwrap()
            };
            assert_eq!(number(&back), number(&original), "{name} {field}");
        }
    }
}

#[test]
fn another_type_within_a_format_changes_the_type_only() {
    let folder = tempfile::tempdir().unwrap();
    for (name, source) in convertible() {
        let stock = |dtype: &str| source.join(format!("converted.{dtype}.gguf"));
        if !stock("bf16").exists() {
            continue;
        }
        let target = folder.path().join("source.gguf");
        convert(&stock("bf16"), &target, OutType::Only(DType::F32));
        let ours = Checkpoint::open(&target).unwrap();
        let theirs = Checkpoint::open(&stock("f32")).unwrap();
        for tensor in theirs.tensors() {
            let same = ours.tensor(&tensor.name).unwrap();
            assert_eq!((same.dtype, &same.shape), (tensor.dtype, &tensor.shape));
            assert!(
                ours.bytes(same) == theirs.bytes(tensor),
                "{name}: {} differs",
                tensor.name
            );
        }
    }
}

#[test]
fn q8_0_blocks_are_within_half_a_step_of_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (target, exact) = (
        folder.path().join("q8.gguf"),
        folder.path().join("f32.gguf"),
    );
    convert(&village(), &target, OutType::Only(DType::Q8_0));
    convert(&village(), &exact, OutType::Only(DType::F32));
    let quantised = Checkpoint::open(&target).unwrap();
    let stock = Checkpoint::open(&exact).unwrap();
    let mut seen = 0;
    for ours in quantised
        .tensors()
        .iter()
        .filter(|t| t.dtype == DType::Q8_0)
    {
        let theirs = stock.tensor(&ours.name).unwrap();
        let floats: Vec<f32> = stock
            .bytes(theirs)
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        for (block, values) in quantised
            .bytes(ours)
            .chunks_exact(34)
            .zip(floats.chunks(32))
        {
            let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
            let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (quant, value) in block[2..].iter().zip(values) {
                let error = (f32::from(*quant as i8) * scale - value).abs();
                assert!(
                    error <= 0.51 * scale + largest * 1e-3,
                    "{}: {error}",
                    ours.name
                );
            }
            seen += 1;
        }
    }
    assert!(seen > 100);
}
