//! Whether facts that are gone left the weights, or the reading of them broke.

use super::answers::{Answer, Answers};
use crate::suite::IN_CONTEXT;
use crate::suite::{Family, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The slice of items that ask for a fact from memory.
const CLOSED_BOOK: &str = "closed-book";

/// Facts asked for both ways: from memory, and with the fact in the context, by an item whose id
/// is that of the first and `/in-context`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {
    /// The family.
    pub family: Family,
    /// How they were asked.
    pub protocol: Protocol,
    /// Facts asked for both ways.
    pub n: usize,
    /// Whether the original gives them from memory more often than by guessing.
    pub above_chance: bool,
    /// Facts that the original gives from memory.
    pub known: usize,
    /// Of these, what the pruned model no longer gives from memory.
    pub gone: usize,
    /// Of what is gone, what the pruned model gives when it stands in the context: lost from the
    /// weights.
    pub lost_from_weights: usize,
    /// Of what is gone, what the original gives from the context and the pruned model does not:
    /// the reading circuit is damaged.
    pub reading_damaged: usize,
    /// Of what is gone, what neither gives from the context: nothing can be told.
    pub undecided: usize,
}

/// By family and protocol, where facts were asked for both ways.
pub(super) fn recall(answers: &Answers) -> Vec<Recall> {
    let cells = answers.by_protocol();
    let found = cells.iter().map(|(&key, cell)| of_cell(key, cell));
    found.filter(|recall| recall.n > 0).collect()
}

fn of_cell((family, protocol): (Family, Protocol), cell: &Answers) -> Recall {
    let open: BTreeMap<(&str, &str), &Answer> = cell
        .0
        .iter()
        .filter_map(|answer| {
            let id = answer.original.id.strip_suffix(IN_CONTEXT)?;
            Some(((answer.original.task.as_str(), id), answer))
        })
        .collect();
    let in_context = |closed: &Answer| {
        let key = (closed.original.task.as_str(), closed.original.id.as_str());
        open.get(&key).copied()
    };
    let closed = cell.only(|answer| answer.is_in(CLOSED_BOOK) && in_context(answer).is_some());
    let known = closed.only(|answer| answer.original.correct);
    let gone = known.only(|answer| !answer.pruned.correct);
    let count = |of: fn(&Answer) -> bool| {
        let opened = gone.0.iter().filter_map(&in_context);
        opened.filter(|answer| of(answer)).count()
    };
    Recall {
        family,
        protocol,
        n: closed.len(),
        above_chance: closed.original_above_chance(),
        known: known.len(),
        gone: gone.len(),
        lost_from_weights: count(|open| open.pruned.correct),
        reading_damaged: count(|open| open.original.correct && !open.pruned.correct),
        undecided: count(|open| !open.original.correct && !open.pruned.correct),
    }
}
