//! The importance matrix: its formats, its names, and what is wrong with damaged ones.

use crate::files::{HIDDEN, convert, mix, wide};
use half::bf16;
use slim::checkpoint::gguf::{self, Value};
use slim::checkpoint::{Checkpoint, DType, Data, OutTensor};
use slim::convert::OutType;
use slim::convert::quantise::{Imatrix, Importance, Quantise, encode};
use std::fs;
use std::io::Write;
use std::path::Path;

/// Sums for `count` inputs of each matrix: name, experts × columns.
type Entries = Vec<(String, Vec<f32>, Vec<f32>)>;

fn write_gguf(path: &Path, entries: &Entries) {
    let tensor = |name: String, values: &[f32], rows: usize| OutTensor {
        name,
        dtype: DType::F32,
        shape: vec![rows as u64, (values.len() / rows) as u64],
        data: Data::Stream({
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            Box::new(move |out: &mut dyn Write| Ok(out.write_all(&bytes)?))
        }),
    };
    let tensors: Vec<OutTensor> = entries
        .iter()
        .flat_map(|(name, sums, counts)| {
            let rows = counts.len();
            [
                tensor(format!("{name}.in_sum2"), sums, rows),
                tensor(format!("{name}.counts"), counts, rows),
            ]
        })
        .collect();
    let keys = [
        ("general.type".to_owned(), Value::str("imatrix")),
        ("imatrix.datasets".to_owned(), Value::strs(&["wiki.txt"])),
        ("imatrix.chunk_count".to_owned(), Value::u32(3)),
        ("imatrix.chunk_size".to_owned(), Value::u32(512)),
    ];
    gguf::write(path, &keys, &tensors, |_| Ok(()), &|_| {}).unwrap();
}

fn write_legacy(path: &Path, entries: &Entries) {
    let mut out = (entries.len() as i32).to_le_bytes().to_vec();
    for (name, sums, counts) in entries {
        out.extend((name.len() as i32).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend((counts[0] as i32).to_le_bytes());
        out.extend((sums.len() as i32).to_le_bytes());
        out.extend(sums.iter().flat_map(|v| v.to_le_bytes()));
    }
    out.extend(3i32.to_le_bytes());
    fs::write(path, out).unwrap();
}

/// Every layer's columns matter in a way of their own.
fn importance(layer: usize) -> Vec<f32> {
    let of = |column: usize| 0.5 + ((column * (layer + 3)) % 17) as f32;
    (0..HIDDEN).map(of).collect()
}

fn entries() -> Entries {
    let sums = |layer| importance(layer).iter().map(|v| v * 4.0).collect();
    let entry = |layer| (format!("blk.{layer}.attn_v.weight"), sums(layer), vec![4.0]);
    (0..12).map(entry).collect()
}

fn floats(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = checkpoint.tensor(name).unwrap();
    let bytes = checkpoint.bytes(tensor).chunks_exact(4);
    bytes
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

#[test]
fn after_pruning_a_layer_keeps_the_importance_that_was_measured_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let source = wide(folder.path());
    write_gguf(&path("imatrix.gguf"), &entries());
    write_legacy(&path("imatrix.dat"), &entries());
    let exact = Checkpoint::open(&source).unwrap();
    let q4_k = OutType::Only(DType::Q4_K);
    for file in ["imatrix.gguf", "imatrix.dat"] {
        let imatrix = Imatrix::open(&path(file)).unwrap();
        let quantise = Quantise {
            imatrix: Some(&imatrix),
            ..Default::default()
        };
        let written = convert(&source, &path("out.gguf"), &[1, 4], q4_k, quantise).unwrap();
        for (new, old) in [(0, 0), (1, 2), (3, 5), (9, 11)] {
            let rows = floats(
                &exact,
                &format!("model.layers.{old}.self_attn.v_proj.weight"),
            );
            let weights = importance(old);
            let weights = Importance::of_columns(&weights, HIDDEN / 2);
            let expected = encode(&rows, HIDDEN, DType::Q4_K, Some(weights), 0).unwrap();
            let tensor = written.tensor(&format!("blk.{new}.attn_v.weight")).unwrap();
            assert!(written.bytes(tensor) == expected, "{file}: layer {old}");
        }
        let metadata = written.gguf().unwrap();
        assert_eq!(metadata.get_str("quantize.imatrix.file"), Some(file));
        assert_eq!(metadata.get_u64("quantize.imatrix.chunks_count"), Some(3));
        assert_eq!(metadata.get_u64("quantize.imatrix.entries_count"), Some(12));
    }
}

#[test]
fn each_expert_has_its_own_importance_and_one_that_was_never_asked_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.gguf");
    let name = "blk.0.ffn_down_exps.weight";
    let sums = [importance(0), importance(1), vec![9.0; HIDDEN]].concat();
    write_gguf(&path, &vec![(name.into(), sums, vec![1.0, 1.0, 0.0])]);
    let imatrix = Imatrix::open(&path).unwrap();
    let measured = imatrix.of(name, &[3, 5, HIDDEN as u64]).unwrap();
    let rows: Vec<f32> = (0..15 * HIDDEN)
        .map(|i| bf16::from_f32((i as f32).sin()).to_f32())
        .collect();
    let all = encode(&rows, HIDDEN, DType::Q3_K, measured, 0).unwrap();
    let experts = [importance(0), importance(1), vec![1.0; HIDDEN]];
    let apart = experts.iter().zip(rows.chunks(5 * HIDDEN));
    let apart = apart.map(|(weights, rows)| {
        let weights = Importance::of_columns(weights, 5);
        encode(rows, HIDDEN, DType::Q3_K, Some(weights), 0).unwrap()
    });
    assert!(all == apart.collect::<Vec<_>>().concat());
    // A chunk may begin within an expert and end in the next.
    let part = encode(
        &rows[3 * HIDDEN..12 * HIDDEN],
        HIDDEN,
        DType::Q3_K,
        measured,
        3,
    )
    .unwrap();
    assert!(part == all[3 * 110..12 * 110]);
}

