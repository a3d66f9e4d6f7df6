//! A plan: which layers go, why, what each step cost, and every depth that was measured.

use super::{lines, table};
use crate::arch::Part;
use crate::plan::compensation::{Cut, Heal};
use crate::plan::{Plan, Point};
use crate::report::words::percent;
use crate::suite::Family;
use std::fmt::Write;

/// Which layers go, and how that came about.
pub fn plan(plan: &Plan) -> String {
    let mut text = format!(
        "keep {} of {} layers{}: {}\ndrop {}\n",
        plan.keep.len(),
        plan.n_layers,
        match plan.keep.halves().len() {
            0 => String::new(),
            n => format!(", {n} of them by half"),
        },
        plan.keep,
        dropped(plan),
    );
    if let Some(why) = &plan.why {
        let _ = writeln!(text, "{why}");
    }
    for cut in &plan.cuts {
        let _ = writeln!(text, "{}", mended(cut));
    }
    if !plan.curve.is_empty() {
        let _ = write!(text, "\n{}", curve(&plan.curve, plan.keep.len()));
    }
    if !plan.steps.is_empty() {
        let _ = write!(text, "\n{}", steps(plan));
    }
    text
}

fn dropped(plan: &Plan) -> String {
    let whole = (!plan.dropped.is_empty()).then(|| crate::arch::ranges(&plan.dropped));
    let halves = plan.keep.halves().iter().map(|(layer, kept)| {
        let half = Some(kept.other());
        Part {
            layer: *layer,
            half,
        }
        .to_string()
    });
    let all: Vec<String> = whole.into_iter().chain(halves).collect();
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.join(","),
    }
}

fn mended(cut: &Cut) -> String {
    let gone = crate::arch::ranges(&cut.gone);
    let how = match (cut.heal, cut.factor, cut.residual) {
        (Heal::Scale, Some(factor), _) => format!("a factor of {factor:.3}"),
        (Heal::Linear, _, Some(residual)) => format!(
            "a linear map: {} of what they did is missing, on held-out tokens",
            percent(residual)
        ),
        _ => "nothing".to_owned(),
    };
    format!("for {gone}, folded in behind {}: {how}", cut.after)
}

fn steps(plan: &Plan) -> String {
    let families: Vec<String> = plan.objective.keys().map(ToString::to_string).collect();
    let mut header = vec!["dropped", "loss"];
    header.extend(families.iter().map(String::as_str));
    let mut rows = table(&header, 0);
    for step in &plan.steps {
        let mut row = vec![gone(&step.layers), format!("{:+.3}", step.loss)];
        let fall = |family| step.families.get(family).copied().unwrap_or(0.0);
        row.extend(plan.objective.keys().map(|f| format!("{:+.3}", fall(f))));
        rows.add_row(row);
    }
    lines(&rows)
}

fn gone(parts: &[Part]) -> String {
    let names: Vec<String> = parts.iter().map(Part::to_string).collect();
    names.join(",")
}

/// Cells of a bar.
const BAR: usize = 10;

/// One row a depth: size, speed, and what every family retains, as a number and a bar.
fn curve(points: &[Point], chosen: usize) -> String {
    let families: Vec<Family> = points
        .first()
        .map(|point| point.retained.keys().copied().collect())
        .unwrap_or_default();
    let names: Vec<String> = families.iter().map(ToString::to_string).collect();
    let mut header = vec!["", "layers", "MB", "speed", "loss"];
    header.extend(names.iter().map(String::as_str));
    let mut rows = table(&header, 1);
    for point in points {
        let mut row = vec![
            if point.keep.len() == chosen {
                "▸"
            } else {
                ""
            }
            .to_owned(),
            point.keep.len().to_string(),
            format!("{:.1}", point.size.bytes as f64 / 1e6),
            format!("{:.2}×", point.size.speedup),
            format!("{:.3}", point.loss),
        ];
        row.extend(families.iter().map(|family| {
            let share = point.retained.get(family).copied().unwrap_or(0.0);
            format!("{} {:>5}", bar(share), percent(share))
        }));
        rows.add_row(row);
    }
    lines(&rows)
}

/// A share as a bar, in eighths of a cell.
fn bar(share: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (8 * BAR) as f64).round() as usize;
    let text = "█".repeat(eighths / 8) + EIGHTHS[eighths % 8];
    let width = text.chars().count();
    text + &" ".repeat(BAR - width)
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(bar(0.0), "          ");
        assert_eq!(bar(0.55), "█████▌    ");
        assert_eq!(bar(1.0), "██████████");
        assert_eq!(bar(1.3), bar(1.0));
        assert_eq!(bar(-0.2), bar(0.0));
    }
}
