//! What a GGUF file may be besides the usual: old, foreign, aligned otherwise, of newer types; and
//! outputs at places where something is.

use std::fs;

use slim::checkpoint::gguf::{self, Value};
use slim::checkpoint::{Checkpoint, DType, Data, OutTensor};

use crate::bench::{Bench, assert_refused, village};
use crate::tiny;

/// A bench with the model `three.gguf` of three layers.
fn bench() -> Bench {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    bench
        .slim("prune --drop-layers 1 tiny three.gguf")
        .quietly();
    bench
}

/// Copies a file with bytes changed.
fn patched(bench: &Bench, to: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(bench.path("three.gguf")).unwrap();
    change(&mut bytes);
    fs::write(bench.path(to), bytes).unwrap();
}

/// Where the bytes behind the text are.
fn behind(bytes: &[u8], text: &str) -> usize {
    let found = bytes.windows(text.len()).position(|w| w == text.as_bytes());
    found.unwrap() + text.len()
}

fn set_version(bytes: &mut [u8], version: u32) {
    bytes[4..8].copy_from_slice(&version.to_le_bytes());
}

#[test]
fn a_file_of_version_2_is_pruned_as_one_of_version_3() {
    let bench = bench();
    patched(&bench, "old.gguf", |bytes| set_version(bytes, 2));
    for source in ["old", "three"] {
        bench
            .slim(&format!(
                "prune --drop-layers 0 {source}.gguf {source}-2.gguf"
            ))
            .quietly();
    }
    let open = |name| Checkpoint::open(&bench.path(name)).unwrap();
    let (old, new) = (open("old-2.gguf"), open("three-2.gguf"));
    assert_eq!(open("old.gguf").gguf().unwrap().version(), 2);
    assert_eq!(old.gguf().unwrap().version(), 3);
    assert_eq!(old.tensors().len(), new.tensors().len());
    for (ours, theirs) in old.tensors().iter().zip(new.tensors()) {
        assert_eq!((&ours.name, ours.dtype), (&theirs.name, theirs.dtype));
        assert!(old.bytes(ours) == new.bytes(theirs));
    }
}

#[test]
fn versions_and_byte_orders_that_are_not_read_are_refused_with_a_way_out() {
    let bench = bench();
    patched(&bench, "first.gguf", |bytes| set_version(bytes, 1));
    patched(&bench, "future.gguf", |bytes| set_version(bytes, 4));
    patched(&bench, "big.gguf", |bytes| {
        set_version(bytes, 3u32.swap_bytes())
    });
    let prune = |name: &str| format!("prune --drop-layers 0 {name}.gguf out.gguf");
    assert_refused(
        &bench,
        &[
            (
                &prune("first"),
                &["first.gguf", "version 1", "convert the model again"],
            ),
            (
                &prune("future"),
                &["future.gguf", "version 4", "newer", "update slim"],
            ),
            (
                &prune("big"),
                &["big.gguf", "big-endian", "gguf_convert_endian.py"],
            ),
            ("inspect big.gguf", &["big-endian"]),
        ],
    );
}

/// Marks the tensor as one of a type that nobody knows.
fn retype(bytes: &mut [u8], tensor: &str) {
    // Behind the name: the number of dimensions, these, the type.
    let n_dims = behind(bytes, tensor);
    let at = n_dims + 4 + usize::from(bytes[n_dims]) * 8;
    bytes[at..at + 4].copy_from_slice(&9999u32.to_le_bytes());
}