#[test]
fn an_imatrix_of_another_model_is_an_error_that_names_the_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let source = wide(folder.path());
    let path = folder.path().join("imatrix.gguf");
    let name = "blk.3.ffn_up.weight".to_owned();
    write_gguf(&path, &vec![(name.clone(), vec![1.0; 512], vec![1.0])]);
    let imatrix = Imatrix::open(&path).unwrap();
    let quantise = Quantise {
        imatrix: Some(&imatrix),
        ..Default::default()
    };
    let target = folder.path().join("out.gguf");
    let refused = convert(&source, &target, &[], mix("q4_k_m"), quantise);
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains(&name) && error.contains("another model"),
        "{error}"
    );
    assert!(!target.exists());
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix");
    let refused = |what: &str| {
        let error = Imatrix::open(&path).err();
        let error = error.unwrap_or_else(|| panic!("{what} was read"));
        assert!(format!("{error:#}").contains("llama-imatrix"), "{error:#}");
    };
    for value in [f32::NAN, f32::INFINITY, -1.0] {
        let mut sums = importance(0);
        sums[7] = value;
        let wrong = vec![("blk.0.attn_q.weight".to_owned(), sums, vec![1.0])];
        write_gguf(&path, &wrong);
        refused("a sum that is no sum of squares");
        write_legacy(&path, &wrong);
        refused("a sum that is no sum of squares");
    }
    write_gguf(&path, &vec![]);
    refused("a file without sums");
    fs::write(&path, b"").unwrap();
    refused("an empty file");
    write_legacy(&path, &entries());
    let whole = fs::read(&path).unwrap();
    for len in [3, 4, 11, 40, 1000, whole.len() - 1000] {
        fs::write(&path, &whole[..len]).unwrap();
        refused("part of a file");
    }
    let mut huge = whole.clone();
    huge[..4].copy_from_slice(&i32::MAX.to_le_bytes());
    fs::write(&path, &huge).unwrap();
    refused("a count beyond the file");
    let mut twice = entries();
    twice[1].0 = twice[0].0.clone();
    write_legacy(&path, &twice);
    refused("a name that occurs twice");
}
