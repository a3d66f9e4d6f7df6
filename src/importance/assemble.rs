//! From measurements of questions to what every layer is worth.

use super::record::{Record, Sample, or_nan};
use super::{Drop, Influence, LayerProfile, Score, SparsityCell};
use crate::eval::stats;
use crate::suite::{Family, Protocol};
use std::collections::BTreeMap;

/// The samples of each family and protocol.
pub(super) type Cells<'r> = BTreeMap<(Family, Protocol), Vec<&'r Sample>>;

/// The whole model, and every layer of a model of `n_layers`, from all records in order. The same
/// records give the same numbers to the last bit, whoever measured them.
pub fn assemble(n_layers: usize, records: &[Record]) -> (Vec<Score>, Vec<LayerProfile>) {
    let samples = || records.iter().flat_map(|record| &record.samples);
    let cells = cells(samples());
    let layer = |layer: usize| LayerProfile {
        layer,
        influence: influence(layer, records).mean(),
        drops: drops(&cells, layer + 1),
        sparsity: sparsity(layer, samples()),
    };
    (scores(&cells), (0..n_layers).map(layer).collect())
}

pub(super) fn cells<'r>(samples: impl Iterator<Item = &'r Sample>) -> Cells<'r> {
    let mut cells = Cells::new();
    for sample in samples {
        let cell = (sample.family, sample.protocol);
        cells.entry(cell).or_default().push(sample);
    }
    cells
}

/// The whole model: mask 0.
pub(super) fn scores(cells: &Cells) -> Vec<Score> {
    let score = |(&(family, protocol), members): (_, &Vec<&Sample>)| Score {
        family,
        protocol,
        n: members.len(),
        value: stats::mean_se(&values(members, 0)).0,
        accuracy: accuracy(protocol, members, 0),
    };
    cells.iter().map(score).collect()
}

/// What is lost under a mask.
pub(super) fn drops(cells: &Cells, mask: usize) -> Vec<Drop> {
    let each = cells.iter();
    each.map(|(&cell, members)| drop(cell, members, mask))
        .collect()
}

/// Scores under a mask: 0 is the whole model.
fn values(members: &[&Sample], mask: usize) -> Vec<f64> {
    let value = |sample: &&Sample| or_nan(sample.values.get(mask).copied().flatten());
    members.iter().map(value).collect()
}

/// The share of right answers; absent where there is one candidate.
fn accuracy(protocol: Protocol, members: &[&Sample], mask: usize) -> Option<f64> {
    let right = |sample: &&&Sample| sample.right.get(mask).copied().unwrap_or(false);
    let n_right = members.iter().filter(right).count();
    (protocol != Protocol::Generate).then(|| n_right as f64 / members.len() as f64)
}

fn drop((family, protocol): (Family, Protocol), members: &[&Sample], mask: usize) -> Drop {
    let (before, after) = (values(members, 0), values(members, mask));
    let falls: Vec<f64> = before.iter().zip(after).map(|(b, a)| b - a).collect();
    let (nats, nats_se) = stats::mean_se(&falls);
    let [before, after] = [0, mask].map(|mask| accuracy(protocol, members, mask));
    Drop {
        family,
        protocol,
        nats,
        nats_se,
        accuracy: before.zip(after).map(|(before, after)| before - after),
    }
}

fn influence(layer: usize, records: &[Record]) -> Influence {
    let of = |record: &Record| record.influence.get(layer).copied();
    let found = records.iter().filter_map(of);
    found.fold(Influence::NONE, Influence::plus)
}

/// Means of each family, then of its slices.
fn sparsity<'r>(layer: usize, samples: impl Iterator<Item = &'r Sample>) -> Vec<SparsityCell> {
    let mut sums: BTreeMap<(Family, Option<&str>), (usize, f64, f64)> = BTreeMap::new();
    for sample in samples {
        let Some(found) = sample.sparsity.get(layer).copied().flatten() else {
            continue;
        };
        let slice = Some(sample.slice.as_str()).filter(|slice| !slice.is_empty());
        let own = slice.map(|slice| (sample.family, Some(slice)));
        for cell in std::iter::once((sample.family, None)).chain(own) {
            let (n, top_energy, hoyer) = sums.entry(cell).or_default();
            *n += 1;
            *top_energy += found.top_energy;
            *hoyer += found.hoyer;
        }
    }
    let cell = |((family, slice), (n, top_energy, hoyer)): (_, (usize, f64, f64))| {
        let slice: Option<&str> = slice;
        SparsityCell {
            family,
            slice: slice.map(str::to_owned),
            n,
            top_energy: top_energy / n as f64,
            hoyer: hoyer / n as f64,
        }
    };
    sums.into_iter().map(cell).collect()
}
