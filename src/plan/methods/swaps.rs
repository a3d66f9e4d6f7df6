//! Sets that were tried, made better by exchanging what stays and what is gone; and of the best few the
//! one that writes best, because likelihood alone passes broken models.

use super::Search;
use crate::arch::KeepSet;
use crate::eval::{Mended, Share};
use crate::plan::objective::{Loss, Unasked};
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// Rounds of swaps, at most, and those without a gain after which there are no more.
const ROUNDS: u64 = 8;
const FRUITLESS: u64 = 2;

/// Sets that are asked everything in the end, beside those that the search began with: a few questions do
/// not tell one family's losses apart, and the best of many sets is often the luckiest.
const ASKED_ALL: usize = 8;

/// Of these, those that write a text.
const FINALISTS: usize = 3;

/// Units of progress of a round.
const ROUND: u64 = 1000;

/// Sets that were tried, with what they lose.
pub(super) struct Tried<'s, 'a> {
    search: &'s Search<'a>,
    first: Vec<KeepSet>,
    losses: BTreeMap<KeepSet, Loss>,
}

/// What sets lose as a few questions see it; trying them is worth some units of progress.
pub(super) fn losses(search: &Search, sets: &[KeepSet], worth: u64) -> Result<Vec<Loss>> {
    let share = Share::new(search.progress, worth, search.work(search.trial, sets));
    search.losses(search.trial, sets, &share)
}

impl<'s, 'a> Tried<'s, 'a> {
    /// Begins a stage of the search, with some sets.
    pub fn new(search: &'s Search<'a>, stage: &str, first: Vec<KeepSet>) -> Result<Self> {
        search.progress.begin(stage, (ROUNDS + 1) * ROUND);
        let mut tried = Self {
            search,
            first: first.clone(),
            losses: BTreeMap::new(),
        };
        tried.add(first)?;
        Ok(tried)
    }

    fn add(&mut self, mut sets: Vec<KeepSet>) -> Result<()> {
        sets.retain(|set| !self.losses.contains_key(set));
        sets.sort_unstable();
        sets.dedup();
        let found = match sets.is_empty() {
            true => Vec::new(),
            false => losses(self.search, &sets, ROUND)?,
        };
        self.losses.extend(sets.into_iter().zip(found));
        Ok(())
    }

    /// The sets that lose least, best first.
    fn best(&self, n: usize) -> Vec<(&KeepSet, f64)> {
        let all = self.losses.iter();
        let mut ranked: Vec<(&KeepSet, f64)> = all.map(|(set, loss)| (set, loss.total)).collect();
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        ranked.truncate(n);
        ranked
    }

    /// Tries `swaps` of the best set until they bring nothing. `expected` says what a set may lose.
    pub fn improve(
        &mut self,
        swaps: impl Fn(&KeepSet) -> Result<Vec<KeepSet>>,
        expected: impl Fn(&KeepSet) -> f64,
    ) -> Result<()> {
        let mut random = self.search.random();
        let (mut rounds, mut fruitless) = (0, 0);
        while rounds < ROUNDS && fruitless < FRUITLESS {
            let (best, least) = *self.best(1).first().context("no set was tried")?;
            let mut swaps = swaps(best)?;
            swaps.retain(|set| !self.losses.contains_key(set));
            random.shuffle(&mut swaps);
            let swaps = promising(swaps, self.search.candidates, &expected);
            if swaps.is_empty() {
                break;
            }
            self.add(swaps)?;
            let gained = self.best(1).first().is_some_and(|(_, loss)| *loss < least);
            fruitless = if gained { 0 } else { fruitless + 1 };
            rounds += 1;
        }
        self.search.progress.advance((ROUNDS - rounds) * ROUND);
        Ok(())
    }

    /// The best few, and those that the search began with, by all questions.
    fn ask_all(&mut self) -> Result<()> {
        let Some(jury) = self.search.jury else {
            return Ok(());
        };
        let best = self.best(ASKED_ALL).into_iter().map(|(set, _)| set);
        let mut sets: Vec<KeepSet> = best.chain(&self.first).cloned().collect();
        sets.sort_unstable();
        sets.dedup();
        let progress = self.search.progress;
        progress.begin("asking the best everything", jury.work(&sets));
        let masks: Vec<Mended> = sets.iter().map(|set| jury.mended(set)).collect();
        let unasked: Vec<Unasked> = sets.iter().map(|set| self.losses[set].unasked).collect();
        let losses = self.search.asked(jury, &masks, &unasked, progress)?;
        self.losses = sets.into_iter().zip(losses).collect();
        Ok(())
    }

    /// Of sets that lose about as little, the one whose own texts lose least.
    pub fn best_writer(mut self) -> Result<KeepSet> {
        self.ask_all()?;
        let finalists = self.best(FINALISTS);
        let sets: Vec<KeepSet> = finalists.iter().map(|(set, _)| (*set).clone()).collect();
        let written = self.search.writing.losses(&sets, self.search.progress)?;
        let losses = finalists.iter().zip(written).map(|((_, a), b)| a + b);
        let best = sets
            .iter()
            .zip(losses)
            .min_by(|(_, a), (_, b)| a.total_cmp(b));
        Ok(best.context("no set was tried")?.0.clone())
    }
}

/// `n` of shuffled swaps: half those of which least loss is expected; half as they were drawn, because
/// what is known of layers by themselves understates joint damage.
fn promising(
    mut swaps: Vec<KeepSet>,
    n: usize,
    expected: &impl Fn(&KeepSet) -> f64,
) -> Vec<KeepSet> {
    let n = n.max(1);
    let mut drawn = swaps.split_off(swaps.len() / 2);
    swaps.sort_by(|a, b| expected(a).total_cmp(&expected(b)));
    swaps.truncate(n.div_ceil(2));
    drawn.truncate(n / 2);
    swaps.append(&mut drawn);
    swaps
}
