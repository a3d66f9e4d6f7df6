//! Interruptions in the middle of a write: the target is as it was and nothing lies about.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bench::{Bench, SLIM, village, words};
use crate::tiny::{self, N_LAYERS};

#[path = "../checkpoint/tiny.rs"]
mod bytes;

const LAYERS: usize = 8;
const WIDTH: u64 = 2048;
const MLP: u64 = 8192;
const VOCAB: u64 = 1024;
const KV_WIDTH: u64 = 512;

/// Tensors of a layer: GGUF name, Hugging Face name, shape.
const TENSORS: &[(&str, &str, &[u64])] = &[
    ("attn_norm", "input_layernorm", &[WIDTH]),
    ("attn_q", "self_attn.q_proj", &[WIDTH, WIDTH]),
    ("attn_k", "self_attn.k_proj", &[KV_WIDTH, WIDTH]),
    ("attn_v", "self_attn.v_proj", &[KV_WIDTH, WIDTH]),
    ("attn_output", "self_attn.o_proj", &[WIDTH, WIDTH]),
    ("ffn_norm", "post_attention_layernorm", &[WIDTH]),
    ("ffn_gate", "mlp.gate_proj", &[MLP, WIDTH]),
    ("ffn_up", "mlp.up_proj", &[MLP, WIDTH]),
    ("ffn_down", "mlp.down_proj", &[WIDTH, MLP]),
];

/// All tensors of the model: (GGUF name, Hugging Face name, shape).
fn tensors() -> Vec<(String, String, &'static [u64])> {
    let mut all: Vec<(String, String, &[u64])> = vec![
        (
            "token_embd.weight".into(),
            "model.embed_tokens.weight".into(),
            &[VOCAB, WIDTH],
        ),
        (
            "output_norm.weight".into(),
            "model.norm.weight".into(),
            &[WIDTH],
        ),
    ];
    for layer in 0..LAYERS {
        for (gguf, hf, shape) in TENSORS {
            let hf = format!("model.layers.{layer}.{hf}.weight");
            all.push((format!("blk.{layer}.{gguf}.weight"), hf, shape));
        }
    }
    all
}

/// A GGUF file of about 1.9 GB that takes no space: its tensors are a hole in the file.
fn big_gguf(path: &Path) {
    use bytes::{key, string, tensor};
    let number = |name: &str, value: u32| key(&format!("llama.{name}"), 4, &value.to_le_bytes());
    let float = |name: &str, value: f32| key(&format!("llama.{name}"), 6, &value.to_le_bytes());
    let keys = vec![
        key("general.architecture", 8, &string("llama")),
        number("block_count", LAYERS as u32),
        number("context_length", 2048),
        number("embedding_length", WIDTH as u32),
        number("feed_forward_length", MLP as u32),
        number("attention.head_count", 16),
        number("attention.head_count_kv", 4),
        float("attention.layer_norm_rms_epsilon", 1e-5),
        float("rope.freq_base", 10_000.0),
        number("vocab_size", VOCAB as u32),
    ];
    let (mut entries, mut offset) = (Vec::new(), 0u64);
    for (name, _, shape) in tensors() {
        let ne: Vec<u64> = shape.iter().rev().copied().collect();
        entries.push(tensor(&name, &ne, 0, offset));
        offset += shape.iter().product::<u64>() * 4;
    }
    let gguf = bytes::Gguf {
        keys,
        tensors: entries,
        data: Vec::new(),
        ..bytes::Gguf::valid()
    };
    sparse(path, &gguf.bytes(), offset);
}

/// A folder of the same size, with the fixture's tokenizer.
fn big_folder(path: &Path) {
    fs::create_dir(path).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(village().join(file), path.join(file)).unwrap();
    }
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": WIDTH, "intermediate_size": MLP, "num_hidden_layers": LAYERS,
        "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": VOCAB,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 2048,
        "tie_word_embeddings": true,
    });
    fs::write(path.join("config.json"), config.to_string()).unwrap();
    let (mut header, mut offset) = (serde_json::Map::new(), 0u64);
    for (_, name, shape) in tensors() {
        let end = offset + shape.iter().product::<u64>() * 4;
        let entry =
            serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [offset, end]});
        header.insert(name, entry);
        offset = end;
    }
    let mut header = serde_json::Value::from(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    sparse(
        &path.join("model.safetensors"),
        &bytes::safetensors(&header, &[]),
        offset,
    );
}

/// A file of these bytes and a hole.
fn sparse(path: &Path, head: &[u8], hole: u64) {
    let mut file = File::create(path).unwrap();
    file.write_all(head).unwrap();
    file.set_len(head.len() as u64 + hole).unwrap();
}

