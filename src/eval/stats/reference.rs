//! What scipy, statsmodels and numpy say: fixtures/stats/reference.py.

use super::{Flips, Interval};
use serde::Deserialize;

const RECORDED: &str = include_str!("../../../fixtures/stats/reference.json");

#[derive(Deserialize)]
pub(super) struct Reference {
    pub(super) wilson: Vec<Wilson>,
    pub(super) mcnemar: Vec<McNemar>,
    pub(super) holm: Vec<Holm>,
    pub(super) power: Vec<Power>,
    pub(super) needed: Vec<Needed>,
    pub(super) bootstrap: Vec<Bootstrap>,
}

#[derive(Deserialize)]
pub(super) struct Wilson {
    pub(super) right: usize,
    pub(super) n: usize,
    pub(super) low: f64,
}

#[derive(Deserialize)]
pub(super) struct McNemar {
    lost: usize,
    gained: usize,
    pub(super) mid_p: f64,
}

#[derive(Deserialize)]
pub(super) struct Holm {
    pub(super) p: Vec<f64>,
    pub(super) adjusted: Vec<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Power {
    pub(super) n: usize,
    both_ways: usize,
    pub(super) loss: Option<f64>,
    pub(super) exact_power: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct Needed {
    n: usize,
    lost: usize,
    gained: usize,
    pub(super) half_width: f64,
    pub(super) needed: usize,
}

#[derive(Deserialize)]
pub(super) struct Bootstrap {
    pub(super) original: Vec<bool>,
    pub(super) pruned: Vec<bool>,
    pub(super) difference: Interval,
    pub(super) retained: Interval,
}

impl McNemar {
    pub(super) fn flips(&self) -> Flips {
        let (lost, gained) = (self.lost, self.gained);
        let n = lost + gained;
        Flips { n, lost, gained }
    }
}

impl Power {
    pub(super) fn flips(&self) -> Flips {
        let (n, lost, gained) = (self.n, self.both_ways, self.both_ways);
        Flips { n, lost, gained }
    }
}

impl Needed {
    pub(super) fn flips(&self) -> Flips {
        let (n, lost, gained) = (self.n, self.lost, self.gained);
        Flips { n, lost, gained }
    }
}

pub(super) fn reference() -> Reference {
    serde_json::from_str(RECORDED).expect("the fixture reads")
}

#[track_caller]
pub(super) fn close(ours: f64, theirs: f64, tolerance: f64) {
    assert!(
        (ours - theirs).abs() <= tolerance,
        "{ours} is not within {tolerance} of {theirs}"
    );
}
