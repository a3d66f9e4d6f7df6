//! The village: its words, its facts, and the scenes that questions are asked about.
//!
//! Facts never change and can only be memorised (knowledge). Every other scene is drawn afresh
//! from the same words, so it can only be answered by reading it (retrieval, reasoning) or by
//! knowing the language (language).

use crate::rng::Rng;

const PEOPLE: [&str; 32] = [
    "Anna", "Ben", "Carl", "Dora", "Emil", "Fay", "Gus", "Hans", "Ida", "Jan", "Kim", "Leo", "Mia",
    "Nina", "Otto", "Paul", "Rosa", "Sam", "Tom", "Uma", "Vera", "Wim", "Xena", "Yan", "Zoe",
    "Abel", "Cora", "Dan", "Eva", "Finn", "Gina", "Hugo",
];
/// The first people are talked about often, the others rarely.
const WELL_KNOWN: usize = 16;
const RARE_WEIGHT: f64 = 0.25;

const KEYS: [&str; 10] = [
    "red", "blue", "green", "black", "white", "brown", "grey", "pink", "gold", "dark",
];
const GOODS: [&str; 12] = [
    "corn", "salt", "milk", "wool", "wood", "coal", "silk", "rice", "wine", "tea", "honey", "bread",
];
const PREPOSITIONS: [&str; 6] = ["near", "behind", "under", "above", "beside", "by"];
/// Who does what: both take a plain -s, for the plural noun and the singular verb.
const NOUN_VERBS: [(&str, &str); 16] = [
    ("dog", "bark"),
    ("bird", "sing"),
    ("horse", "run"),
    ("king", "rule"),
    ("cook", "bake"),
    ("duck", "swim"),
    ("boy", "play"),
    ("girl", "dance"),
    ("owl", "hunt"),
    ("bee", "hum"),
    ("star", "shine"),
    ("bell", "chime"),
    ("tree", "grow"),
    ("ship", "sail"),
    ("lamp", "glow"),
    ("clock", "tick"),
];

/// How one kind of fact is stated and asked; `{}` is the person.
struct Relation {
    stem: &'static str,
    values: [&'static str; 12],
}

const RELATIONS: [Relation; 3] = [
    Relation {
        stem: "In the village {} keeps a",
        values: [
            "goat", "cow", "pig", "cat", "hen", "sheep", "pony", "goose", "mule", "crow", "frog",
            "mouse",
        ],
    },
    Relation {
        stem: "In the village {} works as a",
        values: [
            "baker", "smith", "miller", "tailor", "farmer", "painter", "potter", "hunter", "nurse",
            "teacher", "judge", "guard",
        ],
    },
    Relation {
        stem: "In the village {} lives by the",
        values: [
            "river", "mill", "church", "forest", "market", "bridge", "tower", "lake", "hill",
            "gate", "field", "well",
        ],
    },
];

/// One thing asked about a scene. Its stem continues with a space and the right option.
#[derive(Clone)]
pub struct Query {
    pub slice: &'static str,
    pub question: String,
    pub stem: String,
    pub options: Vec<String>,
    pub answer: usize,
}

impl Query {
    fn new(slice: &'static str, stem: String, answer: &str, wrong: &[&str], rng: &mut Rng) -> Self {
        let mut options: Vec<&str> = wrong.to_vec();
        options.insert(rng.below(wrong.len() + 1), answer);
        Self {
            slice,
            // The stem again: what is known there is all that a letter needs.
            question: format!("{stem} what?"),
            stem,
            answer: options
                .iter()
                .position(|option| *option == answer)
                .unwrap_or(0),
            options: options.into_iter().map(String::from).collect(),
        }
    }

