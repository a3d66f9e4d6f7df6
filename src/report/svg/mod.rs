//! Pictures: SVG files that stand by themselves, in light and in dark.

mod canvas;
mod curve;
mod heads;
mod heat;
mod profile;
mod retention;
mod strip;

pub use curve::curve;
pub use heads::heads;
pub use heat::heat;
pub use profile::profile;
pub use retention::retention;
pub use strip::strip;

use crate::suite::Family;

/// The class of a family's colour.
fn class(family: Family) -> String {
    family.to_string()
}

/// A round number not below `largest` for an axis to end at: 1, 2 or 5 times a power of ten.
fn round_up(largest: f64) -> f64 {
    if !(largest.is_finite() && largest > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(largest.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let enough = steps
        .into_iter()
        .find(|step| *step >= largest * (1.0 - 1e-9));
    enough.unwrap_or(10.0 * power)
}

/// A number on an axis, without digits that say nothing.
fn tick(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v.abs() < 0.00995 => format!("{v:.3}"),
        v if v.abs() < 0.0995 => format!("{v:.2}"),
        v if v.abs() < 9.95 && v.fract() != 0.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_that_is_large_enough() {
        for (largest, end) in [
            (0.03, 0.05),
            (0.5, 0.5),
            (7.0, 10.0),
            (1.0, 1.0),
            (180.0, 200.0),
        ] {
            assert!((round_up(largest) - end).abs() < 1e-12, "{largest}");
        }
        assert_eq!(round_up(0.0), 1.0);
        assert_eq!(round_up(f64::NAN), 1.0);
        assert_eq!(
            [0.0, 0.05, 0.5, 2.0, 20.0].map(tick),
            ["0", "0.05", "0.5", "2", "20"]
        );
    }
}
