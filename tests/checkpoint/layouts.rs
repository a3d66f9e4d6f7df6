//! Hugging Face folders, shards, and files with their companions beside them.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use slim::checkpoint::safetensors::{Companions, write_beside, write_folder};
use slim::checkpoint::{Checkpoint, DType, Data, Format, OutTensor};
use tempfile::TempDir;

use crate::tiny;
use crate::{copies, names, no_progress};

const CONFIG: &str = r#"{"z": 1, "a": 1.50, "model_type": "llama"}"#;

/// A folder with one weights file, a config and a tokenizer.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(
        folder.path(),
        "model.safetensors",
        tiny::valid_safetensors(),
    );
    put(folder.path(), "config.json", CONFIG);
    put(folder.path(), "tokenizer.json", "{}");
    put(folder.path(), "optimizer.pt", "not copied");
    folder
}

fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(folder.join(name), bytes).unwrap();
}

fn refusal(path: &Path) -> String {
    Checkpoint::open(path).unwrap_err().to_string()
}

fn texts() -> Vec<(String, Cow<'static, [u8]>)> {
    vec![("config.json".to_owned(), Cow::Borrowed(CONFIG.as_bytes()))]
}

#[test]
fn a_folder_keeps_the_config_as_it_stands_and_finds_its_sidecars() {
    let folder = folder();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.format(), Format::HfFolder);
    let hf = checkpoint.hf().unwrap();
    assert_eq!(
        serde_json::to_string(&hf.config).unwrap(),
        CONFIG.replace(": ", ":").replace(", ", ",")
    );
    assert_eq!(hf.sidecars, [folder.path().join("tokenizer.json")]);
    assert_eq!(hf.header_metadata["format"], "pt");
    let shapes: Vec<_> = checkpoint
        .tensors()
        .iter()
        .map(|t| t.shape.clone())
        .collect();
    assert_eq!(shapes, [vec![2, 2], vec![2], vec![0]]);
    assert_eq!(
        checkpoint.bytes(checkpoint.tensor("b").unwrap()),
        [16, 17, 18, 19]
    );
}

#[test]
fn shards_and_their_index_are_written_and_opened_again() {
    let source = folder();
    let checkpoint = Checkpoint::open(source.path()).unwrap();
    let hf = checkpoint.hf().unwrap();
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("pruned");
    let texts = texts();
    let companions = Companions {
        text_files: &texts,
        copied: &hf.sidecars,
        replacing: &[],
    };
    let tensors = copies(&checkpoint);
    write_folder(
        &target,
        companions,
        &hf.header_metadata,
        &tensors,
        Some(16),
        &no_progress,
    )
    .unwrap();
    assert_eq!(names(out.path()), ["pruned"]);
    assert_eq!(
        names(&target),
        [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json"
        ]
    );
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(target.join("model.safetensors.index.json")).unwrap())
            .unwrap();
    assert_eq!(index["metadata"]["total_size"], 20);
    assert_eq!(index["weight_map"]["b"], "model-00002-of-00002.safetensors");

    let written = Checkpoint::open(&target).unwrap();
    for tensor in checkpoint.tensors() {
        let twin = written.tensor(&tensor.name).unwrap();
        assert_eq!(written.bytes(twin), checkpoint.bytes(tensor));
        assert_eq!((twin.dtype, &twin.shape), (tensor.dtype, &tensor.shape));
    }
    assert_eq!(written.sha256().unwrap(), digest_of_listing(&target));
}