#[test]
fn tensors_of_a_type_newer_than_slim_are_carried_over_wherever_they_stand() {
    let bench = bench();
    let open = |name: &str| Checkpoint::open(&bench.path(name)).unwrap();
    let last = open("three.gguf").tensors().last().unwrap().name.clone();
    let middle = "blk.1.attn_q.weight";
    patched(&bench, "new.gguf", |bytes| {
        retype(bytes, middle);
        retype(bytes, &last);
    });
    bench
        .slim("prune --drop-layers 0 new.gguf two.gguf")
        .quietly();
    bench
        .slim("prune --drop-layers 0 --max-shard-size 20kB new.gguf parts.gguf")
        .quietly();
    let part = bench
        .names()
        .into_iter()
        .find(|name| name.contains("-00001-of-"));
    let source = open("three.gguf");
    for output in ["two.gguf", &part.unwrap()] {
        let output = open(output);
        for (ours, theirs) in [("blk.0.attn_q.weight", middle), (&*last, &*last)] {
            let ours = output.tensor(ours).unwrap();
            assert_eq!(ours.dtype, DType::Ggml(9999));
            assert!(output.bytes(ours) == source.bytes(source.tensor(theirs).unwrap()));
        }
    }
    let inspected = bench.slim("inspect two.gguf").quietly();
    assert!(inspected.stdout.contains("type 9999 × 2"), "{inspected:?}");
}

#[test]
fn what_needs_the_numbers_of_an_unknown_type_says_why_it_cannot() {
    let bench = bench();
    let middle = "blk.1.attn_q.weight";
    patched(&bench, "new.gguf", |bytes| retype(bytes, middle));
    let words: &[&str] = &[middle, "type 9999"];
    assert_refused(
        &bench,
        &[
            ("prune --drop-layers 0 new.gguf folder", words),
            (
                "prune --drop-layers 0 --outtype f16 new.gguf out.gguf",
                words,
            ),
            ("eval new.gguf --items 1 --suite VILLAGE/suite", words),
            (
                "prune --keep 2 --suite VILLAGE/suite new.gguf out.gguf",
                words,
            ),
        ],
    );
}

/// Writes the model with the key `general.alignment`.
fn with_alignment(bench: &Bench, to: &str, alignment: u32) {
    let source = Checkpoint::open(&bench.path("three.gguf")).unwrap();
    let keys = source.gguf().unwrap().iter();
    let mut keys: Vec<_> = keys.map(|(key, value)| (key.to_owned(), value)).collect();
    keys.push(("general.alignment".to_owned(), Value::u32(alignment)));
    let tensors = source.tensors().iter().map(|tensor| {
        let (file, range) = source.source(tensor);
        OutTensor {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            data: Data::Copy { file, range },
        }
    });
    let tensors: Vec<_> = tensors.collect();
    gguf::write(&bench.path(to), &keys, &tensors, |_| Ok(()), &|_| {}).unwrap();
}

#[test]
fn the_alignment_of_the_source_is_kept_and_filled_with_zeros() {
    let bench = bench();
    bench
        .slim("prune --drop-layers 0 three.gguf two.gguf")
        .quietly();
    let two = Checkpoint::open(&bench.path("two.gguf")).unwrap();
    for alignment in [8u32, 16, 64, 4096] {
        with_alignment(&bench, "aligned.gguf", alignment);
        let command = "prune --drop-layers 0 aligned.gguf out.gguf";
        bench.slim(command).quietly();
        bench
            .slim("prune --drop-layers 0 --max-shard-size 30kB aligned.gguf parts.gguf")
            .quietly();
        let names = bench.names();
        let part = names
            .iter()
            .find(|name| name.starts_with("parts-00001-of-"));
        for output in ["out.gguf", part.unwrap()] {
            let out = Checkpoint::open(&bench.path(output)).unwrap();
            assert_eq!(out.gguf().unwrap().alignment(), alignment);
            for tensor in out.tensors() {
                assert_eq!(tensor.range.start % u64::from(alignment), 0);
                let twin = two.tensor(&tensor.name).unwrap();
                assert!(out.bytes(tensor) == two.bytes(twin));
            }
            let mut padding = 0;
            for (i, file) in out.files().enumerate() {
                let bytes = fs::read(file).unwrap();
                assert_eq!(bytes.len() % alignment as usize, 0);
                let tensors: Vec<_> = out.tensors().iter().filter(|t| t.file == i).collect();
                let starts = tensors.iter().skip(1).map(|t| t.range.start as usize);
                let ends = tensors.iter().map(|t| t.range.end as usize);
                for (end, next) in ends.zip(starts.chain([bytes.len()])) {
                    assert!(next - end < alignment as usize);
                    assert!(bytes[end..next].iter().all(|&b| b == 0));
                    padding += next - end;
                }
            }
            assert_eq!(padding > 0, alignment > 256, "{alignment}");
        }
        for name in names.iter().filter(|name| name.starts_with("parts-")) {
            fs::remove_file(bench.path(name)).unwrap();
        }
    }
}

