//! How deep the result may be: said by layers, by size, by speed, or by what must be retained.

use crate::suite::Family;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// What bounds the depth.
#[derive(Debug, Clone, PartialEq)]
pub enum Budget {
    /// So many layers stay.
    Keep(usize),
    /// The output's tensors take at most so many bytes.
    Bytes(u64),
    /// The output has at most so many parameters.
    Params(u64),
    /// A token takes at most the original's work divided by this.
    Speedup(f64),
    /// The fewest layers with which families retain a share.
    Retention(Vec<Retention>),
    /// Where the measured curve bends.
    Knee,
}

impl Budget {
    /// Whether a set of another shape may take the place of one of whole layers: as the budget says
    /// where it is one of size, else if it has no more parameters.
    pub fn allows(&self, size: &Size, whole: &Size) -> bool {
        match *self {
            Self::Bytes(most) => size.bytes <= most,
            Self::Params(most) => size.params <= most,
            Self::Speedup(least) => size.speedup >= least,
            Self::Keep(_) | Self::Retention(_) | Self::Knee => size.params <= whole.params,
        }
    }
}

/// `FAMILY=0.95`: what a family must retain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retention {
    /// The family.
    pub family: Family,
    /// The share of what the original does above guessing.
    pub share: f64,
}

impl FromStr for Retention {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = || format!("'{text}': write it as retrieval=0.95");
        let (family, share) = text.split_once('=').with_context(wanted)?;
        let share: f64 = share.trim().parse().ok().with_context(wanted)?;
        ensure!(
            share > 0.0 && share <= 1.0,
            "a share to retain lies above 0 and is at most 1, not {share}"
        );
        let family = family.trim().parse()?;
        Ok(Self { family, share })
    }
}

/// How large a model of some depth is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// Of its tensors.
    pub bytes: u64,
    /// Numbers in its tensors.
    pub params: u64,
    /// Multiplications of a token, those of the original divided by it: what speed can gain where
    /// arithmetic or the weights' bytes bound it.
    pub speedup: f64,
}

/// One depth of the measured curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What stays.
    pub keep: crate::arch::KeepSet,
    /// How large that is.
    pub size: Size,
    /// The objective's loss on the select split, nats.
    pub loss: f64,
    /// Of every family, the share that is retained of what the original does above guessing, on the
    /// select split.
    pub retained: BTreeMap<Family, f64>,
}

/// The smallest depth of a curve (deepest first) down to which every depth retains what is wanted.
pub fn smallest_retaining(curve: &[Point], wanted: &[Retention]) -> Option<usize> {
    let retains = |point: &&Point| {
        wanted.iter().all(|wish| {
            let found = point.retained.get(&wish.family);
            found.is_some_and(|found| *found >= wish.share)
        })
    };
    let enough = curve.iter().take_while(retains);
    enough.last().map(|point| point.keep.len())
}

/// Where a curve bends: the point farthest below the straight line between its ends, loss over layers
/// dropped (Satopää et al., Kneedle, ICDCSW 2011), and what a layer costs before and behind it.
pub struct Knee {
    /// Layers that stay.
    pub keep: usize,
    /// Mean loss of a dropped layer up to it, nats.
    pub before: f64,
    /// And from it on.
    pub after: f64,
}

/// The knee of a curve, deepest first; `None` of fewer than three points, or where it does not bend.
pub fn knee(curve: &[Point]) -> Option<Knee> {
    let (first, last) = (curve.first()?, curve.last()?);
    let gone = |point: &Point| (first.keep.len() - point.keep.len()) as f64;
    let slope = (last.loss - first.loss) / gone(last);
    let below = |point: &Point| first.loss + slope * gone(point) - point.loss;
    let inner = curve.get(1..curve.len().saturating_sub(1))?;
    let knee = inner.iter().max_by(|a, b| below(a).total_cmp(&below(b)))?;
    (below(knee) > 0.0).then(|| Knee {
        keep: knee.keep.len(),
        before: (knee.loss - first.loss) / gone(knee),
        after: (last.loss - knee.loss) / (gone(last) - gone(knee)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::KeepSet;

    fn curve(points: &[(usize, f64, f64)]) -> Vec<Point> {
        let point = |&(keep, loss, retained): &(usize, f64, f64)| Point {
            keep: KeepSet::all(keep),
            size: Size {
                bytes: 0,
                params: 0,
                speedup: 1.0,
            },
            loss,
            retained: BTreeMap::from([(Family::Retrieval, retained)]),
        };
        points.iter().map(point).collect()
    }

    #[test]
    fn the_knee_is_where_layers_become_dear() {
        let bent = [
            (10, 0.0, 1.0),
            (9, 0.1, 1.0),
            (8, 0.2, 1.0),
            (7, 1.2, 0.5),
            (6, 2.2, 0.2),
        ];
        let knee = knee(&curve(&bent)).unwrap();
        assert_eq!(knee.keep, 8);
        assert!((knee.before - 0.1).abs() < 1e-12 && (knee.after - 1.0).abs() < 1e-12);
        let straight = [(4, 0.0, 1.0), (3, 1.0, 1.0), (2, 2.0, 1.0)];
        assert!(super::knee(&curve(&straight)).is_none());
        assert!(super::knee(&curve(&straight[..2])).is_none());
    }

    #[test]
    fn a_depth_that_recovers_by_luck_is_not_trusted() {
        let curve = curve(&[
            (10, 0.0, 1.0),
            (9, 0.1, 0.96),
            (8, 0.2, 0.90),
            (7, 0.3, 0.97),
        ]);
        let wish = |share| {
            [Retention {
                family: Family::Retrieval,
                share,
            }]
        };
        assert_eq!(smallest_retaining(&curve, &wish(0.95)), Some(9));
        assert_eq!(smallest_retaining(&curve, &wish(0.90)), Some(7));
        let other = [Retention {
            family: Family::Language,
            share: 0.5,
        }];
        assert_eq!(smallest_retaining(&curve, &other), None);
    }

    #[test]
    fn wishes_that_say_nothing_are_refused() {
        for wrong in [
            "retrieval",
            "retrieval=",
            "retrieval=0",
            "retrieval=1.5",
            "cooking=0.9",
        ] {
            assert!(wrong.parse::<Retention>().is_err(), "{wrong}");
        }
    }
}
