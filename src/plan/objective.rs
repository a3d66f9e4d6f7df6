//! What a keep set is judged by: what the families lose, weighted, and a floor under those that were
//! not named.

use super::measurable::Cells;
use crate::eval::{Compared, Likelihood, Question};
use crate::importance::LayerProfile;
use crate::suite::{Family, Protocol};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Weight of a family that `--preserve` does not name: enough that the search does not trade it
/// away for nothing, too little to compete with what was asked for.
const UNNAMED_WEIGHT: f64 = 0.1;

/// What a nat of divergence on plain text is worth beside a nat of the family that weighs least: as much as
/// four of them. The answers of some dozens of questions are few tokens, and a set that serves them alone
/// may have forgotten how to speak; but plain text must not outvote what was asked for.
const PLAIN_TEXT: f64 = 4.0;

/// `--preserve FAMILY[=WEIGHT]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preserve {
    /// The family.
    pub family: Family,
    /// Its weight.
    pub weight: f64,
}

impl FromStr for Preserve {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (family, weight) = match text.split_once('=') {
            None => (text, 1.0),
            Some((family, weight)) => {
                let parsed: f64 = weight
                    .parse()
                    .with_context(|| format!("'{weight}' is not a weight: write retrieval=0.5"))?;
                (family, parsed)
            }
        };
        ensure!(
            weight.is_finite() && weight > 0.0,
            "a weight must be positive, not {weight}"
        );
        let family = family.trim().parse()?;
        Ok(Self { family, weight })
    }
}

/// What is looked at of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// The fall of the right answer's score.
    Answers,
    /// How far the predictions of the right answer's tokens are from the original's.
    Divergence,
    /// Both.
    Both,
}

/// What a set loses of texts that ask nothing, nats a token; absent, it is not looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Unasked {
    /// Mean KL(original ‖ candidate) of a token that only copying foretells.
    pub copying: Option<f64>,
    /// The same of a token of plain text.
    pub plain_text: Option<f64>,
}

/// What a set loses.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// What the search minimises, nats.
    pub total: f64,
    /// Of every family, nats.
    pub families: BTreeMap<Family, f64>,
    /// Of texts that ask nothing.
    pub unasked: Unasked,
}

/// What a family that was not named must retain.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Floor {
    share: f64,
}

/// Nats for each share that a family is below the floor: more than any gain elsewhere is worth.
const BELOW_FLOOR: f64 = 10.0;

/// The weight of every family; they sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    weights: BTreeMap<Family, f64>,
    /// Families under the floor's protection.
    unnamed: Vec<Family>,
    floor: Option<Floor>,
    measure: Measure,
    counted: Cells,
}

impl Objective {
    /// Equal weights if nothing is named, else the named ones and a little for the others; only
    /// the `counted` families and protocols are looked at.
    pub fn new(preserve: &[Preserve], measure: Measure, counted: Cells) -> Self {
        let unnamed = match preserve.is_empty() {
            true => 1.0,
            false => UNNAMED_WEIGHT,
        };
        let mut weights: BTreeMap<Family, f64> = Family::ALL
            .iter()
            .map(|&family| (family, unnamed))
            .collect();
        for wish in preserve {
            weights.insert(wish.family, wish.weight);
        }
        let sum: f64 = weights.values().sum();
        weights.values_mut().for_each(|weight| *weight /= sum);
        let named = |family: &Family| preserve.iter().any(|wish| wish.family == *family);
        let families = Family::ALL.iter().copied();
        Self {
            weights,
            unnamed: families.filter(|family| !named(family)).collect(),
            floor: None,
            measure,
            counted,
        }
    }

    /// With a share that families that are not named must retain.
    pub fn with_floor(mut self, share: Option<f64>) -> Self {
        self.floor = share.map(|share| Floor { share });
        self
    }

    /// The weights by family.
    pub fn weights(&self) -> &BTreeMap<Family, f64> {
        &self.weights
    }

    /// The weight of plain text, beside the families'.
    fn plain_text(&self) -> f64 {
        let least = self.weights.values().copied().fold(f64::INFINITY, f64::min);
        PLAIN_TEXT * least
    }

    /// Whether it matters to some questions what a set loses of copying.
    pub fn looks_at_copying(&self, questions: &[&Question]) -> bool {
        let retrieves = |question: &&Question| question.task.family == Family::Retrieval;
        self.measure != Measure::Answers && questions.iter().any(retrieves)
    }

    /// Whether a family under a protocol is looked at.
    pub fn counts(&self, family: Family, protocol: Protocol) -> bool {
        self.counted.contains(&(family, protocol))
    }

    /// What is looked at, as `family/protocol`.
    pub fn counted(&self) -> Vec<String> {
        let name = |(family, protocol): &(Family, Protocol)| format!("{family}/{protocol}");
        self.counted.iter().map(name).collect()
    }