#[test]
fn alignments_that_cannot_be_are_refused() {
    let bench = bench();
    with_alignment(&bench, "aligned.gguf", 64);
    let aligned = fs::read(bench.path("aligned.gguf")).unwrap();
    for alignment in [0u32, 3, 48, 1 << 25, 1 << 31, u32::MAX] {
        let mut bytes = aligned.clone();
        let at = behind(&bytes, "general.alignment") + 4;
        bytes[at..at + 4].copy_from_slice(&alignment.to_le_bytes());
        fs::write(bench.path("wrong.gguf"), bytes).unwrap();
        assert_refused(
            &bench,
            &[(
                "prune --drop-layers 0 wrong.gguf out.gguf",
                &[
                    "wrong.gguf",
                    "general.alignment",
                    &alignment.to_string(),
                    "power of two",
                ],
            )],
        );
    }
}

#[test]
fn an_extension_without_a_name_is_no_folder() {
    let bench = bench();
    fs::create_dir(bench.path("folder")).unwrap();
    assert_refused(
        &bench,
        &[
            (
                "prune --drop-layers 0 tiny .gguf",
                &[".gguf", "without a name"],
            ),
            (
                "prune --drop-layers 0 tiny folder/.gguf",
                &["folder/.gguf", "model.gguf"],
            ),
            (
                "prune --drop-layers 0 tiny .safetensors",
                &["without a name"],
            ),
            (
                "prune --drop-layers 0 tiny .bin",
                &[".bin", ".gguf or .safetensors"],
            ),
        ],
    );
    bench.slim("prune --drop-layers 0 tiny .hidden").quietly();
    assert!(bench.path(".hidden/config.json").exists());
}

#[test]
fn a_file_with_its_config_is_replaced_by_a_later_run_with_other_layers() {
    let bench = Bench::new();
    fs::create_dir(bench.path("out")).unwrap();
    let config = || fs::read_to_string(bench.path("out/config.json")).unwrap();
    for (layers, left) in [("1", 7), ("1,2", 6), ("3-5", 5)] {
        for outtype in ["keep", "f16"] {
            bench
                .slim(&format!(
                    "prune --drop-layers {layers} --outtype {outtype} VILLAGE out/small.safetensors"
                ))
                .quietly();
            let told = format!("\"num_hidden_layers\": {left}");
            assert!(config().contains(&told), "{}", config());
            bench.slim("inspect out/small.safetensors").quietly();
        }
    }
}

#[test]
fn the_config_of_another_model_is_never_replaced() {
    let bench = Bench::new();
    let place = |name: &str| {
        fs::create_dir(bench.path(name)).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(village().join(file), bench.path(name).join(file)).unwrap();
        }
    };
    // Somebody's model at the output's very name, and one beside slim's own output.
    place("theirs");
    place("both");
    fs::create_dir(bench.path("two")).unwrap();
    let prune = "prune --drop-layers 1 VILLAGE";
    bench.slim(&format!("{prune} two/a.safetensors")).quietly();
    bench.slim(&format!("{prune} two/b.safetensors")).quietly();
    let other = "prune --drop-layers 1,2 VILLAGE";
    assert_refused(
        &bench,
        &[
            (
                &format!("{other} theirs/model.safetensors"),
                &["different config.json", "folder"],
            ),
            (
                &format!("{other} both/small.safetensors"),
                &["different config.json", "folder"],
            ),
            // It is the other one's as well.
            (
                &format!("{other} two/a.safetensors"),
                &["different config.json", "folder"],
            ),
        ],
    );
}
