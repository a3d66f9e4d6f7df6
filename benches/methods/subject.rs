//! The model, and the items of a seed.

use anyhow::{Context, Result};
use candle_core::Device;
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::{TextTokenizer, runnable};
use slim::eval::{Asking, Question, questions};
use slim::model::Model;
use slim::suite::{Family, Item, Protocol, Split, Suite, Task};
use std::collections::BTreeMap;
use std::path::Path;

pub struct Subject<'k> {
    pub checkpoint: Checkpoint,
    pub model: Model,
    pub tokenizer: TextTokenizer,
    pub suite: Suite,
    pub keys: BTreeMap<&'k str, &'k str>,
}

impl<'k> Subject<'k> {
    pub fn new(model: &str, keys: &[&'k str]) -> Result<Self> {
        let checkpoint = Checkpoint::open(Path::new(model))?;
        let pairs = keys
            .iter()
            .map(|pair| pair.split_once('=').context("KEY=VALUE"));
        Ok(Self {
            model: Model::load(&checkpoint, &Device::Cpu, |_, _| {})?,
            tokenizer: runnable(&checkpoint)?,
            checkpoint,
            suite: Suite::embedded(),
            keys: pairs.collect::<Result<_>>()?,
        })
    }

    pub fn number(&self, key: &str, default: usize) -> usize {
        let found = self.keys.get(key).and_then(|value| value.parse().ok());
        found.unwrap_or(default)
    }

    pub fn ask<'s>(&self, items: &[(&'s Task, &'s Item)]) -> Result<Vec<Question<'s>>> {
        let asking = Asking {
            tokenizer: &self.tokenizer,
            context_length: self.model.config().context_length,
            chat: None,
        };
        questions(items, Protocol::ALL, &asking)
    }

    /// A seed's items of each family: three seeds begin at different ones, and share some only where the split
    /// has too few.
    pub fn drawn(&self, split: Split, per_family: usize, seed: u64) -> Result<Vec<Question<'_>>> {
        let mut items = Vec::new();
        let all = self.suite.sample(split, usize::MAX);
        for family in Family::ALL {
            let of_family = all.iter().filter(|(task, _)| task.family == *family);
            let mut of_family: Vec<_> = of_family.copied().collect();
            let step = per_family.min(of_family.len() / 3);
            let offset = seed as usize * step % of_family.len().max(1);
            of_family.rotate_left(offset);
            items.extend(of_family.into_iter().take(per_family));
        }
        self.ask(&items)
    }
}
