//! Pictures of what was measured.

use crate::bench::Bench;
use serde_json::Value;
use std::fs;

const ASK: &str = "--suite VILLAGE/suite --protocols continuation";

/// Runs a command that writes a picture of `json`, and reads both.
fn drawn(bench: &Bench, json: &str) -> (Value, String) {
    bench
        .slim(&format!("report {json} -o {json}.svg"))
        .quietly();
    let found = fs::read(bench.path(json)).unwrap();
    let svg = fs::read_to_string(bench.path(&format!("{json}.svg"))).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for element in ["text", "title", "svg", "style"] {
        let opened = svg.matches(&format!("<{element} ")).count()
            + svg.matches(&format!("<{element}>")).count();
        assert_eq!(
            opened,
            svg.matches(&format!("</{element}>")).count(),
            "{element}"
        );
    }
    (serde_json::from_slice(&found).unwrap(), svg)
}

#[test]
fn profiles_and_curves_are_drawn_with_everything_that_was_measured() {
    let bench = &Bench::new();
    bench
        .slim(&format!(
            "score VILLAGE {ASK} --calibrate-items 2 -o profile.json"
        ))
        .quietly();
    let (profile, svg) = drawn(bench, "profile.json");
    let layers = profile["layers"].as_array().unwrap();
    for layer in layers {
        for drop in layer["drops"].as_array().unwrap() {
            let nats = drop["nats"].as_f64().unwrap();
            let says = format!("layer {}: {nats:+.3} ±", layer["layer"]);
            assert!(svg.contains(&says), "{says}");
        }
    }
    bench
        .slim(&format!(
            "score VILLAGE {ASK} --calibrate-items 1 --granularity head -o heads.json"
        ))
        .quietly();
    let (heads, svg) = drawn(bench, "heads.json");
    let n = heads["heads"].as_array().unwrap().len();
    let families = heads["original"].as_array().unwrap().len();
    assert_eq!(svg.matches("<title>layer").count(), n * families);
    bench
        .slim(&format!(
            "plan profile.json --model VILLAGE {ASK} --select-items 2 --method influence --curve --keep 5 --heal none -o plan.json"
        ))
        .quietly();
    let (plan, svg) = drawn(bench, "plan.json");
    for point in plan["curve"].as_array().unwrap() {
        for (family, share) in point["retained"].as_object().unwrap() {
            let kept = point["keep"].as_array().unwrap().len();
            let share = 100.0 * share.as_f64().unwrap();
            assert!(svg.contains(&format!("{family}, {kept} layers: {share:.0} %")));
        }
    }
}

#[test]
fn what_cannot_be_drawn_is_named() {
    let bench = &Bench::new();
    fs::write(bench.path("other.json"), "{\"a\": 1}").unwrap();
    fs::write(bench.path("broken.json"), "{\"layers\": 3}").unwrap();
    for (command, words) in [
        (
            "report other.json -o a.svg",
            &["neither a report", "slim plan --curve"][..],
        ),
        (
            "report broken.json -o a.svg",
            &["broken.json", "is no profile"],
        ),
        ("report absent.json -o a.svg", &["absent.json"]),
        ("report other.json -o a.png", &["a.png", ".svg"]),
    ] {
        let ran = bench.slim(command);
        assert_eq!(ran.unlike_an_error(words), None, "{command}");
        assert!(!bench.path("a.svg").exists());
    }
}

#[test]
fn a_verification_is_written_for_people_and_for_pipelines() {
    let bench = &Bench::new();
    fs::write(
        bench.path("gates.toml"),
        "by = \"point\"\ngates = [\"size<=0.99\", \"retrieval>=1.9\", \"repetition<=1\"]\n",
    )
    .unwrap();
    let ran = bench.slim(
        "prune --drop-layers 3,4 VILLAGE small.gguf --suite VILLAGE/suite --report-items 8 --gates gates.toml \
         --report r.json --report r.md --report r.xml --report r.html",
    );
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let read = |name: &str| fs::read_to_string(bench.path(name)).unwrap();
    let report: Value = serde_json::from_str(&read("r.json")).unwrap();
    let passed: Vec<bool> = report["gates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gate| gate["passed"].as_bool().unwrap())
        .collect();
    assert_eq!(passed, [true, false, true]);
    let junit = read("r.xml");
    assert!(
        junit.contains("tests=\"4\" failures=\"1\"")
            && junit.contains("name=\"retrieval&gt;=1.9\"")
    );
    let summary = read("r.md");
    assert!(
        summary.starts_with("## slim: FAILED")
            && summary.contains("| `retrieval>=1.9` | **failed** |")
    );
    let page = read("r.html");
    for part in [
        "Gates",
        "What was retained",
        "Before and after",
        "Provenance",
    ] {
        assert!(page.contains(&format!("<h2>{part}</h2>")), "{part}");
    }
    for loads in ["<script", "src=", "href=", "@import", "url("] {
        assert!(
            !page.contains(loads),
            "the page needs nothing else: {loads}"
        );
    }
    let pair = &report["texts"][0];
    assert!(
        pair["prompt"].as_str().is_some_and(|text| !text.is_empty()),
        "{report}"
    );
    // The same page from the file, with a profile.
    bench
        .slim(&format!(
            "score VILLAGE {ASK} --calibrate-items 1 -o profile.json"
        ))
        .quietly();
    bench.slim("report r.json -o again.html").quietly();
    assert_eq!(read("again.html"), page);
    bench
        .slim("report r.json profile.json -o more.html")
        .quietly();
    assert!(read("more.html").contains("What each layer is worth"));
    bench
        .slim("report profile.json profile.json -o alone.html")
        .quietly();
    let alone = read("alone.html");
    assert_eq!(alone.matches("where each family lives").count(), 2);
}

#[test]
fn reports_of_unknown_kinds_are_refused_before_any_work() {
    let bench = Bench::new();
    for name in ["report.pdf", "report", "report.JSON5"] {
        let command = format!("prune --drop-layers 3 VILLAGE small.gguf --report {name}");
        let ran = bench.slim(&command);
        assert_eq!(ran.unlike_an_error(&[name, ".json", ".xml"]), None);
        assert!(!bench.path("small.gguf").exists(), "{command}");
    }
}
