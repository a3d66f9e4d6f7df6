//! Edits that do not fit are refused before anything is written, with what to do.

use crate::support::village;
use crate::values::{all_layers, as_gguf, edited, golden};
use slim::arch::KeepSet;
use slim::checkpoint::Checkpoint;
use slim::convert::{Edit, Edits, OutType};
use std::path::{Path, PathBuf};

const N: usize = 32;

fn zeros(n: usize) -> std::sync::Arc<[f32]> {
    vec![0.0; n].into()
}

/// Asserts that one edit is refused with these words, and that nothing was written.
fn refused(source: &Path, name: &str, edit: Edit, target: &str, keep: &[usize], words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(source).unwrap();
    let all = all_layers(&source);
    let dropped: Vec<usize> = (0..all.len()).filter(|l| !keep.contains(l)).collect();
    let keep = KeepSet::without(all.len(), &dropped).unwrap();
    let mut edits = Edits::default();
    edits.insert(name, edit);
    let target = folder.path().join(target);
    let error = edited(&source, &keep, &edits, OutType::Keep, &target).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains(name) && error.contains(words),
        "{name}: {error}"
    );
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{name}");
}

#[test]
fn edits_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let hf = golden("llama_bias");
    let gguf = as_gguf(&hf, "f32", folder.path());
    let down = "blk.2.ffn_down.weight";
    let nan: std::sync::Arc<[f32]> = vec![f32::NAN; N * N].into();
    let cases = [
        (
            "blk.9.ffn_down.weight",
            Edit::Scale(2.0),
            "there is no tensor",
        ),
        ("blk.2.ffn_down", Edit::Scale(2.0), "there is no tensor"),
        (
            "model.layers.2.mlp.down_proj.weight",
            Edit::Scale(2.0),
            "there is no tensor",
        ),
        ("blk.1.ffn_down.weight", Edit::Scale(2.0), "not kept"),
        (down, Edit::Scale(f32::INFINITY), "inf"),
        (
            down,
            Edit::Values(zeros(N * N - 1)),
            "takes 1024 numbers, not 1023",
        ),
        (down, Edit::Output(zeros(N)), "takes 1024 numbers, not 32"),
        (down, Edit::Values(nan.clone()), "not finite"),
        (down, Edit::Output(nan), "not finite"),
        (
            "blk.2.ffn_norm.weight",
            Edit::Output(zeros(N * N)),
            "neither a matrix nor a bias",
        ),
    ];
    for (name, edit, words) in cases {
        for source in [&hf, &gguf] {
            for target in ["out", "out.gguf"] {
                refused(source, name, edit.clone(), target, &[0, 2, 3], words);
            }
        }
    }
}

#[test]
fn experts_can_only_be_scaled() {
    let folder = tempfile::tempdir().unwrap();
    let hf = golden("mixtral");
    let gguf = as_gguf(&hf, "f32", folder.path());
    for source in [&hf, &gguf] {
        for edit in [Edit::Values(zeros(4 * 32 * 16)), Edit::Output(zeros(N * N))] {
            refused(
                source,
                "blk.0.ffn_gate_exps.weight",
                edit,
                "out.gguf",
                &[0, 1],
                "can only be scaled",
            );
        }
    }
}

/// village as Q4_0, one tensor of which says that it is IQ4_NL: its blocks are as large.
fn with_iq4_nl(name: &str, folder: &Path) -> PathBuf {
    let path = as_gguf(&village(), "q4_0", folder);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(name.len())
        .position(|w| w == name.as_bytes())
        .unwrap();
    // After the name: the number of dimensions, u32, two of them, u64 each, then the type.
    let ty = at + name.len() + 4 + 2 * 8;
    assert_eq!(bytes[ty..ty + 4], 2u32.to_le_bytes());
    bytes[ty..ty + 4].copy_from_slice(&20u32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn types_that_slim_cannot_read_or_write_are_refused_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let name = "blk.1.attn_output.weight";
    let source = with_iq4_nl(name, folder.path());
    let all: Vec<usize> = (0..8).collect();
    let scale = Edit::Scale(2.0);
    refused(
        &source,
        name,
        scale,
        "out.gguf",
        &all,
        "give slim the model in f16",
    );
    let values = Edit::Values(zeros(128 * 128));
    refused(&source, name, values.clone(), "out.gguf", &all, "--outtype");

    // What is replaced need not be read.
    let source = Checkpoint::open(&source).unwrap();
    let mut edits = Edits::default();
    edits.insert(name, values);
    let (f16, target) = ("f16".parse().unwrap(), folder.path().join("out.gguf"));
    let ours = edited(&source, &all_layers(&source), &edits, f16, &target).unwrap();
    let replaced = ours.tensor(name).unwrap();
    assert!(ours.bytes(replaced).iter().all(|&byte| byte == 0));
}
