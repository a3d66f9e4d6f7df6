//! Every edit, from either format, to either format, in every kind of type.

use crate::reading::{Traits, names, weights};
use crate::support::village;
use slim::arch::{Arch, KeepSet};
use slim::checkpoint::{Checkpoint, DType};
use slim::convert::{Edit, Edits, OutType};
use slim::prune::{Request, write};
use std::path::{Path, PathBuf};

/// A model, the layers that stay, and what is edited in which of them.
struct Case {
    name: &'static str,
    keep: &'static [usize],
    traits: Traits,
    edits: &'static [(usize, &'static str, Kind)],
}

#[derive(Clone, Copy)]
enum Kind {
    Scale(f32),
    Output,
    Values,
}

use Kind::{Output, Scale, Values};

const PLAIN: Traits = Traits {
    interleaved: None,
    norms_lack_one: false,
    experts: 1,
};

const CASES: &[Case] = &[
    Case {
        name: "llama_bias",
        keep: &[0, 2, 3],
        traits: Traits {
            interleaved: Some(8),
            ..PLAIN
        },
        edits: &[
            (0, "attn_q.weight", Values),
            (0, "attn_k.bias", Values),
            (0, "ffn_down.weight", Output),
            (0, "ffn_down.bias", Output),
            (2, "attn_q.weight", Output),
            (2, "attn_k.weight", Scale(1.25)),
            (2, "attn_output.weight", Scale(0.7)),
            (2, "attn_output.bias", Scale(0.7)),
            (3, "attn_output.weight", Output),
            (3, "attn_norm.weight", Values),
            (3, "ffn_down.weight", Values),
        ],
    },
    Case {
        name: "gemma2",
        keep: &[2, 3],
        traits: Traits {
            norms_lack_one: true,
            ..PLAIN
        },
        edits: &[
            (2, "attn_norm.weight", Scale(0.7)),
            (2, "post_ffw_norm.weight", Values),
            (3, "attn_q.weight", Values),
            (3, "ffn_down.weight", Output),
        ],
    },
    Case {
        name: "phi3",
        keep: &[0, 1, 3],
        traits: PLAIN,
        edits: &[
            (1, "attn_qkv.weight", Values),
            (3, "ffn_up.weight", Scale(0.7)),
            (3, "attn_output.weight", Output),
        ],
    },
    Case {
        name: "mixtral",
        keep: &[1, 2],
        traits: Traits {
            interleaved: Some(8),
            experts: 4,
            ..PLAIN
        },
        edits: &[
            (1, "ffn_down_exps.weight", Scale(0.7)),
            (2, "attn_output.weight", Output),
        ],
    },
];

pub fn golden(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    fixtures.join("golden").join(name)
}

pub fn edited(
    source: &Checkpoint,
    keep: &KeepSet,
    edits: &Edits,
    outtype: OutType,
    target: &Path,
) -> anyhow::Result<Checkpoint> {
    let request = Request {
        edits,
        outtype,
        source_digest: false,
        ..Request::new(source, keep, target)
    };
    Ok(Checkpoint::open(&write(&request, &|_| {})?)?)
}

pub fn all_layers(source: &Checkpoint) -> KeepSet {
    let arch = Arch::of(source).unwrap();
    KeepSet::all(arch.n_layers(source).unwrap())
}

/// The same model as one GGUF file.
pub fn as_gguf(source: &Path, outtype: &str, folder: &Path) -> PathBuf {
    let target = folder.join(format!("source.{outtype}.gguf"));
    let source = Checkpoint::open(source).unwrap();
    let (keep, nothing) = (all_layers(&source), Edits::default());
    edited(&source, &keep, &nothing, outtype.parse().unwrap(), &target).unwrap();
    target
}

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..n).map(|_| random.f32() * 2.0 - 1.0).collect()
}

/// The edit, and the weights that it must give, of a tensor with so many outputs.
fn expected(kind: Kind, old: &[f64], n_outputs: usize) -> (Edit, Vec<f64>) {
    match kind {
        Scale(factor) => {
            let new = old.iter().map(|w| w * f64::from(factor)).collect();
            (Edit::Scale(factor), new)
        }
        Values => {
            let values = random(old.len(), 3);
            let new = values.iter().map(|&v| f64::from(v)).collect();
            (Edit::Values(values.into()), new)
        }
        Output => {
            let matrix = random(n_outputs * n_outputs, 5);
            let n_inputs = old.len() / n_outputs;
            let mut new = vec![0.0; old.len()];
            for (y, row) in old.chunks(n_inputs).enumerate() {
                for (x, weight) in row.iter().enumerate() {
                    for z in 0..n_outputs {
                        new[z * n_inputs + x] += f64::from(matrix[y * n_outputs + z]) * weight;
                    }
                }
            }
            (Edit::Output(matrix.into()), new)
        }
    }
}

