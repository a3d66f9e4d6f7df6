//! Which tensor gets which type: the mixes that llama-quantize knows by name, as tables.
//!
//! A mix has a base type, and rules that give the tensors which matter more (or less) another one:
//! by what the tensor does, by its layer's place in the model that is WRITTEN, and by the model's
//! shape. Stated from the behaviour of llama.cpp's llama-quantize, held against it by
//! tests/quantise.

use crate::checkpoint::DType;

/// A named mix of types.
#[derive(Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What people call it.
    pub name: &'static str,
    /// The type of every matrix that no rule names.
    pub base: DType,
    /// `general.file_type` (llama.cpp's `llama_ftype`).
    pub file_type: u32,
    rules: &'static [Rule],
}

/// The first rule that fits a tensor decides.
#[derive(Debug, PartialEq, Eq)]
struct Rule(Kind, When, DType);

/// What a tensor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedding,
    Output,
    /// Also fused query, key and value, and the latent of both.
    Value,
    Key,
    AttentionOutput,
    Down,
    Other,
}

/// In which layers, and in which models.
#[derive(Debug, PartialEq, Eq)]
enum When {
    Always,
    /// Layers before this one.
    Before(usize),
    /// The first 1/n of the layers.
    FirstShare(usize),
    /// The first and the last eighth of the layers, and every third between.
    MoreBits,
    /// Four or more query heads share a key head.
    Grouped,
    /// Eight experts, as in Mixtral.
    EightExperts,
    /// Any other number of experts.
    NotEightExperts,
    /// The first eighth of the layers, where an imatrix is given.
    FirstEighthWithImatrix,
}

use DType::{Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
use Kind::{AttentionOutput, Down, Value};
use When::{
    Always, Before, EightExperts, FirstEighthWithImatrix, FirstShare, Grouped, MoreBits,
    NotEightExperts,
};

/// Every mix. `q3_k`, `q4_k` and `q5_k` are other names of the medium ones.
#[rustfmt::skip]
const RECIPES: &[Recipe] = &[
    Recipe { name: "q4_0", base: Q4_0, file_type: 2, rules: &[Rule(Down, FirstEighthWithImatrix, Q4_1)] },
    Recipe { name: "q4_1", base: Q4_1, file_type: 3, rules: &[] },
    Recipe { name: "q5_0", base: Q5_0, file_type: 8, rules: &[Rule(Down, FirstEighthWithImatrix, Q5_1)] },
    Recipe { name: "q5_1", base: Q5_1, file_type: 9, rules: &[] },
    Recipe { name: "q8_0", base: Q8_0, file_type: 7, rules: &[] },
    Recipe { name: "q2_k", base: Q2_K, file_type: 10, rules: &[
        Rule(Value, Grouped, Q4_K), Rule(Value, Always, Q3_K), Rule(Down, Always, Q3_K),
        Rule(AttentionOutput, EightExperts, Q5_K), Rule(AttentionOutput, Always, Q3_K)] },
    Recipe { name: "q3_k_s", base: Q3_K, file_type: 11, rules: &[Rule(AttentionOutput, EightExperts, Q5_K)] },
    Recipe { name: "q3_k_m", base: Q3_K, file_type: 12, rules: MEDIUM_3 },
    Recipe { name: "q3_k", base: Q3_K, file_type: 12, rules: MEDIUM_3 },
    Recipe { name: "q3_k_l", base: Q3_K, file_type: 13, rules: &[
        Rule(Value, Always, Q5_K), Rule(Down, Always, Q5_K), Rule(AttentionOutput, NotEightExperts, Q5_K)] },
    Recipe { name: "q4_k_s", base: Q4_K, file_type: 14, rules: &[
        Rule(Value, Before(4), Q5_K), Rule(Down, FirstShare(8), Q5_K), Rule(AttentionOutput, EightExperts, Q5_K)] },
    Recipe { name: "q4_k_m", base: Q4_K, file_type: 15, rules: MEDIUM_4 },
    Recipe { name: "q4_k", base: Q4_K, file_type: 15, rules: MEDIUM_4 },
    Recipe { name: "q5_k_s", base: Q5_K, file_type: 16, rules: &[] },
    Recipe { name: "q5_k_m", base: Q5_K, file_type: 17, rules: MEDIUM_5 },
    Recipe { name: "q5_k", base: Q5_K, file_type: 17, rules: MEDIUM_5 },
    Recipe { name: "q6_k", base: Q6_K, file_type: 18, rules: &[] },
];

const MEDIUM_3: &[Rule] = &[
    Rule(Value, Before(2), Q5_K),
    Rule(Value, Always, Q4_K),
    Rule(Down, FirstShare(16), Q5_K),
    Rule(Down, Always, Q4_K),
    Rule(AttentionOutput, EightExperts, Q5_K),
    Rule(AttentionOutput, Always, Q4_K),
];
const MEDIUM_4: &[Rule] = &[
    Rule(Value, MoreBits, Q6_K),
    Rule(Down, MoreBits, Q6_K),
    Rule(AttentionOutput, EightExperts, Q5_K),
];
const MEDIUM_5: &[Rule] = &[Rule(Value, MoreBits, Q6_K), Rule(Down, MoreBits, Q6_K)];

/// Models that llama.cpp counts as of 70 billion weights, by architecture and layers: few weights
/// stand behind each value head, so those get one type more.
const SEVENTY_BILLION: &[(&str, usize)] = &[
    ("llama", 80),
    ("qwen2", 80),
    ("deci", 80),
    ("olmo", 80),
    ("jais2", 68),
];

/// The type of shorter blocks for rows that are no whole number of a type's blocks.
const SHORTER: &[(DType, DType)] = &[
    (Q2_K, Q4_0),
    (Q3_K, Q4_0),
    (Q4_K, Q5_0),
    (Q5_K, Q5_1),
    (Q6_K, Q8_0),
];

/// Parts of names of matrices that are never quantised: too small, or too much depends on them.
const NEVER: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "position_embd",
    "token_types.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w",
    "time_mix_v",
    "time_mix_a",
    "time_mix_g",
    "time_mix_decay_w",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
];

