//! Which tensor gets which type, against llama-quantize on models of that depth.

use crate::rows::golden;
use serde_json::Value;
use slim::checkpoint::DType;
use slim::convert::OutType;
use slim::convert::quantise::{Candidate, Shape, pure_types};

/// The tensors of make.py's models.
fn tensors(case: &Value) -> Vec<Candidate> {
    let number = |key: &str| case[key].as_u64().unwrap();
    let (columns, experts) = (number("columns"), number("n_experts"));
    let mut listed = Vec::new();
    let mut add = |name: String, shape: Vec<u64>| {
        let plain = DType::F32;
        listed.push(Candidate { name, shape, plain });
    };
    add("token_embd.weight".into(), vec![4, columns]);
    add("output_norm.weight".into(), vec![columns]);
    if case["output"].as_bool().unwrap() {
        add("output.weight".into(), vec![4, columns]);
    }
    let fused = case["arch"] == "phi3";
    let attention: &[&str] = match fused {
        true => &["attn_qkv"],
        false => &["attn_q", "attn_k", "attn_v"],
    };
    for layer in 0..number("n_layers") {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        add(name("attn_norm"), vec![columns]);
        for part in attention.iter().chain(&["attn_output"]) {
            add(name(part), vec![2, columns]);
        }
        if experts > 0 {
            add(name("ffn_gate_inp"), vec![experts, columns]);
            for part in ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"] {
                add(name(part), vec![experts, 2, columns]);
            }
        } else {
            let parts = ["ffn_gate", "ffn_up", "ffn_down"];
            for part in parts.iter().skip(usize::from(fused)) {
                add(name(part), vec![2, columns]);
            }
        }
    }
    listed
}

/// `q4_k*2 q6_k` is `q4_k q4_k q6_k`.
fn expand(runs: &str) -> Vec<DType> {
    let run = |run: &str| {
        let (name, count) = run.split_once('*').unwrap_or((run, "1"));
        let dtype = DType::from_name(name).unwrap();
        vec![dtype; count.parse().unwrap()]
    };
    runs.split(' ').flat_map(run).collect()
}

#[test]
fn every_mix_gives_every_tensor_the_type_that_llama_quantize_gives_it() {
    let cases = golden("recipes.json");
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 150);
    for case in cases {
        let number = |key: &str| case[key].as_u64().unwrap();
        let tensors = tensors(case);
        let model = Shape {
            arch: case["arch"].as_str().unwrap().to_owned(),
            n_layers: number("n_layers") as usize,
            n_heads: number("n_heads"),
            n_kv_heads: number("n_kv_heads"),
            n_experts: number("n_experts"),
            imatrix: case["imatrix"].as_bool().unwrap(),
        };
        let recipe: OutType = case["recipe"].as_str().unwrap().parse().unwrap();
        let pure = case["pure"].as_bool().unwrap();
        let ours = match if pure { recipe.pure() } else { recipe } {
            OutType::Mix(recipe) => recipe.types(&model, &tensors),
            OutType::Only(dtype) => pure_types(dtype, &tensors),
            OutType::Keep => unreachable!(),
        };
        let theirs = expand(case["types"].as_str().unwrap());
        assert_eq!(ours.len(), theirs.len());
        for ((tensor, ours), theirs) in tensors.iter().zip(ours).zip(theirs) {
            let what = format!(
                "{} of {} as {recipe}, {model:?}",
                tensor.name, tensor.shape[0]
            );
            assert_eq!(ours, theirs, "{what}");
        }
    }
}

#[test]
fn names_of_types_are_those_of_llama_quantize_in_any_case() {
    for (name, alias) in [("q4_k", "Q4_K_M"), ("q3_k", "Q3_K_M"), ("Q5_K", "q5_k_m")] {
        let (one, other): (OutType, OutType) = (name.parse().unwrap(), alias.parse().unwrap());
        let base = |outtype: OutType| outtype.pure();
        assert_eq!(base(one), base(other));
        assert!(one.is_quantised());
    }
    let error = "q9".parse::<OutType>().unwrap_err().to_string();
    assert!(
        error.contains("q4_k_m") && error.contains("bf16"),
        "{error}"
    );
}
