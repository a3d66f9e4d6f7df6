//! Attention heads: a map a family, and those that are missed most.

use crate::importance::{Head, HeadProfile};
use crate::report::words::percent;
use crate::suite::Family;
use std::collections::BTreeSet;
use std::fmt::Write;

/// From a head that is not missed to the one that is missed most.
const SHADES: [char; 5] = ['·', '░', '▒', '▓', '█'];

/// Columns of a terminal that maps may take.
const WIDTH: usize = 100;

/// Heads of a family that are named.
const NAMED: usize = 6;

/// A map of each family, layers downwards and heads to the right, and the heads that it misses most.
pub fn heads(profile: &HeadProfile) -> String {
    let families: BTreeSet<Family> = profile.original.iter().map(|score| score.family).collect();
    let families: Vec<Family> = families.into_iter().collect();
    let n_layers = profile.heads.iter().map(|head| head.layer + 1).max();
    let n_heads = profile.heads.iter().map(|head| head.head + 1).max();
    let (n_layers, n_heads) = (n_layers.unwrap_or(0), n_heads.unwrap_or(0));
    let width = n_heads.max(10) + 2;
    let mut text = String::new();
    for beside in families.chunks(((WIDTH - 7) / width).max(1)) {
        let names = beside.iter().map(|family| family.to_string());
        let names: String = names.map(|name| format!("{name:<width$}")).collect();
        let _ = writeln!(text, "layer  {}", names.trim_end());
        for layer in 0..n_layers {
            let maps = beside.iter().map(|&family| row(profile, family, layer));
            let maps: String = maps.map(|row| format!("{row:<width$}")).collect();
            let _ = writeln!(text, "{layer:>5}  {}", maps.trim_end());
        }
        text.push('\n');
    }
    for family in families {
        let _ = writeln!(text, "{}", missed(profile, family));
    }
    text
}

fn row(profile: &HeadProfile, family: Family, layer: usize) -> String {
    let most = profile.heads.iter().map(|head| head.nats(family));
    let most = most.fold(f64::MIN_POSITIVE, f64::max);
    let of_layer = profile.heads.iter().filter(|head| head.layer == layer);
    of_layer
        .map(|head| {
            let share = (head.nats(family) / most).clamp(0.0, 1.0);
            // A third of the largest is much already: the root spreads what is small.
            let shade = (share.sqrt() * (SHADES.len() - 1) as f64).round() as usize;
            SHADES.get(shade).copied().unwrap_or('█')
        })
        .collect()
}

/// The heads whose absence costs most, and how much of all that heads cost a tenth of them makes up.
fn missed(profile: &HeadProfile, family: Family) -> String {
    let mut ranked: Vec<(f64, &Head)> = profile
        .heads
        .iter()
        .map(|head| (head.nats(family), head))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let costs = || ranked.iter().map(|(nats, _)| nats.max(0.0));
    let all: f64 = costs().sum();
    let tenth: f64 = costs().take(ranked.len().div_ceil(10)).sum();
    let named = ranked.iter().take(NAMED).map(|(nats, head)| {
        let (layer, head) = (head.layer, head.head);
        format!("{layer}.{head} {nats:+.2}")
    });
    format!(
        "{family}: a tenth of the heads makes up {} of what heads cost, nats: {}",
        percent(tenth / all.max(f64::MIN_POSITIVE)),
        named.collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::importance::{Drop, Score};
    use crate::suite::Protocol;

    #[test]
    fn the_head_that_is_missed_most_is_darkest_and_first() {
        let (family, protocol) = (Family::Retrieval, Protocol::Continuation);
        let head = |layer, head, nats| Head {
            layer,
            head,
            drops: vec![Drop {
                family,
                protocol,
                nats,
                nats_se: 0.0,
                accuracy: None,
            }],
        };
        let profile = HeadProfile {
            schema_version: 1,
            slim: String::new(),
            model: String::new(),
            model_sha256: String::new(),
            suite: String::new(),
            items_per_family: 1,
            original: vec![Score {
                family,
                protocol,
                n: 1,
                value: -1.0,
                accuracy: None,
            }],
            heads: vec![
                head(0, 0, -0.5),
                head(0, 1, 0.1),
                head(1, 0, 2.0),
                head(1, 1, 0.0),
            ],
        };
        let text = heads(&profile);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[1], "    0  ·░");
        assert_eq!(rows[2], "    1  █·");
        assert!(
            text.contains("95 %") && text.contains("nats: 1.0 +2.00, 0.1 +0.10"),
            "{text}"
        );
    }
}
