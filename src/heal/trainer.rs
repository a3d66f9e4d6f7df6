//! The training: steps, checks by what is held out, and its state on disk.

use super::adam::{Adam, clip};
use super::course::{Budget, Check, Course};
use super::exercise::{Exercise, Exercises};
use super::lesson::Original;
use super::state::{Numbers, State, take};
use super::student::{Gap, Gradients, Student};
use super::text::Sequences;
use crate::eval::Progress;
use crate::model::Parameter;
use anyhow::{Context, Result};
use candle_core::Tensor;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Tokens that go through the layers at once.
const TOKENS_AT_ONCE: usize = 1024;

/// Gradients are together no longer than this.
const LONGEST_GRADIENT: f64 = 1.0;

/// What progress counts: the budget, in so many parts.
const UNITS: f64 = 1000.0;

/// How a model is healed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// When it ends.
    pub budget: Budget,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Tokens a step.
    pub batch_tokens: usize,
    /// What the distance of states weighs beside the divergence.
    pub hidden_weight: f64,
    /// Where the order of the texts comes from.
    pub seed: u64,
    /// Bytes for what the original says of texts that come again.
    pub room: u64,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Healed {
    /// What the held-out texts say of the original.
    pub original_perplexity: f64,
    /// Of the pruned model.
    pub before: Check,
    /// Of what was best, as it will be stored.
    pub after: Check,
    /// How the training went.
    pub course: Course,
    /// Whether it ended early, since gradients were no numbers any more.
    pub broken_off: bool,
    /// The best values of each parameter, if they are better than the pruned model's.
    pub values: Option<Vec<(Parameter, Tensor)>>,
}

/// A training.
pub struct Trainer<'t> {
    original: Original<'t>,
    student: Student,
    settings: Settings,
    train: Exercises<'t>,
    count: usize,
    held_out: Vec<Rc<Exercise>>,
    length: usize,
    adam: Adam,
    course: Course,
    /// The values of the best check, if it is not the first.
    best: Option<Vec<Tensor>>,
}

/// Where and how often the state is written.
pub struct Keeping {
    /// Where.
    pub state: State,
    /// After how long.
    pub every: Duration,
}

impl<'t> Trainer<'t> {
    /// A training that has not begun. The original reads what is held out.
    ///
    /// # Errors
    /// What the models report.
    pub fn new(
        original: Original<'t>,
        student: Student,
        sequences: &'t Sequences,
        settings: Settings,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let count = sequences.held_out.len();
        progress.begin("reading what is held out", count as u64);
        let mut all = Exercises::new(&sequences.held_out, u64::MAX);
        let mut held_out = Vec::with_capacity(count);
        let numbers: Vec<usize> = (0..count).collect();
        for some in numbers.chunks(at_once(sequences.length)) {
            held_out.extend(all.of(some, &original, &student)?);
            progress.advance(some.len() as u64);
        }
        Ok(Self {
            adam: Adam::new(student.model().parameters())?,
            train: Exercises::new(&sequences.train, settings.room),
            count: sequences.train.len(),
            held_out,
            length: sequences.length,
            original,
            student,
            settings,
            course: Course::default(),
            best: None,
        })
    }

    /// Trains until the budget is used up, from where the state is, if there is one.
    ///
    /// # Errors
    /// What the models report; a state that cannot be read or written.
    pub fn run(mut self, keeping: Option<&Keeping>, progress: &dyn Progress) -> Result<Healed> {
        if let Some(keeping) = keeping
            && let Some((course, numbers)) = keeping.state.read()?
        {
            self.resume(course, numbers)?;
        }
        progress.begin("healing", UNITS as u64);
        let budget = self.settings.budget;
        let mut told = units(budget.used(&self.course));
        progress.resume(told);
        let (mut clock, mut kept) = (Instant::now(), Instant::now());
        let mut broken_off = false;
        loop {
            self.course.seconds += clock.elapsed().as_secs_f64();
            clock = Instant::now();
            let used = budget.used(&self.course);
            progress.advance(units(used).saturating_sub(told));
            told = told.max(units(used));
            if self.course.check_is_due(used) {
                self.check()?;
            }
            let done = used >= 1.0 || broken_off;
            if let Some(keeping) = keeping
                && (done || kept.elapsed() >= keeping.every)
            {
                keeping.state.write(&self.course, &self.numbers())?;
                kept = Instant::now();
            }
            if done {
                break;
            }
            broken_off = !self.step(used)?;
        }
        self.finish(broken_off)
    }

