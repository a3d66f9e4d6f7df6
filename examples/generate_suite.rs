//! Writes the generated tasks of the embedded suite: `cargo run --example generate_suite`.
//!
//! Retrieval, reasoning and nesting are made from word lists and a seed, so that nothing in them
//! can have been read before. The output is checked in; a test holds the files against this code.

use std::path::Path;

use slim::suite::{Family, Item, Protocol, SCHEMA_VERSION, Split, Task};

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/suite/tasks");
    for task in tasks() {
        std::fs::write(folder.join(format!("{}.json", task.task)), task.to_json())?;
    }
    Ok(())
}

/// Every generated task.
pub fn tasks() -> Vec<Task> {
    vec![
        retrieval_words(),
        retrieval_people(),
        reasoning_holders(),
        reasoning_numbers(),
        reasoning_order(),
        reasoning_rules(),
        language_agreement(),
        language_embedding(),
        language_brackets(),
    ]
}

// ------------------------------------------------------------------------------------ words

const MADE_UP: &[&str] = &[
    "Orla", "Tavi", "Brenn", "Sumi", "Kesto", "Lirra", "Dovan", "Mirek", "Jula", "Parno", "Zella",
    "Hodge", "Runa", "Vesk", "Aldo", "Nimra",
];
const WORDS: &[&str] = &[
    "copper", "garden", "river", "candle", "winter", "button", "silver", "ladder", "pepper",
    "window", "rabbit", "anchor", "violin", "harbor", "pencil", "marble", "forest", "basket",
];
const TOWNS: &[&str] = &[
    "Tarnwick",
    "Belmora",
    "Osdale",
    "Fernholt",
    "Quillby",
    "Lindmere",
    "Ashcombe",
    "Marrowden",
];
const JOBS: &[&str] = &[
    "baker", "nurse", "pilot", "farmer", "singer", "teacher", "doctor", "painter",
];
const NAMES: &[&str] = &[
    "Anna", "Ben", "Carl", "Dora", "Emma", "Fred", "Grace", "Henry", "Ivan", "Julia",
];
const THINGS: &[&str] = &["ball", "key", "book", "lamp", "hat", "coin", "cup", "map"];

// ------------------------------------------------------------------------------------ makers

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str], n: usize) -> Vec<&'a str> {
        let mut all = from.to_vec();
        self.shuffle(&mut all);
        all.truncate(n);
        all
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Makes the items of one task, with the right answer equally often in every position.
struct Maker {
    random: Random,
    /// Positions not used yet in this round, by number of options.
    positions: [Vec<usize>; 8],
    items: Vec<Item>,
}

/// What differs between items; the maker adds id, order of options and answer.
#[derive(Default)]
struct Draft<'a> {
    slices: [&'a str; 2],
    context: String,
    question: String,
    stem: String,
    right: &'a str,
    wrong: Vec<&'a str>,
    accept: Vec<String>,
}

impl Maker {
    fn new(seed: u64) -> Maker {
        Maker {
            random: Random(seed),
            positions: Default::default(),
            items: vec![],
        }
    }

    /// The number of the item to make next, until there are `count`.
    fn round(&self, count: usize) -> Option<usize> {
        Some(self.items.len()).filter(|made| *made < count)
    }

    /// Adds the item, unless it was asked before: then the same round is drawn again.
    fn add(&mut self, draft: Draft) {
        let asked = |item: &Item| {
            item.context == draft.context
                && item.stem == draft.stem
                && item.options.iter().any(|o| o == draft.right)
        };
        if !self.items.iter().any(asked) {
            let item = self.item(draft);
            self.items.push(item);
        }
    }

    fn item(&mut self, draft: Draft) -> Item {
        let count = draft.wrong.len() + 1;
        if self.positions[count].is_empty() {
            self.positions[count] = (0..count).collect();
            self.random.shuffle(&mut self.positions[count]);
        }
        let answer = self.positions[count].pop().unwrap_or(0);
        let mut options = draft.wrong;
        self.random.shuffle(&mut options);
        options.insert(answer, draft.right);
        Item {
            id: format!(
                "{}-{}-{}",
                draft.slices[0],
                draft.slices[1],
                self.items.len()
            ),
            slices: draft.slices.iter().map(|s| s.to_string()).collect(),
            context: draft.context,
            question: draft.question,
            stem: draft.stem,
            options: options.into_iter().map(str::to_owned).collect(),
            answer,
            accept: draft.accept,
            split: Split::Calibrate,
        }
    }