/// `sha256sum SHARDS | sha256sum`, made independently.
pub fn digest_of_listing(folder: &Path) -> String {
    let hex = |bytes: &[u8]| {
        let digest = Sha256::digest(bytes);
        digest
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    let weights = names(folder)
        .into_iter()
        .filter(|n| n.ends_with(".safetensors") || n.ends_with(".gguf"));
    let lines: Vec<String> = weights
        .map(|name| format!("{}  {name}\n", hex(&fs::read(folder.join(&name)).unwrap())))
        .collect();
    hex(lines.concat().as_bytes())
}

#[test]
fn one_shard_is_a_plain_model_file_and_its_digest_is_the_files() {
    let source = folder();
    let checkpoint = Checkpoint::open(source.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let texts = texts();
    let companions = Companions {
        text_files: &texts,
        copied: &[],
        replacing: &[],
    };
    let tensors = copies(&checkpoint);
    let metadata = &checkpoint.hf().unwrap().header_metadata;
    // The target may exist if it is empty.
    write_folder(
        out.path(),
        companions,
        metadata,
        &tensors,
        None,
        &no_progress,
    )
    .unwrap();
    assert_eq!(names(out.path()), ["config.json", "model.safetensors"]);
    let bytes = fs::read(out.path().join("model.safetensors")).unwrap();
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(
        Checkpoint::open(out.path()).unwrap().sha256().unwrap(),
        digest
    );

    let again = write_folder(
        out.path(),
        companions,
        metadata,
        &tensors,
        None,
        &no_progress,
    );
    assert!(again.unwrap_err().to_string().contains("not empty"));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let source = folder();
    let checkpoint = Checkpoint::open(source.path()).unwrap();
    let metadata = &checkpoint.hf().unwrap().header_metadata;
    let written = |max| {
        let out = tempfile::tempdir().unwrap();
        let texts = texts();
        let companions = Companions {
            text_files: &texts,
            copied: &[],
            replacing: &[],
        };
        write_folder(
            out.path(),
            companions,
            metadata,
            &copies(&checkpoint),
            max,
            &no_progress,
        )
        .unwrap();
        let files = names(out.path()).into_iter();
        files
            .map(|n| (n.clone(), fs::read(out.path().join(n)).unwrap()))
            .collect::<Vec<_>>()
    };
    for max in [None, Some(1)] {
        assert_eq!(written(max), written(max));
    }
}

#[test]
fn a_file_gets_its_companions_beside_it_but_never_over_another_models() {
    let source = folder();
    let checkpoint = Checkpoint::open(source.path()).unwrap();
    let hf = checkpoint.hf().unwrap();
    let texts = texts();
    let companions = Companions {
        text_files: &texts,
        copied: &hf.sidecars,
        replacing: &[],
    };
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("small.safetensors");
    let write = || {
        write_beside(
            &target,
            companions,
            &hf.header_metadata,
            &copies(&checkpoint),
            &no_progress,
        )
    };
    write().unwrap();
    write().expect("the same companions once more");
    assert_eq!(
        names(out.path()),
        ["config.json", "small.safetensors", "tokenizer.json"]
    );
    let written = Checkpoint::open(&target).unwrap();
    for tensor in checkpoint.tensors() {
        let twin = written.tensor(&tensor.name).unwrap();
        assert_eq!(written.bytes(twin), checkpoint.bytes(tensor));
    }

    put(out.path(), "config.json", "{\"another\": \"model\"}");
    fs::remove_file(out.path().join("small.safetensors")).unwrap();
    let error = write().unwrap_err().to_string();
    assert!(
        error.contains("a different config.json") && error.contains("folder to write into"),
        "{error}"
    );
    assert_eq!(names(out.path()), ["config.json", "tokenizer.json"]);
}

#[test]
fn a_companion_with_a_path_in_its_name_is_refused() {
    let out = tempfile::tempdir().unwrap();
    for name in ["../config.json", "/etc/config.json", "a/b", "", ".."] {
        let texts = [(name.to_owned(), Cow::Borrowed(&b"x"[..]))];
        let companions = Companions {
            text_files: &texts,
            copied: &[],
            replacing: &[],
        };
        let target = out.path().join("m");
        let error = write_folder(
            &target,
            companions,
            &Default::default(),
            &[],
            None,
            &no_progress,
        )
        .unwrap_err();
        assert!(error.to_string().contains("no plain file name"), "{error}");
    }
    assert!(names(out.path()).is_empty());
}

/// A folder whose index maps one tensor to `shard`.
fn with_index(tensor: &str, shard: &str) -> TempDir {
    let folder = folder();
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    put(folder.path(), "part.safetensors", tiny::valid_safetensors());
    let index = serde_json::json!({"metadata": {}, "weight_map": {tensor: shard}});
    put(
        folder.path(),
        "model.safetensors.index.json",
        index.to_string(),
    );
    folder
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
    let other = folder();
    let outside = other.path().join("model.safetensors");
    for shard in [
        "../x.safetensors",
        outside.to_str().unwrap(),
        "",
        "a/../../x",
    ] {
        let folder = with_index("b", shard);
        assert!(
            refusal(folder.path()).contains("leaves the folder"),
            "{shard}"
        );
    }
    let folder = with_index("b", "link.safetensors");
    symlink(&outside, folder.path().join("link.safetensors")).unwrap();
    assert!(refusal(folder.path()).contains("outside the model's folder"));
}

#[test]
fn an_index_that_lies_is_refused() {
    let folder = with_index("not.there", "part.safetensors");
    assert!(refusal(folder.path()).contains("promises the tensor not.there"));
    let folder = with_index("b", "absent.safetensors");
    assert!(refusal(folder.path()).contains("absent.safetensors"));
    put(
        folder.path(),
        "model.safetensors.index.json",
        "{\"weight_map\": {}}",
    );
    assert!(refusal(folder.path()).contains("names no tensors"));
    put(folder.path(), "model.safetensors.index.json", "[1]");
    assert!(refusal(folder.path()).contains("no index of shards"));
}

#[test]
fn two_shards_with_the_same_tensor_are_refused() {
    let folder = with_index("b", "part.safetensors");
    put(folder.path(), "q.safetensors", tiny::valid_safetensors());
    let index = r#"{"weight_map": {"b": "part.safetensors", "model.layers.0.w": "q.safetensors"}}"#;
    put(folder.path(), "model.safetensors.index.json", index);
    assert!(refusal(folder.path()).contains("two shards hold the tensor b"));
}

#[test]
fn a_shard_alone_is_refused_and_its_folder_named() {
    let folder = with_index("b", "part.safetensors");
    put(folder.path(), "q.safetensors", tiny::valid_safetensors());
    let index = r#"{"weight_map": {"b": "part.safetensors", "c": "q.safetensors"}}"#;
    put(folder.path(), "model.safetensors.index.json", index);
    assert!(refusal(&folder.path().join("part.safetensors")).contains("one of 2 shards"));
}

#[test]
fn the_links_of_a_hub_cache_are_followed() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("snapshots/abc");
    let blobs = cache.path().join("blobs");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir(&blobs).unwrap();
    for (name, bytes) in [
        ("config.json", CONFIG.as_bytes().to_vec()),
        ("model.safetensors", tiny::valid_safetensors()),
    ] {
        fs::write(blobs.join(name), bytes).unwrap();
        symlink(format!("../../blobs/{name}"), snapshot.join(name)).unwrap();
    }
    assert_eq!(Checkpoint::open(&snapshot).unwrap().tensors().len(), 3);
}

#[test]
fn a_sidecar_that_links_out_of_the_folder_is_refused() {
    let folder = folder();
    let secret = tempfile::NamedTempFile::new().unwrap();
    symlink(secret.path(), folder.path().join("tokenizer_config.json")).unwrap();
    assert!(refusal(folder.path()).contains("outside the model's folder"));
}

#[test]
fn what_is_no_checkpoint_is_told_with_what_to_give_instead() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    assert!(refusal(&path("absent")).contains("No such file"));
    put(folder.path(), "empty", "");
    assert!(refusal(&path("empty")).contains("empty"));
    assert!(refusal(&path("config.json")).contains("give the folder"));
    put(folder.path(), "text", "hello, this is text");
    assert!(refusal(&path("text")).contains("neither format"));
    put(folder.path(), "weights.bin", b"PK\x03\x04rest of a zip");
    assert!(refusal(&path("weights.bin")).contains("zip"));

    fs::remove_file(path("model.safetensors")).unwrap();
    assert!(refusal(folder.path()).contains("pickled"));
    put(folder.path(), "m.gguf", "GGUF");
    assert!(refusal(folder.path()).contains("give m.gguf itself"));
    assert!(refusal(&PathBuf::from("/dev/null")).contains("no regular file"));
}

