//! Answers that must be worked out, in one step or in many.

use slim::suite::{Family, Sheet};

use super::make::{Draft, Maker, NAMES, Random, except, sentences, shot};

const THINGS: &[&str] = &["ball", "key", "book", "lamp", "hat", "coin", "cup", "map"];

/// Steps of an item: as many of one step as of several, and of these as many of two as of three.
fn steps(round: usize) -> usize {
    [1, 2, 1, 3][round % 4]
}

fn slices(steps: usize, kind: &str) -> Vec<&str> {
    match steps {
        1 => vec!["one-step", kind],
        2 => vec!["many-steps", kind, "two-steps"],
        _ => vec!["many-steps", kind, "three-steps"],
    }
}

pub fn reasoning_holders() -> Sheet {
    let mut make = Maker::new(21);
    while let Some(round) = make.round(60) {
        let steps = steps(round);
        let names = make.random.pick(NAMES, 4);
        let things = make.random.pick(THINGS, 2);
        // Whom the text names last is the answer as often as whom it names before that.
        let (story, holder) = loop {
            let story = handed_on(&mut make.random, &names, &things, steps);
            if story.1.last_named == round / 4 % 4 {
                break (story.0, story.1.holder);
            }
        };
        let thing = things[0];
        make.add(Draft {
            slices: slices(steps, "holders"),
            context: story,
            question: format!("Who has the {thing} now?"),
            stem: format!("Now the {thing} is with"),
            right: names[holder],
            wrong: except(&names, names[holder]),
            ..Draft::default()
        });
    }
    let shots = vec![shot(
        "Kate and Paul sit at a table. Kate has the pen. Kate gives the pen to Paul.",
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

/// How a story ends: who has the first thing, and how many others it names after them.
struct End {
    holder: usize,
    last_named: usize,
}

/// Four people, of whom one gives a thing away, and so on for so many steps, while another thing
/// changes hands too. It does not end where it began.
fn handed_on(random: &mut Random, names: &[&str], things: &[&str], steps: usize) -> (String, End) {
    let others = 1 + random.below(2);
    let mut moves: Vec<usize> = [vec![0; steps], vec![1; others]].concat();
    random.shuffle(&mut moves);
    loop {
        let first = random.below(4);
        let mut with = [first, (first + 1 + random.below(3)) % 4];
        let has = |thing: usize| format!("{} has the {}.", names[with[thing]], things[thing]);
        let mut text = vec![format!(
            "{}, {}, {} and {} sit at a table.",
            names[0], names[1], names[2], names[3]
        )];
        let told = if random.below(2) == 0 { [0, 1] } else { [1, 0] };
        text.extend(told.map(has));
        let mut named = vec![0, 1, 2, 3, with[told[0]], with[told[1]]];
        for &thing in &moves {
            let from = with[thing];
            let to = (from + 1 + random.below(3)) % 4;
            let (giver, taker) = (names[from], names[to]);
            text.push(format!("{giver} gives the {} to {taker}.", things[thing]));
            named.extend([from, to]);
            with[thing] = to;
        }
        let holder = with[0];
        let last = |person: usize| named.iter().rposition(|other| *other == person);
        if holder != first {
            let after = (0..4).filter(|other| last(*other) > last(holder));
            let last_named = after.count();
            return (sentences(text), End { holder, last_named });
        }
    }
}

pub fn reasoning_numbers() -> Sheet {
    let mut make = Maker::new(22);
    let goods = ["apples", "eggs", "coins", "books", "cards", "pens"];
    while let Some(round) = make.round(60) {
        let (count, kind) = (steps(round), ["sum", "story"][round / 4 % 2]);
        let name = make.random.pick(NAMES, 1)[0];
        let thing = goods[make.random.below(goods.len())];
        let (start, add) = (3 + make.random.below(4), 1 + make.random.below(4));
        let last = 1 + make.random.below(3);
        let less = round / 8 % 2 == 1;
        // One step adds or takes away; two add and then do either; three add one more at the end.
        let mut steps = match (count, less) {
            (1, false) => vec![('+', add)],
            (1, true) => vec![('-', last)],
            (_, false) => vec![('+', add), ('+', last)],
            (_, true) => vec![('+', add), ('-', last)],
        };
        if count == 3 {
            steps.push(('+', 1));
        }
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
        let numbers = make.numbers_around(total);
        let options: Vec<&str> = numbers.iter().map(String::as_str).collect();
        let right = total.to_string();
        make.add(Draft {
            slices: slices(count, kind),
            context,
            question,
            stem,
            right: &right,
            wrong: except(&options, &right),
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

pub fn reasoning_sequence() -> Sheet {
    let mut make = Maker::new(25);
    let days = [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ];
    let months = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    while let Some(round) = make.round(60) {
        let many = steps(round) > 1;
        if round / 4 % 2 == 0 {
            let (unit, all) = if round / 8 % 2 == 0 {
                ("day", &days[..])
            } else {
                ("month", &months[..])
            };
            let after = make.random.below(2) == 0;
            let (from, steps) = (make.random.below(all.len()), steps(round));
            let to = (from + if after { steps } else { all.len() - steps }) % all.len();
            let way = if after { "after" } else { "before" };
            let ask = match steps {
                1 => format!("{way} {}", all[from]),
                2 => format!("two {unit}s {way} {}", all[from]),
                _ => format!("three {unit}s {way} {}", all[from]),
            };
            let wrong = make
                .random
                .pick(&except(&except(all, all[to]), all[from]), 3);
            make.add(Draft {
                slices: slices(steps, "calendar"),
                question: format!("Which {unit} is {ask}?"),
                stem: format!("The {unit} {ask} is"),
                right: all[to],
                wrong,
                ..Draft::default()
            });
        } else {
            // One step: an equal difference. Many: a difference that grows.
            let (start, step) = (
                1 + make.random.below(9),
                [1, 2, 5, 10][make.random.below(4)],
            );
            let at = |k: usize| {
                start
                    + if many {
                        step * k * (k + 1) / 2
                    } else {
                        step * k
                    }
            };
            let shown = (0..4)
                .map(|k| at(k).to_string())
                .collect::<Vec<_>>()
                .join(", ");
            let numbers = make.numbers_around(at(4));
            let options: Vec<&str> = numbers.iter().map(String::as_str).collect();
            let right = at(4).to_string();
            make.add(Draft {
                slices: vec![if many { "many-steps" } else { "one-step" }, "series"],
                question: format!("Which number comes next: {shown}, ...?"),
                stem: format!("{shown},"),
                right: &right,
                wrong: except(&options, &right),
                ..Draft::default()
            });
        }
    }
    let series = "Which number comes next: 10, 20, 30, 40, ...?";
    let shots = vec![
        shot("", series, "10, 20, 30, 40,", &["50", "41", "30"], 0),
        shot(
            "",
            "Which season is after spring?",
            "The season after spring is",
            &["winter", "summer"],
            1,
        ),
    ];
    let about = "What comes next: a day, a month, a number, by one step or by several.";
    let task = make.task("reasoning_sequence", Family::Reasoning, about, shots);
    // A series goes on after the number that is asked for.
    let stop = ["\n", ".", ","].map(str::to_owned).to_vec();
    Sheet { stop, ..task }
}

pub fn reasoning_order() -> Sheet {
    let mut make = Maker::new(23);
    let scales = [
        ["taller", "shorter", "tallest", "shortest"],
        ["older", "younger", "oldest", "youngest"],
        ["faster", "slower", "fastest", "slowest"],
        ["richer", "poorer", "richest", "poorest"],
    ];
    while let Some(round) = make.round(40) {
        let [more, less, most, least] = scales[make.random.below(scales.len())];
        // Told from either side.
        let says = |pair: &[&str], from_below: bool| match from_below {
            false => format!("{} is {more} than {}.", pair[0], pair[1]),
            true => format!("{} is {less} than {}.", pair[1], pair[0]),
        };
        if round % 2 == 0 {
            // One step: a comparison turned round, the first, second or third that is told. The
            // others who come into question stand where the right one does in their sentences.
            let names = make.random.pick(NAMES, 6);
            let from_below = round / 2 % 2 == 1;
            let pair: Vec<&[&str]> = names.chunks(2).collect();
            let key = round / 4 % 3;
            let first = usize::from(from_below);
            let (right, asked) = (pair[key][first], pair[key][1 - first]);
            let (told, turned) = match from_below {
                false => (more, less),
                true => (less, more),
            };
            let all: Vec<&str> = pair.iter().map(|pair| pair[first]).collect();
            make.add(Draft {
                slices: vec!["one-step", "turned"],
                context: sentences(pair.into_iter().map(|pair| says(pair, from_below))),
                question: format!("Who is {told} than {asked}?"),
                stem: format!("So {asked} is {turned} than"),
                right,
                wrong: except(&all, right),
                ..Draft::default()
            });
        } else {
            // Many steps: the end of a chain that is told in any order. Its two ends are compared
            // too, so that everybody is named twice.
            let names = make.random.pick(NAMES, 4);
            let (asked, right) = match round / 2 % 2 == 0 {
                true => (most, names[0]),
                false => (least, names[3]),
            };
            // The last name is the answer as often as one before that.
            let text = loop {
                let sides = make.random.below(16);
                let links = names.windows(2).map(<[&str]>::to_vec);
                let links = links.chain([vec![names[0], names[3]]]).enumerate();
                let mut text: Vec<String> = links
                    .map(|(i, pair)| says(&pair, sides >> i & 1 == 1))
                    .collect();
                make.random.shuffle(&mut text);
                let text = sentences(text);
                let after = names.iter().filter(|n| text.rfind(**n) > text.rfind(right));
                if after.count() == round / 4 % 4 {
                    break text;
                }
            };
            make.add(Draft {
                slices: vec!["many-steps", "chained"],
                context: text,
                question: format!("Who is the {asked}?"),
                stem: format!("So the {asked} is"),
                right,
                wrong: except(&names, right),
                ..Draft::default()
            });
        }
    }
    let chain = "Kate is stronger than Paul. Paul is stronger than Rose.";
    let turned = "Alan is happier than Vera.";
    let shots = vec![
        shot(
            chain,
            "Who is the strongest?",
            "So the strongest is",
            &["Rose", "Paul", "Kate"],
            2,
        ),
        shot(
            turned,
            "Who is happier than Vera?",
            "So Vera is sadder than",
            &["Alan", "Rose"],
            0,
        ),
    ];
    let about = "A comparison turned round, or the end of a chain of comparisons.";
    make.task("reasoning_order", Family::Reasoning, about, shots)
}

pub fn reasoning_rules() -> Sheet {
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
            slices: vec![if many { "many-steps" } else { "one-step" }, "rules"],
            context: sentences(text),
            question: format!("What does {name} like?"),
            stem: format!(
                "Like all {}, {name} likes",
                halves(kind[key]).1.to_lowercase()
            ),
            right: food[key],
            wrong: except(&food, food[key]),
            ..Draft::default()
        });
    }
    let shots = vec![shot(
        "Ants like milk. Bees like salt. Kate is a bee.",
        "What does Kate like?",
        "Like all bees, Kate likes",
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