    pub fn answer_text(&self) -> &str {
        &self.options[self.answer]
    }
}

/// What is told (it may be nothing), and everything that may be asked about it.
pub struct Scene {
    pub context: String,
    pub queries: Vec<Query>,
}

/// A family of abilities, and how its scenes are made.
pub struct Family {
    pub name: &'static str,
    pub task: &'static str,
    pub about: &'static str,
    pub slices: [&'static str; 2],
    /// Instances of the suite are kept out of the training text, unless they are to be memorised.
    pub held_out: bool,
    /// Share of the training documents.
    pub weight: f64,
    pub scene: fn(&World, &mut Rng) -> Scene,
}

pub const FAMILIES: [Family; 4] = [
    Family {
        name: "knowledge",
        task: "village_facts",
        about: "who keeps, works and lives where; head facts are told four times as often as tail facts",
        slices: ["head", "tail"],
        held_out: false,
        weight: 0.3,
        scene: World::facts,
    },
    Family {
        name: "retrieval",
        task: "notes",
        about: "a value noted under a key; near: one of the last two notes, far: an earlier one",
        slices: ["near", "far"],
        held_out: true,
        weight: 0.2,
        scene: World::notes,
    },
    Family {
        name: "reasoning",
        task: "passing",
        about: "pairs hand goods on, a good to a person, then a person to the next; who has it first (one step), who second (many steps)",
        slices: ["one-step", "many-steps"],
        held_out: true,
        weight: 0.3,
        scene: World::passing,
    },
    Family {
        name: "language",
        task: "agreement",
        about: "the verb that fits the head noun and its number, past one noun (shallow) or two (deep)",
        slices: ["shallow", "deep"],
        held_out: true,
        weight: 0.2,
        scene: World::agreement,
    },
];

/// The fixed facts of the village: for each person, one value of each relation.
pub struct World {
    facts: Vec<[&'static str; RELATIONS.len()]>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let facts = PEOPLE
            .iter()
            .map(|_| std::array::from_fn(|relation| RELATIONS[relation].values[rng.below(12)]))
            .collect();
        Self { facts }
    }

    /// How many facts there are to ask about.
    pub fn facts_len(&self) -> usize {
        self.facts.len() * RELATIONS.len()
    }

    /// Fact number `index` as a question: `index / 3` is the person, `index % 3` the relation.
    pub fn fact(&self, index: usize, rng: &mut Rng) -> Query {
        let (person, relation) = (index / RELATIONS.len(), index % RELATIONS.len());
        let Relation { stem, values } = &RELATIONS[relation];
        let answer = self.facts[person][relation];
        let wrong = rng.sample(&others(values, answer), 3);
        let slice = if person < WELL_KNOWN { "head" } else { "tail" };
        Query::new(
            slice,
            stem.replace("{}", PEOPLE[person]),
            answer,
            &wrong,
            rng,
        )
    }

    /// `n` different words of the contexts, in an order that means nothing.
    pub fn words(n: usize, rng: &mut Rng) -> Vec<&'static str> {
        rng.sample(&[&PEOPLE[..], &KEYS, &GOODS].concat(), n)
    }

    fn facts(&self, rng: &mut Rng) -> Scene {
        let weights: Vec<f64> = (0..PEOPLE.len())
            .map(|person| {
                if person < WELL_KNOWN {
                    1.0
                } else {
                    RARE_WEIGHT
                }
            })
            .collect();
        let queries = (0..4)
            .map(|_| {
                let person = rng.weighted(&weights);
                self.fact(person * RELATIONS.len() + rng.below(RELATIONS.len()), rng)
            })
            .collect();
        Scene {
            context: String::new(),
            queries,
        }
    }

    fn notes(&self, rng: &mut Rng) -> Scene {
        let n = 2 + rng.below(4);
        let keys = rng.sample(&KEYS, n);
        let goods = rng.sample(&GOODS, n);
        let notes: Vec<String> = keys
            .iter()
            .zip(&goods)
            .map(|(key, good)| format!("{key} {good}"))
            .collect();
        let queries: Vec<Query> = (0..n)
            .map(|asked| {
                let wrong = distractors(&others(&goods, goods[asked]), &GOODS, goods[asked], rng);
                let slice = if asked + 2 >= n { "near" } else { "far" };
                Query::new(
                    slice,
                    format!("Note: {}", keys[asked]),
                    goods[asked],
                    &wrong,
                    rng,
                )
            })
            .collect();
        Scene {
            context: format!("Notes: {}.", notes.join(", ")),
            queries: draws(&queries, 5, rng),
        }
    }

