//! The embedded suite keeps its promises, and people's own task files are read strictly.

mod own_files;
mod places;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use slim::eval::accepts;
use slim::suite::harness::Options;
use slim::suite::{Answer, Family, Item, Protocol, Sheet, Split, Suite, Task};

#[path = "../../examples/generate_suite/main.rs"]
#[allow(dead_code)]
mod generate_suite;

fn tasks_folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/suite/tasks")
}

fn served(suite: &Suite, family: Family, protocol: Protocol) -> Vec<(&Task, &Item)> {
    let tasks = suite.tasks.iter().filter(|task| task.family == family);
    let items = tasks.flat_map(|task| task.items.iter().map(move |item| (task, item)));
    items
        .filter(|(_, item)| item.ask(protocol).is_some())
        .collect()
}

#[test]
fn every_family_has_two_tasks_and_a_hundred_items_in_every_protocol() {
    let suite = Suite::embedded();
    for &family in Family::ALL {
        for &protocol in Protocol::ALL {
            let served = served(&suite, family, protocol);
            let tasks: HashSet<&str> = served.iter().map(|(task, _)| task.name.as_str()).collect();
            assert!(tasks.len() >= 2, "{family} {protocol}: {tasks:?}");
            assert!(served.len() >= 100, "{family} {protocol}: {}", served.len());
        }
    }
}

#[test]
fn the_embedded_tasks_are_the_files_of_the_folder_in_their_layout() {
    let opened = Suite::open(tasks_folder(), &Options::default()).expect("the folder reads");
    let names = |suite: &Suite| {
        suite
            .tasks
            .iter()
            .map(|t| t.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&opened), names(&Suite::embedded()));
    for task in &Sheet::embedded() {
        let file = tasks_folder().join(format!("{}.json", task.task));
        let text = std::fs::read_to_string(&file).expect("named after its task");
        assert!(
            task.to_json() == text,
            "{}: not as Sheet::to_json writes it",
            file.display()
        );
    }
}

#[test]
fn the_generated_tasks_are_what_the_generator_makes() {
    for task in generate_suite::tasks() {
        let file = tasks_folder().join(format!("{}.json", task.task));
        let text = std::fs::read_to_string(&file).expect("a file a task");
        assert!(
            task.to_json() == text,
            "{} differs: cargo run --example generate_suite",
            file.display()
        );
    }
}

#[test]
fn right_answers_are_spread_evenly_over_the_positions() {
    for task in Sheet::embedded() {
        let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for item in &task.items {
            *counts.entry((item.options.len(), item.answer)).or_default() += 1;
        }
        for ((options, _), count) in &counts {
            let same = counts
                .iter()
                .filter(|((n, _), _)| n == options)
                .map(|(_, count)| *count);
            let (total, positions) = (same.clone().sum::<usize>(), *options);
            assert!(
                same.count() == positions,
                "{}: a position is never right",
                task.task
            );
            assert!(
                count.abs_diff(total / positions) <= 1,
                "{}: {counts:?}",
                task.task
            );
        }
    }
}

#[test]
fn prompts_are_short_and_end_without_space() {
    for task in &Suite::embedded().tasks {
        for item in &task.items {
            for ask in &item.asks {
                let prompt = &ask.prompts()[0];
                assert_eq!(prompt.trim_end(), prompt, "{} {}", task.name, item.id);
                assert!(prompt.len() < 900, "{} {}: {prompt}", task.name, item.id);
                let delimiter = if prompt.is_empty() { "" } else { " " };
                assert_eq!(ask.delimiter, delimiter, "{} {}", task.name, item.id);
                if let Answer::Written(written) = &ask.answer {
                    let said = format!(" {}.\nMore", written.targets[0]);
                    assert!(accepts(written, &said), "{} {}", task.name, item.id);
                }
            }
        }
    }
}

#[test]
fn no_item_is_asked_twice() {
    let mut asked = HashSet::new();
    for task in Sheet::embedded() {
        for item in &task.items {
            let text = (
                item.context.clone(),
                item.stem.clone(),
                item.target().to_owned(),
            );
            assert!(asked.insert(text), "{} {}", task.task, item.id);
        }
    }
}

#[test]
fn no_wrong_option_is_accepted() {
    for sheet in Sheet::embedded() {
        for (item, asked) in sheet.items.iter().zip(sheet.to_task().items) {
            let Some(written) = asked.ask(Protocol::Generate).and_then(|ask| ask.written()) else {
                continue;
            };
            let options = item.options.iter().enumerate();
            for (_, option) in options.filter(|(i, _)| *i != item.answer) {
                let name = &sheet.task;
                assert!(!accepts(written, option), "{name} {}: {option}", item.id);
            }
        }
    }
}

#[test]
fn splits_are_one_to_one_to_three_in_every_task_and_slice() {
    for task in Suite::embedded().tasks {
        let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
        // A fact in the context has the split of the fact from memory, not a turn of its own.
        for item in task.items.iter().filter(|item| !item.id.ends_with(TWIN)) {
            counts.entry(item.main_slice()).or_default()[item.split as usize] += 1;
        }
        for (slice, [calibrate, select, report]) in counts {
            let fifth = (calibrate + select + report) / 5;
            assert!(calibrate.abs_diff(fifth) <= 1, "{} {slice}", task.name);
            assert!(select.abs_diff(fifth) <= 1, "{} {slice}", task.name);
            assert!(report >= 3 * fifth, "{} {slice}", task.name);
        }
    }
}