    fn task(self, name: &str, family: Family, about: &str, shots: Vec<Item>) -> Task {
        Task {
            schema_version: SCHEMA_VERSION,
            task: name.to_owned(),
            family,
            about: about.to_owned(),
            protocols: Protocol::ALL.to_vec(),
            stop: vec!["\n".to_owned(), ".".to_owned()],
            max_new_tokens: 8,
            shots,
            items: self.items,
        }
    }
}

/// A solved example; without `stem` it is shown in `choice` only, without `question` in `generate`.
fn shot(context: &str, question: &str, stem: &str, options: &[&str], answer: usize) -> Item {
    Item {
        id: String::new(),
        slices: vec![],
        context: context.to_owned(),
        question: question.to_owned(),
        stem: stem.to_owned(),
        options: options.iter().map(|option| option.to_string()).collect(),
        answer,
        accept: vec![],
        split: Split::Calibrate,
    }
}

fn sentences(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join(" ")
}

fn except<'a>(all: &[&'a str], right: &str) -> Vec<&'a str> {
    all.iter()
        .copied()
        .filter(|other| *other != right)
        .collect()
}

// ------------------------------------------------------------------------------------ retrieval

fn retrieval_words() -> Task {
    let mut make = Maker::new(11);
    while let Some(round) = make.round(60) {
        let (near, many) = (round % 2 == 0, round / 2 % 2 == 0);
        let count = if many { 7 } else { 4 };
        let names = make.random.pick(MADE_UP, count);
        let words = make.random.pick(WORDS, count);
        // The last two are near, the first two are far.
        let side = make.random.below(2);
        let key = if near { count - 1 - side } else { side };
        let mut wrong = except(&words, words[key]);
        make.random.shuffle(&mut wrong);
        wrong.truncate(3);
        let rows = names.iter().zip(&words);
        make.add(Draft {
            slices: [
                if near { "near" } else { "far" },
                if many { "many" } else { "few" },
            ],
            context: sentences(rows.map(|(name, word)| format!("{name}'s word is {word}."))),
            question: format!("What is {}'s word?", names[key]),
            stem: format!("{}'s word is", names[key]),
            right: words[key],
            wrong,
            ..Draft::default()
        });
    }
    let context = "Ilse's word is hammer. Borin's word is cotton. Wanda's word is saddle.";
    let shots = vec![shot(
        context,
        "What is Borin's word?",
        "",
        &["hammer", "saddle", "cotton"],
        2,
    )];
    make.task(
        "retrieval_words",
        Family::Retrieval,
        "Find a made-up person's word in a list: near or far from the question, among few or many.",
        shots,
    )
}

fn retrieval_people() -> Task {
    let mut make = Maker::new(12);
    while let Some(round) = make.round(72) {
        let near = round % 2 == 0;
        let kind = ["forward", "reverse", "joined"][round / 2 % 3];
        let names = make.random.pick(MADE_UP, 4);
        let jobs = make.random.pick(JOBS, 4);
        let towns = make.random.pick(TOWNS, 4);
        let key = if near { 3 } else { 0 };
        let (name, job, town) = (names[key], jobs[key], towns[key]);
        let (question, stem, all) = match kind {
            "forward" => (
                format!("Where does {name} live?"),
                format!("{name} lives in"),
                &towns,
            ),
            "reverse" => (
                format!("Who lives in {town}?"),
                format!("The person who lives in {town} is"),
                &names,
            ),
            _ => (
                format!("Where does the {job} live?"),
                format!("The {job} lives in"),
                &towns,
            ),
        };
        let rows = (0..4).map(|i| format!("{} is a {} in {}.", names[i], jobs[i], towns[i]));
        make.add(Draft {
            slices: [if near { "near" } else { "far" }, kind],
            context: sentences(rows),
            question,
            stem,
            right: all[key],
            wrong: except(all, all[key]),
            ..Draft::default()
        });
    }
    let context = "Ilse is a judge in Corbrook. Borin is a clerk in Stavely.";
    let shots = vec![shot(
        context,
        "Where does Ilse live?",
        "Ilse lives in",
        &["Stavely", "Corbrook"],
        1,
    )];
    make.task(
        "retrieval_people",
        Family::Retrieval,
        "Find a person's town, a town's person, or a profession's town in a small text.",
        shots,
    )
}