/// What the mixes depend on: the model that is written.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// `general.architecture`.
    pub arch: String,
    /// Layers that stay.
    pub n_layers: usize,
    /// Attention heads of the first layer.
    pub n_heads: u64,
    /// Key and value heads of the first layer.
    pub n_kv_heads: u64,
    /// Experts, 0 of a dense model.
    pub n_experts: u64,
    /// Whether an imatrix is given.
    pub imatrix: bool,
}

/// A tensor that is to be written: its new GGUF name, its shape (outermost dimension first), and
/// the type it has if it is not quantised.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The new GGUF name.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// The type without quantisation.
    pub plain: DType,
}

impl Recipe {
    /// The mix of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        RECIPES.iter().find(|recipe| recipe.name == name)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RECIPES.iter().map(|recipe| recipe.name)
    }

    /// The type of each tensor, in the order given.
    pub fn types(&self, model: &Shape, tensors: &[Candidate]) -> Vec<DType> {
        let tied = !tensors.iter().any(|t| t.name == "output.weight");
        let values = tensors.iter().filter(|t| kind(&t.name) == Value).count();
        // Places are counted as llama.cpp counts them: by layer, then by name.
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&i| (layer(&tensors[i].name), &tensors[i].name));
        let mut types: Vec<DType> = tensors.iter().map(|t| t.plain).collect();
        let (mut seen_values, mut seen_down) = (0, 0);
        for i in order {
            let tensor = &tensors[i];
            if !quantisable(tensor) {
                continue;
            }
            let kind = match kind(&tensor.name) {
                Kind::Embedding if tied => Kind::Output,
                other => other,
            };
            let counted = if kind == Value {
                seen_values
            } else {
                seen_down
            };
            seen_values += usize::from(kind == Value);
            seen_down += usize::from(kind == Down);
            let place = match (kind, layer(&tensor.name)) {
                (Down, Some(layer)) if model.n_experts > 1 => (layer, model.n_layers),
                (Value, _) => (counted, values),
                _ => (counted, model.n_layers),
            };
            let columns = tensor.shape.last().copied().unwrap_or(1);
            types[i] = fitting(self.wanted(kind, place, model, columns), columns);
        }
        types
    }

    fn wanted(&self, kind: Kind, place: (usize, usize), model: &Shape, columns: u64) -> DType {
        let fits = |Rule(of, when, _): &&Rule| *of == kind && when.holds(place, model);
        let ruled = self.rules.iter().find(fits).map(|rule| rule.2);
        let dtype = ruled.unwrap_or(self.base);
        match kind {
            Kind::Output if !columns.is_multiple_of(block(dtype)) || dtype == Q8_0 => Q8_0,
            Kind::Output => Q6_K,
            Value | Kind::Key if model.n_experts == 8 => Q8_0,
            Value if model.is_seventy_billion() && matches!(dtype, Q3_K | Q4_K) => Q5_K,
            _ => dtype,
        }
    }
}

