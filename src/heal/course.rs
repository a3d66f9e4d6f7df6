//! How far a training has come, and how it goes on from there: what follows depends on nothing else.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Steps in which the learning rate rises: Adam's moments are rough at first.
const WARM_UP: u64 = 10;

/// Parts of a training after each of which the held-out texts measure.
const PARTS: f64 = 5.0;

/// When a training ends: by what is reached first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Tokens.
    pub tokens: Option<u64>,
    /// Seconds.
    pub seconds: Option<f64>,
}

/// What the held-out texts said.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Tokens that were trained on before.
    pub tokens: u64,
    /// Mean KL(original ‖ healed) a token, nats.
    pub divergence: f64,
    /// exp of the mean −ln of the texts' own tokens.
    pub perplexity: f64,
}

/// How far a training has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// Steps.
    pub steps: u64,
    /// Tokens.
    pub tokens: u64,
    /// Seconds, in all runs.
    pub seconds: f64,
    /// What the held-out texts said on the way, first before any step.
    pub checks: Vec<Check>,
    /// Which of the checks was the best.
    pub best: usize,
}

impl Budget {
    /// The share that is used up, at most 1.
    pub fn used(&self, course: &Course) -> f64 {
        let tokens = self.tokens.map(|all| course.tokens as f64 / all as f64);
        let seconds = self.seconds.map(|all| course.seconds / all);
        tokens
            .into_iter()
            .chain(seconds)
            .fold(0.0, f64::max)
            .min(1.0)
    }
}

impl Course {
    /// Whether the held-out texts should measure now.
    pub fn check_is_due(&self, used: f64) -> bool {
        let last = self.checks.last().map(|check| check.tokens);
        let done = used >= 1.0 && last != Some(self.tokens);
        done || used * PARTS >= self.checks.len() as f64 && used < 1.0
    }

    /// Notes what the held-out texts said; whether it is the best so far.
    pub fn note(&mut self, check: Check) -> bool {
        let best = self.checks.get(self.best);
        let better = best.is_none_or(|best| check.divergence < best.divergence);
        if better {
            self.best = self.checks.len();
        }
        self.checks.push(check);
        better
    }

    /// The next step's share of the highest learning rate: a warm-up, then half a cosine down to 0
    /// (Loshchilov and Hutter, arXiv 1608.03983).
    pub fn rate(&self, used: f64) -> f64 {
        let warm = ((self.steps + 1) as f64 / WARM_UP as f64).min(1.0);
        warm * 0.5 * (1.0 + (PI * used).cos())
    }

    /// The texts of the next step, by number: in every round each of `count` once, in an order that
    /// follows from the seed.
    pub fn texts(&self, in_a_step: usize, count: usize, seed: u64) -> Vec<usize> {
        let first = self.steps * in_a_step as u64;
        let mut round = (u64::MAX, Vec::new());
        let place = |at: u64| {
            let wanted = at / count as u64;
            if round.0 != wanted {
                round = (wanted, order(count, seed.wrapping_add(wanted)));
            }
            round.1.get((at % count as u64) as usize).copied()
        };
        (first..first + in_a_step as u64)
            .filter_map(place)
            .collect()
    }
}

fn order(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(steps: u64) -> Course {
        Course {
            steps,
            ..Course::default()
        }
    }

    #[test]
    fn each_round_has_every_text_once_and_rounds_differ() {
        let round = |number: u64| -> Vec<usize> {
            let steps = 3 * number..3 * number + 3;
            steps.flat_map(|step| at(step).texts(4, 12, 7)).collect()
        };
        let sorted = |mut texts: Vec<usize>| {
            texts.sort_unstable();
            texts
        };
        assert_eq!(sorted(round(0)), (0..12).collect::<Vec<_>>());
        assert_eq!(sorted(round(5)), (0..12).collect::<Vec<_>>());
        assert_ne!(round(0), round(1));
        assert_eq!(
            at(0).texts(4, 3, 1).len(),
            4,
            "a step may be longer than a round"
        );
    }

    #[test]
    fn the_rate_rises_and_falls_to_nothing() {
        assert!(at(0).rate(0.0) < at(5).rate(0.01));
        assert!(at(50).rate(0.5) > at(80).rate(0.8));
        assert_eq!(at(99).rate(1.0), 0.0);
    }

    #[test]
    fn a_budget_is_used_up_by_what_is_reached_first() {
        let course = Course {
            tokens: 500,
            seconds: 30.0,
            ..Course::default()
        };
        let used = |tokens, seconds| Budget { tokens, seconds }.used(&course);
        assert_eq!(used(Some(1000), None), 0.5);
        assert_eq!(used(Some(1000), Some(40.0)), 0.75);
        assert_eq!(used(Some(100), Some(40.0)), 1.0);
    }

    #[test]
    fn the_held_out_texts_measure_first_last_and_in_between() {
        let budget = Budget {
            tokens: Some(100),
            seconds: None,
        };
        let mut course = Course::default();
        let mut measured = Vec::new();
        loop {
            let used = budget.used(&course);
            if course.check_is_due(used) {
                measured.push(course.tokens);
                course.note(Check {
                    tokens: course.tokens,
                    divergence: 1.0,
                    perplexity: 1.0,
                });
            }
            if used >= 1.0 {
                break;
            }
            course.tokens += 7;
        }
        assert_eq!(measured, [0, 21, 42, 63, 84, 105]);
    }
}
