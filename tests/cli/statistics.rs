//! What the report says about chance, precision and slices.

use serde_json::Value;

use crate::bench::Bench;

const ASKED: &str = "--suite VILLAGE/suite --report-items 8";

#[test]
fn a_model_held_against_itself_differs_in_nothing() {
    let bench = Bench::new();
    let ran = bench.slim(&format!("verify VILLAGE VILLAGE {ASKED} --json"));
    let report: Value = serde_json::from_str(&ran.quietly().stdout).unwrap();
    let cells = report["comparison"]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 12);
    for cell in cells {
        assert_eq!(cell["p"].as_f64(), Some(1.0));
        assert_eq!(cell["p_holm"].as_f64(), Some(1.0));
        assert_eq!(cell["difference"]["estimate"].as_f64(), Some(0.0));
    }
    for change in report["comparison"]["health"].as_array().unwrap() {
        assert_eq!(change["worse"], false);
    }
}

#[test]
fn a_finer_precision_asks_for_more_items_than_the_suite_has() {
    let bench = Bench::new();
    let needed = |precision: &str| {
        let verify = format!("verify VILLAGE VILLAGE {ASKED} --precision {precision} --json");
        let report: Value = serde_json::from_str(&bench.slim(&verify).quietly().stdout).unwrap();
        let families = report["resolution"]["families"].as_array().unwrap();
        assert!(families.iter().all(|f| f["n"] == 8), "{families:?}");
        let needed = families.iter().map(|f| f["items_needed"].as_u64().unwrap());
        needed.max().unwrap()
    };
    assert!(needed("0.02") > 5 * needed("0.1"));
    let ran = bench.slim(&format!("verify VILLAGE VILLAGE {ASKED} --precision 0.02"));
    let stdout = ran.quietly().stdout;
    assert!(stdout.contains("--report-items"), "{stdout}");
    assert!(stdout.contains("of your own (--suite)"), "{stdout}");
}

#[test]
fn a_precision_that_is_no_share_is_refused() {
    let bench = Bench::new();
    for wrong in ["0", "1", "5", "NaN", "fine"] {
        let ran = bench.slim(&format!("verify VILLAGE VILLAGE --precision {wrong}"));
        assert_eq!(ran.code, Some(2), "{wrong}: {ran:?}");
        assert!(ran.stderr.contains("0.05"), "{wrong}: {}", ran.stderr);
    }
}

#[test]
fn slices_are_shown_when_they_are_asked_for_and_chance_is_named() {
    let bench = Bench::new();
    for command in [
        format!("verify VILLAGE VILLAGE {ASKED}"),
        "eval VILLAGE --suite VILLAGE/suite --items 8".to_owned(),
    ] {
        let brief = bench.slim(&command).quietly().stdout;
        let full = bench.slim(&format!("{command} --slices")).quietly().stdout;
        for slice in ["head", "tail", "near", "far", "shallow", "deep"] {
            assert!(!brief.contains(slice), "{slice}: {brief}");
            assert!(full.contains(slice), "{slice}: {full}");
        }
        assert!(brief.contains("not above chance"), "{brief}");
        for line in full.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