/// Writes a case's edits and holds the edited tensors against f64, the others against an output
/// without edits.
fn check(case: &Case, source: &Path, outtype: &str, target: &Path) {
    let what = format!("{} {} {}", case.name, source.display(), target.display());
    let source = Checkpoint::open(source).unwrap();
    let n_layers = all_layers(&source).len();
    let dropped: Vec<usize> = (0..n_layers).filter(|l| !case.keep.contains(l)).collect();
    let keep = KeepSet::without(n_layers, &dropped).unwrap();
    let outtype: OutType = outtype.parse().unwrap();

    let (mut edits, mut wanted) = (Edits::default(), Vec::new());
    for &(layer, place, kind) in case.edits {
        let (old, _) = weights(&source, case.traits, layer, place);
        let name = &names(&source, case.traits, layer, place)[0];
        let rows = source.tensor(name).unwrap().shape[0] as usize;
        let (edit, new) = expected(kind, &old, rows);
        edits.insert(format!("blk.{layer}.{place}"), edit);
        wanted.push((layer, place, new));
    }
    let plain = target.with_file_name(format!("plain-{}", target.file_name().unwrap().display()));
    let plain = edited(&source, &keep, &Edits::default(), outtype, &plain).unwrap();
    let ours = edited(&source, &keep, &edits, outtype, target).unwrap();

    let mut touched = Vec::new();
    for (layer, place, new) in wanted {
        let layer = keep.new_index(layer).unwrap();
        let (found, errors) = weights(&ours, case.traits, layer, place);
        assert_eq!(found.len(), new.len(), "{what}: {place}");
        for ((found, wanted), error) in found.iter().zip(&new).zip(errors) {
            // Sums of some 32 products in f32, on both sides of a 1.
            let error = error + 2e-6;
            assert!(
                (found - wanted).abs() <= error,
                "{what} {outtype}: {place} of {layer} is {found}, not {wanted} (± {error})"
            );
        }
        touched.extend(names(&ours, case.traits, layer, place));
    }
    assert_eq!(ours.tensors().len(), plain.tensors().len());
    for tensor in plain.tensors() {
        let same = ours.tensor(&tensor.name).unwrap();
        assert_eq!((same.dtype, &same.shape), (tensor.dtype, &tensor.shape));
        let equal = ours.bytes(same) == plain.bytes(tensor);
        let edited = touched.contains(&tensor.name);
        assert_eq!(equal, !edited, "{what} {outtype}: {}", tensor.name);
    }
}

#[test]
fn edited_weights_are_those_of_plain_arithmetic_and_all_others_stay() {
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        let hf = golden(case.name);
        let mut sources = vec![hf.clone(), as_gguf(&hf, "f32", folder.path())];
        if case.name == "llama_bias" {
            sources.push(as_gguf(&hf, "q8_0", folder.path()));
        }
        for (i, source) in sources.iter().enumerate() {
            for outtype in ["keep", "f32", "f16", "bf16"] {
                for target in ["out", "out.gguf"] {
                    let folder = folder.path().join(format!("{i}-{outtype}"));
                    std::fs::create_dir_all(&folder).unwrap();
                    check(case, source, outtype, &folder.join(target));
                }
            }
        }
    }
}

#[test]
fn edited_weights_are_quantised_after_the_edit() {
    let folder = tempfile::tempdir().unwrap();
    let case = &CASES[0];
    let hf = golden(case.name);
    for (i, source) in [hf.clone(), as_gguf(&hf, "f32", folder.path())]
        .iter()
        .enumerate()
    {
        let target = folder.path().join(format!("{i}.gguf"));
        check(case, source, "q8_0", &target);
    }
}

#[test]
fn a_runtimes_other_attention_scale_is_folded_into_edited_weights_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("gemma");
    std::fs::create_dir(&source).unwrap();
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.model",
        "tokenizer_config.json",
    ] {
        std::fs::copy(golden("gemma2").join(file), source.join(file)).unwrap();
    }
    let config = std::fs::read_to_string(source.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    // GGUF runtimes divide by √16: queries must be halved.
    config["query_pre_attn_scalar"] = 64.into();
    std::fs::write(source.join("config.json"), config.to_string()).unwrap();
    let source = Checkpoint::open(&source).unwrap();
    let (old, _) = weights(&source, PLAIN, 0, "attn_q.weight");
    let (keep, target) = (all_layers(&source), folder.path().join("out.gguf"));
    for kind in [Scale(0.7), Output, Values] {
        let (edit, new) = expected(kind, &old, 64);
        let mut edits = Edits::default();
        edits.insert("blk.0.attn_q.weight", edit);
        let f32 = OutType::Only(DType::F32);
        let ours = edited(&source, &keep, &edits, f32, &target).unwrap();
        let (found, _) = weights(&ours, PLAIN, 0, "attn_q.weight");
        for (found, wanted) in found.iter().zip(new) {
            assert!((found - wanted / 2.0).abs() < 2e-6, "{found} {wanted}");
        }
    }
}

#[test]
fn quantised_weights_keep_their_type_when_they_are_edited() {
    let folder = tempfile::tempdir().unwrap();
    for outtype in ["q4_0", "q8_0"] {
        let source = Checkpoint::open(&as_gguf(&village(), outtype, folder.path())).unwrap();
        let (keep, target) = (all_layers(&source), folder.path().join("out.gguf"));
        let mut edits = Edits::default();
        edits.insert("blk.1.attn_output.weight", Edit::Scale(2.0));
        let ours = edited(&source, &keep, &edits, OutType::Keep, &target).unwrap();
        let tensor = |checkpoint: &Checkpoint| {
            let tensor = checkpoint.tensor("blk.1.attn_output.weight").unwrap();
            (tensor.dtype, checkpoint.bytes(tensor).to_vec())
        };
        let ((dtype, old), (same, new)) = (tensor(&source), tensor(&ours));
        assert_eq!((dtype.name(), same), (outtype.into(), dtype));
        // Twice the weights are the same steps, twice as large.
        let (_, block_bytes) = dtype.block().unwrap();
        let blocks = |bytes: &[u8]| -> Vec<(f32, Vec<u8>)> {
            let blocks = bytes.chunks_exact(block_bytes as usize);
            let split = |b: &[u8]| {
                let scale = half::f16::from_le_bytes([b[0], b[1]]);
                (scale.to_f32(), b[2..].to_vec())
            };
            blocks.map(split).collect()
        };
        for ((scale, steps), (new_scale, new_steps)) in blocks(&old).iter().zip(blocks(&new)) {
            assert_eq!((2.0 * scale, steps), (new_scale, &new_steps), "{outtype}");
        }
    }
}
