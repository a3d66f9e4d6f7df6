//! What a table of means hides, in sentences.

use super::Report;
use super::words::{percent, points, probability, tied};
use crate::eval::stats::Interval;
use crate::verify::{Comparison, Contrast, Recall, Retention, Side};

/// Whether the device can be trusted, what broke silently, which of two slices lost more, and why facts
/// are gone.
pub(super) fn findings(report: &Report) -> Vec<String> {
    let comparison = &report.comparison;
    let breaks = comparison.silent_breaks().into_iter();
    let breaks = breaks.map(|slice| silent_break(slice, comparison));
    let contrasts = contrasts(&comparison.contrasts);
    let recall = comparison.recall.iter().filter_map(recall);
    let device = mismatch(report).into_iter();
    device
        .chain(breaks)
        .chain(contrasts)
        .chain(recall)
        .collect()
}

/// What a device computes that a CPU does not.
fn mismatch(report: &Report) -> Option<String> {
    let found = report.agreement.as_ref().filter(|found| found.beyond)?;
    Some(format!(
        "{} in {} does not give what the CPU gives in f32: answers to {} questions differ by {:.3} nats a \
         token, {:.3} at most, and rounding explains {:.3}. Do not trust this verdict; run it with --device cpu.",
        report.device, report.dtype, found.questions, found.mean, found.largest, found.tolerance
    ))
}

fn silent_break(slice: &Retention, comparison: &Comparison) -> String {
    let mut cells = comparison.cells.iter();
    let whole = cells.find(|c| (c.family, c.protocol) == (slice.family, slice.protocol));
    let whole = whole.map(|cell| format!(" The mean of the family hides it: {}.", change(cell)));
    format!(
        "fell silently: {}, {}, slice {}: {}, p {} (Holm).{}",
        slice.family,
        slice.protocol,
        slice.slice.as_deref().unwrap_or_default(),
        change(slice),
        slice.p_holm.map(probability).unwrap_or_default(),
        whole.unwrap_or_default()
    )
}

/// 60 % → 30 %, -30 points [-45, -12]
fn change(cell: &Retention) -> String {
    let levels = tied(&format!(
        "{} → {}",
        percent(cell.original),
        percent(cell.pruned)
    ));
    format!("{levels}, {}", in_points(cell.difference, true))
}

/// -30 points [-45, -12]; the signs only where they are wanted.
fn in_points(difference: Interval, signed: bool) -> String {
    let text = points(difference).replacen(" [", " points [", 1);
    match signed {
        true => tied(&text),
        false => tied(&text.replace('+', "")),
    }
}

fn contrasts(all: &[Contrast]) -> Vec<String> {
    let mut found: Vec<String> = all.iter().filter_map(contrast).collect();
    if !found.is_empty() {
        let how_many = all.iter().filter(|contrast| contrast.is_fair()).count();
        found.push(format!(
            "(Pairs of slices compared: {how_many}, not adjusted for it: by chance alone one in 20 \
             stands out.)"
        ));
    }
    found
}

fn contrast(contrast: &Contrast) -> Option<String> {
    let [more, less] = contrast.finding()?;
    let side = |side: &Side| {
        let (before, after) = (percent(side.original), percent(side.pruned));
        tied(&format!("{} {before} → {after}, n {}", side.slice, side.n))
    };
    Some(format!(
        "{}, {}: {} lost {} more than {} ({}; {}).",
        contrast.family,
        contrast.protocol,
        more.slice,
        in_points(contrast.how_much_more(), false),
        less.slice,
        side(more),
        side(less),
    ))
}

fn recall(recall: &Recall) -> Option<String> {
    if recall.gone == 0 || !recall.above_chance {
        return None;
    }
    let found = [
        (
            recall.lost_from_weights,
            "it still gives from the context: lost from the weights",
        ),
        (
            recall.reading_damaged,
            "not even from the context, as the original does: the reading circuit is damaged",
        ),
        (
            recall.undecided,
            "neither model gives from the context: nothing can be told",
        ),
    ];
    let found = found.iter().filter(|(n, _)| *n > 0);
    let found: Vec<String> = found.map(|(n, what)| format!("{n} {what}")).collect();
    Some(format!(
        "{}, {}: of {} facts asked both ways the original knows {}; {} of them are gone. Of these, {}.",
        recall.family,
        recall.protocol,
        recall.n,
        recall.known,
        recall.gone,
        found.join("; ")
    ))
}
