//! Checkpoints in several files, in and out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;
use slim::checkpoint::Checkpoint;
use slim::checkpoint::gguf::ValueType;

use crate::bench::{Bench, FEW, assert_refused};
use crate::tiny;

/// More than the smallest tensors, less than the embedding.
const SIZE: &str = "--max-shard-size 64kB";

/// Bytes of every tensor by name.
fn tensors(bench: &Bench, name: &str) -> BTreeMap<String, Vec<u8>> {
    let checkpoint = Checkpoint::open(&bench.path(name)).unwrap();
    let all = checkpoint.tensors().iter();
    all.map(|t| (t.name.clone(), checkpoint.bytes(t).to_vec()))
        .collect()
}

/// Keys and values, without those that name the source or the parts.
fn metadata(bench: &Bench, name: &str) -> Vec<(String, ValueType, Vec<u8>)> {
    let checkpoint = Checkpoint::open(&bench.path(name)).unwrap();
    let keys = checkpoint.gguf().unwrap().iter();
    keys.filter(|(key, _)| !key.starts_with("split.") && !key.starts_with("slim.source."))
        .map(|(key, value)| (key.to_owned(), value.ty(), value.encoded().to_vec()))
        .collect()
}

/// The parts of a split file in the bench, in order.
fn parts(bench: &Bench, prefix: &str) -> Vec<String> {
    let mut names = bench.names();
    names.retain(|name| name.starts_with(prefix) && name.contains("-of-"));
    names
}

/// A model in one GGUF file, `whole.gguf`, and the same in parts, `parts-…`.
fn whole_and_parts() -> (Bench, Vec<String>) {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    bench
        .slim("prune --drop-layers 1 tiny whole.gguf")
        .quietly();
    bench
        .slim(&format!("prune --drop-layers 1 {SIZE} tiny parts.gguf"))
        .quietly();
    let parts = parts(&bench, "parts");
    assert!(parts.len() > 2, "{parts:?}");
    (bench, parts)
}

#[test]
fn a_split_file_holds_what_the_single_one_holds() {
    let (bench, parts) = whole_and_parts();
    assert!(!bench.path("parts.gguf").exists());
    let n = parts.len();
    for (i, part) in parts.iter().enumerate() {
        assert_eq!(*part, format!("parts-{:05}-of-{n:05}.gguf", i + 1));
        assert!(tensors(&bench, part) == tensors(&bench, "whole.gguf"));
        assert!(metadata(&bench, part) == metadata(&bench, "whole.gguf"));
    }
}

/// What llama-gguf-split writes and llama.cpp's loader asks for.
#[test]
fn the_keys_of_the_parts_are_those_of_llama_cpp() {
    let (bench, parts) = whole_and_parts();
    let n_tensors = tensors(&bench, "whole.gguf").len() as i64;
    let mut counted = 0;
    for (no, part) in parts.iter().enumerate() {
        // An independent reader, which knows nothing of splits.
        let mut file = fs::File::open(bench.path(part)).unwrap();
        let part = candle_core::quantized::gguf_file::Content::read(&mut file).unwrap();
        let key = |name: &str| part.metadata.get(name);
        assert_eq!(key("split.no").unwrap().to_u16().unwrap(), no as u16);
        let count = key("split.count").unwrap().to_u16().unwrap();
        assert_eq!(count as usize, parts.len());
        let all = key("split.tensors.count").unwrap().to_i32().unwrap();
        assert_eq!(i64::from(all), n_tensors);
        assert_eq!(key("general.architecture").is_some(), no == 0);
        assert_eq!(part.metadata.len() == 3, no > 0);
        counted += part.tensor_infos.len() as i64;
    }
    assert_eq!(counted, n_tensors);
}

