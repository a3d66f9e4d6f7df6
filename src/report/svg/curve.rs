//! The depth–quality curve: what every family retains at every depth, against size and speed.

use super::canvas::{Anchor, Canvas};
use super::class;
use crate::plan::{Plan, Point};
use crate::suite::Family;
use std::collections::BTreeSet;

const PLOT: (f64, f64) = (620.0, 300.0);
const LEFT: f64 = 60.0;
const TOP: f64 = 76.0;
const RIGHT: f64 = 130.0;
const BOTTOM: f64 = 78.0;

/// Room between the names at the lines' ends.
const LINE: f64 = 14.0;

/// The picture of a plan's curve.
pub fn curve(plan: &Plan) -> String {
    let points = &plan.curve;
    let mut canvas = Canvas::new(LEFT + PLOT.0 + RIGHT, TOP + PLOT.1 + BOTTOM);
    let title = format!("{}: what is retained at every depth", plan.model);
    canvas.text(16.0, 28.0, Anchor::Start, "title", &title);
    let about = plan.why.as_deref().unwrap_or("on the select split");
    canvas.text(16.0, 46.0, Anchor::Start, "soft", about);
    let step = PLOT.0 / points.len().saturating_sub(1).max(1) as f64;
    let x = |i: usize| LEFT + i as f64 * step;
    let y = |share: f64| TOP + (1.0 - share.clamp(0.0, 1.1) / 1.1) * PLOT.1;
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        canvas.line((LEFT, y(share)), (LEFT + PLOT.0, y(share)), "grid");
        let label = format!("{:.0} %", 100.0 * share);
        canvas.text(LEFT - 6.0, y(share) + 4.0, Anchor::End, "soft", &label);
    }
    axis(&mut canvas, points, &x);
    if let Some(chosen) = points.iter().position(|point| point.keep == plan.keep) {
        canvas.line((x(chosen), TOP), (x(chosen), TOP + PLOT.1), "mark");
    }
    let families: BTreeSet<Family> = points
        .iter()
        .flat_map(|point| point.retained.keys().copied())
        .collect();
    let mut names = Vec::new();
    for &family in &families {
        let line: Vec<(f64, f64)> = points
            .iter()
            .enumerate()
            .filter_map(|(i, point)| Some((x(i), y(*point.retained.get(&family)?))))
            .collect();
        canvas.path(&line, &class(family));
        for (i, point) in points.iter().enumerate() {
            if let Some(share) = point.retained.get(&family) {
                let says = format!(
                    "{family}, {} layers: {:.0} %",
                    point.keep.len(),
                    100.0 * share
                );
                canvas.dot((x(i), y(*share)), &class(family), &says);
            }
        }
        names.extend(line.last().map(|&(_, y)| (y, family)));
    }
    for (y, family) in apart(names) {
        let place = LEFT + PLOT.0 + 10.0;
        let style = format!("bold {}", class(family));
        canvas.text(place, y + 4.0, Anchor::Start, &style, &family.to_string());
    }
    canvas.finish()
}

fn axis(canvas: &mut Canvas, points: &[Point], x: &impl Fn(usize) -> f64) {
    let bottom = TOP + PLOT.1;
    let every = points.len().div_ceil(12).max(1);
    for (i, point) in points.iter().enumerate().step_by(every) {
        let rows = [
            point.keep.len().to_string(),
            format!("{:.0}", point.size.bytes as f64 / 1e6),
            format!("{:.2}×", point.size.speedup),
        ];
        for (row, text) in rows.iter().enumerate() {
            let y = bottom + 18.0 + 16.0 * row as f64;
            canvas.text(
                x(i),
                y,
                Anchor::Middle,
                if row == 0 { "" } else { "soft" },
                text,
            );
        }
    }
    let right = LEFT + PLOT.0 + 24.0;
    for (row, name) in ["layers", "MB", "speed"].iter().enumerate() {
        let y = bottom + 18.0 + 16.0 * row as f64;
        canvas.text(right, y, Anchor::Start, "soft", name);
    }
    canvas.line((LEFT, bottom), (LEFT + PLOT.0, bottom), "axis");
}

/// Moves names that would overlap below each other.
fn apart(mut names: Vec<(f64, Family)>) -> Vec<(f64, Family)> {
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = f64::NEG_INFINITY;
    for (y, _) in &mut names {
        *y = y.max(free);
        free = *y + LINE;
    }
    // What would fall off the picture moves up again.
    let mut free = TOP + PLOT.1 + LINE;
    for (y, _) in names.iter_mut().rev() {
        *y = y.min(free);
        free = *y - LINE;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_ends_of_lines_do_not_overlap() {
        let bottom = TOP + PLOT.1;
        let names = Family::ALL.iter().map(|&family| (bottom, family)).collect();
        let found = apart(names);
        for pair in found.windows(2) {
            assert!(pair[1].0 - pair[0].0 >= LINE - 1e-9);
        }
        assert!(found.iter().all(|(y, _)| *y <= bottom + LINE));
    }
}
