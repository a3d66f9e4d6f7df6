//! Whole files.

use crate::support::village;
use slim::arch::{Arch, KeepSet};
use slim::checkpoint::{Checkpoint, DType};
use slim::convert::OutType;
use slim::convert::quantise::Quantise;
use slim::prune::{Request, write};
use std::path::{Path, PathBuf};

pub const HIDDEN: usize = 256;
const N_LAYERS: usize = 12;

/// A random llama whose rows are whole k blocks, with the fixture's tokenizer.
pub fn wide(folder: &Path) -> PathBuf {
    use safetensors::tensor::{Dtype, TensorView};
    let target = folder.join("wide");
    std::fs::create_dir(&target).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(village().join(file), target.join(file)).unwrap();
    }
    let text = std::fs::read(village().join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for (field, value) in [
        ("hidden_size", HIDDEN),
        ("intermediate_size", HIDDEN),
        ("num_hidden_layers", N_LAYERS),
        ("head_dim", 64),
    ] {
        config[field] = value.into();
    }
    std::fs::write(target.join("config.json"), config.to_string()).unwrap();
    let vocabulary = config["vocab_size"].as_u64().unwrap() as usize;
    let mut random = fastrand::Rng::with_seed(11);
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut add = |name: String, shape: Vec<usize>| {
        let n: usize = shape.iter().product();
        let weights = (0..n).map(|_| (random.f32() + random.f32() - 1.0) * 0.1);
        tensors.push((name, shape, weights.flat_map(f32::to_le_bytes).collect()));
    };
    add("model.embed_tokens.weight".into(), vec![vocabulary, HIDDEN]);
    add("model.norm.weight".into(), vec![HIDDEN]);
    for layer in 0..N_LAYERS {
        for part in ["input_layernorm", "post_attention_layernorm"] {
            add(format!("model.layers.{layer}.{part}.weight"), vec![HIDDEN]);
        }
        for (part, rows) in [
            ("self_attn.q_proj", HIDDEN),
            ("self_attn.k_proj", HIDDEN / 2),
            ("self_attn.v_proj", HIDDEN / 2),
            ("self_attn.o_proj", HIDDEN),
            ("mlp.gate_proj", HIDDEN),
            ("mlp.up_proj", HIDDEN),
            ("mlp.down_proj", HIDDEN),
        ] {
            add(
                format!("model.layers.{layer}.{part}.weight"),
                vec![rows, HIDDEN],
            );
        }
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    safetensors::serialize_to_file(views, None, &target.join("model.safetensors")).unwrap();
    target
}

/// Writes what stays when `dropped` go.
pub fn convert(
    source: &Path,
    target: &Path,
    dropped: &[usize],
    outtype: OutType,
    quantise: Quantise,
) -> anyhow::Result<Checkpoint> {
    let checkpoint = Checkpoint::open(source)?;
    let n_layers = Arch::of(&checkpoint)?.n_layers(&checkpoint)?;
    let keep = KeepSet::without(n_layers, dropped)?;
    let request = Request {
        outtype,
        quantise,
        ..Request::new(&checkpoint, &keep, target)
    };
    write(&request, &|_| {})?;
    Ok(Checkpoint::open(target)?)
}

pub fn mix(name: &str) -> OutType {
    name.parse().unwrap()
}

#[test]
fn a_pruned_model_is_quantised_as_one_that_always_had_so_few_layers() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let source = wide(folder.path());
    let plain = Quantise::default();
    let f32 = OutType::Only(DType::F32);
    convert(&source, &path("few.gguf"), &[2, 3, 7, 8], f32, plain).unwrap();
    for name in ["q2_k", "q3_k_m", "q4_k_m"] {
        let at_once = convert(&source, &path("a.gguf"), &[2, 3, 7, 8], mix(name), plain).unwrap();
        let later = convert(&path("few.gguf"), &path("b.gguf"), &[], mix(name), plain).unwrap();
        for theirs in later.tensors() {
            let ours = at_once.tensor(&theirs.name).unwrap();
            assert_eq!(ours.dtype, theirs.dtype, "{name}: {}", ours.name);
            let same = at_once.bytes(ours) == later.bytes(theirs);
            assert!(same, "{name}: {} differs", ours.name);
        }
    }
}

