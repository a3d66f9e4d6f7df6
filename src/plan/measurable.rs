//! Which families and protocols the original can be measured with at all.
//!
//! What the original does no better than by guessing cannot be lost; in the search it is noise,
//! and it would cost as much as a signal.

use crate::arch::KeepSet;
use crate::eval::{Engine, Progress, Question, stats};
use crate::model::Model;
use crate::suite::{Family, Protocol};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Families under protocols.
pub type Cells = BTreeSet<(Family, Protocol)>;

/// The cells in which the original's accuracy is above chance, and those of free text, whose
/// score does not saturate. A family with neither keeps all of its cells.
///
/// # Errors
/// What the engine reports.
pub fn measurable(model: &Model, questions: &[Question], progress: &dyn Progress) -> Result<Cells> {
    let all = [KeepSet::all(model.n_layers())];
    let engine = Engine::new(model);
    progress.begin("what can be measured", engine.work(questions, &all));
    let answers = engine.likelihoods(questions, &all, progress)?;
    let answers = answers.first().context("the original has answers")?;
    let mut cells: BTreeMap<(Family, Protocol), Vec<(bool, f64)>> = BTreeMap::new();
    for (question, likelihoods) in questions.iter().zip(answers) {
        let right = question.is_right(likelihoods);
        let chance = question.ask.chance();
        let cell = (question.task.family, question.protocol());
        cells.entry(cell).or_default().push((right, chance));
    }
    Ok(choose(&cells))
}

fn choose(cells: &BTreeMap<(Family, Protocol), Vec<(bool, f64)>>) -> Cells {
    let has_signal = |((_, protocol), answers): &(&(Family, Protocol), &Vec<(bool, f64)>)| {
        let n = answers.len();
        let accuracy = answers.iter().filter(|(right, _)| *right).count() as f64 / n as f64;
        let chance = answers.iter().map(|(_, chance)| chance).sum::<f64>() / n as f64;
        *protocol == Protocol::Generate || stats::above_chance(accuracy, n, chance)
    };
    let mut chosen: Cells = cells.iter().filter(has_signal).map(|(&c, _)| c).collect();
    let measured: BTreeSet<Family> = chosen.iter().map(|(family, _)| *family).collect();
    let blind = cells
        .keys()
        .filter(|(family, _)| !measured.contains(family));
    chosen.extend(blind.copied());
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_at_chance_do_not_count_unless_their_family_has_no_other() {
        let answers = |right: usize| (0..40).map(|i| (i < right, 0.25)).collect::<Vec<_>>();
        let cells = BTreeMap::from([
            ((Family::Knowledge, Protocol::Choice), answers(10)),
            ((Family::Knowledge, Protocol::Continuation), answers(30)),
            ((Family::Language, Protocol::Choice), answers(10)),
        ]);
        let chosen = choose(&cells);
        assert!(!chosen.contains(&(Family::Knowledge, Protocol::Choice)));
        assert!(chosen.contains(&(Family::Knowledge, Protocol::Continuation)));
        assert!(chosen.contains(&(Family::Language, Protocol::Choice)));
    }
}