    /// The weighted mean of what the families lost. A family that does better than in the
    /// original counts as unharmed: a gain on a few items must not pay for another's loss.
    pub fn loss(&self, families: &BTreeMap<Family, f64>) -> f64 {
        let weighted = families
            .iter()
            .map(|(family, fall)| fall.max(0.0) * self.weights.get(family).copied().unwrap_or(0.0));
        weighted.sum()
    }

    /// What a profile expects of dropping one layer.
    pub fn expected(&self, layer: &LayerProfile) -> f64 {
        let drops = layer
            .drops
            .iter()
            .filter(|drop| self.counts(drop.family, drop.protocol))
            .map(|drop| (drop.family, drop.protocol, drop.nats));
        self.loss(&family_means(drops))
    }

    /// What is lost between two models' answers to the same questions. A family's loss is the mean
    /// over its protocols, so that none outvotes another by its number of items. What is lost of copying, where it is
    /// known, takes the place of retrieval's divergence, which does not tell what sets cost retrieval
    /// (docs/findings.md).
    pub fn judge(
        &self,
        questions: &[&Question],
        before: &[Vec<Compared>],
        after: &[Vec<Compared>],
        unasked: Unasked,
    ) -> Loss {
        let of = |one: fn(&Question, &[Compared], &[Compared]) -> f64| {
            let each = questions.iter().zip(before.iter().zip(after));
            family_means(each.map(|(question, (before, after))| {
                let loss = one(question, before, after);
                (question.task.family, question.protocol(), loss)
            }))
        };
        let mut families = match self.measure {
            Measure::Divergence => BTreeMap::new(),
            _ => of(fall),
        };
        if self.measure != Measure::Answers {
            for (family, divergence) in of(divergence) {
                let copying = unasked.copying.filter(|_| family == Family::Retrieval);
                let divergence = copying.unwrap_or(divergence);
                let loss = families.entry(family).or_insert(0.0f64);
                // A better score is no reason to overlook that the model is another one.
                *loss = loss.max(0.0) + divergence;
            }
        }
        let mut total =
            self.loss(&families) + self.plain_text() * unasked.plain_text.unwrap_or(0.0);
        if let Some(floor) = self.floor {
            let retained = self.retained(questions, before, after);
            let below = self
                .unnamed
                .iter()
                .filter_map(|family| retained.get(family));
            total += below
                .map(|share| BELOW_FLOOR * (floor.share - share).max(0.0))
                .sum::<f64>();
        }
        Loss {
            total,
            families,
            unasked,
        }
    }

    /// The share of every family's answers that stayed right, over what guessing gives: 1 is no loss.
    /// Families in which the original does not better than guessing have none.
    pub fn retained(
        &self,
        questions: &[&Question],
        before: &[Vec<Compared>],
        after: &[Vec<Compared>],
    ) -> BTreeMap<Family, f64> {
        let above = |answers: &[Vec<Compared>]| {
            let each = questions.iter().zip(answers);
            family_means(each.map(|(question, answers)| {
                let right = f64::from(u8::from(question.is_right(&likelihoods(answers))));
                let above = right - question.ask.chance();
                (question.task.family, question.protocol(), above)
            }))
        };
        let (before, after) = (above(before), above(after));
        let shares = before.iter().filter(|(_, before)| **before > 0.0);
        shares
            .map(|(family, before)| (*family, after.get(family).copied().unwrap_or(0.0) / before))
            .collect()
    }
}

fn likelihoods(answers: &[Compared]) -> Vec<Likelihood> {
    answers.iter().map(|answer| answer.likelihood).collect()
}

/// The fall of the question's continuous score, nats.
fn fall(question: &Question, before: &[Compared], after: &[Compared]) -> f64 {
    question.value(&likelihoods(before)) - question.value(&likelihoods(after))
}

/// Mean KL(original ‖ candidate) of a token of the right answer, nats.
fn divergence(question: &Question, _: &[Compared], after: &[Compared]) -> f64 {
    let right = question.ask.right().first().copied().unwrap_or(0);
    let tokens = question.candidates.get(right).map_or(1, |c| c.tokens.len());
    after
        .get(right)
        .map_or(0.0, |found| found.divergence / tokens.max(1) as f64)
}