// ------------------------------------------------------------------------------------ reasoning

fn reasoning_holders() -> Task {
    let mut make = Maker::new(21);
    while let Some(round) = make.round(40) {
        let many = round % 2 == 1;
        let names = make.random.pick(NAMES, 4);
        let things = make.random.pick(THINGS, 2);
        let thing = things[0];
        let mut text = vec![format!("{} has the {thing}.", names[0])];
        let give = |from: usize, to: usize, what: &str| {
            format!("{} gives the {what} to {}.", names[from], names[to])
        };
        let end = if many { 2 } else { 1 };
        if many {
            text.push(format!("{} has the {}.", names[3], things[1]));
            text.push(give(0, 1, thing));
            text.push(give(1, 2, thing));
            // A last move of the other thing: the last name is not the answer.
            text.push(give(3, round % 4 / 2, things[1]));
        } else {
            text.push(format!("{} has the {}.", names[2], things[1]));
            text.push(give(0, 1, thing));
            if round % 4 == 2 {
                text.push(give(2, 3, things[1]));
            }
        }
        make.add(Draft {
            slices: [if many { "many-steps" } else { "one-step" }, "holders"],
            context: sentences(text),
            question: format!("Who has the {thing} now?"),
            stem: format!("Now the {thing} is with"),
            right: names[end],
            wrong: except(&names, names[end]),
            ..Draft::default()
        });
    }
    let shots = vec![shot(
        "Kate has the pen. Kate gives the pen to Paul.",
        "Who has the pen now?",
        "Now the pen is with",
        &["Paul", "Kate"],
        0,
    )];
    make.task(
        "reasoning_holders",
        Family::Reasoning,
        "Who holds the thing after it was given away once or several times.",
        shots,
    )
}

