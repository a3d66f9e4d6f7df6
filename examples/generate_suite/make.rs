//! What the generated tasks are made with: a seed, fair positions, names.

use slim::suite::{Family, Protocol, SCHEMA_VERSION, Sheet, SheetItem};

/// First names that most tokenizers know as one token; those of shots are not among them.
pub const NAMES: &[&str] = &[
    "Anna", "Ben", "Carl", "Dora", "Emma", "Fred", "Grace", "Henry", "Ivan", "Julia", "Lucy",
    "Mark",
];

/// SplitMix64: small, seeded, the same everywhere.
pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn pick<'a>(&mut self, from: &[&'a str], n: usize) -> Vec<&'a str> {
        let mut all = from.to_vec();
        self.shuffle(&mut all);
        all.truncate(n);
        all
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Makes the items of one task, with the right answer equally often in every position.
pub struct Maker {
    pub random: Random,
    /// Positions not used yet in this round, by number of options.
    positions: [Vec<usize>; 8],
    items: Vec<SheetItem>,
}

/// What differs between items; the maker adds id, order of options and answer.
#[derive(Default)]
pub struct Draft<'a> {
    /// The main slice, and what distinguishes it within.
    pub slices: Vec<&'a str>,
    pub context: String,
    pub question: String,
    pub stem: String,
    pub right: &'a str,
    pub wrong: Vec<&'a str>,
    pub accept: Vec<String>,
}

impl Maker {
    pub fn new(seed: u64) -> Maker {
        Maker {
            random: Random(seed),
            positions: Default::default(),
            items: vec![],
        }
    }

    /// The number of the item to make next, until there are `count`.
    pub fn round(&self, count: usize) -> Option<usize> {
        Some(self.items.len()).filter(|made| *made < count)
    }

    /// Four numbers in a row around the right one, which is the smallest or the largest as often
    /// as one between.
    pub fn numbers_around(&mut self, right: usize) -> Vec<String> {
        let lowest = right.saturating_sub(self.random.below(4));
        (lowest..lowest + 4).map(|n| n.to_string()).collect()
    }

    /// Adds the item, unless it was asked before: then the same round is drawn again.
    pub fn add(&mut self, draft: Draft) {
        let asked = |item: &SheetItem| {
            item.context == draft.context
                && item.stem == draft.stem
                && item.options.iter().any(|o| o == draft.right)
        };
        if !self.items.iter().any(asked) {
            let item = self.item(draft);
            self.items.push(item);
        }
    }

    fn item(&mut self, draft: Draft) -> SheetItem {
        let count = draft.wrong.len() + 1;
        if self.positions[count].is_empty() {
            self.positions[count] = (0..count).collect();
            self.random.shuffle(&mut self.positions[count]);
        }
        let answer = self.positions[count].pop().unwrap_or(0);
        let mut options = draft.wrong;
        self.random.shuffle(&mut options);
        options.insert(answer, draft.right);
        SheetItem {
            id: format!("{}-{}", draft.slices.join("-"), self.items.len()),
            slices: draft.slices.iter().map(|s| s.to_string()).collect(),
            context: draft.context,
            question: draft.question,
            stem: draft.stem,
            options: options.into_iter().map(str::to_owned).collect(),
            answer,
            accept: draft.accept,
        }
    }

    pub fn task(self, name: &str, family: Family, about: &str, shots: Vec<SheetItem>) -> Sheet {
        Sheet {
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
pub fn shot(
    context: &str,
    question: &str,
    stem: &str,
    options: &[&str],
    answer: usize,
) -> SheetItem {
    SheetItem {
        id: String::new(),
        slices: vec![],
        context: context.to_owned(),
        question: question.to_owned(),
        stem: stem.to_owned(),
        options: options.iter().map(|option| option.to_string()).collect(),
        answer,
        accept: vec![],
    }
}

pub fn sentences(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join(" ")
}

pub fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

pub fn except<'a>(all: &[&'a str], right: &str) -> Vec<&'a str> {
    all.iter()
        .copied()
        .filter(|other| *other != right)
        .collect()
}
