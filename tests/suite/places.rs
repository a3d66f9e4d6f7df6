//! Where a text names an option, and how often, tells nothing about whether it is right.

use slim::suite::harness::Options;
use slim::suite::{Family, Sheet, SheetItem, Suite};
use slim::verify::SLICE_PAIRS;
use std::path::Path;

/// Ways to guess by place; the lowest key is the guess, of several that are equal any.
type Key = fn(&[usize]) -> (usize, usize);
const WAYS: [(&str, Key); 4] = [
    ("named first", |at| (at[0], 0)),
    ("named last", |at| (0, usize::MAX - at[at.len() - 1])),
    ("named most often", |at| (usize::MAX - at.len(), 0)),
    ("named least often", |at| (at.len(), 0)),
];

/// Standard errors above chance from which a way to guess is no accident.
const CLEARLY: f64 = 2.6;

/// Where the text has the words, not as part of others.
fn named_at(text: &str, words: &str) -> Vec<usize> {
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let places = text.match_indices(words).map(|(at, _)| at);
    places
        .filter(|&at| {
            let (before, after) = (&text[..at], &text[at + words.len()..]);
            !inside(before.chars().next_back()) && !inside(after.chars().next())
        })
        .collect()
}

/// Of the options that the context names: where, and whether it is the right one.
fn named(item: &SheetItem) -> Vec<(Vec<usize>, bool)> {
    let options = item.options.iter().enumerate();
    options
        .map(|(i, option)| (named_at(&item.context, option), i == item.answer))
        .filter(|(places, _)| !places.is_empty())
        .collect()
}

/// How many standard errors a way to guess is above chance.
fn advantage(items: &[&SheetItem], key: Key) -> f64 {
    let (mut above, mut variance) = (0.0, 0.0);
    for item in items {
        let named = named(item);
        let best = named.iter().map(|(places, _)| key(places)).min();
        if named.len() < 2 || !named.iter().any(|(_, right)| *right) {
            continue;
        }
        let guessed = named.iter().filter(|(p, _)| Some(key(p)) == best);
        let hits = guessed.clone().filter(|(_, right)| *right).count();
        let chance = 1.0 / named.len() as f64;
        above += hits as f64 / guessed.count() as f64 - chance;
        variance += chance * (1.0 - chance);
    }
    above / f64::sqrt(variance.max(f64::MIN_POSITIVE))
}

#[test]
fn no_place_in_the_text_tells_the_right_answer() {
    let mut guessed = 0;
    for sheet in Sheet::embedded() {
        let all: Vec<&SheetItem> = sheet.items.iter().collect();
        let mut groups = vec![("all", all.clone())];
        // Slices of retrieval are places: near, middle, far.
        if sheet.family == Family::Reasoning {
            for slice in ["one-step", "many-steps"] {
                let of = |item: &&SheetItem| item.slices.iter().any(|name| name == slice);
                groups.push((slice, all.iter().copied().filter(of).collect()));
            }
        }
        for (group, items) in groups {
            for (way, key) in WAYS {
                let found = advantage(&items, key);
                guessed += usize::from(found.abs() > 0.01);
                assert!(
                    found < CLEARLY,
                    "{} {group}: what is {way} is right, {found:.1} standard errors above chance",
                    sheet.task
                );
            }
        }
    }
    assert!(guessed > 20, "{guessed}");
}

/// The guesses find what they are to find.
#[test]
fn a_task_whose_last_name_is_right_is_noticed() {
    let item = |i: usize| SheetItem {
        context: ["Ann, Bob.", "Bob, Ann."][i % 2].to_owned(),
        options: vec!["Ann".to_owned(), "Bob".to_owned()],
        answer: 1 - i % 2,
        ..Sheet::embedded()[0].items[0].clone()
    };
    let items: Vec<SheetItem> = (0..20).map(item).collect();
    let items: Vec<&SheetItem> = items.iter().collect();
    let found: Vec<f64> = WAYS
        .iter()
        .map(|(_, key)| advantage(&items, *key))
        .collect();
    assert!(found[0] < -4.0 && found[1] > 4.0, "{found:?}");
    assert_eq!(found[2..], [0.0, 0.0]);
}

/// Else `slim verify` would compare nothing there.
#[test]
fn the_villages_slices_are_pairs_that_are_compared() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/village/suite");
    let suite = Suite::open(folder, &Options::default()).unwrap();
    assert_eq!(suite.tasks.len(), Family::ALL.len());
    for task in &suite.tasks {
        let has = |slice: &str| task.items.iter().any(|item| item.main_slice() == slice);
        let mut pairs = SLICE_PAIRS.iter();
        assert!(
            pairs.any(|pair| has(pair.one) && has(pair.other)),
            "{}: {:?}",
            task.name,
            task.items[0].slices
        );
    }
}
