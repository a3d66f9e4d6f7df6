//! Answers that must be worked out, in one step or in many.

use slim::suite::{Family, Task};

use super::make::{Draft, Maker, NAMES, except, sentences, shot};

const THINGS: &[&str] = &["ball", "key", "book", "lamp", "hat", "coin", "cup", "map"];

pub fn reasoning_holders() -> Task {
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

pub fn reasoning_numbers() -> Task {
    let mut make = Maker::new(22);
    let goods = ["apples", "eggs", "coins", "books", "cards", "pens"];
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
            (false, false) => vec![('+', add)],
            (false, true) => vec![('-', last)],
            (true, false) => vec![('+', add), ('+', last)],
            (true, true) => vec![('+', add), ('-', last)],
        };
        let total = steps.iter().fold(
            start,
            |sum, (sign, n)| if *sign == '+' { sum + n } else { sum - n },
        );
        let (context, question, stem) = if kind == "sum" {
            let terms: String = steps
                .iter()
                .map(|(sign, n)| format!(" {sign} {n}"))
                .collect();
            (
                String::new(),
                format!("What is {start}{terms}?"),
                format!("{start}{terms} ="),
            )
        } else {
            let acts = steps.iter().map(|(sign, n)| {
                format!(
                    "{name} {}.",
                    if *sign == '+' {
                        format!("gets {n} more")
                    } else {
                        format!("loses {n}")
                    }
                )
            });
            let has = format!("{name} has {start} {thing}.");
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
        let numbers: Vec<String> = (lowest..lowest + 4).map(|n| n.to_string()).collect();
        let options: Vec<&str> = numbers.iter().map(String::as_str).collect();
        let right = options[total - lowest];
        make.add(Draft {
            slices: [if many { "many-steps" } else { "one-step" }, kind],
            context,
            question,
            stem,
            right,
            wrong: except(&options, right),
            accept: if kind == "sum" {
                vec![]
            } else {
                vec![format!("{right} {thing}")]
            },
        });
    }
    let shots = vec![
        shot(
            "Kate has 5 keys. Kate gets 1 more.",
            "How many keys does Kate have now?",
            "Now Kate has",
            &["4", "7", "5", "6"],
            3,
        ),
        shot(
            "",
            "What is 8 - 2 - 1?",
            "8 - 2 - 1 =",
            &["5", "6", "4", "3"],
            0,
        ),
    ];
    make.task(
        "reasoning_numbers",
        Family::Reasoning,
        "Small sums, plain and in stories, one operation or two.",
        shots,
    )
}

pub fn reasoning_order() -> Task {
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

pub fn reasoning_rules() -> Task {
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