fn reasoning_numbers() -> Task {
    let mut make = Maker::new(22);
    let goods = ["apples", "eggs", "coins", "books", "cards", "pens"];
    let words = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
    ];
    let mut ranks = Vec::new();
    while let Some(round) = make.round(48) {
        let many = round % 2 == 1;
        let kind = ["sum", "story"][round / 2 % 2];
        let name = make.random.pick(NAMES, 1)[0];
        let thing = goods[make.random.below(goods.len())];
        let (start, add) = (3 + make.random.below(4), 1 + make.random.below(4));
        let last = 1 + make.random.below(3);
        let less = round / 4 % 2 == 1;
        // One step adds or takes away; two steps add and then do either.
        let steps = match (many, less) {
            (false, false) => vec![("plus", add)],
            (false, true) => vec![("minus", last)],
            (true, false) => vec![("plus", add), ("plus", last)],
            (true, true) => vec![("plus", add), ("minus", last)],
        };
        let total = steps.iter().fold(
            start,
            |sum, (how, n)| if *how == "plus" { sum + n } else { sum - n },
        );
        let (context, question, stem) = if kind == "sum" {
            let terms: String = steps
                .iter()
                .map(|(how, n)| format!(" {how} {}", words[*n]))
                .collect();
            (
                String::new(),
                format!("What is {}{terms}?", words[start]),
                format!("{}{terms} is", capital(words[start])),
            )
        } else {
            let acts = steps.iter().map(|(how, n)| {
                format!(
                    "{name} {} {}.",
                    if *how == "plus" { "gets" } else { "loses" },
                    words[*n]
                )
            });
            let has = format!("{name} has {} {thing}.", words[start]);
            (
                format!("{has} {}", sentences(acts)),
                format!("How many {thing} does {name} have now?"),
                format!("Now {name} has"),
            )
        };
        // The right number is the smallest, second, third, largest option equally often.
        if ranks.is_empty() {
            ranks = vec![0, 1, 2, 3];
            make.random.shuffle(&mut ranks);
        }
        let lowest = total.saturating_sub(ranks.pop().unwrap_or(0));
        let options = &words[lowest..lowest + 4];
        let accept = [
            total.to_string(),
            format!("{} {thing}", words[total]),
            format!("{total} {thing}"),
        ];
        make.add(Draft {
            slices: [if many { "many-steps" } else { "one-step" }, kind],
            context,
            question,
            stem,
            right: words[total],
            wrong: except(options, words[total]),
            accept: accept
                .into_iter()
                .take(if kind == "sum" { 1 } else { 3 })
                .collect(),
        });
    }
    let shots = vec![
        shot(
            "Kate has five keys. Kate gets one.",
            "How many keys does Kate have now?",
            "Now Kate has",
            &["four", "seven", "five", "six"],
            3,
        ),
        shot(
            "",
            "What is eight minus two minus one?",
            "Eight minus two minus one is",
            &["five", "six", "four", "three"],
            0,
        ),
    ];
    make.task(
        "reasoning_numbers",
        Family::Reasoning,
        "Sums in words and small stories, one operation or two.",
        shots,
    )
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn reasoning_order() -> Task {
    let mut make = Maker::new(23);
    let scales = [
        ("taller", "tallest", "shortest"),
        ("older", "oldest", "youngest"),
        ("faster", "fastest", "slowest"),
        ("richer", "richest", "poorest"),
    ];
    while let Some(round) = make.round(40) {
        let many = round % 2 == 1;
        let (more, most, least) = scales[make.random.below(scales.len())];
        let count = if many { 4 } else { 3 };
        let names = make.random.pick(NAMES, count);
        let top = round / 2 % 2 == 0;
        let mut text: Vec<String> = if many {
            names
                .windows(2)
                .map(|pair| format!("{} is {more} than {}.", pair[0], pair[1]))
                .collect()
        } else if top {
            (1..3)
                .map(|i| format!("{} is {more} than {}.", names[0], names[i]))
                .collect()
        } else {
            (0..2)
                .map(|i| format!("{} is {more} than {}.", names[i], names[2]))
                .collect()
        };
        make.random.shuffle(&mut text);
        let (asked, right) = if top {
            (most, names[0])
        } else {
            (least, names[count - 1])
        };
        make.add(Draft {
            slices: [if many { "many-steps" } else { "one-step" }, "order"],
            context: sentences(text),
            question: format!("Who is the {asked}?"),
            stem: format!("The {asked} is"),
            right,
            wrong: except(&names, right),
            ..Draft::default()
        });
    }
    let shots = vec![shot(
        "Kate is stronger than Paul. Paul is stronger than Rose.",
        "Who is the strongest?",
        "The strongest is",
        &["Rose", "Paul", "Kate"],
        2,
    )];
    make.task(
        "reasoning_order",
        Family::Reasoning,
        "Who is first or last, when it is said directly or must be chained.",
        shots,
    )
}