fn family_means(falls: impl Iterator<Item = (Family, Protocol, f64)>) -> BTreeMap<Family, f64> {
    let mut cells: BTreeMap<Family, BTreeMap<Protocol, (f64, f64)>> = BTreeMap::new();
    for (family, protocol, fall) in falls {
        let cell = cells
            .entry(family)
            .or_default()
            .entry(protocol)
            .or_default();
        cell.0 += fall;
        cell.1 += 1.0;
    }
    let mean = |cells: BTreeMap<Protocol, (f64, f64)>| {
        let means = cells.values().map(|(sum, n)| sum / n);
        means.sum::<f64>() / cells.len() as f64
    };
    cells
        .into_iter()
        .map(|(family, cells)| (family, mean(cells)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Candidate;
    use crate::suite::Suite;

    #[test]
    fn what_is_preserved_weighs_more_than_what_is_not() {
        let preserve = [
            "retrieval".parse().unwrap(),
            "reasoning=0.5".parse().unwrap(),
        ];
        let objective = Objective::new(&preserve, Measure::Both, Cells::new());
        let weight = |family| objective.weights()[&family];
        assert!(weight(Family::Retrieval) > weight(Family::Reasoning));
        assert!(weight(Family::Reasoning) > weight(Family::Language));
        assert!((objective.weights().values().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn plain_text_does_not_outvote_what_is_preserved() {
        let weights = |preserve: &[Preserve]| {
            let objective = Objective::new(preserve, Measure::Both, Cells::new());
            (
                objective.plain_text(),
                objective.weights()[&Family::Retrieval],
            )
        };
        assert_eq!(weights(&[]), (1.0, 0.25));
        let (text, retrieval) = weights(&["retrieval".parse().unwrap()]);
        assert!(retrieval > 2.0 * text && text > 0.1, "{text} {retrieval}");
    }

    #[test]
    fn a_gain_of_one_family_does_not_pay_for_another() {
        let objective = Objective::new(&[], Measure::Both, Cells::new());
        let lost = BTreeMap::from([(Family::Knowledge, 1.0), (Family::Language, -3.0)]);
        assert!((objective.loss(&lost) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn what_is_lost_of_copying_is_retrievals_divergence_and_no_other_familys() {
        let suite = Suite::embedded();
        let counted = |family| (family, Protocol::Continuation);
        let cells = Cells::from([counted(Family::Retrieval), counted(Family::Language)]);
        let asked = |family: Family| {
            let task = suite.tasks.iter().find(|task| task.family == family);
            let task = task.unwrap();
            let item = &task.items[0];
            let ask = item.ask(Protocol::Continuation).unwrap();
            let candidates = vec![one_token(); ask.options().len()];
            (task, item, ask, candidates)
        };
        let questions = [Family::Retrieval, Family::Language].map(|family| {
            let (task, item, ask, candidates) = asked(family);
            Question {
                task,
                item,
                ask,
                text: String::new(),
                candidates,
                prompt: Vec::new(),
                truncated: 0,
            }
        });
        let questions: Vec<&Question> = questions.iter().collect();
        let answers = |divergence| {
            let log_prob = -1.0;
            let likelihood = Likelihood {
                log_prob,
                greedy: false,
            };
            let compared = Compared {
                likelihood,
                divergence,
            };
            let of = |question: &&Question| vec![compared; question.candidates.len()];
            questions.iter().map(of).collect::<Vec<_>>()
        };
        let judge = |measure, copying| {
            let objective = Objective::new(&[], measure, cells.clone());
            let unasked = Unasked {
                copying,
                plain_text: None,
            };
            let loss = objective.judge(&questions, &answers(0.0), &answers(0.5), unasked);
            assert_eq!(loss.unasked, unasked);
            [Family::Retrieval, Family::Language].map(|family| loss.families[&family])
        };
        assert_eq!(judge(Measure::Both, None), [0.5, 0.5]);
        assert_eq!(judge(Measure::Both, Some(2.0)), [2.0, 0.5]);
        assert_eq!(judge(Measure::Divergence, Some(2.0)), [2.0, 0.5]);
        assert_eq!(judge(Measure::Answers, Some(2.0)), [0.0, 0.0]);
        // Plain text weighs as much as all families.
        let objective = Objective::new(&[], Measure::Both, cells.clone());
        let total = |plain_text| {
            let unasked = Unasked {
                copying: None,
                plain_text,
            };
            let loss = objective.judge(&questions, &answers(0.0), &answers(0.5), unasked);
            loss.total
        };
        assert_eq!(total(Some(3.0)) - total(None), 3.0);
    }

    fn one_token() -> Candidate {
        Candidate {
            prompt: [1].into(),
            tokens: vec![2],
        }
    }

    #[test]
    fn wrong_wishes_are_refused() {
        for wrong in [
            "cooking",
            "retrieval=",
            "retrieval=-1",
            "retrieval=nan",
            "=1",
        ] {
            assert!(wrong.parse::<Preserve>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn protocols_count_equally_however_many_items_they_have() {
        let falls = [
            (Family::Language, Protocol::Choice, 1.0),
            (Family::Language, Protocol::Continuation, 3.0),
            (Family::Language, Protocol::Continuation, 5.0),
        ];
        assert_eq!(family_means(falls.into_iter())[&Family::Language], 2.5);
    }
}
