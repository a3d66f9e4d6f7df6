//! Weights as a decoder sees them, read without slim's own conversion.

use slim::checkpoint::{Checkpoint, DType, TensorInfo};

/// Tensors that edits are tried on: the GGUF name and Hugging Face's, an expert's number as {}.
const NAMES: &[(&str, &str)] = &[
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_k.bias", "self_attn.k_proj.bias"),
    ("attn_v.bias", "self_attn.v_proj.bias"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("attn_output.bias", "self_attn.o_proj.bias"),
    ("attn_qkv.weight", "self_attn.qkv_proj.weight"),
    ("post_ffw_norm.weight", "post_feedforward_layernorm.weight"),
    ("ffn_up.weight", "mlp.gate_up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
    ("ffn_down.bias", "mlp.down_proj.bias"),
    (
        "ffn_down_exps.weight",
        "block_sparse_moe.experts.{}.w2.weight",
    ),
];

/// What sets an architecture's files apart.
#[derive(Clone, Copy)]
pub struct Traits {
    /// The width of a head, where GGUF interleaves the halves of query and key heads.
    pub interleaved: Option<usize>,
    /// Whether Hugging Face's norms lack a 1.
    pub norms_lack_one: bool,
    /// Experts of a layer.
    pub experts: usize,
}

/// What the format calls the tensors of a place in a layer: one, or one an expert.
pub fn names(checkpoint: &Checkpoint, traits: Traits, layer: usize, place: &str) -> Vec<String> {
    if checkpoint.gguf().is_some() {
        return vec![format!("blk.{layer}.{place}")];
    }
    let (_, hf) = NAMES.iter().find(|(gguf, _)| *gguf == place).unwrap();
    let experts = if hf.contains("{}") { traits.experts } else { 1 };
    let name = |expert: usize| {
        let hf = hf.replace("{}", &expert.to_string());
        format!("model.layers.{layer}.{hf}")
    };
    (0..experts).map(name).collect()
}

/// The weights of a place in a layer in Hugging Face's row order, with the 1 that norms may lack,
/// and how far from each a correctly rounded weight may be.
pub fn weights(
    checkpoint: &Checkpoint,
    traits: Traits,
    layer: usize,
    place: &str,
) -> (Vec<f64>, Vec<f64>) {
    let names = names(checkpoint, traits, layer, place);
    let infos = names.iter().map(|name| checkpoint.tensor(name).unwrap());
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for info in infos {
        let (values, error) = decoded(checkpoint.bytes(info), info.dtype);
        let heads = traits.interleaved.filter(|_| {
            let rotated = place.starts_with("attn_q.") || place.starts_with("attn_k.");
            checkpoint.gguf().is_some() && rotated
        });
        let order = |values: Vec<f64>| match heads {
            Some(head_dim) => in_halves(&values, row_len(info), head_dim),
            None => values,
        };
        all.extend(order(values));
        errors.extend(order(error));
    }
    if traits.norms_lack_one && checkpoint.hf().is_some() && place.ends_with("_norm.weight") {
        all.iter_mut().for_each(|value| *value += 1.0);
    }
    (all, errors)
}

fn row_len(info: &TensorInfo) -> usize {
    match info.shape.as_slice() {
        [_, columns] => *columns as usize,
        _ => 1,
    }
}

/// Rows 0, 2, 4 … of each head, then rows 1, 3, 5 ….
fn in_halves(values: &[f64], row_len: usize, head_dim: usize) -> Vec<f64> {
    let rows: Vec<&[f64]> = values.chunks(row_len).collect();
    let mut ordered = Vec::new();
    for head in rows.chunks(head_dim) {
        ordered.extend(head.iter().step_by(2).copied().flatten());
        ordered.extend(head.iter().skip(1).step_by(2).copied().flatten());
    }
    ordered
}

fn decoded(bytes: &[u8], dtype: DType) -> (Vec<f64>, Vec<f64>) {
    let relative = |values: Vec<f64>, share: f64| {
        let error = values.iter().map(|v| v.abs() * share + 1e-7).collect();
        (values, error)
    };
    let halves = bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    match dtype {
        DType::F32 => {
            let words = bytes.chunks_exact(4).map(|b| b.try_into().unwrap());
            relative(
                words.map(|b| f64::from(f32::from_le_bytes(b))).collect(),
                1e-6,
            )
        }
        DType::F16 => relative(
            halves
                .map(|b| half::f16::from_le_bytes(b).to_f64())
                .collect(),
            0.5e-3,
        ),
        DType::BF16 => relative(
            halves
                .map(|b| half::bf16::from_le_bytes(b).to_f64())
                .collect(),
            4e-3,
        ),
        DType::Q8_0 => {
            let (mut values, mut errors) = (Vec::new(), Vec::new());
            for block in bytes.chunks_exact(34) {
                let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f64();
                values.extend(block[2..].iter().map(|q| f64::from(*q as i8) * scale));
                // Half a step, and what rounding the scale to f16 does to 127 of them.
                errors.extend([0.57 * scale.abs() + 1e-7; 32]);
            }
            (values, errors)
        }
        other => panic!("{other} is not read here"),
    }
}
