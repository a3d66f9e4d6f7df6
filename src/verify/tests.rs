//! Verdicts about answers that were made up.

use super::{Comparison, Measure, Resolution, compare};
use crate::eval::Outcome;
use crate::suite::Protocol;
use serde_json::{Value, json};

const FAMILIES: [&str; 4] = ["knowledge", "retrieval", "reasoning", "language"];

/// Chance of a question with four options.
const CHANCE: f64 = 0.25;

/// One family's item, as continuation unless it has health.
fn item(family: &str, slice: &str, id: &str, correct: bool) -> Value {
    json!({
        "task": format!("{family}_task"), "id": id, "family": family, "slices": [slice],
        "protocol": "continuation", "chance": CHANCE, "value": if correct { -0.1 } else { -2.0 },
        "correct": correct, "said": "", "log_probs": [], "health": null,
    })
}

fn outcomes(items: Vec<Value>) -> Vec<Outcome> {
    let read = |item| serde_json::from_value(item).expect("an outcome");
    items.into_iter().map(read).collect()
}

/// Of each family 20 items in each of two slices, of which `right` says what is right.
fn exam(right: impl Fn(&str, &str, usize) -> bool) -> Vec<Outcome> {
    let mut items = Vec::new();
    for family in FAMILIES {
        for slice in ["head", "tail"] {
            for i in 0..20 {
                let id = format!("{slice}-{i}");
                items.push(item(family, slice, &id, right(family, slice, i)));
            }
        }
    }
    outcomes(items)
}

fn able() -> Vec<Outcome> {
    exam(|_, _, i| i < 16)
}

/// The tail of knowledge lost, made up for in its head.
fn lost_in_the_tail() -> Vec<Outcome> {
    exam(|family, slice, i| match (family, slice) {
        ("knowledge", "tail") => i < 6,
        ("knowledge", "head") => true,
        _ => i < 16,
    })
}

fn verdict(comparison: &Comparison) -> String {
    let resolution = Resolution::of(comparison, 0.05, |_| (40, 100));
    let file = json!({"path": "m.gguf", "bytes": 1, "n_layers": 8, "sha256": ""});
    let report = json!({
        "schema_version": 1, "slim": "0", "original": file, "pruned": file, "suite": "s",
        "device": "cpu", "dtype": "f32", "plan": null, "gates": [], "passed": true,
        "comparison": comparison, "resolution": resolution,
    });
    let report = serde_json::from_value(report).expect("a report reads as it is written");
    crate::report::terminal::report(&report, true)
}

#[test]
fn a_model_does_not_differ_from_itself() {
    let same = compare(&able(), &able());
    for cell in same.cells.iter().chain(&same.slices) {
        assert_eq!((cell.p, cell.p_holm), (1.0, Some(1.0)));
        assert_eq!(cell.difference.estimate, 0.0);
        assert!(cell.difference.low < 0.0 && 0.0 < cell.difference.high);
        assert_eq!(cell.retained.expect("above chance").estimate, 1.0);
    }
    assert!(same.silent_breaks().is_empty());
    assert!(same.contrasts.iter().all(|c| c.finding().is_none()));
}

#[test]
fn the_order_of_the_items_does_not_change_the_verdict() {
    let (original, pruned) = (able(), lost_in_the_tail());
    let there = compare(&original, &pruned);
    let mut random = fastrand::Rng::with_seed(3);
    let shuffled = |outcomes: &[Outcome], random: &mut fastrand::Rng| {
        let mut outcomes = outcomes.to_vec();
        random.shuffle(&mut outcomes);
        outcomes
    };
    for _ in 0..3 {
        let original = shuffled(&original, &mut random);
        assert_eq!(there, compare(&original, &shuffled(&pruned, &mut random)));
    }
}

