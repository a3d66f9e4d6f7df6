//! Facts that stand in the context: paired at random, so that none can be known.

use slim::suite::{Family, Sheet};

use super::make::{Draft, Maker, NAMES, except, sentences, shot};

const MADE_UP: &[&str] = &[
    "Orla", "Tavi", "Brenn", "Sumi", "Kesto", "Lirra", "Dovan", "Mirek", "Jula", "Parno", "Zella",
    "Hodge", "Runa", "Vesk", "Aldo", "Nimra",
];

const WORDS: &[&str] = &[
    "copper", "garden", "river", "candle", "winter", "button", "silver", "ladder", "pepper",
    "window", "rabbit", "anchor", "violin", "harbor", "pencil", "marble", "forest", "basket",
];

/// How far before the question the answer stands.
const DISTANCES: [&str; 3] = ["near", "far", "middle"];

const PLACES: &[&str] = &[
    "kitchen", "garden", "barn", "cellar", "office", "church", "forest", "market",
];

const JOBS: &[&str] = &[
    "baker", "nurse", "pilot", "farmer", "singer", "teacher", "doctor", "painter",
];

pub fn retrieval_words() -> Sheet {
    let mut make = Maker::new(11);
    while let Some(round) = make.round(105) {
        let distance = DISTANCES[round % 3];
        let (size, count) = [("few", 4), ("many", 7), ("crowd", 12)][round / 3 % 3];
        let names = make.random.pick(MADE_UP, count);
        let words = make.random.pick(WORDS, count);
        // The last two are near, the first two are far.
        let side = make.random.below(2);
        let key = match distance {
            "near" => count - 1 - side,
            "middle" => count / 2 - side,
            _ => side,
        };
        let mut wrong = except(&words, words[key]);
        make.random.shuffle(&mut wrong);
        wrong.truncate(3);
        let rows = names.iter().zip(&words);
        make.add(Draft {
            slices: vec![distance, size],
            context: sentences(rows.map(|(name, word)| format!("{name}: {word}."))),
            question: format!("Which word does {} have?", names[key]),
            stem: format!("{}:", names[key]),
            right: words[key],
            wrong,
            ..Draft::default()
        });
    }
    let context = "Ilse: hammer. Borin: cotton. Wanda: saddle.";
    let shots = vec![shot(
        context,
        "Which word does Borin have?",
        "",
        &["hammer", "saddle", "cotton"],
        2,
    )];
    make.task(
        "retrieval_words",
        Family::Retrieval,
        "Find a made-up name's word in a list: near to the question or far from it, among few or many.",
        shots,
    )
}

pub fn retrieval_people() -> Sheet {
    let mut make = Maker::new(12);
    while let Some(round) = make.round(105) {
        let distance = DISTANCES[round % 3];
        let kind = ["forward", "reverse", "joined"][round / 3 % 3];
        let names = make.random.pick(NAMES, 4);
        let jobs = make.random.pick(JOBS, 4);
        let places = make.random.pick(PLACES, 4);
        let key = match distance {
            "near" => 3,
            "middle" => 1 + make.random.below(2),
            _ => 0,
        };
        let (name, job, place) = (names[key], jobs[key], places[key]);
        let (question, stem, all) = match kind {
            "forward" => (
                format!("Where is {name}?"),
                format!("{name} is in the"),
                &places,
            ),
            "reverse" => (
                format!("Who is in the {place}?"),
                format!("Who is in the {place}? It is"),
                &names,
            ),
            _ => (
                format!("Where is the {job}?"),
                format!("The {job} is in the"),
                &places,
            ),
        };
        // Only what must be joined needs the professions.
        let rows = (0..4).map(|i| match kind {
            "joined" => format!("{} the {} is in the {}.", names[i], jobs[i], places[i]),
            _ => format!("{} is in the {}.", names[i], places[i]),
        });
        make.add(Draft {
            slices: vec![distance, kind],
            context: sentences(rows),
            question,
            stem,
            right: all[key],
            wrong: except(all, all[key]),
            ..Draft::default()
        });
    }
    let context = "Kate the judge is in the attic. Paul the clerk is in the hall.";
    let shots = vec![shot(
        context,
        "Where is Kate?",
        "Kate is in the",
        &["hall", "attic"],
        1,
    )];
    make.task(
        "retrieval_people",
        Family::Retrieval,
        "Where a person is, who is at a place, or where someone of a profession is.",
        shots,
    )
}
