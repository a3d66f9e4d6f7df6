//! What a file claims costs memory only in proportion to what the file holds.
//!
//! The one test of this binary: it counts every byte that the process allocates.

use std::fs;

use slim::checkpoint::Checkpoint;

#[path = "support/counting.rs"]
mod counting;
#[path = "checkpoint/tiny.rs"]
mod tiny;
use tiny::{Gguf, array, key, tensor};

/// Bytes allocated at the worst moment of opening `bytes`, beyond what was there before.
fn cost(name: &str, bytes: &[u8]) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    fs::write(&path, bytes).unwrap();
    counting::peak_of(|| drop(Checkpoint::open(&path)))
}

/// What opening may cost besides: paths, a listing of the folder, a message.
const FIXED: usize = 64 << 10;
/// The dearest bytes of a file are short numbers and short names.
const FACTOR: usize = 16;

#[test]
fn opening_a_file_allocates_no_more_than_a_small_multiple_of_it() {
    let keys = |keys: Vec<Vec<u8>>| {
        Gguf {
            keys,
            ..Gguf::valid()
        }
        .bytes()
    };
    let tensors = |tensors: Vec<Vec<u8>>| {
        Gguf {
            tensors,
            ..Gguf::valid()
        }
        .bytes()
    };
    let counts = |n: u64| {
        let mut file = Gguf::valid();
        (file.n_keys, file.n_tensors) = (Some(n), Some(n));
        file.bytes()
    };
    let entry = |i: u32| format!(r#""{i:x}":{{"dtype":"U8","shape":[],"data_offsets":[0,0]}}"#);
    let entries = (0..20_000).map(entry).collect::<Vec<_>>().join(",");
    let zeros = vec!["0"; 500_000].join(",");
    let pairs = (0..50_000)
        .map(|i| format!(r#""{i:x}":"""#))
        .collect::<Vec<_>>()
        .join(",");
    let cases: Vec<(&str, &str, Vec<u8>)> = vec![
        ("the valid file", "m.gguf", Gguf::valid().bytes()),
        ("absurd counts", "m.gguf", counts(u64::MAX)),
        ("a count just above what fits", "m.gguf", counts(60)),
        (
            "many short keys",
            "m.gguf",
            keys(
                (0..50_000)
                    .map(|i| key(&format!("{i:x}"), 0, &[1]))
                    .collect(),
            ),
        ),
        (
            "many short tensors",
            "m.gguf",
            tensors(
                (0..50_000)
                    .map(|i| tensor(&format!("{i:x}"), &[], 0, 32 * i))
                    .collect(),
            ),
        ),
        (
            "many empty strings",
            "m.gguf",
            keys(vec![key("k", 9, &array(8, 100_000, &[0; 800_000]))]),
        ),
        (
            "many empty arrays",
            "m.gguf",
            keys(vec![key("k", 9, &array(9, 100_000, &[0; 1_200_000]))]),
        ),
        (
            "an absurd array",
            "m.gguf",
            keys(vec![key("k", 9, &array(10, 1 << 60, &[0; 100]))]),
        ),
        (
            "the valid header",
            "m.safetensors",
            tiny::valid_safetensors(),
        ),
        (
            "many short entries",
            "m.safetensors",
            tiny::safetensors(&format!("{{{entries}}}"), &[]),
        ),
        (
            "one endless shape",
            "m.safetensors",
            tiny::safetensors(
                &format!(r#"{{"a":{{"dtype":"U8","shape":[{zeros}],"data_offsets":[0,0]}}}}"#),
                &[],
            ),
        ),
        (
            "much metadata",
            "m.safetensors",
            tiny::safetensors(&format!(r#"{{"__metadata__":{{{pairs}}}}}"#), &[]),
        ),
        (
            "an absurd header",
            "m.safetensors",
            [&99_999_999u64.to_le_bytes()[..], b"{}"].concat(),
        ),
        (
            "deep nesting",
            "m.safetensors",
            tiny::safetensors(&"[".repeat(1_000_000), &[]),
        ),
    ];
    for (what, name, bytes) in cases {
        let cost = cost(name, &bytes);
        println!("{what}: {cost} bytes for a file of {}", bytes.len());
        assert!(
            cost <= FIXED + FACTOR * bytes.len(),
            "{what}: {cost} for {}",
            bytes.len()
        );
    }
}