#[test]
fn a_part_is_no_larger_than_asked_for_unless_one_tensor_is() {
    let (bench, parts) = whole_and_parts();
    let checkpoint = Checkpoint::open(&bench.path(&parts[0])).unwrap();
    let mut alone = 0;
    for file in 0..parts.len() {
        let sizes = checkpoint.tensors().iter().filter(|t| t.file == file);
        let sizes: Vec<u64> = sizes.map(|t| t.range.end - t.range.start).collect();
        assert!(sizes.iter().sum::<u64>() <= 64_000 || sizes.len() == 1);
        alone += usize::from(sizes[0] > 64_000);
    }
    assert_eq!(alone, 1, "the embedding is larger than a part");
}

#[test]
fn what_fits_into_one_part_is_one_plain_file() {
    let (bench, _) = whole_and_parts();
    bench
        .slim("prune --drop-layers 1 --max-shard-size 5GB tiny plain.gguf")
        .quietly();
    let same = fs::read(bench.path("plain.gguf")).unwrap();
    assert!(same == fs::read(bench.path("whole.gguf")).unwrap());
    assert!(parts(&bench, "plain").is_empty());
}

#[test]
fn a_split_source_is_pruned_as_the_single_one_whichever_part_is_named() {
    let (bench, parts) = whole_and_parts();
    bench
        .slim("prune --drop-layers 0 whole.gguf two.gguf")
        .quietly();
    let mut written = Vec::new();
    for part in &parts {
        let output = format!("of-{part}").replace("-of-0", "-in-0");
        bench
            .slim(&format!("prune --drop-layers 0 {part} {output}"))
            .quietly();
        assert!(tensors(&bench, &output) == tensors(&bench, "two.gguf"));
        assert!(metadata(&bench, &output) == metadata(&bench, "two.gguf"));
        let checkpoint = Checkpoint::open(&bench.path(&output)).unwrap();
        let mut keys = checkpoint.gguf().unwrap().iter();
        assert!(keys.all(|(key, _)| !key.starts_with("split.")));
        written.push(fs::read(bench.path(&output)).unwrap());
    }
    assert!(written.windows(2).all(|pair| pair[0] == pair[1]));
    // And split anew, into other parts.
    bench
        .slim(&format!(
            "prune --drop-layers 0 --max-shard-size 30kB {} again.gguf",
            parts[1]
        ))
        .quietly();
    let again = self::parts(&bench, "again");
    assert!(again.len() > parts.len());
    assert!(tensors(&bench, &again[0]) == tensors(&bench, "two.gguf"));
}

#[test]
fn every_command_takes_a_split_file() {
    let (bench, parts) = whole_and_parts();
    let inspected = bench
        .slim(&format!("inspect --json {}", parts[1]))
        .quietly();
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(inspected["n_layers"], 3);
    assert_eq!(inspected["tensors"], 3 * 9 + 2);
    bench
        .slim(&format!(
            "eval {} --items 1 --suite VILLAGE/suite",
            parts[0]
        ))
        .quietly();
    // The whole job, whose written file is opened afresh, and a folder made of parts.
    let ran = bench.slim(&format!(
        "prune --keep 2 {FEW} --report-items 2 {SIZE} --report report.json {} job.gguf",
        parts[0]
    ));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report: Value =
        serde_json::from_slice(&fs::read(bench.path("report.json")).unwrap()).unwrap();
    let pruned = report["pruned"]["path"].as_str().unwrap();
    assert!(pruned.starts_with("job-00001-of-"), "{pruned}");
    bench
        .slim(&format!("prune --drop-layers 0 {} folder", parts[0]))
        .quietly();
    assert_eq!(tensors(&bench, "folder").len(), 2 * 9 + 2);
}

#[test]
fn the_same_input_gives_the_same_parts() {
    let (bench, first) = whole_and_parts();
    let bytes = || first.iter().map(|part| fs::read(bench.path(part)).unwrap());
    let before: Vec<_> = bytes().collect();
    // Over the earlier ones, too.
    bench
        .slim(&format!("prune --drop-layers 1 {SIZE} tiny parts.gguf"))
        .quietly();
    assert_eq!(parts(&bench, "parts"), first);
    assert!(bytes().eq(before));
}

