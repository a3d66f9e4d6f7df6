//! What was retained, a line a family and protocol, with its interval.

use super::canvas::{Anchor, Canvas};
use super::class;
use crate::eval::stats::Interval;
use crate::report::words::share;
use crate::verify::Comparison;

const LEFT: f64 = 150.0;
const PLOT: f64 = 420.0;
const RIGHT: f64 = 130.0;
const ROW: f64 = 19.0;
const TOP: f64 = 12.0;

/// The largest share that is drawn.
const MOST: f64 = 1.5;

/// The picture of a comparison.
pub fn retention(comparison: &Comparison) -> String {
    let mut rows: Vec<(String, String, Option<Interval>, bool)> = Vec::new();
    for family in &comparison.families {
        let name = family.family.to_string();
        rows.push((name.clone(), class(family.family), family.retained, true));
        let cells = comparison.cells.iter();
        for cell in cells.filter(|cell| cell.family == family.family) {
            let retained = cell.retained.filter(|_| cell.above_chance);
            rows.push((
                cell.protocol.to_string(),
                class(cell.family),
                retained,
                false,
            ));
        }
    }
    let bottom = TOP + ROW * rows.len() as f64;
    let mut canvas = Canvas::new(LEFT + PLOT + RIGHT, bottom + 26.0);
    let x = |share: f64| LEFT + PLOT * share.clamp(0.0, MOST) / MOST;
    for share in [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, MOST] {
        let style = if share == 1.0 { "axis" } else { "grid" };
        canvas.line((x(share), TOP), (x(share), bottom), style);
        let label = format!("{:.0} %", 100.0 * share);
        canvas.text(x(share), bottom + 16.0, Anchor::Middle, "soft", &label);
    }
    for (row, (name, class, retained, whole)) in rows.iter().enumerate() {
        let y = TOP + ROW * (row as f64 + 0.5);
        let (style, indent) = match whole {
            true => (format!("bold {class}"), 0.0),
            false => (String::new(), 14.0),
        };
        canvas.text(8.0 + indent, y + 4.0, Anchor::Start, &style, name);
        let Some(retained) = retained else {
            canvas.text(
                x(0.0) + 6.0,
                y + 4.0,
                Anchor::Start,
                "soft",
                "the original is not above chance",
            );
            continue;
        };
        let says = format!("{name}: {}", share(*retained));
        let thick = if *whole { 5.0 } else { 2.0 };
        let (low, high) = (x(retained.low), x(retained.high));
        let size = ((high - low).max(1.0), thick);
        canvas.bar((low, y - thick / 2.0), size, (class, 0.55), &says);
        canvas.dot((x(retained.estimate), y), class, &says);
        canvas.text(
            LEFT + PLOT + 10.0,
            y + 4.0,
            Anchor::Start,
            "",
            &share(*retained),
        );
    }
    canvas.finish()
}
