//! Attention heads: a map of each family, layers downwards and heads to the right.

use super::canvas::{Anchor, Canvas};
use super::{class, tick};
use crate::importance::HeadProfile;
use crate::suite::Family;
use std::collections::BTreeSet;

const CELL: f64 = 13.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 92.0;
const GAP: f64 = 40.0;

/// The picture of a profile of heads.
pub fn heads(profile: &HeadProfile) -> String {
    let families: BTreeSet<Family> = profile.original.iter().map(|score| score.family).collect();
    let most = |of: fn(&crate::importance::Head) -> usize| {
        profile
            .heads
            .iter()
            .map(|head| of(head) + 1)
            .max()
            .unwrap_or(0) as f64
    };
    let (n_layers, n_heads) = (most(|head| head.layer), most(|head| head.head));
    let panel = (n_heads * CELL).max(90.0) + GAP;
    let width = (LEFT + families.len() as f64 * panel).max(420.0);
    let mut canvas = Canvas::new(width, TOP + n_layers * CELL + 34.0);
    let title = format!(
        "{}: what is lost without each attention head",
        profile.model
    );
    canvas.text(16.0, 28.0, Anchor::Start, "title", &title);
    let about = format!(
        "the stronger the colour, the more nats of the right answer's score; {} items a family of {}",
        profile.items_per_family, profile.suite
    );
    canvas.text(16.0, 46.0, Anchor::Start, "soft", &about);
    for layer in (0..n_layers as usize).step_by(5) {
        let y = TOP + (layer as f64 + 0.75) * CELL;
        canvas.text(LEFT - 8.0, y, Anchor::End, "soft", &layer.to_string());
    }
    for (column, &family) in families.iter().enumerate() {
        let x = LEFT + column as f64 * panel;
        let nats = profile.heads.iter().map(|head| head.nats(family));
        let most = nats.fold(f64::MIN_POSITIVE, f64::max);
        let style = format!("bold {}", class(family));
        canvas.text(x, TOP - 24.0, Anchor::Start, &style, &family.to_string());
        let scale = format!("most: {}", tick(most));
        canvas.text(x, TOP - 9.0, Anchor::Start, "soft", &scale);
        for head in &profile.heads {
            let nats = head.nats(family);
            let share = (nats / most).clamp(0.0, 1.0).sqrt();
            let place = (x + head.head as f64 * CELL, TOP + head.layer as f64 * CELL);
            let says = format!("layer {}, head {}: {nats:+.3} nats", head.layer, head.head);
            let opacity = 0.05 + 0.95 * share;
            canvas.bar(
                place,
                (CELL - 1.0, CELL - 1.0),
                (&class(family), opacity),
                &says,
            );
        }
    }
    let bottom = TOP + n_layers * CELL + 20.0;
    canvas.text(LEFT, bottom, Anchor::Start, "soft", "heads →, layers ↓");
    canvas.finish()
}