    /// One step; false where its gradients are no numbers, and nothing changed.
    fn step(&mut self, used: f64) -> Result<bool> {
        let in_a_step = (self.settings.batch_tokens / self.length).max(1);
        let texts = self.course.texts(in_a_step, self.count, self.settings.seed);
        let tokens = texts.len() * self.length;
        let mut gradients = Gradients::new();
        for some in texts.chunks(at_once(self.length)) {
            let exercises = self.train.of(some, &self.original, &self.student)?;
            let exercises: Vec<&Exercise> = exercises.iter().map(Rc::as_ref).collect();
            let weight = 1.0 / tokens as f64;
            let hidden_weight = self.settings.hidden_weight;
            self.student
                .learn(&exercises, weight, hidden_weight, &mut gradients)?;
        }
        if !clip(&mut gradients, LONGEST_GRADIENT)?.is_finite() {
            return Ok(false);
        }
        let rate = self.settings.learning_rate * self.course.rate(used);
        self.course.steps += 1;
        self.course.tokens += tokens as u64;
        let parameters = self.student.model().parameters();
        self.adam
            .step(parameters, &gradients, rate, self.course.steps)?;
        Ok(true)
    }

    /// What the held-out texts say now.
    fn measure(&mut self) -> Result<Check> {
        let mut gap = Gap::default();
        for some in self.held_out.chunks(at_once(self.length)) {
            let some: Vec<&Exercise> = some.iter().map(Rc::as_ref).collect();
            gap += self.student.gap(&some)?;
        }
        Ok(Check {
            tokens: self.course.tokens,
            divergence: gap.divergence / gap.tokens.max(1) as f64,
            perplexity: (gap.surprise / gap.scored.max(1) as f64).exp(),
        })
    }

    fn check(&mut self) -> Result<()> {
        let check = self.measure()?;
        if self.course.note(check) && self.course.steps > 0 {
            self.best = Some(self.values()?);
        }
        Ok(())
    }

    /// Copies of all values.
    fn values(&self) -> candle_core::Result<Vec<Tensor>> {
        let parameters = self.student.model().parameters();
        let values = parameters.map(|parameter| parameter.var().as_detached_tensor());
        values.map(|values| values.copy()).collect()
    }

    /// Measures the best values as they will be stored.
    fn finish(mut self, broken_off: bool) -> Result<Healed> {
        let before = *self.course.checks.first().context("nothing was measured")?;
        let mut after = before;
        let mut values = None;
        if let Some(best) = self.best.take() {
            let parameters: Vec<Parameter> = self.student.model().parameters().cloned().collect();
            let mut stored = Vec::with_capacity(best.len());
            for (parameter, best) in parameters.into_iter().zip(&best) {
                let best = parameter.as_stored(best)?;
                parameter.var().set(&best)?;
                stored.push((parameter, best));
            }
            let check = self.measure()?;
            let tokens = self
                .course
                .checks
                .get(self.course.best)
                .map(|best| best.tokens);
            if check.divergence < before.divergence {
                after = Check {
                    tokens: tokens.unwrap_or(check.tokens),
                    ..check
                };
                values = Some(stored);
            }
        }
        let surprise: f64 = self.held_out.iter().map(|one| one.lesson.surprise).sum();
        let scored: usize = self.held_out.iter().map(|one| one.tokens.len() - 1).sum();
        Ok(Healed {
            original_perplexity: (surprise / scored.max(1) as f64).exp(),
            before,
            after,
            course: self.course,
            broken_off,
            values,
        })
    }

    /// All that changes, by name.
    fn numbers(&self) -> Vec<(String, Tensor)> {
        let mut numbers = Vec::new();
        let mut add = |kind: &str, parameter: &Parameter, values: &Tensor| {
            numbers.push((format!("{kind}.{}", parameter.name()), values.clone()));
        };
        let parameters = self.student.model().parameters();
        for (at, (parameter, [mean, square])) in parameters.zip(&self.adam.moments).enumerate() {
            add("value", parameter, &parameter.var().as_detached_tensor());
            add("mean", parameter, mean);
            add("square", parameter, square);
            if let Some(best) = self.best.as_ref().and_then(|best| best.get(at)) {
                add("best", parameter, best);
            }
        }
        numbers
    }

    fn resume(&mut self, course: Course, mut numbers: Numbers) -> Result<()> {
        let mut best = Vec::new();
        let parameters = self.student.model().parameters();
        for (parameter, moments) in parameters.zip(&mut self.adam.moments) {
            let (name, like) = (parameter.name(), parameter.var().as_detached_tensor());
            let mut named = |kind: &str| take(&mut numbers, &format!("{kind}.{name}"), &like);
            parameter.var().set(&named("value")?)?;
            *moments = [named("mean")?, named("square")?];
            if course.best > 0 {
                best.push(named("best")?);
            }
        }
        self.best = (course.best > 0).then_some(best);
        self.course = course;
        Ok(())
    }
}

fn at_once(length: usize) -> usize {
    (TOKENS_AT_ONCE / length.max(1)).max(1)
}

fn units(used: f64) -> u64 {
    (used * UNITS) as u64
}
