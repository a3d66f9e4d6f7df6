//! Which items calibrate, select and report, and fair small samples of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Family, Item, Split, Suite, Task};

/// Splits in rotation: most items report, because that is where precision is needed.
const ROTATION: [Split; 5] = [
    Split::Calibrate,
    Split::Select,
    Split::Report,
    Split::Report,
    Split::Report,
];

/// What the id of an item ends in that asks another item's fact with the fact in its context.
pub const IN_CONTEXT: &str = "/in-context";

/// Gives every item its split: in rotation over the file order within its main slice, so each
/// split has each slice in the same proportion.
///
/// An item that asks another one's fact with the fact in its context has the split of that one,
/// wherever it stands: only facts that are asked both ways together can be compared.
pub(super) fn assign(items: &mut [Item]) {
    let ids: HashSet<String> = items.iter().map(|item| item.id.clone()).collect();
    let fact_of = |item: &Item| {
        let fact = item.id.strip_suffix(IN_CONTEXT)?;
        ids.contains(fact).then(|| fact.to_owned())
    };
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut splits: HashMap<String, Split> = HashMap::new();
    for item in items.iter_mut().filter(|item| fact_of(item).is_none()) {
        let turn = seen.entry(item.main_slice().to_owned()).or_default();
        item.split = ROTATION[*turn % ROTATION.len()];
        *turn += 1;
        splits.insert(item.id.clone(), item.split);
    }
    for item in items {
        let fact = fact_of(item);
        if let Some(split) = fact.and_then(|fact| splits.get(&fact)) {
            item.split = *split;
        }
    }
}

impl Suite {
    /// Every item of every task, in file order.
    pub fn all(&self) -> Vec<(&Task, &Item)> {
        let mut all = Vec::new();
        for task in &self.tasks {
            all.extend(task.items.iter().map(|item| (task, item)));
        }
        all
    }
}

impl Suite {
    /// At most `per_family` items of each family from one split, all of them if there are fewer.
    ///
    /// Taken in turn over the family's tasks, and within a task over its main slices, in file
    /// order: always the same items, and a smaller sample is part of a larger one.
    pub fn sample(&self, split: Split, per_family: usize) -> Vec<(&Task, &Item)> {
        let of_family = |family: Family| {
            let tasks = self.tasks.iter().filter(move |task| task.family == family);
            in_turn(tasks.map(|task| slices_in_turn(task, split)).collect())
        };
        let families = Family::ALL.iter();
        families
            .flat_map(|&family| of_family(family).into_iter().take(per_family))
            .collect()
    }
}

fn slices_in_turn(task: &Task, split: Split) -> Vec<(&Task, &Item)> {
    let mut slices: BTreeMap<&str, Vec<(&Task, &Item)>> = BTreeMap::new();
    for item in task.items.iter().filter(|item| item.split == split) {
        slices
            .entry(item.main_slice())
            .or_default()
            .push((task, item));
    }
    in_turn(slices.into_values().collect())
}

/// The first of each list, then the second of each, and so on.
fn in_turn<T>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    let mut out = Vec::new();
    loop {
        let before = out.len();
        out.extend(lists.iter_mut().filter_map(Iterator::next));
        if out.len() == before {
            return out;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_and_its_twin_in_the_context_have_the_same_split_in_any_order() {
        let item = |id: &str, slice: &str| Item {
            id: id.to_owned(),
            slices: vec![slice.to_owned()],
            split: Split::Report,
            asks: vec![],
        };
        let mut items = vec![
            item("b/in-context", "in-context"),
            item("a", "head"),
            item("b", "head"),
            item("a/in-context", "in-context"),
            item("c", "head"),
            item("of-none/in-context", "head"),
        ];
        assign(&mut items);
        let splits: Vec<Split> = items.iter().map(|item| item.split).collect();
        use Split::{Calibrate, Report, Select};
        // The twins take no turns, and what only looks like one does.
        assert_eq!(
            splits,
            [Select, Calibrate, Select, Calibrate, Report, Report]
        );
    }

    #[test]
    fn lists_of_different_lengths_take_turns_until_all_are_empty() {
        assert_eq!(
            in_turn(vec![vec![1, 4, 6], vec![2], vec![3, 5]]),
            [1, 2, 3, 4, 5, 6]
        );
        assert!(in_turn::<u8>(vec![]).is_empty());
    }
}
