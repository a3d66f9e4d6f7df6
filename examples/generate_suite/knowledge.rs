//! Facts asked with the fact in the context: the twins of the hand-written closed-book items.

use std::collections::HashMap;

use slim::suite::{Sheet, SheetItem};

/// What the id of a twin ends in, behind the id of the fact's closed-book item.
const TWIN: &str = "/in-context";

const CLOSED_BOOK: &str = "closed-book";

/// The knowledge tasks, each with its hand-written items and the twins made from them.
pub fn knowledge() -> Vec<Sheet> {
    let sheets = Sheet::embedded().into_iter();
    let knows = sheets.filter(|sheet| sheet.task.starts_with("knowledge_"));
    knows.map(with_twins).collect()
}

fn with_twins(mut sheet: Sheet) -> Sheet {
    sheet.items.retain(|item| !item.id.ends_with(TWIN));
    for item in &mut sheet.items {
        item.slices.retain(|slice| slice != CLOSED_BOOK);
        item.slices.push(CLOSED_BOOK.to_owned());
    }
    let facts = sheet.items.clone();
    let reported = reported(&facts);
    let twins = reported.iter().enumerate();
    sheet
        .items
        .extend(twins.map(|(i, item)| twin(item, &facts, i)));
    sheet
}

/// The facts of the report split, the last three of five of each main slice: what calibrates and
/// selects stays about the weights alone.
fn reported(facts: &[SheetItem]) -> Vec<&SheetItem> {
    let mut turns: HashMap<String, usize> = HashMap::new();
    let reports = |item: &&SheetItem| {
        let turn = turns.entry(item.main_slice().to_owned()).or_default();
        *turn += 1;
        (*turn - 1) % 5 >= 2
    };
    facts.iter().filter(reports).collect()
}

/// The same question and options after two true sentences: the fact, and a fact of the same kind
/// whose answer is one of the wrong options. Which stands first alternates.
fn twin(item: &SheetItem, facts: &[SheetItem], i: usize) -> SheetItem {
    let is_rival = |other: &&SheetItem| {
        let wrong = item.options.iter().any(|option| option == other.target());
        wrong && topic(other) == topic(item) && other.target() != item.target()
    };
    let start = facts.iter().position(|fact| fact.id == item.id);
    let after = facts
        .iter()
        .cycle()
        .skip(start.unwrap_or(0))
        .take(facts.len());
    let mut told: Vec<String> = [item]
        .into_iter()
        .chain(after.filter(is_rival).take(1))
        .map(fact)
        .collect();
    if i % 4 / 2 == 1 {
        told.reverse();
    }
    let mut slices = vec!["in-context".to_owned()];
    slices.extend(
        item.slices
            .iter()
            .filter(|s| *s != CLOSED_BOOK)
            .skip(1)
            .cloned(),
    );
    SheetItem {
        id: format!("{}{TWIN}", item.id),
        slices,
        context: told.join(" "),
        ..item.clone()
    }
}

fn topic(item: &SheetItem) -> &str {
    item.slices.get(1).map_or("", String::as_str)
}

/// The item's fact in other words than its stem, the answer first: it has to be read, a copy of
/// what followed the same words would not do.
fn fact(item: &SheetItem) -> String {
    let (stem, answer) = (item.stem.as_str(), item.target());
    // Inside a sentence only names and titles keep their capital.
    let inner = |words: &str| match words.strip_prefix("The ") {
        Some(rest) => format!("the {rest}"),
        None => words.to_owned(),
    };
    let title = |words: &str| match words.strip_prefix("The ") {
        Some(rest) if rest.starts_with(char::is_lowercase) => format!("the {rest}"),
        _ => words.to_owned(),
    };
    let made = |how: &str| {
        let work = stem.strip_suffix(&format!(" was {how} by"))?;
        Some(title(work))
    };
    let cut = |end: &str| stem.strip_suffix(end).map(inner);
    let active = |auxiliary: &str| {
        let (what, verb) = stem.strip_suffix(" by")?.split_once(auxiliary)?;
        let what = what.to_lowercase();
        Some(format!("It was {answer} who {verb} {what}."))
    };
    let told = match topic(item) {
        "landmark" => cut(" is in the city of").map(|it| format!("{answer} is home to {it}.")),
        "material" => cut(" is made from").map(|it| {
            let it = it.to_lowercase();
            format!("People use {answer} to make {it}.")
        }),
        "young" => cut(" is called a").map(|it| {
            let it = it.to_lowercase();
            format!("The word {answer} means {it}.")
        }),
        "author" => made("written").map(|it| format!("{answer} wrote {it}.")),
        "painter" => made("painted").map(|it| format!("{answer} painted {it}.")),
        "composer" => made("composed").map(|it| format!("{answer} composed {it}.")),
        "idea" => active(" was ").or_else(|| active(" were ")),
        "first" => cut(" was").map(|it| format!("{answer} was {it}.")),
        _ => cut(" is the")
            .map(|it| format!("The {answer} is {it}."))
            .or_else(|| cut(" is").map(|it| format!("{answer} is {it}."))),
    };
    told.unwrap_or_else(|| format!("{stem} {answer}."))
}
