//! The depth profile: what is lost without each layer, a panel for each family and protocol, as in the
//! figures of Song et al. (arXiv 2510.02091).

use super::canvas::{Anchor, Canvas};
use super::{class, round_up, tick};
use crate::importance::{Drop, LayerProfile, Profile};
use crate::suite::{Family, Protocol};
use std::collections::BTreeSet;

const PANEL: (f64, f64) = (220.0, 96.0);
const GAP: (f64, f64) = (34.0, 48.0);
const LEFT: f64 = 130.0;
const TOP: f64 = 100.0;

/// Numbers closer than this would lie upon each other.
const LINE: f64 = 12.0;

/// Bars that may be so high that the others would vanish beside them; they are cut, with a number.
const CUT: usize = 2;

/// The picture of a profile; another model's is drawn over it as lines.
pub fn profile(profile: &Profile, other: Option<&Profile>) -> String {
    let families: BTreeSet<Family> = profile.original.iter().map(|score| score.family).collect();
    let protocols: BTreeSet<Protocol> = profile.original.iter().map(|s| s.protocol).collect();
    let width = LEFT + families.len() as f64 * (PANEL.0 + GAP.0);
    let bottom = TOP + protocols.len() as f64 * (PANEL.1 + GAP.1) - GAP.1;
    let height = bottom + 44.0;
    let mut canvas = Canvas::new(width, height);
    let title = format!("{}: what is lost without each layer", profile.model);
    canvas.text(16.0, 28.0, Anchor::Start, "title", &title);
    let about = format!(
        "nats of the right answer's score, ± 1 standard error; {} items a family of {}",
        profile.items_per_family, profile.suite
    );
    let over = other.map_or(String::new(), |other| format!("; lines: {}", other.model));
    canvas.text(16.0, 46.0, Anchor::Start, "soft", &(about + &over));
    for (column, &family) in families.iter().enumerate() {
        let x = LEFT + column as f64 * (PANEL.0 + GAP.0);
        let name = family.to_string();
        canvas.text(
            x,
            TOP - 32.0,
            Anchor::Start,
            &format!("bold {}", class(family)),
            &name,
        );
        for (row, &protocol) in protocols.iter().enumerate() {
            let y = TOP + row as f64 * (PANEL.1 + GAP.1);
            let cell = (family, protocol);
            panel(&mut canvas, (x, y), profile, other, cell);
        }
    }
    for (row, protocol) in protocols.iter().enumerate() {
        let y = TOP + row as f64 * (PANEL.1 + GAP.1) + PANEL.1 / 2.0;
        canvas.text(16.0, y, Anchor::Start, "bold", &protocol.to_string());
    }
    let x = LEFT + families.len() as f64 * (PANEL.0 + GAP.0) - GAP.0;
    canvas.text(x, bottom + 30.0, Anchor::End, "soft", "layer");
    canvas.finish()
}

fn panel(
    canvas: &mut Canvas,
    (x, y): (f64, f64),
    profile: &Profile,
    other: Option<&Profile>,
    (family, protocol): (Family, Protocol),
) {
    let drops = drops(profile, family, protocol);
    let (least, most) = extent(drops.iter().flatten().map(|drop| drop.nats));
    let scale = PANEL.1 / (most - least);
    let at = |nats: f64| y + (most - nats.clamp(least, most)) * scale;
    let step = PANEL.0 / drops.len().max(1) as f64;
    for value in [least, 0.0, most] {
        canvas.line((x, at(value)), (x + PANEL.0, at(value)), "grid");
        if value == 0.0 || (at(value) - at(0.0)).abs() >= LINE {
            canvas.text(x - 5.0, at(value) + 4.0, Anchor::End, "soft", &tick(value));
        }
    }
    for (layer, drop) in drops.iter().enumerate() {
        let left = x + layer as f64 * step;
        if layer % 5 == 0 {
            let label = layer.to_string();
            canvas.text(
                left + step / 2.0,
                y + PANEL.1 + 14.0,
                Anchor::Middle,
                "soft",
                &label,
            );
        }
        let Some(drop) = drop else {
            continue;
        };
        let (top, bottom) = (at(drop.nats.max(0.0)), at(drop.nats.min(0.0)));
        let accuracy = drop.accuracy.map_or(String::new(), |fall| {
            format!(", accuracy {:+.0} points", -100.0 * fall)
        });
        let says = format!(
            "layer {layer}: {:+.3} ± {:.3} nats{accuracy}",
            drop.nats, drop.nats_se
        );
        let size = (0.8 * step, (bottom - top).max(0.5));
        canvas.bar((left + 0.1 * step, top), size, (&class(family), 1.0), &says);
        let middle = left + step / 2.0;
        let ends = [drop.nats - drop.nats_se, drop.nats + drop.nats_se].map(at);
        canvas.line((middle, ends[0]), (middle, ends[1]), "whisker");
        if drop.nats > most {
            canvas.text(middle, y - 3.0, Anchor::Middle, "soft", &tick(drop.nats));
        }
    }
    if let Some(other) = other {
        let others = self::drops(other, family, protocol);
        // A model of another depth is stretched over the same width.
        let step = PANEL.0 / others.len().max(1) as f64;
        let points = others.iter().enumerate().filter_map(|(layer, drop)| {
            let nats = drop.as_ref()?.nats;
            Some((x + (layer as f64 + 0.5) * step, at(nats)))
        });
        canvas.path(&points.collect::<Vec<_>>(), "other");
    }
    canvas.line((x, at(0.0)), (x + PANEL.0, at(0.0)), "axis");
    if let Some(accuracy) = original(profile, family, protocol) {
        let text = format!("whole model {:.0} % right", 100.0 * accuracy);
        canvas.text(x + PANEL.0, y - 17.0, Anchor::End, "soft", &text);
    }
}

/// What is lost without each layer, in order.
fn drops(profile: &Profile, family: Family, protocol: Protocol) -> Vec<Option<Drop>> {
    let of_cell = |layer: &LayerProfile| -> Option<Drop> {
        let mut drops = layer.drops.iter();
        let found = drops.find(|drop| drop.family == family && drop.protocol == protocol);
        found.filter(|drop| drop.nats.is_finite()).cloned()
    };
    profile.layers.iter().map(of_cell).collect()
}

fn original(profile: &Profile, family: Family, protocol: Protocol) -> Option<f64> {
    let mut scores = profile.original.iter();
    scores
        .find(|score| score.family == family && score.protocol == protocol)?
        .accuracy
}

/// The axis: from a round number below what is gained to one above all but the largest losses.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(|a, b| b.total_cmp(a));
    let most = values.get(CUT).or(values.first()).copied().unwrap_or(0.0);
    let most = round_up(1.25 * most.max(0.0));
    let least = values.last().copied().unwrap_or(0.0).min(0.0);
    let least = if least < 0.0 { -round_up(-least) } else { 0.0 };
    (least.max(-most), most)
}

#[cfg(test)]
mod tests {
    use super::extent;

    #[test]
    fn an_axis_shows_all_but_the_largest_losses_in_full() {
        let (least, most) = extent([9.0, 0.1, 8.0, 0.3, -0.02].into_iter());
        assert_eq!((least, most), (-0.02, 0.5));
        assert_eq!(extent([].into_iter()), (0.0, 1.0));
    }
}
