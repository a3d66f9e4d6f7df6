//! GGUF in several files: read as one, and refused unless the parts belong together.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use slim::checkpoint::Checkpoint;
use tempfile::TempDir;

use crate::layouts::digest_of_listing;
use crate::tiny::{Gguf, key, string, tensor};

const U16: u32 = 2;
const I32: u32 = 5;

/// The `split.*` keys of a part.
fn split_keys(no: u16, count: u16, n_tensors: i32) -> [Vec<u8>; 3] {
    [
        key("split.no", U16, &no.to_le_bytes()),
        key("split.count", U16, &count.to_le_bytes()),
        key("split.tensors.count", I32, &n_tensors.to_le_bytes()),
    ]
}

/// A part as llama-gguf-split makes it: the metadata in the first, 16 bytes of one tensor in each.
fn part(no: u16) -> Gguf {
    let whole = Gguf::valid();
    let mut keys = match no {
        0 => whole.keys.clone(),
        _ => Vec::new(),
    };
    keys.extend(split_keys(no, 3, 3));
    Gguf {
        keys,
        tensors: vec![tensor(&format!("blk.{no}.w"), &[4], 0, 0)],
        data: vec![no as u8 + 1; 32],
        ..whole
    }
}

fn name(no: u16) -> String {
    format!("m-{:05}-of-00003.gguf", no + 1)
}

/// A folder of three parts.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for no in 0..3 {
            folder.put(no, &part(no));
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, no: u16, part: &Gguf) {
        fs::write(self.path(&name(no)), part.bytes()).unwrap();
    }

    /// What is said of the set when it is opened by each of its parts.
    #[track_caller]
    fn refused(&self, words: &[&str]) {
        for no in 0..3 {
            let path = self.path(&name(no));
            if path.exists() {
                refused(&path, words);
            }
        }
    }
}