#[test]
fn what_fell_in_one_slice_is_listed_first_where_the_mean_held() {
    let comparison = compare(&able(), &lost_in_the_tail());
    let breaks = comparison.silent_breaks();
    assert_eq!(breaks.len(), 1, "{breaks:?}");
    assert_eq!(breaks[0].slice.as_deref(), Some("tail"));
    assert_eq!((breaks[0].lost, breaks[0].gained), (10, 0));
    let text = verdict(&comparison);
    let first = text.lines().next().expect("a verdict");
    for word in ["fell silently", "knowledge", "tail", "80 % → 30 %"] {
        assert!(first.contains(word), "{word}: {first}");
    }
}

#[test]
fn a_slice_that_fell_with_its_family_did_not_fall_silently() {
    let all_lost = exam(|family, _, i| family != "knowledge" && i < 16);
    let comparison = compare(&able(), &all_lost);
    assert!(comparison.slices.iter().any(|slice| slice.fell()));
    assert!(comparison.silent_breaks().is_empty());
}

#[test]
fn the_adjustment_covers_the_protocols_of_all_families_and_the_slices_of_each() {
    let comparison = compare(&able(), &lost_in_the_tail());
    let tail = comparison.slices.iter().find(|slice| slice.fell());
    let tail = tail.expect("the tail of knowledge fell");
    assert_eq!(tail.p_holm, Some(2.0 * tail.p));
    let least = comparison
        .cells
        .iter()
        .map(|cell| cell.p)
        .fold(1.0, f64::min);
    let adjusted = comparison.cells.iter().filter_map(|cell| cell.p_holm);
    assert_eq!(adjusted.fold(1.0, f64::min), (4.0 * least).min(1.0));
}

#[test]
fn a_slice_of_few_questions_is_shown_and_not_tested() {
    let few = |right: bool| {
        let items = (0..9).map(|i| item("knowledge", "head", &i.to_string(), right));
        outcomes(items.collect())
    };
    let comparison = compare(&few(true), &few(false));
    assert_eq!(comparison.slices[0].n, 9);
    assert_eq!(comparison.slices[0].p_holm, None);
    assert!(verdict(&comparison).contains("too few questions to tell"));
}

#[test]
fn an_original_at_chance_has_nothing_to_retain_and_the_verdict_says_so() {
    let guessing = exam(|family, _, i| {
        if family == "retrieval" {
            i % 4 == 0
        } else {
            i < 16
        }
    });
    let comparison = compare(&guessing, &guessing);
    let cell = comparison.cells.iter().find(|cell| !cell.above_chance);
    assert_eq!(cell.expect("retrieval").retained, None);
    let line = "the original is not above chance";
    assert!(verdict(&comparison).contains(line));
}

#[test]
fn the_side_that_lost_more_is_named_with_its_interval() {
    let comparison = compare(&able(), &lost_in_the_tail());
    let found: Vec<_> = comparison
        .contrasts
        .iter()
        .filter(|c| c.finding().is_some())
        .collect();
    assert_eq!(found.len(), 1);
    let [more, less] = found[0].finding().expect("one side");
    assert_eq!((more.slice.as_str(), less.slice.as_str()), ("tail", "head"));
    // Of 20: 10 lost in the tail, 4 gained in the head.
    let difference = found[0].second_lost_more;
    assert!((difference.estimate - 0.7).abs() < 1e-12);
    assert!(
        0.3 < difference.low && difference.high < 1.0,
        "{difference:?}"
    );
    assert!(verdict(&comparison).contains("tail lost 70 points"));
}

#[test]
fn no_side_lost_more_where_both_are_down_to_guessing() {
    let original = exam(|_, slice, i| i < if slice == "head" { 20 } else { 12 });
    let guessing = exam(|_, _, i| i < 5);
    let comparison = compare(&original, &guessing);
    assert!(
        comparison
            .contrasts
            .iter()
            .all(|c| c.second_lost_more.excludes_zero())
    );
    assert!(comparison.contrasts.iter().all(|c| c.finding().is_none()));
}