fn reasoning_rules() -> Task {
    let mut make = Maker::new(24);
    let kinds = [
        "wolf=Wolves",
        "sheep=Sheep",
        "mouse=Mice",
        "cat=Cats",
        "dog=Dogs",
        "goat=Goats",
        "lion=Lions",
        "frog=Frogs",
    ];
    let foods = [
        "soup", "bread", "honey", "rice", "cheese", "nuts", "corn", "plums",
    ];
    let homes = ["barns", "caves", "parks", "tents", "towers", "cellars"];
    let halves = |kind: &'static str| kind.split_once('=').unwrap_or((kind, kind));
    while let Some(round) = make.round(40) {
        let many = round % 2 == 1;
        let kind = make.random.pick(&kinds, 3);
        let food = make.random.pick(&foods, 3);
        let home = make.random.pick(&homes, 3);
        let name = make.random.pick(NAMES, 1)[0];
        let key = make.random.below(3);
        let does = |i: usize| {
            if many {
                format!("live in {}", home[i])
            } else {
                format!("like {}", food[i])
            }
        };
        let mut text: Vec<String> = (0..3)
            .map(|i| format!("{} {}.", halves(kind[i]).1, does(i)))
            .collect();
        if many {
            text.extend((0..3).map(|i| format!("Animals in {} like {}.", home[i], food[i])));
        }
        text.push(format!("{name} is a {}.", halves(kind[key]).0));
        make.add(Draft {
            slices: [if many { "many-steps" } else { "one-step" }, "rules"],
            context: sentences(text),
            question: format!("What does {name} like?"),
            stem: format!("So {name} likes"),
            right: food[key],
            wrong: except(&food, food[key]),
            ..Draft::default()
        });
    }
    let shots = vec![shot(
        "Ants like milk. Bees like salt. Kate is a bee.",
        "What does Kate like?",
        "So Kate likes",
        &["salt", "milk"],
        0,
    )];
    make.task(
        "reasoning_rules",
        Family::Reasoning,
        "Apply one rule, or a chain of two, to a case.",
        shots,
    )
}

// ------------------------------------------------------------------------------------ language

fn language_agreement() -> Task {
    let mut make = Maker::new(31);
    let nouns = [
        "dog=dogs",
        "girl=girls",
        "farmer=farmers",
        "bird=birds",
        "guard=guards",
        "teacher=teachers",
        "horse=horses",
        "lawyer=lawyers",
    ];
    let verbs = [
        "sleeps=sleep",
        "waits=wait",
        "sings=sing",
        "smiles=smile",
        "walks=walk",
        "laughs=laugh",
    ];
    let sees = ["sees=see", "likes=like", "knows=know", "follows=follow"];
    let near = ["near", "behind", "beside"];
    let number = |word: &'static str, plural: bool| {
        let (one, many) = word.split_once('=').unwrap_or((word, word));
        if plural { many } else { one }
    };
    while let Some(round) = make.round(60) {
        let kind = ["plain", "phrase", "relative", "nested"][round % 4];
        let plural = round / 4 % 2 == 0;
        let n = make.random.pick(&nouns, 3);
        let (verb, see) = (
            make.random.pick(&verbs, 1)[0],
            make.random.pick(&sees, 1)[0],
        );
        let place = near[make.random.below(near.len())];
        // The nouns between subject and verb have the other number: they attract the wrong verb.
        let (subject, other) = (number(n[0], plural), number(n[1], !plural));
        let start = match kind {
            "plain" => format!("The {subject}"),
            "phrase" => format!("The {subject} {place} the {other}"),
            "relative" => format!("The {subject} that the {other} {}", number(see, !plural)),
            _ => format!(
                "The {subject} that the {other} {place} the {} {}",
                number(n[2], !plural),
                number(see, !plural)
            ),
        };
        let end = ["every day", "in the park", "at home"][round % 3];
        let right = format!("{} {end}", number(verb, plural));
        let wrong = format!("{} {end}", number(verb, !plural));
        let depth = if round % 4 < 2 { "shallow" } else { "deep" };
        make.add(Draft {
            slices: [depth, kind],
            stem: start,
            right: &right,
            wrong: vec![&wrong],
            ..Draft::default()
        });
    }
    let about = "Minimal pairs: the verb agrees with its subject across phrases and clauses of the other number.";
    let task = make.task("language_agreement", Family::Language, about, vec![]);
    Task {
        protocols: vec![Protocol::Continuation],
        ..task
    }
}