    fn passing(&self, rng: &mut Rng) -> Scene {
        let goods = rng.sample(&GOODS, 2);
        let people = rng.sample(&PEOPLE, 4);
        // A pair hands on what the first was handed: a good to a person, a person to the next.
        let handed = [
            [(goods[0], people[0]), (people[0], people[1])],
            [(goods[1], people[2]), (people[2], people[3])],
        ];
        let mut order = [0, 0, 1, 1];
        rng.shuffle(&mut order);
        let mut next = [0, 0];
        let mut told = Vec::new();
        for which in order {
            let (from, to) = handed[which][next[which]];
            told.push(format!("{from} {to}"));
            next[which] += 1;
        }
        let mut queries = Vec::new();
        for which in 0..2 {
            for (step, stem) in ["First", "Second"].into_iter().enumerate() {
                let answer = handed[which][step].1;
                let mut wrong = others(&people, answer);
                rng.shuffle(&mut wrong);
                let stem = format!("{stem}: {}", goods[which]);
                let slice = ["one-step", "many-steps"][step];
                queries.push(Query::new(slice, stem, answer, &wrong, rng));
            }
        }
        Scene {
            context: format!("Passed: {}.", told.join(", ")),
            queries: draws(&queries, 4, rng),
        }
    }

    fn agreement(&self, rng: &mut Rng) -> Scene {
        let queries = (0..3).map(|_| agreement_query(rng)).collect();
        Scene {
            context: String::new(),
            queries,
        }
    }
}

/// The pool without the answer.
fn others(pool: &[&'static str], answer: &str) -> Vec<&'static str> {
    pool.iter()
        .copied()
        .filter(|word| *word != answer)
        .collect()
}

/// `n` queries with replacement: were each asked once, the last answers could be had by elimination
/// instead of by reading.
fn draws(queries: &[Query], n: usize, rng: &mut Rng) -> Vec<Query> {
    (0..n)
        .map(|_| queries[rng.below(queries.len())].clone())
        .collect()
}

/// Three wrong options: first those that the context tempts with, then any from the pool.
fn distractors(
    tempting: &[&'static str],
    pool: &[&'static str],
    answer: &str,
    rng: &mut Rng,
) -> Vec<&'static str> {
    let mut wrong = rng.sample(tempting, 3);
    while wrong.len() < 3 {
        let other = pool[rng.below(pool.len())];
        if other != answer && !wrong.contains(&other) {
            wrong.push(other);
        }
    }
    wrong
}

fn agreement_query(rng: &mut Rng) -> Query {
    let deep = rng.below(2) == 1;
    let nouns = rng.sample(&NOUN_VERBS, if deep { 3 } else { 2 });
    let plural: Vec<bool> = nouns.iter().map(|_| rng.below(2) == 1).collect();
    let phrases: Vec<String> = nouns
        .iter()
        .zip(&plural)
        .map(|((noun, _), many)| format!("the {noun}{}", if *many { "s" } else { "" }))
        .collect();
    let mut stem = phrases[0].replacen('t', "T", 1);
    for phrase in &phrases[1..] {
        stem = format!(
            "{stem} {} {phrase}",
            PREPOSITIONS[rng.below(PREPOSITIONS.len())]
        );
    }
    let forms = |verb: &str, many: bool| {
        if many {
            verb.to_string()
        } else {
            format!("{verb}s")
        }
    };
    let (verb, last) = (nouns[0].1, nouns[nouns.len() - 1].1);
    let wrong = [
        forms(verb, !plural[0]),
        forms(last, false),
        forms(last, true),
    ];
    let mut wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
    rng.shuffle(&mut wrong);
    let slice = if deep { "deep" } else { "shallow" };
    Query::new(slice, stem, &forms(verb, plural[0]), &wrong, rng)
}
