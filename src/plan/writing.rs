//! What candidates write: greedy answers to the questions that ask for text.

use super::compensation::Scales;
use super::objective::Objective;
use crate::arch::KeepSet;
use crate::convert::vocabulary::TextTokenizer;
use crate::eval::{Generated, Mended, Progress, Question, Reply, generate, judge};
use crate::model::Model;
use crate::suite::Family;
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// Questions that are answered in text.
pub struct Writing<'a> {
    model: &'a Model,
    tokenizer: &'a TextTokenizer,
    questions: Vec<&'a Question<'a>>,
    objective: &'a Objective,
    scales: Option<&'a Scales>,
}

impl<'a> Writing<'a> {
    /// Of those of some questions that ask for text.
    pub fn new(
        model: &'a Model,
        tokenizer: &'a TextTokenizer,
        questions: &[&'a Question<'a>],
        objective: &'a Objective,
        scales: Option<&'a Scales>,
    ) -> Self {
        let questions = questions.iter().copied();
        let questions = questions.filter(|question| !question.prompt.is_empty());
        Self {
            model,
            tokenizer,
            questions: questions.collect(),
            objective,
            scales,
        }
    }

    /// What each set loses by its own texts: the weighted fall of the families' scores from what the original's are
    /// worth, 0 to 1.
    ///
    /// # Errors
    /// What the engine reports.
    pub fn losses(&self, sets: &[KeepSet], progress: &dyn Progress) -> Result<Vec<f64>> {
        let original = KeepSet::all(self.model.n_layers());
        let all: Vec<KeepSet> = [original].iter().chain(sets).cloned().collect();
        let scores = self.scores(&all, progress)?;
        let (original, scores) = scores.split_first().context("the original writes")?;
        let fall = |after: &BTreeMap<_, f64>| {
            let falls = original.iter().map(|(family, before)| {
                (*family, before - after.get(family).copied().unwrap_or(0.0))
            });
            self.objective.loss(&falls.collect())
        };
        Ok(scores.iter().map(fall).collect())
    }

    /// Of each set, every family's mean of what its texts are worth.
    fn scores(
        &self,
        sets: &[KeepSet],
        progress: &dyn Progress,
    ) -> Result<Vec<BTreeMap<Family, f64>>> {
        if self.questions.is_empty() {
            return Ok(vec![BTreeMap::new(); sets.len()]);
        }
        let mended = |keep: &KeepSet| match self.scales {
            Some(scales) => scales.mend(keep),
            None => Mended {
                keep: keep.clone(),
                mends: BTreeMap::new(),
            },
        };
        let masks: Vec<Mended> = sets.iter().map(mended).collect();
        let texts = (self.questions.len() * sets.len()) as u64;
        progress.begin("letting the best write", texts);
        let replies = generate(
            self.model,
            &masks,
            &self.questions,
            self.tokenizer,
            progress,
        )?;
        let means = |replies: Vec<Reply>| {
            let mut sums: BTreeMap<_, (f64, f64)> = BTreeMap::new();
            for (question, reply) in self.questions.iter().zip(replies) {
                let sum = sums.entry(question.task.family).or_default();
                sum.0 += worth(question, &reply.generated);
                sum.1 += 1.0;
            }
            let mean = |(family, (sum, n))| (family, sum / n);
            sums.into_iter().map(mean).collect()
        };
        Ok(replies.into_iter().map(means).collect())
    }
}

/// Half for the right answer, half for a text that says something and ends.
fn worth(question: &Question, generated: &Generated) -> f64 {
    let said = question.ask.written().map(|w| w.cut(&generated.text));
    let measured = judge(question.ask, &[], said);
    let right = measured.first().is_some_and(|found| found.value > 0.5);
    let sound = generated.terminated && !generated.text.trim().is_empty();
    0.5 * f64::from(u8::from(right)) + 0.5 * f64::from(u8::from(sound))
}
