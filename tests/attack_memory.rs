//! What the attacks cost: opening, walking through and pruning any of them allocates no more than
//! a small multiple of what its files hold, and a constant.
//!
//! The one test of this binary: it counts every byte that the process allocates.

use std::fs;
use std::path::Path;

#[path = "attacks/base.rs"]
mod base;
#[path = "attacks/bytes.rs"]
mod bytes;
#[path = "attacks/cases.rs"]
#[allow(dead_code)]
mod cases;
#[path = "support/counting.rs"]
mod counting;
#[path = "checkpoint/tiny.rs"]
mod tiny;
#[path = "attacks/walk.rs"]
mod walk;

/// What the honest models cost too: buffers for copying and hashing (1 MiB), and once the table of
/// splitting rules.
const FIXED: usize = 4 << 20;
/// The dearest bytes of a file are a vocabulary's.
const FACTOR: usize = 40;

/// Bytes in the files of a folder: those on the disk, for a sparse file holds what it holds.
fn held(folder: &Path) -> usize {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file() && !path.is_symlink());
    files
        .map(|path| fs::metadata(path).unwrap().len().min(MOST_HELD) as usize)
        .sum()
}

/// A sparse file counts as no more than this: nothing of it is worth memory.
const MOST_HELD: u64 = 1 << 20;

#[test]
fn no_attack_costs_more_memory_than_its_files_are_worth() {
    let mut failures = Vec::new();
    for (_, attacks) in cases::all() {
        for case in attacks {
            let folder = tempfile::tempdir().unwrap();
            let scratch = tempfile::tempdir().unwrap();
            let input = case.build(folder.path());
            let cost = counting::peak_of(|| {
                let _ = walk::walk(&input, scratch.path());
            });
            let held = held(folder.path());
            println!("{}: {cost} bytes for {held}", case.name);
            if cost > FIXED + FACTOR * held {
                failures.push(format!("{}: {cost} bytes for {held}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
