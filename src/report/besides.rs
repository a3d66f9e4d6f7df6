//! What was measured besides the answers, in words.

use super::Report;
use crate::verify::Both;

/// What it is, and what was found of both models.
pub(super) fn besides(report: &Report) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    if let Some(change) = &report.perplexity {
        let (before, after) = (&change.both.original, &change.both.pruned);
        let ratio = change.ratio;
        lines.push((
            format!("perplexity of {}", change.text),
            format!(
                "{:.2} → {:.2}, × {:.2} [{:.2}, {:.2}] ({} chunks of {} tokens)",
                before.perplexity,
                after.perplexity,
                ratio.estimate,
                ratio.low,
                ratio.high,
                before.chunks,
                before.ctx_size
            ),
        ));
    }
    if let Some(Both { original, pruned }) = &report.speed {
        let (before, after) = (original.speed, pruned.speed);
        for (what, before, after) in [
            ("writing", before.generation, after.generation),
            ("reading a prompt", before.prompt, after.prompt),
        ] {
            let found = format!("{before:.1} → {after:.1} tokens/s, × {:.2}", after / before);
            lines.push((what.to_owned(), found));
        }
        lines.push((
            "loading".to_owned(),
            format!("{:.2} → {:.2} s", original.load, pruned.load),
        ));
    }
    if let Some(found) = &report.agreement {
        lines.push((
            "beside the CPU in f32".to_owned(),
            format!(
                "{:.4} nats a token apart, {:.4} at most ({} questions)",
                found.mean, found.largest, found.questions
            ),
        ));
    }
    lines
}