/// What the id of an item ends in that states the fact of a closed-book item in its context.
const TWIN: &str = "/in-context";

#[test]
fn every_fact_that_is_reported_is_asked_from_memory_and_from_the_context() {
    for task in &Suite::embedded().tasks {
        let of = |id: &str| task.items.iter().find(|item| item.id == id);
        for item in &task.items {
            let fact = item.id.strip_suffix(TWIN).map(|id| of(id).expect(id));
            let twin = of(&format!("{}{TWIN}", item.id));
            let is_in = |item: &Item, slice: &str| item.slices.iter().any(|name| name == slice);
            if let Some(fact) = fact {
                assert_eq!(item.split, fact.split, "{} {}", task.name, item.id);
                assert_eq!(item.main_slice(), "in-context", "{}", item.id);
                assert!(is_in(fact, "closed-book") && !is_in(item, "closed-book"));
            } else if task.family == Family::Knowledge {
                let reports = item.split == Split::Report;
                assert_eq!(twin.is_some(), reports, "{} {}", task.name, item.id);
                assert!(is_in(item, "closed-book"), "{}", item.id);
            }
        }
    }
}

#[test]
fn a_twin_asks_the_same_after_its_fact_and_a_rival() {
    for sheet in Sheet::embedded() {
        for item in &sheet.items {
            let Some(id) = item.id.strip_suffix(TWIN) else {
                continue;
            };
            let fact = sheet.items.iter().find(|fact| fact.id == id).expect(id);
            assert_eq!(
                (&item.question, &item.stem, &item.options, item.answer),
                (&fact.question, &fact.stem, &fact.options, fact.answer)
            );
            let named = item.options.iter();
            let named = named.filter(|option| says(&item.context, option));
            let named: Vec<&String> = named.collect();
            assert!(
                named.len() >= 2 && named.iter().any(|option| *option == item.target()),
                "{id}: {:?} names only {named:?}",
                item.context
            );
        }
    }
}

/// Whether the text has the words, not as part of others.
fn says(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + words.len()..].chars().next();
        ![before, after]
            .iter()
            .flatten()
            .any(|c| c.is_alphanumeric())
    })
}

#[test]
fn every_dial_of_difficulty_has_three_positions() {
    let dials = [
        (Family::Knowledge, ["head", "tail", "in-context"]),
        (Family::Retrieval, ["near", "middle", "far"]),
        (Family::Retrieval, ["few", "many", "crowd"]),
        (Family::Reasoning, ["one-step", "two-steps", "three-steps"]),
        (
            Family::Language,
            ["no-attractor", "one-attractor", "two-attractors"],
        ),
    ];
    let suite = Suite::embedded();
    for (family, slices) in dials {
        for slice in slices {
            let tasks = suite.tasks.iter().filter(|task| task.family == family);
            let items = tasks.flat_map(|task| &task.items);
            let reported = items.filter(|item| item.split == Split::Report);
            let n = reported
                .filter(|i| i.slices.iter().any(|s| s == slice))
                .count();
            assert!(n >= 10, "{family} {slice}: {n} items in report");
        }
    }
}

#[test]
fn every_family_reports_on_a_hundred_and_twenty_items_in_every_protocol() {
    let suite = Suite::embedded();
    for &family in Family::ALL {
        for &protocol in Protocol::ALL {
            let served = served(&suite, family, protocol);
            let report = served.iter().filter(|(_, i)| i.split == Split::Report);
            // Facts of both ways count once: what is asked from memory alone is enough.
            let n = report.filter(|(_, i)| !i.id.ends_with(TWIN)).count();
            assert!(n >= 120, "{family} {protocol}: {n}");
        }
    }
}

#[test]
fn a_sample_is_spread_over_tasks_and_slices_and_grows_by_adding() {
    let suite = Suite::embedded();
    let (small, large) = (
        suite.sample(Split::Report, 12),
        suite.sample(Split::Report, 30),
    );
    for &family in Family::ALL {
        let ids = |sample: &[(&Task, &Item)]| -> Vec<String> {
            let of_family = sample.iter().filter(|(task, _)| task.family == family);
            of_family
                .map(|(task, item)| format!("{}/{}", task.name, item.id))
                .collect()
        };
        let (few, more) = (ids(&small), ids(&large));
        assert_eq!(few.len(), 12);
        assert_eq!(few, more[..12], "{family}");
        let mut cells: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (task, item) in large.iter().filter(|(task, _)| task.family == family) {
            *cells.entry((&task.name, item.main_slice())).or_default() += 1;
        }
        let tasks = suite
            .tasks
            .iter()
            .filter(|task| task.family == family)
            .count();
        let (least, most) = (cells.values().min(), cells.values().max());
        assert!(cells.len() >= 2 * tasks, "{family}: {cells:?}");
        assert!(
            most.zip(least)
                .is_some_and(|(most, least)| most - least <= 1),
            "{cells:?}"
        );
    }
    let all = suite.sample(Split::Calibrate, usize::MAX);
    let calibrate = suite.tasks.iter().flat_map(|task| &task.items);
    assert_eq!(
        all.len(),
        calibrate
            .filter(|item| item.split == Split::Calibrate)
            .count()
    );
}

#[test]
fn a_task_written_and_opened_again_is_the_same() {
    for sheet in Sheet::embedded() {
        let path = Path::new("again.json");
        let again = Sheet::read(path, sheet.to_json().as_bytes()).expect("reads back");
        assert_eq!(again, sheet);
    }
}