/// Starts slim with the signals as they are by default: a shell in the background ignores SIGINT.
fn start(bench: &Bench, arguments: &str) -> Child {
    let mut command = bench.command("env");
    command
        .args(["--default-signal=INT", SLIM])
        .args(words(arguments));
    command.spawn().unwrap()
}

/// Waits until the process writes an unnamed file in the bench, or a partial folder is there.
fn until_it_writes(bench: &Bench, child: &mut Child) {
    let descriptors = format!("/proc/{}/fd", child.id());
    let home = fs::canonicalize(bench.path(".")).unwrap();
    let began = Instant::now();
    loop {
        let links = fs::read_dir(&descriptors).into_iter().flatten().flatten();
        let unnamed = links
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|link| link.starts_with(&home) && link.to_string_lossy().ends_with("(deleted)"));
        let partial = bench
            .names()
            .iter()
            .any(|name| name.contains("slim-partial"));
        if unnamed || partial || child.try_wait().unwrap().is_some() {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "slim never began to write"
        );
        sleep(Duration::from_millis(2));
    }
}

/// Ends the run by `signal`, `delay` after it began to write. Whether the signal ended it.
fn interrupt(bench: &Bench, arguments: &str, signal: i32, delay: u64) -> bool {
    let mut child = start(bench, arguments);
    until_it_writes(bench, &mut child);
    sleep(Duration::from_millis(delay));
    // The test's own child, which was not waited for: the id is still its own.
    let kill = Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(child.id().to_string())
        .output();
    kill.unwrap();
    let status = child.wait().unwrap();
    match status.signal().is_some() || status.code() == Some(128 + signal) {
        true => true,
        false => {
            assert_eq!(status.code(), Some(0), "{status:?}");
            false
        }
    }
}

/// Files of at most 400 MB that seven layers of the model take.
const N_PARTS: usize = 5;

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const MOMENTS: [u64; 3] = [0, 40, 250];

#[test]
fn a_file_is_whole_or_not_there_whatever_ends_the_run_and_whenever() {
    let bench = Bench::new();
    big_gguf(&bench.path("big.gguf"));
    let mut interrupted = 0;
    for existing in [false, true] {
        for signal in [SIGINT, SIGKILL, SIGTERM] {
            for delay in MOMENTS {
                let target = bench.path("out.gguf");
                let _ = fs::remove_file(&target);
                if existing {
                    fs::write(&target, "what was here").unwrap();
                }
                if !interrupt(
                    &bench,
                    "prune --drop-layers 3 big.gguf out.gguf",
                    signal,
                    delay,
                ) {
                    continue;
                }
                interrupted += 1;
                match existing {
                    true => {
                        assert_eq!(bench.names(), ["big.gguf", "out.gguf"]);
                        assert_eq!(fs::read(&target).unwrap(), b"what was here");
                    }
                    false => assert_eq!(bench.names(), ["big.gguf"]),
                }
            }
        }
    }
    println!("{interrupted} of 18 runs were interrupted while they wrote");
    assert!(interrupted > 0, "every run was done before its signal came");
}

/// Several names cannot appear at once: a kill in between may leave parts, but not the first, by
/// which readers find them; other signals wait until all are there.
#[test]
fn of_a_split_file_all_parts_are_there_or_none() {
    let bench = Bench::new();
    big_gguf(&bench.path("big.gguf"));
    let prune = "prune --drop-layers 3 --max-shard-size 400MB big.gguf out.gguf";
    let mut interrupted = 0;
    for existing in [false, true] {
        for signal in [SIGINT, SIGKILL] {
            for delay in MOMENTS {
                for name in bench.names().iter().filter(|name| *name != "big.gguf") {
                    fs::remove_file(bench.path(name)).unwrap();
                }
                let parts: Vec<String> = (1..=N_PARTS)
                    .map(|no| format!("out-{no:05}-of-{N_PARTS:05}.gguf"))
                    .collect();
                for part in parts.iter().filter(|_| existing) {
                    fs::write(bench.path(part), "what was here").unwrap();
                }
                let ended = interrupt(&bench, prune, signal, delay);
                let is_new = |part: &String| {
                    fs::metadata(bench.path(part)).is_ok_and(|about| about.len() > 1000)
                };
                let n_new = parts.iter().filter(|part| is_new(part)).count();
                if !ended {
                    assert_eq!(n_new, N_PARTS);
                    continue;
                }
                interrupted += 1;
                if signal == SIGKILL && n_new > 0 {
                    assert!(n_new == N_PARTS || !bench.path(&parts[0]).exists());
                    continue;
                }
                assert!(n_new == 0 || n_new == N_PARTS);
                let n_left = match existing || n_new > 0 {
                    true => N_PARTS,
                    false => 0,
                };
                assert_eq!(bench.names().len(), 1 + n_left, "{:?}", bench.names());
            }
        }
    }
    println!("{interrupted} of 12 runs were interrupted while they wrote");
    assert!(interrupted > 0, "every run was done before its signal came");
}

