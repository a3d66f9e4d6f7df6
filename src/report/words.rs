//! Numbers as people read them.

use crate::eval::stats::Interval;

/// A space at which no line is broken.
pub(super) const TIE: char = '\u{a0}';

/// Text that stays on one line.
pub(super) fn tied(text: &str) -> String {
    text.replace(' ', &TIE.to_string())
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", whole(share))
}

/// A share in whole percent, where nothing is never negative.
pub(super) fn whole(share: f64) -> f64 {
    (share * 100.0).round() + 0.0
}

/// Percent of a share with its interval: 87 % [71, 102].
pub(super) fn share(interval: Interval) -> String {
    let [low, high] = [interval.low, interval.high].map(whole);
    format!("{} [{low:.0}, {high:.0}]", percent(interval.estimate))
}

/// Points of a difference with its interval: -12 [-25, +2].
pub(super) fn points(interval: Interval) -> String {
    let [change, low, high] = [interval.estimate, interval.low, interval.high].map(whole);
    format!("{change:+.0} [{low:+.0}, {high:+.0}]")
}

/// A p to three digits.
pub(super) fn probability(p: f64) -> String {
    match p < 0.001 {
        true => "<0.001".to_owned(),
        false => format!("{p:.3}"),
    }
}

/// Text in which nothing is markup, in HTML and XML, between quotation marks too. Control characters, which
/// have no place in XML, are spaces.
pub(super) fn escaped(text: &str) -> String {
    let keeps = |c: char| !c.is_control() || c == '\n' || c == '\t';
    let text: String = text
        .chars()
        .map(|c| if keeps(c) { c } else { ' ' })
        .collect();
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Bytes in millions.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_of_any_kind_stay_text() {
        assert_eq!(escaped("a\"<b>&\u{1}.gguf"), "a&quot;&lt;b&gt;&amp; .gguf");
    }
}