#[test]
fn a_missing_wrong_or_huge_config_is_told() {
    let folder = folder();
    let config = folder.path().join("config.json");
    put(folder.path(), "config.json", "[]");
    assert!(refusal(folder.path()).contains("no JSON object"));
    put(folder.path(), "config.json", vec![b' '; 5 << 20]);
    assert!(refusal(folder.path()).contains("larger than"));
    fs::remove_file(config).unwrap();
    assert!(refusal(folder.path()).contains("is missing"));
}

#[test]
fn a_tensor_of_a_type_without_a_ggml_twin_is_copied() {
    let folder = folder();
    let header = r#"{"f8":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}}"#;
    put(
        folder.path(),
        "model.safetensors",
        tiny::safetensors(header, &[1, 2, 3]),
    );
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let f8 = &checkpoint.tensors()[0];
    assert_eq!(f8.dtype, DType::Safetensors(::safetensors::Dtype::F8_E4M3));
    let (file, range) = checkpoint.source(f8);
    let tensors = [OutTensor {
        name: "again".into(),
        dtype: f8.dtype,
        shape: f8.shape.clone(),
        data: Data::Copy { file, range },
    }];
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("m");
    let texts = texts();
    let companions = Companions {
        text_files: &texts,
        copied: &[],
        replacing: &[],
    };
    write_folder(
        &target,
        companions,
        &Default::default(),
        &tensors,
        None,
        &no_progress,
    )
    .unwrap();
    let written = Checkpoint::open(&target).unwrap();
    assert_eq!(written.bytes(&written.tensors()[0]), [1, 2, 3]);
}