#[test]
fn the_file_says_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let source = wide(folder.path());
    for (name, number, matrix, value) in [
        ("q4_k_m", 15, DType::Q4_K, DType::Q6_K),
        ("q3_k_l", 13, DType::Q3_K, DType::Q5_K),
        ("q5_1", 9, DType::Q5_1, DType::Q5_1),
    ] {
        let target = folder.path().join("out.gguf");
        let written = convert(&source, &target, &[], mix(name), Quantise::default()).unwrap();
        let number_of = |key: &str| written.gguf().unwrap().get_u64(key);
        assert_eq!(number_of("general.file_type"), Some(number), "{name}");
        assert_eq!(number_of("general.quantization_version"), Some(2), "{name}");
        let dtype = |tensor: &str| written.tensor(tensor).unwrap().dtype;
        assert_eq!(dtype("blk.0.attn_q.weight"), matrix);
        assert_eq!(dtype("blk.0.attn_v.weight"), value);
        assert_eq!(dtype("blk.0.attn_norm.weight"), DType::F32);
        assert_eq!(
            dtype("token_embd.weight"),
            DType::Q6_K,
            "it is the output too"
        );
    }
}

#[test]
fn rows_that_are_no_whole_blocks_get_shorter_blocks() {
    // The fixture's rows are of 128 and 352 weights.
    let folder = tempfile::tempdir().unwrap();
    for (name, matrix, embedding) in [
        ("q2_k", DType::Q4_0, DType::Q8_0),
        ("q4_k_s", DType::Q5_0, DType::Q8_0),
        ("q5_k_s", DType::Q5_1, DType::Q8_0),
        ("q6_k", DType::Q8_0, DType::Q8_0),
    ] {
        let target = folder.path().join("out.gguf");
        let written = convert(&village(), &target, &[], mix(name), Quantise::default()).unwrap();
        let dtype = |tensor: &str| written.tensor(tensor).unwrap().dtype;
        assert_eq!(dtype("blk.5.attn_q.weight"), matrix, "{name}");
        assert_eq!(dtype("blk.5.ffn_up.weight"), matrix, "{name}");
        assert_eq!(dtype("token_embd.weight"), embedding, "{name}");
    }
}

#[test]
fn what_is_quantised_is_quantised_again_only_when_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let source = wide(folder.path());
    let plain = Quantise::default();
    let q8 = convert(&source, &path("q8.gguf"), &[], mix("q8_0"), plain).unwrap();
    let refused = convert(
        &path("q8.gguf"),
        &path("q4.gguf"),
        &[],
        mix("q4_k_m"),
        plain,
    );
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("--allow-requantize"), "{error}");
    assert!(!path("q4.gguf").exists());
    let allowed = Quantise {
        allow_requantize: true,
        ..plain
    };
    let again = convert(
        &path("q8.gguf"),
        &path("q4.gguf"),
        &[],
        mix("q4_k_m"),
        allowed,
    )
    .unwrap();
    let dtype = again.tensor("blk.0.attn_q.weight").unwrap().dtype;
    assert_eq!(dtype, DType::Q4_K);
    let same = convert(
        &path("q8.gguf"),
        &path("same.gguf"),
        &[],
        mix("q8_0"),
        plain,
    )
    .unwrap();
    let name = "blk.0.attn_q.weight";
    let bytes = |c: &Checkpoint| c.bytes(c.tensor(name).unwrap()).to_vec();
    assert!(bytes(&same) == bytes(&q8));
}

#[test]
fn safetensors_refuses_every_quantised_type() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["q8_0", "q4_0", "q4_k_m"] {
        let target = folder.path().join("out.safetensors");
        let refused = convert(&village(), &target, &[], mix(name), Quantise::default());
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(".gguf"), "{error}");
    }
}

#[test]
fn options_of_quantised_types_need_one() {
    let folder = tempfile::tempdir().unwrap();
    for option in ["--pure", "--allow-requantize", "--imatrix=none.gguf"] {
        let mut slim = assert_cmd::cargo::cargo_bin_cmd!("slim");
        slim.args(["prune", "--drop-layers", "1", "--outtype", "f16", option]);
        slim.arg(village()).arg(folder.path().join("out.gguf"));
        let output = slim.assert().code(2).get_output().stderr.clone();
        let message = String::from_utf8(output).unwrap();
        assert!(message.contains("q4_k_m"), "{message}");
    }
}
