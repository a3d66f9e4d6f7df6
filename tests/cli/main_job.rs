//! The whole job: score, choose, write, verify, report; and its exit codes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::OnceLock;

use candle_core::quantized::gguf_file::{Content, Value as GgufValue};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::bench::{Bench, FEW, Ran, village};

const JOB: &str =
    "prune --keep 6 --preserve retrieval VILLAGE small.gguf --report report.json --report-items 16";

/// The job, done once for all tests.
fn done() -> &'static (Bench, Ran) {
    static DONE: OnceLock<(Bench, Ran)> = OnceLock::new();
    DONE.get_or_init(|| {
        let bench = Bench::shared("main-job");
        let ran = bench.slim(&format!("{JOB} {FEW}"));
        (bench, ran)
    })
}

fn report() -> Value {
    serde_json::from_slice(&fs::read(done().0.path("report.json")).unwrap()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The metadata as candle's reader sees them.
fn written() -> Content {
    let mut file = File::open(done().0.path("small.gguf")).unwrap();
    Content::read(&mut file).unwrap()
}

#[test]
fn the_whole_job_is_one_quiet_command_that_leaves_two_files() {
    let (bench, ran) = done();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr, "", "stderr is no terminal and must stay empty");
    assert_eq!(bench.names(), ["report.json", "small.gguf"]);
    for word in ["keep 6 of 8 layers", "retrieval", "retained"] {
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
    }
}

#[test]
fn the_written_file_has_six_whole_layers_and_says_where_they_come_from() {
    let content = written();
    let text = |key: &str| content.metadata[key].to_string().unwrap().clone();
    let number = |key: &str| content.metadata[key].to_u32().unwrap();
    assert_eq!(number("llama.block_count"), 6);
    assert_eq!(number("slim.source.block_count"), 8);
    let mut layers: BTreeMap<String, usize> = BTreeMap::new();
    for name in content.tensor_infos.keys() {
        if let Some(layer) = name.strip_prefix("blk.") {
            *layers
                .entry(layer.split('.').next().unwrap().to_owned())
                .or_default() += 1;
        }
    }
    let whole: Vec<_> = (0..6).map(|layer| (layer.to_string(), 9)).collect();
    assert_eq!(layers.into_iter().collect::<Vec<_>>(), whole);

    let weights = fs::read(village().join("model.safetensors")).unwrap();
    assert_eq!(text("slim.source.sha256"), sha256(&weights));
    assert_eq!(text("slim.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(text("slim.source.name"), "village");
    let GgufValue::Array(kept) = &content.metadata["slim.layers.kept"] else {
        panic!("slim.layers.kept is no array");
    };
    let kept: Vec<i64> = kept.iter().map(|k| k.to_i32().unwrap().into()).collect();
    let planned = report()["plan"]["keep"].as_array().unwrap().clone();
    let planned: Vec<i64> = planned.iter().map(|k| k.as_i64().unwrap()).collect();
    assert_eq!(kept, planned);
    assert_eq!(kept.len(), 6);
    assert!(
        kept.contains(&0) && kept.contains(&7),
        "the ends are protected: {kept:?}"
    );
}

#[test]
fn the_report_names_every_family_and_the_very_files_it_speaks_of() {
    let report = report();
    let families = report["comparison"]["families"].as_array().unwrap();
    let families: Vec<&str> = families
        .iter()
        .map(|f| f["family"].as_str().unwrap())
        .collect();
    for family in ["knowledge", "retrieval", "reasoning", "language"] {
        assert!(
            families.contains(&family),
            "{family} is not in {families:?}"
        );
    }
    let small = fs::read(done().0.path("small.gguf")).unwrap();
    assert_eq!(report["pruned"]["sha256"], sha256(&small));
    assert_eq!(report["pruned"]["bytes"], small.len());
    assert_eq!(report["pruned"]["n_layers"], 6);
    assert_eq!(report["original"]["n_layers"], 8);
    assert_eq!(report["passed"], true);
    assert_eq!(report["plan"]["dropped"].as_array().unwrap().len(), 2);
}

#[test]
fn the_same_job_gives_the_same_bytes_and_the_same_judgement() {
    let bench = Bench::new();
    bench.slim(&format!("{JOB} {FEW}")).quietly();
    let first = fs::read(done().0.path("small.gguf")).unwrap();
    assert!(first == fs::read(bench.path("small.gguf")).unwrap());
    let again = fs::read(bench.path("report.json")).unwrap();
    let again: Value = serde_json::from_slice(&again).unwrap();
    assert_eq!(report()["comparison"], again["comparison"]);
}

#[test]
fn a_passed_gate_exits_0_and_a_failed_one_exits_1_with_everything_written() {
    let verify = "--suite VILLAGE/suite --report-items 8";
    let bench = Bench::new();
    // A copy has all that its original has: one family at least is above chance.
    bench
        .slim("prune --drop-layers 3 VILLAGE one-less.gguf")
        .quietly();
    let same = format!("verify one-less.gguf one-less.gguf {verify}");
    let gate = "--gate knowledge>=0 --gate retrieval>=0 --gate reasoning>=0 --gate language>=0";
    let judged = bench.slim(&format!("{same} {gate} --gate-by point --json"));
    let judged: Value = serde_json::from_str(&judged.stdout).unwrap();
    let gates = judged["gates"].as_array().unwrap();
    let passed = gates.iter().find(|gate| gate["passed"] == true);
    let passed = passed.expect("a family above chance")["gate"]
        .as_str()
        .unwrap();
    bench
        .slim(&format!("{same} --gate {passed} --gate-by point"))
        .quietly();

    let ran = bench.slim(&format!(
        "prune --drop-layers 3,4 VILLAGE small.gguf --gate retrieval>=1.9 --report r.json {verify}"
    ));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.stderr, "");
    assert!(ran.stdout.contains("retrieval>=1.9"), "{}", ran.stdout);
    assert_eq!(bench.names(), ["one-less.gguf", "r.json", "small.gguf"]);
    let report: Value = serde_json::from_slice(&fs::read(bench.path("r.json")).unwrap()).unwrap();
    assert_eq!(report["passed"], false);
    assert_eq!(report["gates"][0]["passed"], false);
    bench.slim("inspect small.gguf").quietly();
}

/// Of every layer, for each family and each main slice, as shares; prompts are those scored.
fn sparsity_is_measured(profile: &Value) {
    let layers = profile["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 8);
    let asked = profile["original"].as_array().unwrap();
    for layer in layers {
        let cells = layer["sparsity"].as_array().unwrap();
        for family in ["knowledge", "retrieval", "reasoning", "language"] {
            let of: Vec<_> = cells.iter().filter(|c| c["family"] == family).collect();
            let (whole, slices): (Vec<_>, Vec<_>) = of.iter().partition(|c| c["slice"].is_null());
            assert_eq!(whole.len(), 1, "{family}");
            assert!(!slices.is_empty(), "{family}");
            let n = |cells: &[&&Value]| cells.iter().map(|c| c["n"].as_u64().unwrap()).sum::<u64>();
            let scored = asked.iter().filter(|s| s["family"] == family);
            assert_eq!(
                n(&whole),
                scored.map(|s| s["n"].as_u64().unwrap()).sum::<u64>()
            );
            assert_eq!(n(&whole), n(&slices), "{family}");
        }
        for cell in cells {
            for measure in ["top_energy", "hoyer"] {
                let share = cell[measure].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&share), "{cell}");
            }
        }
    }
    let hoyer = |layer: &Value| layer["sparsity"][0]["hoyer"].as_f64().unwrap();
    assert!(layers.iter().any(|layer| hoyer(layer) != hoyer(&layers[0])));
}

#[test]
fn score_then_plan_then_prune_is_the_whole_job_in_steps() {
    let bench = Bench::new();
    let few = "--suite VILLAGE/suite";
    bench
        .slim(&format!(
            "score VILLAGE -o profile.json --calibrate-items 2 {few}"
        ))
        .quietly();
    sparsity_is_measured(
        &serde_json::from_slice(&fs::read(bench.path("profile.json")).unwrap()).unwrap(),
    );
    let plan = "--keep 5 --preserve language=1,knowledge=0.5 --select-items 2 --candidates 2";
    let model = "plan profile.json --model VILLAGE -o plan.json";
    bench.slim(&format!("{model} {plan} {few}")).quietly();
    bench.slim("prune --plan plan.json VILLAGE small").quietly();
    let plan: Value = serde_json::from_slice(&fs::read(bench.path("plan.json")).unwrap()).unwrap();
    let inspected = bench.slim("inspect --json small").quietly();
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(inspected["n_layers"], 5);
    assert_eq!(plan["keep"].as_array().unwrap().len(), 5);
    assert_eq!(plan["steps"].as_array().unwrap().len(), 3);
}