#[test]
fn parts_that_do_not_belong_together_are_refused_before_anything_is_written() {
    let (bench, parts) = whole_and_parts();
    let n = parts.len();
    let copy = |from: &str, to: &str| fs::copy(bench.path(from), bench.path(to)).unwrap();
    for (i, part) in parts.iter().enumerate() {
        if i != 1 {
            copy(part, &part.replace("parts", "gap"));
        }
        copy(part, &part.replace("parts", "swap"));
        copy(part, &part.replace("parts", "dangling"));
    }
    copy(&parts[1], &parts[2].replace("parts", "swap"));
    copy(&parts[1], "renamed.gguf");
    let missing = parts[1].replace("parts", "gap");
    let swapped = parts[2].replace("parts", "swap");
    let dangling = parts[1].replace("parts", "dangling");
    fs::remove_file(bench.path(&dangling)).unwrap();
    symlink("/etc/hostname", bench.path(&dangling)).unwrap();
    let of = |prefix: &str| parts[0].replace("parts", prefix);
    assert_refused(
        &bench,
        &[
            (
                &format!("prune --drop-layers 0 {} x.gguf", of("gap")),
                &[
                    &missing,
                    "is missing",
                    &format!("one of {n} parts"),
                    "fetch",
                ],
            ),
            (
                &format!("inspect {}", of("swap")),
                &[&swapped, "split.no is 1, not 2", "put the right file there"],
            ),
            (
                "eval renamed.gguf",
                &["renamed.gguf", "part 2", "names back", "--merge"],
            ),
            (
                &format!("score {} -o x.json", of("dangling")),
                &[&dangling, "/etc/hostname", "outside the model's folder"],
            ),
        ],
    );
}

#[test]
fn an_output_that_would_be_part_of_the_source_or_of_nothing_is_refused() {
    let (bench, parts) = whole_and_parts();
    // A name that the output will need is another name of a part of the source.
    let twin = format!("prune --drop-layers 0 {SIZE} {} twin.gguf", parts[1]);
    bench.slim(&twin).quietly();
    let twins = self::parts(&bench, "twin");
    for name in &twins {
        fs::remove_file(bench.path(name)).unwrap();
    }
    fs::hard_link(bench.path(&parts[0]), bench.path(&twins[1])).unwrap();
    assert_refused(
        &bench,
        &[
            (&twin, &[&twins[1], "is the file that is read"]),
            (
                &format!("prune --drop-layers 0 {} {}", parts[0], parts[1]),
                &[&parts[1], "one part of a split file", "--max-shard-size"],
            ),
            (
                "prune --drop-layers 0 tiny x-00001-of-00003.gguf",
                &["one part of a split file", "NAME.gguf"],
            ),
            (
                "prune --drop-layers 0 --max-shard-size 5GB tiny x.safetensors",
                &["one file", "folder"],
            ),
            (
                "prune --drop-layers 0 --max-shard-size 5 tiny x.gguf",
                &["'5' is no size", "5GB"],
            ),
            (
                &format!("score {} -o {}", parts[0], parts[1]),
                &[&parts[1], "name of a model", ".json"],
            ),
        ],
    );
}

#[test]
fn a_folder_is_dealt_out_to_shards_with_an_index() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    bench
        .slim(&format!("prune --drop-layers 1 {SIZE} tiny shards"))
        .quietly();
    bench.slim("prune --drop-layers 1 tiny one").quietly();
    let shards = tensors(&bench, "shards");
    assert!(shards == tensors(&bench, "one"));
    let index = fs::read(bench.path("shards/model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let total: usize = shards.values().map(Vec::len).sum();
    assert_eq!(index["metadata"]["total_size"], total);
    let map = index["weight_map"].as_object().unwrap();
    for (tensor, shard) in map {
        let bytes = fs::read(bench.path("shards").join(shard.as_str().unwrap())).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert!(file.tensor(tensor).unwrap().data() == shards[tensor]);
    }
    assert_eq!(map.len(), shards.len());
    let files: BTreeSet<_> = map.values().map(Value::to_string).collect();
    assert!(files.len() > 2);
}
