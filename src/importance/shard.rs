//! One machine's share of a scoring run.

use anyhow::{Context, Error, Result, ensure};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

/// One share of a run, written `3/16` and counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    /// From 1 to `count`.
    index: usize,
    count: usize,
}

impl Shard {
    /// The whole run.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// Share `index` of `count`, from 1.
    ///
    /// # Errors
    /// There is no such share.
    pub fn new(index: usize, count: usize) -> Result<Self> {
        ensure!(
            (1..=count).contains(&index),
            "there is no shard {index}/{count}: shards are counted from 1, 1/{0} to {0}/{0}",
            count.max(1)
        );
        Ok(Self { index, count })
    }

    /// The portions, of these costs, that fall to it, in order.
    pub fn share(self, costs: &[u64]) -> Vec<usize> {
        let owners = self.owners(costs).into_iter().enumerate();
        let own = owners.filter(|&(_, owner)| owner == self);
        own.map(|(portion, _)| portion).collect()
    }

    /// To whom of as many machines each portion of these costs falls: the costliest first, each to
    /// the one that has least to do so far (longest processing time first, Graham 1969).
    pub fn owners(self, costs: &[u64]) -> Vec<Self> {
        let mut by_cost: Vec<usize> = (0..costs.len()).collect();
        by_cost.sort_by_key(|&portion| Reverse(costs[portion]));
        // With more shards than portions the first have one each, and the rest none.
        let mut loads = vec![0u64; self.count.min(costs.len())];
        let mut owners = vec![self; costs.len()];
        for portion in by_cost {
            let least = loads.iter_mut().enumerate().min_by_key(|(_, load)| **load);
            let Some((owner, load)) = least else {
                break;
            };
            *load = load.saturating_add(costs[portion].max(1));
            owners[portion].index = owner + 1;
        }
        owners
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/');
        let number = |text: &str| text.parse::<usize>().ok();
        let numbers = parts.and_then(|(index, count)| number(index).zip(number(count)));
        let (index, count) = numbers
            .with_context(|| format!("'{text}' is no shard: 3/16 is the third of sixteen"))?;
        Self::new(index, count)
    }
}

impl TryFrom<String> for Shard {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: [u64; 9] = [90, 10, 10, 80, 20, 70, 5, 5, 10];

    fn shares(count: usize, costs: &[u64]) -> Vec<Vec<usize>> {
        let shard = |index| Shard::new(index, count).unwrap();
        (1..=count).map(|index| shard(index).share(costs)).collect()
    }

    #[test]
    fn every_portion_falls_to_exactly_one_shard_however_many_there_are() {
        for count in 1..=20 {
            let mut shared = shares(count, &COSTS).concat();
            shared.sort_unstable();
            assert_eq!(shared, (0..COSTS.len()).collect::<Vec<_>>(), "{count}");
        }
    }

    #[test]
    fn shards_have_about_as_much_to_do() {
        let load = |share: &Vec<usize>| -> u64 { share.iter().map(|&p| COSTS[p]).sum() };
        let loads: Vec<u64> = shares(3, &COSTS).iter().map(load).collect();
        assert_eq!(loads, [100, 100, 100]);
        assert_eq!(shares(4, &[7; 16])[1], [1, 5, 9, 13]);
    }

    #[test]
    fn more_shards_than_memory_are_no_trouble() {
        let last = Shard::new(usize::MAX, usize::MAX).unwrap();
        assert!(last.share(&COSTS).is_empty());
        assert_eq!(Shard::new(1, usize::MAX).unwrap().share(&COSTS), [0]);
    }

    #[test]
    fn only_shards_that_exist_can_be_written() {
        assert_eq!("3/16".parse::<Shard>().unwrap().to_string(), "3/16");
        for wrong in ["0/16", "17/16", "1/0", "0/0", "3", "3/", "-1/3", "a/b", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