fn language_embedding() -> Task {
    let mut make = Maker::new(32);
    let nouns = ["cat", "dog", "horse", "goat", "wolf", "duck", "bear", "fox"];
    let did = ["chased", "saw", "liked", "feared", "followed"];
    let then = ["ran away", "fell asleep", "got lost", "grew old"];
    while let Some(round) = make.round(60) {
        let kind = [
            "main-clauses",
            "subject-clause",
            "object-clause",
            "two-clauses",
        ][round % 4];
        let n = make.random.pick(&nouns, 3);
        let d = make.random.pick(&did, 2);
        let e = make.random.pick(&then, 3);
        let last = format!("and the {} {}", n[2], e[1]);
        let text = match kind {
            "main-clauses" => format!("The {} {}, the {} {}, {last}.", n[0], e[0], n[1], e[2]),
            "subject-clause" => {
                format!("The {} that {} the {} {}, {last}.", n[0], d[0], n[1], e[0])
            }
            "object-clause" => format!("The {} that the {} {} {}, {last}.", n[0], n[1], d[0], e[0]),
            _ => format!(
                "The {} that the {} that the {} {} {} {}.",
                n[0], n[1], n[2], d[0], d[1], e[0]
            ),
        };
        // What each noun did, asked in turn, so that the first noun is not always right.
        let whom = |verb: &str, noun: &str| format!("{verb} the {noun}");
        let acts = match kind {
            "main-clauses" => [
                (n[0], e[0].to_owned()),
                (n[1], e[2].to_owned()),
                (n[2], e[1].to_owned()),
            ],
            "subject-clause" => [
                (n[0], e[0].to_owned()),
                (n[0], whom(d[0], n[1])),
                (n[2], e[1].to_owned()),
            ],
            "object-clause" => [
                (n[0], e[0].to_owned()),
                (n[1], whom(d[0], n[0])),
                (n[2], e[1].to_owned()),
            ],
            _ => [
                (n[0], e[0].to_owned()),
                (n[1], whom(d[1], n[0])),
                (n[2], whom(d[0], n[1])),
            ],
        };
        let (right, act) = &acts[round / 4 % 3];
        make.add(Draft {
            slices: [if round % 4 < 2 { "shallow" } else { "deep" }, kind],
            context: text,
            question: format!("Which animal {act}?"),
            stem: format!("The animal that {act} was the"),
            right,
            wrong: except(&n, right),
            ..Draft::default()
        });
    }
    let shots = vec![shot(
        "The pig that the cow pushed woke up, and the hen sang.",
        "Which animal sang?",
        "The animal that sang was the",
        &["cow", "pig", "hen"],
        2,
    )];
    make.task(
        "language_embedding",
        Family::Language,
        "Who did it, when clauses stand between subject and verb.",
        shots,
    )
}

fn language_brackets() -> Task {
    let mut make = Maker::new(33);
    let pairs = ["( )", "[ ]", "{ }", "< >"];
    let halves = |pair: &'static str| pair.split_once(' ').unwrap_or((pair, ""));
    let around = |pair: &'static str, inner: &str| {
        let (open, close) = halves(pair);
        format!("{open} {inner} {close}")
    };
    while let Some(round) = make.round(48) {
        let deep = round % 2 == 1;
        let pair = pairs[round / 2 % 4];
        let mut rest = except(&pairs, pair);
        make.random.shuffle(&mut rest);
        let (open, close) = halves(pair);
        // The open bracket stands last, or its closed content does.
        let stem = match (deep, round / 8 % 2) {
            (false, 0) => format!("{} {open}", rest[0]),
            (false, _) => format!("{open} {}", rest[0]),
            (true, 0) => format!("{open} {}", around(rest[0], rest[1])),
            (true, _) => format!("{open} {}", around(rest[0], &around(rest[1], rest[2]))),
        };
        let closers: Vec<&str> = pairs.iter().map(|pair| halves(pair).1).collect();
        make.add(Draft {
            slices: [if deep { "deep" } else { "shallow" }, "brackets"],
            context: "( [ ] ). { }. [ < > ]. < ( ) >.".to_owned(),
            question: format!("Which bracket closes {stem} ?"),
            stem,
            right: close,
            wrong: except(&closers, close),
            ..Draft::default()
        });
    }
    let shots = vec![shot(
        "",
        "Which bracket closes [ ( ) ?",
        "",
        &["}", ")", "]", ">"],
        2,
    )];
    make.task(
        "language_brackets",
        Family::Language,
        "Close the one bracket that is still open.",
        shots,
    )
}