/// Facts asked both ways; `closed` and `open` say which are right.
fn facts(closed: impl Fn(usize) -> bool, open: impl Fn(usize) -> bool) -> Vec<Outcome> {
    let both = |i: usize| {
        [
            item("knowledge", "closed-book", &format!("f{i}"), closed(i)),
            item(
                "knowledge",
                "in-context",
                &format!("f{i}/in-context"),
                open(i),
            ),
        ]
    };
    outcomes((0..20).flat_map(both).collect())
}

#[test]
fn what_is_gone_is_told_from_what_can_no_longer_be_read() {
    // Facts 0 to 15 are known; 17 and 3 cannot be read by the original.
    let original = facts(|i| i < 16, |i| i != 17 && i != 3);
    // 0 to 9 are gone; of these 4 to 7 are read from the context, 3 by neither.
    let pruned = facts(|i| i >= 10, |i| (4..8).contains(&i) || i >= 10);
    let comparison = compare(&original, &pruned);
    let [recall] = comparison.recall.as_slice() else {
        panic!("{:?}", comparison.recall);
    };
    assert_eq!((recall.n, recall.known, recall.gone), (20, 16, 10));
    let why = (
        recall.lost_from_weights,
        recall.reading_damaged,
        recall.undecided,
    );
    assert_eq!(why, (4, 5, 1));
    let text = verdict(&comparison).replace("\n ", "");
    for words in [
        "4 it still gives from the context: lost from the weights",
        "5 not even",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn facts_without_their_counterpart_are_not_counted() {
    let closed_only: Vec<Outcome> = facts(|i| i < 16, |_| true)
        .into_iter()
        .filter(|outcome| !outcome.id.ends_with("/in-context"))
        .collect();
    assert!(compare(&closed_only, &closed_only).recall.is_empty());
}

#[test]
fn a_question_that_only_one_was_asked_is_left_out() {
    let (original, mut pruned) = (able(), able());
    pruned.truncate(10);
    let comparison = compare(&original, &pruned);
    assert_eq!(
        comparison.cells.iter().map(|cell| cell.n).sum::<usize>(),
        10
    );
}

#[test]
fn text_that_no_longer_ends_is_clearly_worse_and_one_slip_is_not() {
    let texts = |unterminated: usize, empty: usize| {
        let text = |i: usize| {
            let mut text = item("language", "deep", &i.to_string(), true);
            text["protocol"] = json!(Protocol::Generate);
            text["health"] = json!({
                "unterminated": i < unterminated, "empty": i < empty, "repetition": 0.1,
            });
            text
        };
        outcomes((0..40).map(text).collect())
    };
    let health = compare(&texts(1, 0), &texts(12, 1)).health;
    let worse: Vec<Measure> = health
        .iter()
        .filter(|c| c.worse)
        .map(|c| c.measure)
        .collect();
    assert_eq!(worse, [Measure::Unterminated]);
    assert_eq!(health[0].n, 40);
}

#[test]
fn more_items_would_show_smaller_losses_and_enough_of_them_are_asked_for() {
    let comparison = compare(&able(), &lost_in_the_tail());
    let asked = |precision| Resolution::of(&comparison, precision, |_| (40, 100));
    let (coarse, fine) = (asked(0.1), asked(0.05));
    for (coarse, fine) in coarse.families.iter().zip(&fine.families) {
        assert!(fine.items_needed > 3 * coarse.items_needed);
        assert_eq!(coarse.n, 40);
    }
    let text = verdict(&comparison).replace("\n ", "");
    let needed = fine.families.iter().map(|family| family.items_needed).max();
    let needed = needed.expect("four families");
    assert!(text.contains(&format!("--report-items {needed}")), "{text}");
    assert!(text.contains("points can go unseen"), "{text}");
}

#[test]
fn the_verdict_fits_100_columns() {
    let comparison = compare(&able(), &lost_in_the_tail());
    for line in verdict(&comparison).lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}
