//! docs/architectures.md is what slim does: written by this test, and checked by it.
//!
//! `SLIM_WRITE_DOCS=1 cargo test --test architectures` writes it anew.

use serde_json::Value;
use slim::arch::Arch;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/architectures.md";

const HEAD: &str = "\
# Architectures

What slim does with each architecture, and what shows it. This page is written by
`tests/architectures.rs`, which fails where it is not true.

Letters are tests, run on models of the architecture; where slim refuses, the message says so.

| letter | test | shows |
|---|---|---|
| A | `tests/real/architectures.mjs` | GGUF → GGUF: layers that add nothing go, and stock llama.cpp computes the same bits from the rest; what may not go is refused |
| B | `what_is_written_computes_what_was_chosen_in_every_architecture_and_format` | every format: the written model's logits are those of the original without these layers, to 1e-5 |
| C | `hugging_face_to_gguf_is_what_the_stock_converter_is_recorded_to_write` | Hugging Face → GGUF: keys, types, values, tensors and bytes are llama.cpp's converter's, in f32, f16 and bf16 |
| D | `gguf_to_hugging_face_gives_the_original_weights_back` | GGUF → Hugging Face: the original weights, byte for byte |
| E | `logits_are_those_of_transformers_from_either_format` | the decoder: logits of transformers within 1e-4; with `tests/real/golden.mjs`, of llama.cpp on the written file |
| H | `tests/halves`, `tests/real/halves.mjs` | half layers: the written deci file computes, to the bit, what the mask computes of the original; stock llama.cpp computes of it what slim's decoder does, and what it computes of the original where the missing halves' projections are zero |
| – | refused | \"slim can drop the layers of a … GGUF file that you name (--drop-layers), but has no decoder to score or convert it\"; as config.json: \"unknown architecture … slim knows …\" |

";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The golden cases of every architecture, by `model_type`.
fn golden_cases() -> BTreeMap<String, Vec<String>> {
    let mut cases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(root().join("fixtures/golden")).unwrap() {
        let path = entry.unwrap().path();
        if path.join("converted.json").exists() {
            let model_type = json(&path.join("config.json"))["model_type"].clone();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let model_type = model_type.as_str().unwrap().to_owned();
            cases.entry(model_type).or_default().push(name);
        }
    }
    // Folders come in no order.
    cases.values_mut().for_each(|names| names.sort());
    cases
}

/// What the pattern means, in a few words.
fn may_go(arch: &Arch) -> String {
    let pattern = &arch.pattern;
    if let Some(reason) = &pattern.refuse {
        return format!("none: {reason}");
    }
    let mut rules = Vec::new();
    for cycle in &pattern.cycles {
        let every = match (&cycle.key, cycle.period) {
            (Some(key), 0) => format!("every `{key}`-th"),
            (Some(key), period) => format!("one in {period} (or `{key}`)"),
            (None, period) => format!("one in {period}"),
        };
        let arrays = match &cycle.array {
            Some(_) => "; any by an array",
            None => "",
        };
        rules.push(format!("groups: {every} {}{arrays}", cycle.special));
    }
    for rule in &pattern.protect {
        rules.push(format!("some must stay: {}", rule.reason));
    }
    for rule in &pattern.switches {
        let layers: Vec<String> = rule.layers.iter().map(ToString::to_string).collect();
        rules.push(format!(
            "not from or to {} layers: {}",
            layers.join(" or "),
            rule.reason
        ));
    }
    for rule in &pattern.refuse_with {
        rules.push(format!("none with `{}`: {}", rule.key, rule.reason));
    }
    match rules.is_empty() {
        true => "any".to_owned(),
        false => rules.join("; "),
    }
}

fn page() -> String {
    let manifests = json(&root().join("fixtures/gguf/manifests.json"));
    let (golden, mut text) = (golden_cases(), HEAD.to_owned());
    text += "## Converted, scored and run\n\n| architecture | `model_type` | cases in fixtures/golden | layers that may go | GGUF → GGUF | HF → HF | HF → GGUF | GGUF → HF | decoder | half layers |\n|---|---|---|---|---|---|---|---|---|---|\n";
    for arch in Arch::all().iter().filter(|arch| arch.in_hugging_face()) {
        let types: Vec<&str> = arch.model_types.keys().map(String::as_str).collect();
        let cases: Vec<String> = types
            .iter()
            .flat_map(|ty| golden.get(*ty).into_iter().flatten().cloned())
            .collect();
        // A description that no independent program was held against is not one.
        assert!(!cases.is_empty(), "{} has no golden case", arch.name);
        text += &format!(
            "| {} | {} | {} | {} | A B | B | C | D | E | {} |\n",
            arch.name,
            types.join(", "),
            cases.join(", "),
            may_go(arch),
            arch.half_layers.as_ref().map_or("–", |_| "H")
        );
    }
    text += "\n## Written where half a layer goes, pruned and run\n\n| architecture | written of | layers that may go | GGUF → GGUF | GGUF → HF | decoder | half layers |\n|---|---|---|---|---|---|---|\n";
    let no_class = |arch: &&Arch| arch.is_described() && !arch.in_hugging_face();
    for arch in Arch::all().iter().filter(no_class) {
        let written_so = |other: &&Arch| other.half_layers.as_ref() == Some(&arch.name);
        let sources = Arch::all().iter().filter(written_so);
        let sources: Vec<&str> = sources.map(|other| other.name.as_str()).collect();
        assert!(manifests.get(arch.gguf_name()).is_some());
        text += &format!(
            "| {} | {} | {} | A | – | H | H |\n",
            arch.name,
            sources.join(", "),
            may_go(arch)
        );
    }
    text += "\n## Pruned in GGUF only, by `--drop-layers`\n\n| architecture | layers that may go | GGUF → GGUF | HF → HF | HF → GGUF | GGUF → HF | decoder |\n|---|---|---|---|---|---|---|\n";
    for arch in Arch::all().iter().filter(|arch| !arch.is_described()) {
        let shown = match (manifests.get(arch.gguf_name()), &arch.pattern.refuse) {
            (Some(_), None) => "A",
            (Some(_), Some(_)) => "refused, A",
            (None, Some(_)) => "refused",
            (None, None) => "not run: llama.cpp's own tests make no such model",
        };
        text += &format!(
            "| {} | {} | {shown} | – | – | – | – |\n",
            arch.name,
            may_go(arch)
        );
    }
    text
}

#[test]
fn the_page_of_architectures_is_what_slim_does() {
    let (path, page) = (root().join(PAGE), page());
    if std::env::var_os("SLIM_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "{PAGE} is not what slim does: run `SLIM_WRITE_DOCS=1 cargo test --test architectures`"
    );
}
