//! The same question to both models.

use crate::eval::Outcome;
use crate::eval::stats::{Flips, Pair, Paired, above_chance};
use crate::suite::{Family, IN_CONTEXT, Protocol};
use std::collections::BTreeMap;

/// One question answered by both models.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'o> {
    pub(super) original: &'o Outcome,
    pub(super) pruned: &'o Outcome,
}

impl Answer<'_> {
    /// What is resampled as one: the fact or task behind the item, whatever the protocol, and
    /// whether or not its answer stands in the context.
    pub(super) fn cluster(&self) -> String {
        let id = self.original.id.as_str();
        let id = id.strip_suffix(IN_CONTEXT).unwrap_or(id);
        format!("{}/{id}", self.original.task)
    }

    pub(super) fn is_in(&self, slice: &str) -> bool {
        self.original.slices.iter().any(|name| name == slice)
    }

    fn pair(&self) -> Pair {
        Pair {
            cluster: self.cluster(),
            protocol: self.original.protocol,
            chance: self.original.chance,
            original: self.original.correct,
            pruned: self.pruned.correct,
        }
    }
}

/// Questions answered by both models, in a fixed order.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers<'o>(pub(super) Vec<Answer<'o>>);

type Key<'o> = (&'o str, &'o str, Protocol);

fn key(outcome: &Outcome) -> Key<'_> {
    (&outcome.task, &outcome.id, outcome.protocol)
}

impl<'o> Answers<'o> {
    pub(super) fn both(original: &'o [Outcome], pruned: &'o [Outcome]) -> Self {
        let by_key = |outcomes: &'o [Outcome]| -> BTreeMap<Key<'o>, &'o Outcome> {
            outcomes.iter().map(|o| (key(o), o)).collect()
        };
        let after = by_key(pruned);
        let answer = |(key, original)| {
            let pruned = after.get(&key).copied()?;
            Some(Answer { original, pruned })
        };
        Self(by_key(original).into_iter().filter_map(answer).collect())
    }

    /// The answers under each key that `of` gives; one answer may be under several.
    pub(super) fn grouped<K: Ord>(
        &self,
        of: impl Fn(&Answer<'o>) -> Vec<K>,
    ) -> BTreeMap<K, Answers<'o>> {
        let mut groups: BTreeMap<K, Answers> = BTreeMap::new();
        for answer in &self.0 {
            for key in of(answer) {
                groups.entry(key).or_default().0.push(*answer);
            }
        }
        groups
    }

    pub(super) fn by_protocol(&self) -> BTreeMap<(Family, Protocol), Answers<'o>> {
        self.grouped(|answer| vec![(answer.original.family, answer.original.protocol)])
    }

    pub(super) fn only(&self, keep: impl Fn(&Answer<'o>) -> bool) -> Answers<'o> {
        Answers(self.0.iter().copied().filter(keep).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The mean of something about every answer; 0 of none.
    pub(super) fn mean(&self, of: impl Fn(&Answer<'o>) -> f64) -> f64 {
        self.0.iter().map(of).sum::<f64>() / self.len().max(1) as f64
    }

    pub(super) fn chance(&self) -> f64 {
        self.mean(|answer| answer.original.chance)
    }

    pub(super) fn original(&self) -> f64 {
        self.mean(|answer| right(answer.original))
    }

    pub(super) fn pruned(&self) -> f64 {
        self.mean(|answer| right(answer.pruned))
    }

    pub(super) fn original_above_chance(&self) -> bool {
        above_chance(self.original(), self.len(), self.chance())
    }

    pub(super) fn pruned_above_chance(&self) -> bool {
        above_chance(self.pruned(), self.len(), self.chance())
    }

    pub(super) fn flips(&self) -> Flips {
        Flips::count(
            self.0
                .iter()
                .map(|a| (a.original.correct, a.pruned.correct)),
        )
    }

    pub(super) fn paired(&self) -> Paired {
        let pairs: Vec<Pair> = self.0.iter().map(Answer::pair).collect();
        Paired::of(&pairs)
    }
}

/// 1 for a right answer, 0 for a wrong one.
pub(super) fn right(outcome: &Outcome) -> f64 {
    f64::from(u8::from(outcome.correct))
}