#[track_caller]
fn refused(path: &Path, words: &[&str]) {
    let said = Checkpoint::open(path).unwrap_err().to_string();
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

#[test]
fn any_part_opens_the_whole() {
    let folder = Folder::new();
    for no in 0..3 {
        let whole = Checkpoint::open(&folder.path(&name(no))).unwrap();
        assert_eq!(whole.path(), folder.path(&name(0)));
        assert_eq!(whole.files().count(), 3);
        let names: Vec<_> = whole.tensors().iter().map(|t| t.name.clone()).collect();
        assert_eq!(names, ["blk.0.w", "blk.1.w", "blk.2.w"]);
        for (i, tensor) in whole.tensors().iter().enumerate() {
            assert_eq!(whole.bytes(tensor), [i as u8 + 1; 16]);
        }
        let metadata = whole.gguf().unwrap();
        assert_eq!(metadata.get_str("general.architecture"), Some("llama"));
        assert_eq!(whole.sha256().unwrap(), digest_of_listing(folder.0.path()));
        let size: u64 = whole.files().map(|f| f.metadata().unwrap().len()).sum();
        assert_eq!(whole.total_bytes(), size);
    }
}

#[test]
fn a_first_part_without_tensors_is_one_too() {
    let folder = Folder::new();
    let mut first = part(0);
    first.tensors.clear();
    first.data.clear();
    folder.put(0, &first);
    for no in 0..3 {
        let mut part = part(no);
        let n = part.keys.len();
        part.keys.splice(n - 3.., split_keys(no, 3, 2));
        if no == 0 {
            (part.tensors, part.data) = (Vec::new(), Vec::new());
        }
        folder.put(no, &part);
    }
    let whole = Checkpoint::open(&folder.path(&name(1))).unwrap();
    assert_eq!(whole.tensors().len(), 2);
}

#[test]
fn what_a_merge_leaves_of_the_keys_makes_no_part() {
    let folder = Folder::new();
    let mut merged = part(0);
    let n = merged.keys.len();
    for count in [0, 1] {
        merged.keys.splice(n - 3.., split_keys(0, count, 1));
        let path = folder.path("merged.gguf");
        fs::write(&path, merged.bytes()).unwrap();
        assert_eq!(Checkpoint::open(&path).unwrap().files().count(), 1);
    }
}

#[test]
fn a_missing_part_is_named() {
    for no in 0..3 {
        let folder = Folder::new();
        fs::remove_file(folder.path(&name(no))).unwrap();
        folder.refused(&[&name(no), "is missing", "one of 3 parts", "fetch"]);
    }
}

#[test]
fn a_renamed_part_is_refused() {
    let folder = Folder::new();
    let renamed = folder.path("model.gguf");
    fs::rename(folder.path(&name(1)), &renamed).unwrap();
    refused(
        &renamed,
        &["model.gguf", "part 2", "-00002-of-00003.gguf", "names back"],
    );
    folder.refused(&[&name(1), "is missing"]);

    // Two parts that have changed places.
    let folder = Folder::new();
    folder.put(1, &part(2));
    folder.put(2, &part(1));
    refused(&folder.path(&name(0)), &[&name(1), "split.no is 2, not 1"]);
    refused(
        &folder.path(&name(1)),
        &[&name(1), "part 3", "-00003-of-00003.gguf"],
    );
}

#[test]
fn parts_of_different_splits_are_refused() {
    for (keys, words) in [
        (split_keys(1, 3, 4), "split.tensors.count is"),
        (split_keys(1, 4, 3), "-of-00004.gguf"),
        (split_keys(7, 3, 3), "part 8 of 3"),
    ] {
        let folder = Folder::new();
        let mut other = part(1);
        other.keys = keys.to_vec();
        folder.put(1, &other);
        refused(&folder.path(&name(1)), &[words]);
        if !words.contains("-of-") {
            folder.refused(&[words]);
        } else {
            refused(
                &folder.path(&name(0)),
                &[&name(1), "split.count is 4, not 3"],
            );
        }
    }
    let folder = Folder::new();
    let mut foreign = part(2);
    let architecture = key("general.architecture", 8, &string("qwen2"));
    foreign.keys.insert(0, architecture);
    folder.put(2, &foreign);
    folder.refused(&[&name(2), "another general.architecture", "different models"]);
}

#[test]
fn a_part_that_says_nothing_of_a_split_is_refused() {
    let folder = Folder::new();
    let mut alone = part(1);
    alone.keys.clear();
    folder.put(1, &alone);
    refused(&folder.path(&name(0)), &[&name(1), "no valid split.no"]);
    let mut negative = part(2);
    negative.keys.pop();
    negative
        .keys
        .push(key("split.tensors.count", I32, &(-3i32).to_le_bytes()));
    folder.put(2, &negative);
    refused(&folder.path(&name(2)), &["no valid split.tensors.count"]);
}

#[test]
fn tensors_that_are_missing_from_the_parts_or_in_two_of_them_are_refused() {
    let folder = Folder::new();
    let mut two = part(1);
    two.tensors.push(tensor("extra", &[4], 0, 32));
    two.data = vec![9; 64];
    folder.put(1, &two);
    folder.refused(&["hold 4 tensors", "says 3", "fetch all again"]);

    let folder = Folder::new();
    let mut twin = part(2);
    twin.tensors = vec![tensor("blk.1.w", &[4], 0, 0)];
    folder.put(2, &twin);
    folder.refused(&["two shards hold the tensor blk.1.w", &name(1), &name(2)]);
}

#[test]
fn a_damaged_part_is_named() {
    let folder = Folder::new();
    let bytes = part(2).bytes();
    fs::write(folder.path(&name(2)), &bytes[..bytes.len() - 24]).unwrap();
    folder.refused(&[&name(2), "not a valid GGUF file"]);
}

#[test]
fn other_parts_are_only_looked_for_in_the_folder() {
    // A prefix cannot climb: the others' names differ from the given one in the number only.
    let folder = Folder::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("secret");
    fs::write(&outside, part(1).bytes()).unwrap();
    fs::remove_file(folder.path(&name(1))).unwrap();
    symlink(&outside, folder.path(&name(1))).unwrap();
    refused(
        &folder.path(&name(0)),
        &[&name(1), "outside the model's folder"],
    );

    // A link within the folder, or into a hub cache's blobs, leads nowhere else.
    fs::remove_file(folder.path(&name(1))).unwrap();
    fs::write(folder.path("stored"), part(1).bytes()).unwrap();
    symlink("stored", folder.path(&name(1))).unwrap();
    assert!(Checkpoint::open(&folder.path(&name(0))).is_ok());

    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("snapshots/abc");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir(cache.path().join("blobs")).unwrap();
    for no in 0..3 {
        let blob = format!("blobs/{no}");
        fs::write(cache.path().join(&blob), part(no).bytes()).unwrap();
        symlink(format!("../../{blob}"), snapshot.join(name(no))).unwrap();
    }
    for no in 0..3 {
        let whole = Checkpoint::open(&snapshot.join(name(no))).unwrap();
        assert_eq!(whole.tensors().len(), 3);
    }
}

#[test]
fn every_part_has_its_own_alignment() {
    let folder = Folder::new();
    let mut wide = part(1);
    wide.keys
        .push(key("general.alignment", 4, &64u32.to_le_bytes()));
    wide.alignment = 64;
    folder.put(1, &wide);
    let whole = Checkpoint::open(&folder.path(&name(0))).unwrap();
    assert_eq!(whole.bytes(&whole.tensors()[1]), [2; 16]);
}