#[test]
fn a_killed_run_leaves_no_folder_but_one_that_the_next_run_clears() {
    let bench = Bench::new();
    big_folder(&bench.path("big"));
    tiny::write(&bench, "tiny");
    let mut interrupted = 0;
    for delay in MOMENTS {
        if !interrupt(&bench, "prune --drop-layers 3 big out", SIGKILL, delay) {
            fs::remove_dir_all(bench.path("out")).unwrap();
            continue;
        }
        interrupted += 1;
        let names = bench.names();
        assert!(!names.contains(&"out".to_owned()), "{names:?}");
        let visible: Vec<_> = names.iter().filter(|name| !name.starts_with('.')).collect();
        assert_eq!(visible, ["big", "tiny"]);
    }
    assert!(interrupted > 0, "every run was done before its signal came");
    bench.slim("prune --drop-layers 1 tiny out").quietly();
    assert_eq!(bench.names(), ["big", "out", "tiny"]);
    let ran = bench.slim("inspect --json out").quietly();
    assert!(
        ran.stdout
            .contains(&format!("\"n_layers\": {}", N_LAYERS - 1))
    );
}

/// What was left would be gigabytes that no `ls` shows.
#[test]
fn ctrl_c_leaves_nothing_of_a_folder() {
    let bench = Bench::new();
    big_folder(&bench.path("big"));
    let mut interrupted = 0;
    for delay in MOMENTS {
        if interrupt(&bench, "prune --drop-layers 3 big out", SIGINT, delay) {
            interrupted += 1;
            assert_eq!(bench.names(), ["big"]);
        } else {
            fs::remove_dir_all(bench.path("out")).unwrap();
        }
    }
    assert!(interrupted > 0, "every run was done before its signal came");
}

#[test]
fn a_limit_on_the_size_of_files_leaves_the_target_as_it_was() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    fs::write(bench.path("old.gguf"), "what was here").unwrap();
    // Ended by the signal SIGXFSZ, or told by the system where that is ignored.
    for trap in ["", "trap '' XFSZ;"] {
        for output in ["old.gguf", "new.gguf", "new"] {
            let slim = format!("exec {SLIM} prune --drop-layers 1 tiny {output}");
            let ran = bench.sh(&format!("{trap} ulimit -f 16; {slim}"));
            let mut names = bench.names();
            if ran.code.is_some() || !trap.is_empty() {
                assert_eq!(ran.unlike_an_error(&[output]), None);
            } else if output == "new" {
                // A killed run may leave this; the next one clears it.
                names.retain(|name| name != ".new.slim-partial");
            }
            assert_eq!(names, ["old.gguf", "tiny"], "{trap} {output}");
            assert_eq!(fs::read(bench.path("old.gguf")).unwrap(), b"what was here");
        }
        let _ = fs::remove_dir_all(bench.path(".new.slim-partial"));
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_the_target_as_it_was() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    fs::create_dir(bench.path("disk")).unwrap();
    // A small disk in a namespace of its own, gone with the shell.
    let mount = "mount -t tmpfs -o size=256k none disk";
    let probe = bench.sh(&format!("unshare -m sh -c '{mount}'"));
    if probe.code != Some(0) {
        eprintln!("skipped: this user may not mount: {}", probe.stderr);
        return;
    }
    for (output, options) in [
        ("old.gguf", ""),
        ("new.gguf", ""),
        ("new", ""),
        ("new.safetensors", ""),
        ("parts", ".gguf --max-shard-size 64kB"),
    ] {
        let slim = format!("{SLIM} prune --drop-layers 1 tiny disk/{output}{options}");
        let script = format!(
            "{mount}; echo mine > disk/old.gguf; {slim}; echo \"exit $?\"; ls -A disk; cat disk/old.gguf"
        );
        let ran = bench.sh(&format!("unshare -m sh -c '{script}'"));
        assert_eq!(ran.stdout, "exit 2\nold.gguf\nmine\n", "{output}: {ran:?}");
        assert!(
            ran.stderr.contains("no room") && ran.stderr.contains(output),
            "{ran:?}"
        );
    }
}
