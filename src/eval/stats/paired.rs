//! What a pair of models did on the same items, with intervals that respect the pairing.

use super::bootstrap::{Interval, bootstrap};
use crate::suite::Protocol;
use std::collections::BTreeMap;

/// Protocols, which are averaged with equal weight.
const GROUPS: usize = Protocol::ALL.len();

/// Of each protocol: questions, right answers of the original above chance, and of the pruned model.
type Row = [f64; 3 * GROUPS];

/// One question answered by the original and by the pruned model.
#[derive(Debug, Clone)]
pub struct Pair {
    /// What is resampled: the item, whatever the protocol.
    pub cluster: String,
    /// How it was asked.
    pub protocol: Protocol,
    /// Right answers by guessing.
    pub chance: f64,
    /// Whether the original was right.
    pub original: bool,
    /// Whether the pruned model was right.
    pub pruned: bool,
}

/// Questions answered by both models, by item.
///
/// The intervals are a paired bootstrap over items, with one item on which everything was lost
/// and one on which everything was gained in the urn: docs/method.md shows what intervals of few
/// flips are worth without them.
#[derive(Debug)]
pub struct Paired {
    rows: Vec<Row>,
    smoothing: [Row; 2],
}

impl Paired {
    /// Gathers the pairs by item.
    pub fn of(pairs: &[Pair]) -> Self {
        let mut items: BTreeMap<&str, Row> = BTreeMap::new();
        let mut sums: Row = [0.0; 3 * GROUPS];
        for pair in pairs {
            let row = items.entry(&pair.cluster).or_insert([0.0; 3 * GROUPS]);
            add(
                row,
                pair.protocol,
                values(pair.chance, pair.original, pair.pruned),
            );
            add(&mut sums, pair.protocol, [1.0, pair.chance, 0.0]);
        }
        let mut smoothing = [[0.0; 3 * GROUPS]; 2];
        for &protocol in Protocol::ALL {
            let [n, chances, _] = group(&sums, protocol);
            if n > 0.0 {
                let [lost, gained] = &mut smoothing;
                add(lost, protocol, values(chances / n, true, false));
                add(gained, protocol, values(chances / n, false, true));
            }
        }
        Self {
            rows: items.into_values().collect(),
            smoothing,
        }
    }

    /// Accuracy of the pruned model less that of the original, the mean over protocols. `None`
    /// where nothing was asked.
    pub fn difference(&self) -> Option<Interval> {
        bootstrap(&self.rows, &self.smoothing, |sums| {
            let [groups, original, pruned] = means(sums);
            (groups > 0.0).then(|| (pruned - original) / groups)
        })
    }

    /// What the pruned model retains of the original's accuracy above chance,
    /// Σ_g (pruned_g − chance_g) / Σ_g (original_g − chance_g) over protocols g of equal weight.
    /// `None` where the original has nothing above chance.
    pub fn retained(&self) -> Option<Interval> {
        bootstrap(&self.rows, &self.smoothing, |sums| {
            let [_, original, pruned] = means(sums);
            (original > 1e-9).then(|| pruned / original)
        })
    }
}

fn values(chance: f64, original: bool, pruned: bool) -> [f64; 3] {
    let right = |right: bool| f64::from(u8::from(right)) - chance;
    [1.0, right(original), right(pruned)]
}

fn add(row: &mut Row, protocol: Protocol, values: [f64; 3]) {
    let (groups, _) = row.as_chunks_mut::<3>();
    if let Some(group) = groups.get_mut(protocol as usize) {
        for (sum, value) in group.iter_mut().zip(values) {
            *sum += value;
        }
    }
}

fn group(row: &Row, protocol: Protocol) -> [f64; 3] {
    let (groups, _) = row.as_chunks::<3>();
    groups.get(protocol as usize).copied().unwrap_or_default()
}

/// Protocols that were asked, and over them the sums of each model's mean above chance.
fn means(sums: &Row) -> [f64; 3] {
    let (groups, _) = sums.as_chunks::<3>();
    let asked = groups.iter().filter(|[n, ..]| *n > 0.0);
    asked.fold(
        [0.0; 3],
        |[groups, before, after], [n, original, pruned]| {
            [groups + 1.0, before + original / n, after + pruned / n]
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::reference::{close, reference};
    use super::*;

    fn pairs(answers: impl Iterator<Item = (bool, bool)>) -> Vec<Pair> {
        let pair = |(i, (original, pruned)): (usize, (bool, bool))| Pair {
            cluster: i.to_string(),
            protocol: Protocol::Choice,
            chance: 0.25,
            original,
            pruned,
        };
        answers.enumerate().map(pair).collect()
    }

    fn first(n: usize, original: usize, pruned: usize) -> Paired {
        Paired::of(&pairs((0..n).map(|i| (i < original, i < pruned))))
    }

    #[test]
    fn an_unchanged_model_retains_all_of_it_as_far_as_the_items_can_tell() {
        let few = first(40, 30, 30).retained().unwrap();
        assert_eq!(few.estimate, 1.0);
        assert!(few.low < 1.0 && 1.0 < few.high, "{few:?}");
        let many = first(400, 300, 300).retained().unwrap();
        assert!(many.low > few.low && many.high < few.high, "{many:?}");
        assert_eq!(first(40, 30, 30).difference().unwrap().estimate, 0.0);
    }

    #[test]
    fn falling_to_chance_retains_nothing_and_the_interval_holds_the_estimate() {
        let interval = first(40, 30, 10).retained().unwrap();
        assert!(interval.estimate.abs() < 1e-12);
        assert!(interval.low < interval.estimate && interval.estimate < interval.high);
    }

    #[test]
    fn nothing_is_retained_of_an_original_at_chance() {
        assert_eq!(first(40, 10, 10).retained(), None);
    }

    #[test]
    fn the_order_of_the_items_does_not_matter() {
        let mut answers = pairs((0..30).map(|i| (i % 3 > 0, i % 2 > 0)));
        let one = Paired::of(&answers);
        answers.reverse();
        let other = Paired::of(&answers);
        assert_eq!(one.retained(), other.retained());
        assert_eq!(one.difference(), other.difference());
    }

    #[test]
    fn an_item_asked_twice_is_no_second_witness() {
        let once = pairs((0..40).map(|i| (i < 30, i % 4 > 0 && i < 30)));
        let mut twice = once.clone();
        twice.extend(once.iter().map(|pair| Pair {
            protocol: Protocol::Continuation,
            ..pair.clone()
        }));
        let width = |i: Interval| i.high - i.low;
        let [once, twice] = [once, twice].map(|pairs| Paired::of(&pairs).difference().unwrap());
        close(width(once), width(twice), 1e-9);
    }

    #[test]
    fn intervals_are_those_of_a_long_bootstrap_by_numpy() {
        for case in &reference().bootstrap {
            let answers = case.original.iter().zip(&case.pruned);
            let paired = Paired::of(&pairs(answers.map(|(&o, &p)| (o, p))));
            let ours = [paired.difference().unwrap(), paired.retained().unwrap()];
            for (ours, theirs) in ours.iter().zip([&case.difference, &case.retained]) {
                let width = theirs.high - theirs.low;
                close(ours.estimate, theirs.estimate, 1e-9);
                close(ours.low, theirs.low, 0.06 * width);
                close(ours.high, theirs.high, 0.06 * width);
            }
        }
    }
}
