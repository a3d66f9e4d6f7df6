//! The depth profile at a glance: a row for each family and protocol, a column for each layer.

use super::canvas::{Anchor, Canvas};
use super::{class, tick};
use crate::arch::KeepSet;
use crate::importance::Profile;

const LEFT: f64 = 170.0;
const TOP: f64 = 66.0;
const ROW: f64 = 18.0;
const RIGHT: f64 = 100.0;
/// Layers together.
const WIDTH: f64 = 760.0;

/// Layers of which more is lost than of all but so many do not make the others pale.
const OUTLIERS: usize = 2;

/// The map of a profile; what a keep set drops is marked below it.
pub fn heat(profile: &Profile, keep: Option<&KeepSet>) -> String {
    let n_layers = profile.layers.len();
    let column = WIDTH / n_layers.max(1) as f64;
    let rows = &profile.original;
    let bottom = TOP + rows.len() as f64 * ROW;
    let mut canvas = Canvas::new(LEFT + WIDTH + RIGHT, bottom + 52.0);
    let title = format!("{}: where each family lives", profile.model);
    canvas.text(16.0, 28.0, Anchor::Start, "title", &title);
    canvas.text(
        16.0,
        46.0,
        Anchor::Start,
        "soft",
        "the stronger the colour, the more nats are lost without the layer; each row by itself, its full colour at the right",
    );
    for (i, row) in rows.iter().enumerate() {
        let y = TOP + i as f64 * ROW;
        let first = i == 0
            || rows
                .get(i - 1)
                .is_some_and(|above| above.family != row.family);
        let style = format!("bold {}", class(row.family));
        if first {
            canvas.text(
                16.0,
                y + 13.0,
                Anchor::Start,
                &style,
                &row.family.to_string(),
            );
        }
        let protocol = row.protocol.to_string();
        canvas.text(LEFT - 8.0, y + 13.0, Anchor::End, "", &protocol);
        let nats: Vec<Option<f64>> = profile
            .layers
            .iter()
            .map(|layer| {
                let mut drops = layer.drops.iter();
                let of_row = drops.find(|d| (d.family, d.protocol) == (row.family, row.protocol));
                of_row.map(|drop| drop.nats).filter(|nats| nats.is_finite())
            })
            .collect();
        let full = shade(&nats);
        for (layer, nats) in nats.iter().enumerate() {
            let Some(nats) = nats else { continue };
            let opacity = 0.04 + 0.96 * (nats / full).clamp(0.0, 1.0);
            let says = format!("{}, {protocol}, layer {layer}: {nats:+.3} nats", row.family);
            canvas.bar(
                (LEFT + layer as f64 * column, y + 1.0),
                (column - 1.0, ROW - 2.0),
                (&class(row.family), opacity),
                &says,
            );
        }
        let scale = format!("{} nats", tick(full));
        canvas.text(LEFT + WIDTH + 8.0, y + 13.0, Anchor::Start, "soft", &scale);
    }
    for layer in 0..n_layers {
        let middle = LEFT + (layer as f64 + 0.5) * column;
        if layer % 5 == 0 {
            let label = layer.to_string();
            canvas.text(middle, bottom + 30.0, Anchor::Middle, "soft", &label);
        }
        if keep.is_some_and(|keep| !keep.contains(layer)) {
            canvas.text(middle, bottom + 14.0, Anchor::Middle, "bold", "×");
        }
    }
    if keep.is_some() {
        canvas.text(LEFT - 8.0, bottom + 14.0, Anchor::End, "bold", "cut ×");
    }
    canvas.text(LEFT - 8.0, bottom + 30.0, Anchor::End, "soft", "layer");
    canvas.finish()
}

/// The loss that has a row's full shade.
fn shade(nats: &[Option<f64>]) -> f64 {
    let mut known: Vec<f64> = nats.iter().flatten().copied().collect();
    known.sort_by(|a, b| b.total_cmp(a));
    let full = known.get(OUTLIERS).or(known.first()).copied();
    full.unwrap_or(0.0).max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::shade;

    #[test]
    fn the_two_largest_losses_do_not_make_a_row_pale() {
        let nats = [9.0, 8.0, 0.5, 0.1].map(Some);
        assert_eq!(shade(&nats), 0.5);
        assert_eq!(shade(&[None, Some(-1.0)]), 1e-6);
    }
}
