//! Nesting: agreement across clauses, embedded clauses, brackets.

use slim::suite::{Family, Protocol, Sheet};

use super::make::{Draft, Maker, capital, except, shot};

/// Nouns of the other number between subject and verb, by kind of agreement.
const ATTRACTORS: [&str; 4] = [
    "no-attractor",
    "one-attractor",
    "one-attractor",
    "two-attractors",
];

pub fn language_agreement() -> Sheet {
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
    while let Some(round) = make.round(80) {
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
            slices: vec![depth, kind, ATTRACTORS[round % 4]],
            stem: start,
            right: &right,
            wrong: vec![&wrong],
            ..Draft::default()
        });
    }
    let about = "Minimal pairs: the verb agrees with its subject across phrases and clauses of the other number.";
    let task = make.task("language_agreement", Family::Language, about, vec![]);
    Sheet {
        protocols: vec![Protocol::Continuation],
        ..task
    }
}

pub fn language_embedding() -> Sheet {
    let mut make = Maker::new(32);
    let nouns = ["cat", "dog", "horse", "goat", "wolf", "duck", "bear", "fox"];
    let did = ["chased", "saw", "liked", "feared", "followed"];
    let then = [
        "ran away",
        "fell asleep",
        "got lost",
        "sat down",
        "woke up",
        "grew old",
    ];
    while let Some(round) = make.round(100) {
        let kind = [
            "main-clause",
            "subject-clause",
            "object-clause",
            "two-clauses",
        ][round % 4];
        let n = make.random.pick(&nouns, 3);
        let d = make.random.pick(&did, 2);
        let e = make.random.pick(&then, 3);
        let key = round / 4 % 3;
        // The clauses stand between the asked noun and what it did; their nouns did other things.
        let other = except(&n, n[key]);
        let clause = match kind {
            "main-clause" => String::new(),
            "subject-clause" => format!(" that {} the {}", d[0], other[0]),
            "object-clause" => format!(" that the {} {}", other[0], d[0]),
            _ => format!(
                " that the {} that the {} {} {}",
                other[0], other[1], d[0], d[1]
            ),
        };
        let part = |i: usize| {
            format!(
                "the {}{} {}",
                n[i],
                if i == key { &clause } else { "" },
                e[i]
            )
        };
        make.add(Draft {
            slices: vec![if round % 4 < 2 { "shallow" } else { "deep" }, kind],
            context: capital(&format!("{}, {}, and {}.", part(0), part(1), part(2))),
            question: format!("What did the {} do?", n[key]),
            stem: format!("So the {}", n[key]),
            right: e[key],
            wrong: except(&e, e[key]),
            ..Draft::default()
        });
    }
    let shots = vec![shot(
        "The hen sang, and the pig that the hen pushed broke a leg.",
        "What did the pig do?",
        "So the pig",
        &["sang", "broke a leg"],
        1,
    )];
    make.task(
        "language_embedding",
        Family::Language,
        "What the subject did, with clauses between it and its verb.",
        shots,
    )
}

pub fn language_brackets() -> Sheet {
    let mut make = Maker::new(33);
    let pairs = ["( )", "[ ]", "{ }", "< >"];
    let halves = |pair: &'static str| pair.split_once(' ').unwrap_or((pair, ""));
    let around = |pair: &'static str, inner: &str| {
        let (open, close) = halves(pair);
        format!("{open} {inner} {close}")
    };
    while let Some(round) = make.round(60) {
        let deep = round % 2 == 1;
        let pair = pairs[round / 2 % 4];
        let mut rest = except(&pairs, pair);
        make.random.shuffle(&mut rest);
        let letters = make.random.pick(&["a", "b", "c", "x", "y", "z"], 2);
        let (open, close) = halves(pair);
        // Each bracket holds one thing, so what is held decides what comes next. The deep ones
        // leave an outer bracket open or have closed one of the same kind inside.
        let (stem, outer) = match (deep, round / 8 % 3) {
            (false, 0) => (format!("{open} {}", letters[0]), None),
            (false, _) => (
                format!("{} {open} {}", around(rest[0], letters[0]), letters[1]),
                None,
            ),
            (true, 0) => (
                format!("{open} {}", around(rest[0], &around(pair, letters[0]))),
                None,
            ),
            (true, 1) => (
                format!(
                    "{} {open} {}",
                    halves(rest[1]).0,
                    around(rest[0], letters[0])
                ),
                Some(rest[1]),
            ),
            (true, _) => {
                let held = around(rest[0], &around(rest[2], letters[0]));
                (
                    format!("{} {open} {held}", halves(rest[1]).0),
                    Some(rest[1]),
                )
            }
        };
        let closers: Vec<&str> = pairs.iter().map(|pair| halves(pair).1).collect();
        make.add(Draft {
            slices: vec![
                if deep { "deep" } else { "shallow" },
                if outer.is_some() {
                    "outer-open"
                } else {
                    "one-open"
                },
            ],
            context: "( a ). [ { x } ]. < b > { c }.".to_owned(),
            question: format!("Which bracket comes next in {stem} ?"),
            stem,
            right: close,
            wrong: except(&closers, close),
            accept: outer
                .map(|pair| format!("{close} {}", halves(pair).1))
                .into_iter()
                .collect(),
        });
    }
    let shots = vec![shot(
        "",
        "Which bracket comes next in [ ( y ) ?",
        "",
        &["}", ")", "]", ">"],
        2,
    )];
    let about = "Close the innermost bracket that is still open.";
    let task = make.task("language_brackets", Family::Language, about, shots);
    // The closing bracket ends before anything new begins.
    let stop = ["\n", ".", " =", " +", " (", " [", " {", " <"]
        .map(str::to_owned)
        .to_vec();
    Sheet { stop, ..task }
}
