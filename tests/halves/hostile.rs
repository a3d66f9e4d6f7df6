//! Sizes of layers that cannot be are errors, wherever the file is read.

use crate::{as_type, golden, pruned};
use candle_core::Device;
use slim::arch::Arch;
use slim::checkpoint::gguf::{self, Value};
use slim::checkpoint::{Checkpoint, Data, OutTensor};
use slim::model::Model;
use slim::prune::check;
use std::path::Path;

const HEADS: &str = "deci.attention.head_count";
const KV_HEADS: &str = "deci.attention.head_count_kv";
const WIDTH: &str = "deci.feed_forward_length";

/// A file with another value for a key, or without it.
fn with(source: &Checkpoint, key: &str, value: Option<&Value<'static>>, target: &Path) {
    let entries = source.gguf().unwrap().iter().filter_map(|(known, old)| {
        let value = match known == key {
            true => value.cloned(),
            false => Some(old),
        };
        Some((known.to_owned(), value?))
    });
    let entries: Vec<(String, Value)> = entries.collect();
    let copies = source.tensors().iter().map(|tensor| {
        let (file, range) = source.source(tensor);
        OutTensor {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            data: Data::Copy { file, range },
        }
    });
    let copies: Vec<OutTensor> = copies.collect();
    gguf::write(target, &entries, &copies, |_| Ok(()), &|_| {}).unwrap();
}

#[test]
fn sizes_that_cannot_be_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Heads [4, 0, 4, 4], key heads [2, 0, 2, 2].
    let dropped = "1:attention,2:mlp";
    let source = pruned(
        &golden("llama"),
        dropped,
        &as_type("f32"),
        &path("halves.gguf"),
    )
    .unwrap();
    let largest = i32::MAX;
    let cases = [
        (HEADS, Some(Value::i32s(&[4, 0, 4])), "has 3 elements"),
        (HEADS, Some(Value::i32s(&[4, 0, 4, 4, 4])), "has 5 elements"),
        (HEADS, Some(Value::i32s(&[])), "no array of numbers"),
        (HEADS, Some(Value::i32s(&[4, 0, -4, 4])), "cannot be -4"),
        (HEADS, Some(Value::i32s(&[-4, 0, 4, 4])), "cannot be -4"),
        (
            HEADS,
            Some(Value::f32s(&[4.0, 0.0, f32::NAN, 4.0])),
            "cannot be NaN",
        ),
        (
            HEADS,
            Some(Value::f32s(&[4.0, 0.0, 3.5, 4.0])),
            "cannot be 3.5",
        ),
        (
            HEADS,
            Some(Value::u64s(&[4, 0, 1 << 40, 4])),
            "cannot be 1099511627776",
        ),
        (
            HEADS,
            Some(Value::strs(&["4", "0", "4", "4"])),
            "no array of numbers",
        ),
        (HEADS, Some(Value::str("4")), "is not one number"),
        (HEADS, Some(Value::i32s(&[4, 0, 3, 4])), "does not divide"),
        (HEADS, Some(Value::i32s(&[4, 0, 0, 4])), "does not divide"),
        (HEADS, Some(Value::i32s(&[4, 0, largest - 1, 4])), "shape"),
        (HEADS, Some(Value::u32s(&[4, 0, u32::MAX - 1, 4])), "shape"),
        (
            HEADS,
            Some(Value::i32s(&[4, 4, 4, 4])),
            "blk.1.attn_norm.weight is missing",
        ),
        (HEADS, None, "attention.head_count"),
        (
            KV_HEADS,
            Some(Value::i32s(&[2, 2, 2, 2])),
            "does not divide",
        ),
        (KV_HEADS, Some(Value::i32s(&[2, 0, 0, 2])), "left over"),
        (KV_HEADS, Some(Value::i32s(&[2, 0, 1, 2])), "shape"),
        (KV_HEADS, Some(Value::u32(2)), "does not divide"),
        (WIDTH, Some(Value::i32s(&[48, 48, largest, 48])), "shape"),
        (WIDTH, Some(Value::i32s(&[48, 48, 0, 48])), "left over"),
        (WIDTH, Some(Value::u64s(&[u64::MAX; 4])), "cannot be"),
        ("deci.block_count", Some(Value::u32(3)), "3 layers"),
        ("deci.block_count", Some(Value::u32(5)), "4 elements"),
        ("deci.block_count", Some(Value::u32(99_999)), "4 elements"),
        ("deci.block_count", None, "missing"),
    ];
    for (key, value, words) in cases {
        with(&source, key, value.as_ref(), &path("odd.gguf"));
        let what = format!("{key} {value:?}");
        let odd = Checkpoint::open(&path("odd.gguf")).unwrap();
        let told = |error: anyhow::Error| {
            let error = format!("{error:#}");
            assert!(error.contains(words), "{what}: {error}");
        };
        told(Model::load(&odd, &Device::Cpu, |_, _| {}).err().unwrap());
        told(check(&odd, &path("out.gguf"), None).unwrap_err());
        let _ = Arch::of(&odd).unwrap().lacking(&odd);
    }
    // The frame of these cases is sound.
    let same = source.gguf().unwrap().get(HEADS).unwrap().into_owned();
    with(&source, HEADS, Some(&same), &path("same.gguf"));
    let same = Checkpoint::open(&path("same.gguf")).unwrap();
    Model::load(&same, &Device::Cpu, |_, _| {}).unwrap();
}
