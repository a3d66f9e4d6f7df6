//! What no runtime could run, or what is not there, is refused before anything is written.

use crate::{FITTING, How, as_gguf, as_type, golden, pruned};
use slim::checkpoint::gguf::{self, Value};
use slim::checkpoint::{Checkpoint, Data, OutTensor};
use slim::convert::{Edit, Edits};
use std::path::{Path, PathBuf};

/// Asserts that half layers are refused with these words, and that nothing is left of the attempt.
#[track_caller]
fn refused(source: &Path, dropped: &str, how: &How, target: &str, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let error = pruned(source, dropped, how, &folder.path().join(target)).unwrap_err();
    let error = format!("{error:#}");
    for word in words {
        assert!(error.contains(word), "{word} is not in: {error}");
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{error}");
}

#[test]
fn hugging_face_has_no_layers_that_lack_a_half() {
    let words = ["GGUF only", "Name a .gguf"];
    let folder = tempfile::tempdir().unwrap();
    let gguf = as_gguf(&golden("llama"), "f32", folder.path());
    for source in [&golden("llama"), &gguf] {
        for target in ["out", "out.safetensors"] {
            refused(source, "1:mlp", &as_type("keep"), target, &words);
        }
    }
    let halves = folder.path().join("halves.gguf");
    pruned(&gguf, "1:mlp", &as_type("keep"), &halves).unwrap();
    for (dropped, target) in [("none", "out"), ("2", "out.safetensors")] {
        let words = ["no model class", "deci", "name a .gguf"];
        refused(&halves, dropped, &as_type("keep"), target, &words);
    }
}

#[test]
fn architectures_without_such_a_form_are_refused_with_those_that_have_one() {
    let cases = std::fs::read_dir(golden("")).unwrap();
    let cases = cases.map(|entry| entry.unwrap().path());
    let cases = cases.filter(|path| path.join("config.json").exists());
    let mut seen = 0;
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy();
        if FITTING.contains(&&*name) || name.ends_with(crate::support::REFUSED) {
            continue;
        }
        for dropped in ["1:mlp", "1:attention"] {
            let words = [
                "half a layer",
                "llama, mistral, qwen2, deci",
                "Drop whole layers",
            ];
            refused(&case, dropped, &as_type("keep"), "out.gguf", &words);
        }
        seen += 1;
    }
    assert!(seen >= 10, "{seen}");
}

#[test]
fn the_first_layer_must_attend() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = as_gguf(&golden("qwen2"), "f32", folder.path());
    for source in [golden("qwen2"), gguf.clone()] {
        for (dropped, layer) in [("0:attention", "layer 0"), ("0-1,2:attention", "layer 2")] {
            let words = [layer, "would be the first", "drop all of"];
            refused(&source, dropped, &as_type("keep"), "out.gguf", &words);
        }
    }
    let halves = folder.path().join("halves.gguf");
    pruned(&gguf, "1:attention", &as_type("keep"), &halves).unwrap();
    for dropped in ["0", "0,2:mlp"] {
        let words = ["layer 1 would be the first"];
        refused(&halves, dropped, &as_type("keep"), "out.gguf", &words);
    }
}

#[test]
fn a_half_that_is_missing_already_cannot_go() {
    let folder = tempfile::tempdir().unwrap();
    let halves = folder.path().join("halves.gguf");
    pruned(
        &golden("llama"),
        "1:attention,2:mlp",
        &as_type("keep"),
        &halves,
    )
    .unwrap();
    for (dropped, words) in [
        (
            "1:attention",
            "layer 1 has no attention as it is: leave it out",
        ),
        ("1:mlp", "Drop all of layer 1"),
        ("2:mlp", "layer 2 has no MLP as it is: leave it out"),
        ("2:attention", "Drop all of layer 2"),
    ] {
        refused(&halves, dropped, &as_type("keep"), "out.gguf", &[words]);
    }
}

/// A file with one more key.
fn with_key(source: &Path, key: &str, value: Value<'static>, target: &Path) -> PathBuf {
    let source = Checkpoint::open(source).unwrap();
    let metadata = source.gguf().unwrap().iter();
    let kept = metadata.filter(|(known, _)| *known != key);
    let mut entries: Vec<(String, Value)> = kept.map(|(k, v)| (k.to_owned(), v)).collect();
    entries.push((key.to_owned(), value));
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
    target.to_owned()
}

#[test]
fn a_model_that_says_more_than_the_new_architecture_could_hear_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let source = as_gguf(&golden("qwen2"), "f32", folder.path());
    for (key, value, words) in [
        (
            "qwen2.attention.scale",
            Value::f32(0.25),
            "qwen2.attention.scale",
        ),
        (
            "qwen2.rope.dimension_count",
            Value::u32(4),
            "rope.dimension_count is 4",
        ),
        (
            "qwen2.attention.value_length",
            Value::u32(4),
            "attention.value_length is 4",
        ),
    ] {
        let source = with_key(&source, key, value, &path("odd.gguf"));
        refused(&source, "1:mlp", &as_type("keep"), "out.gguf", &[words]);
    }
    // What all of a head says is no news.
    let value = Value::u32(8);
    let source = with_key(
        &source,
        "qwen2.rope.dimension_count",
        value,
        &path("same.gguf"),
    );
    pruned(&source, "1:mlp", &as_type("keep"), &path("out.gguf")).unwrap();
}

#[test]
fn weights_of_a_half_that_goes_cannot_be_edited() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = as_gguf(&golden("llama_bias"), "f32", folder.path());
    for source in [&golden("llama_bias"), &gguf] {
        for name in [
            "blk.1.ffn_down.weight",
            "blk.1.ffn_gate.bias",
            "blk.1.ffn_norm.weight",
            "blk.2.attn_output.weight",
            "blk.2.attn_norm.weight",
        ] {
            let mut edits = Edits::default();
            edits.insert(name, Edit::Scale(2.0));
            let how = How {
                outtype: "keep",
                edits,
                ..How::default()
            };
            let words = [name, "its half of the layer is not kept"];
            refused(source, "1:mlp,2:attention", &how, "out.gguf", &words);
        }
    }
}