/// The type of each tensor where all matrices are to have one type.
pub fn pure_types(dtype: DType, tensors: &[Candidate]) -> Vec<DType> {
    let of = |tensor: &Candidate| match quantisable(tensor) {
        true => fitting(dtype, tensor.shape.last().copied().unwrap_or(1)),
        false => tensor.plain,
    };
    tensors.iter().map(of).collect()
}

impl When {
    fn holds(&self, (at, of): (usize, usize), model: &Shape) -> bool {
        match *self {
            Always => true,
            Before(layer) => at < layer,
            FirstShare(share) => at < of / share,
            MoreBits => {
                let eighth = of / 8;
                at < eighth || at >= 7 * of / 8 || (at - eighth) % 3 == 2
            }
            Grouped => model.n_kv_heads > 0 && model.n_heads / model.n_kv_heads >= 4,
            EightExperts => model.n_experts == 8,
            NotEightExperts => model.n_experts != 8,
            FirstEighthWithImatrix => model.imatrix && at < of / 8,
        }
    }
}

impl Shape {
    fn is_seventy_billion(&self) -> bool {
        let grouped = self.arch != "llama" || self.n_heads != self.n_kv_heads;
        grouped && SEVENTY_BILLION.contains(&(self.arch.as_str(), self.n_layers))
    }
}

fn block(dtype: DType) -> u64 {
    dtype.block().map_or(1, |(elements, _)| elements)
}

/// The type, or the one that stands in for it where rows are no whole number of its blocks.
fn fitting(dtype: DType, columns: u64) -> DType {
    let shorter = SHORTER.iter().find(|(long, _)| *long == dtype);
    let tried = [Some(dtype), shorter.map(|(_, short)| *short)];
    let fits = |dtype: &DType| columns.is_multiple_of(block(*dtype));
    tried.into_iter().flatten().find(fits).unwrap_or(DType::F16)
}

fn quantisable(tensor: &Candidate) -> bool {
    // A dimension of one outside the others is none to ggml.
    let inside = tensor.shape.iter().skip_while(|&&dim| dim == 1);
    inside.count() > 1
        && tensor.name.ends_with("weight")
        && !NEVER.iter().any(|part| tensor.name.contains(part))
}

fn layer(name: &str) -> Option<usize> {
    let (number, _) = name.strip_prefix("blk.")?.split_once('.')?;
    number.parse().ok()
}

fn kind(name: &str) -> Kind {
    const PARTS: &[(&str, Kind)] = &[
        ("attn_qkv.weight", Value),
        ("attn_kv_b.weight", Value),
        ("attn_v.weight", Value),
        ("attn_k.weight", Kind::Key),
        ("attn_output.weight", AttentionOutput),
        ("ffn_down", Down),
    ];
    match name {
        "output.weight" => Kind::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => Kind::Embedding,
        _ => {
            let found = PARTS.iter().find(|(part, _)| name.contains(part));
            found.map_or(Kind::Other, |(_, kind)| *kind)
        }
    }
}
